/** RTM_*ROUTE messages, with their next hops when a route has several. Source: include/uapi/linux/rtnetlink.h */
import type { Ip } from '../base/address.ts'
import { ipFromBytes, ipToBytes } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { type Attr, AttrReader, type MessageWriter, needHeader } from './netlink.ts'
import { RT_TABLE_COMPAT } from './rtnetlink.ts'

const RTMSG_BYTES = 12
const RTNEXTHOP_BYTES = 8

const RTA_DST = 1
const RTA_IIF = 3
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RTA_PRIORITY = 6
const RTA_PREFSRC = 7
const RTA_MULTIPATH = 9
const RTA_TABLE = 15
const RTA_MARK = 16
const RTA_VIA = 18
const RTA_SRC = 2

export const RTNH_F_DEAD = 1
export const RTNH_F_ONLINK = 4
export const RTNH_F_LINKDOWN = 16
/** The route was made for one lookup: a cached exception, not configuration. */
export const RTM_F_CLONED = 0x200
/** Asks a lookup to name the table that answered. */
export const RTM_F_LOOKUP_TABLE = 0x1000

/** One way out of a multipath route. */
export interface NextHop {
  oif: number
  gateway?: Ip
  flags: number
  /** 1..256 */
  weight: number
}

export interface RouteMessage {
  family: number
  dst?: Ip
  dstLength: number
  src?: Ip
  srcLength: number
  tos: number
  table: number
  protocol: number
  scope: number
  type: number
  flags: number
  gateway?: Ip
  oif?: number
  iif?: number
  prefSrc?: Ip
  priority?: number
  mark?: number
  hops?: NextHop[]
  unknown?: Attr[]
}

/** RTA_VIA: a gateway of another family than the route's (IPv4 through an IPv6 neighbour). */
function readVia(r: AttrReader): Ip {
  const bytes = r.bytes()
  return ipFromBytes(bytes.subarray(2))
}

/** Decodes RTM_NEWROUTE or RTM_DELROUTE. Throws NetError `internal` on a malformed message. */
export function decodeRoute(payload: Uint8Array, keep = false): RouteMessage {
  const view = needHeader(payload, RTMSG_BYTES, 'route')
  const route: RouteMessage = {
    family: view.getUint8(0),
    dstLength: view.getUint8(1),
    srcLength: view.getUint8(2),
    tos: view.getUint8(3),
    table: view.getUint8(4),
    protocol: view.getUint8(5),
    scope: view.getUint8(6),
    type: view.getUint8(7),
    flags: view.getUint32(8, true),
  }
  const unknown: Attr[] = []
  const r = new AttrReader(payload, RTMSG_BYTES, payload.length, view)
  while (r.next()) if (!readRouteAttr(route, r) && keep) unknown.push(r.copy())
  if (unknown.length > 0) route.unknown = unknown
  return route
}

function readRouteAttr(route: RouteMessage, r: AttrReader): boolean {
  switch (r.type) {
    case RTA_DST:
      route.dst = ipFromBytes(r.bytes())
      return true
    case RTA_SRC:
      route.src = ipFromBytes(r.bytes())
      return true
    case RTA_GATEWAY:
      route.gateway = ipFromBytes(r.bytes())
      return true
    case RTA_VIA:
      route.gateway = readVia(r)
      return true
    case RTA_OIF:
      route.oif = r.u32()
      return true
    case RTA_IIF:
      route.iif = r.u32()
      return true
    case RTA_PREFSRC:
      route.prefSrc = ipFromBytes(r.bytes())
      return true
    case RTA_PRIORITY:
      route.priority = r.u32()
      return true
    case RTA_TABLE:
      route.table = r.u32()
      return true
    case RTA_MARK:
      route.mark = r.u32()
      return true
    case RTA_MULTIPATH:
      route.hops = readHops(r.bytes())
      return true
    default:
      return false
  }
}

function readHops(bytes: Uint8Array): NextHop[] {
  const hops: NextHop[] = []
  for (let at = 0; at + RTNEXTHOP_BYTES <= bytes.length; ) {
    const view = needHeader(bytes.subarray(at), RTNEXTHOP_BYTES, 'next hop')
    const length = view.getUint16(0, true)
    if (length < RTNEXTHOP_BYTES || at + length > bytes.length)
      throw new NetError('internal', `Cannot read netlink message: next hop length ${length}`)
    const hop: NextHop = { flags: view.getUint8(2), weight: view.getUint8(3) + 1, oif: view.getInt32(4, true) }
    const r = new AttrReader(bytes, at + RTNEXTHOP_BYTES, at + length)
    while (r.next()) {
      if (r.type === RTA_GATEWAY) hop.gateway = ipFromBytes(r.bytes())
      else if (r.type === RTA_VIA) hop.gateway = readVia(r)
    }
    hops.push(hop)
    at += (length + 3) & ~3
  }
  return hops
}

function writeGateway(w: MessageWriter, family: number, gateway: Ip): void {
  const bytes = ipToBytes(gateway)
  const gatewayFamily = bytes.length === 4 ? 2 : 10
  if (gatewayFamily === family) {
    w.attrBytes(RTA_GATEWAY, bytes)
    return
  }
  const via = new Uint8Array(2 + bytes.length)
  via[0] = gatewayFamily
  via.set(bytes, 2)
  w.attrBytes(RTA_VIA, via)
}

/** Writes rtmsg and attributes between `begin` and `end` of a message. */
export function writeRoute(w: MessageWriter, route: RouteMessage): void {
  w.u8(route.family)
  w.u8(route.dstLength)
  w.u8(route.srcLength)
  w.u8(route.tos)
  w.u8(route.table < 256 ? route.table : RT_TABLE_COMPAT)
  w.u8(route.protocol)
  w.u8(route.scope)
  w.u8(route.type)
  w.u32(route.flags)
  if (route.dst !== undefined) w.attrBytes(RTA_DST, ipToBytes(route.dst))
  if (route.src !== undefined) w.attrBytes(RTA_SRC, ipToBytes(route.src))
  if (route.gateway !== undefined) writeGateway(w, route.family, route.gateway)
  if (route.oif !== undefined) w.attrU32(RTA_OIF, route.oif)
  if (route.iif !== undefined) w.attrU32(RTA_IIF, route.iif)
  if (route.prefSrc !== undefined) w.attrBytes(RTA_PREFSRC, ipToBytes(route.prefSrc))
  if (route.priority !== undefined) w.attrU32(RTA_PRIORITY, route.priority)
  if (route.mark !== undefined) w.attrU32(RTA_MARK, route.mark)
  if (route.table !== 0) w.attrU32(RTA_TABLE, route.table)
  if (route.hops !== undefined) {
    const nest = w.openNest(RTA_MULTIPATH, 0)
    for (const hop of route.hops) {
      const gatewayBytes = hop.gateway === undefined ? 0 : hopGatewayBytes(route.family, hop.gateway)
      w.u16(RTNEXTHOP_BYTES + gatewayBytes)
      w.u8(hop.flags)
      w.u8(hop.weight - 1)
      w.u32(hop.oif)
      if (hop.gateway !== undefined) writeGateway(w, route.family, hop.gateway)
    }
    w.closeNest(nest)
  }
  if (route.unknown !== undefined) w.attrs(route.unknown)
}

/** Bytes that {@link writeGateway} takes, with padding. */
function hopGatewayBytes(family: number, gateway: Ip): number {
  const bytes = gateway.includes(':') ? 16 : 4
  const same = (bytes === 4 ? 2 : 10) === family
  return same ? 4 + bytes : (4 + 2 + bytes + 3) & ~3
}

/** IFLA_LINKINFO: what is particular to a kind of link, and to a port of a bridge. Source: include/uapi/linux/if_link.h */
import type { Ip } from '../base/address.ts'
import { ipFromBytes, ipToBytes } from '../base/address.ts'
import type { Attr, AttrReader, MessageWriter } from './netlink.ts'

const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const IFLA_INFO_SLAVE_KIND = 4
const IFLA_INFO_SLAVE_DATA = 5

const IFLA_BR_AGEING_TIME = 4
const IFLA_BR_STP_STATE = 5
const IFLA_BR_VLAN_FILTERING = 7
const IFLA_BR_MCAST_SNOOPING = 23
const IFLA_BR_VLAN_DEFAULT_PVID = 39

const IFLA_BRPORT_MODE = 4
const IFLA_BRPORT_LEARNING = 8
const IFLA_BRPORT_UNICAST_FLOOD = 9
const IFLA_BRPORT_NEIGH_SUPPRESS = 32
const IFLA_BRPORT_ISOLATED = 33

const IFLA_VXLAN_ID = 1
const IFLA_VXLAN_GROUP = 2
const IFLA_VXLAN_LINK = 3
const IFLA_VXLAN_LOCAL = 4
const IFLA_VXLAN_LEARNING = 7
const IFLA_VXLAN_PROXY = 11
const IFLA_VXLAN_L2MISS = 13
const IFLA_VXLAN_L3MISS = 14
const IFLA_VXLAN_PORT = 15
const IFLA_VXLAN_GROUP6 = 16
const IFLA_VXLAN_LOCAL6 = 17

const IFLA_MACVLAN_MODE = 1
const IFLA_IPVLAN_MODE = 1
const IFLA_IPVLAN_FLAGS = 2
const IFLA_VLAN_ID = 1
export const VETH_INFO_PEER = 1

/** MACVLAN_MODE_* by the words of ip-link(8). */
export const MACVLAN_MODE: Readonly<Record<string, number>> = { private: 1, vepa: 2, bridge: 4, passthru: 8, source: 16 }
/** IPVLAN_MODE_* */
export const IPVLAN_MODE: Readonly<Record<string, number>> = { l2: 0, l3: 1, l3s: 2 }
/** IPVLAN_F_*; bridge is the absence of both. */
export const IPVLAN_FLAG: Readonly<Record<string, number>> = { bridge: 0, private: 1, vepa: 2 }

/** Flags of a bridge port; absent ones are left as they are when written. */
export interface BrportFlags {
  isolated?: boolean
  hairpin?: boolean
  learning?: boolean
  neighSuppress?: boolean
  unicastFlood?: boolean
}

export interface VxlanData {
  vni?: number
  /** UDP port in host order. */
  port?: number
  local?: Ip
  /** Multicast group or default remote. The unspecified IPv6 address makes an IPv6 underlay without naming a remote. */
  group?: Ip
  /** Index of the lower device. */
  lower?: number
  learning?: boolean
  proxy?: boolean
  l2miss?: boolean
  l3miss?: boolean
}

/** IFLA_LINKINFO as read and written. Only the member that belongs to `kind` is used; `unknown` holds the rest of INFO_DATA. */
export interface LinkInfo {
  kind?: string
  bridge?: { ageingTime?: number; stp?: boolean; vlanFiltering?: boolean; mcastSnooping?: boolean; vlanDefaultPvid?: number }
  vxlan?: VxlanData
  macvlan?: { mode?: number }
  ipvlan?: { mode?: number; flags?: number }
  vlan?: { id?: number }
  /** Kind of the master whose port this link is: `bridge`, `bond`, ... */
  portKind?: string
  port?: BrportFlags
  unknown?: Attr[]
  /** What INFO_SLAVE_DATA holds besides `port`. */
  portUnknown?: Attr[]
}

const BOOLEAN_PORT_ATTRS: readonly (readonly [number, keyof BrportFlags])[] = [
  [IFLA_BRPORT_MODE, 'hairpin'],
  [IFLA_BRPORT_LEARNING, 'learning'],
  [IFLA_BRPORT_UNICAST_FLOOD, 'unicastFlood'],
  [IFLA_BRPORT_NEIGH_SUPPRESS, 'neighSuppress'],
  [IFLA_BRPORT_ISOLATED, 'isolated'],
]

/** Reads IFLA_BRPORT_* flags; other attributes go to `unknown` when given. */
export function readPort(reader: AttrReader, unknown?: Attr[]): BrportFlags {
  const port: BrportFlags = {}
  while (reader.next()) {
    const known = BOOLEAN_PORT_ATTRS.find(([type]) => type === reader.type)
    if (known !== undefined) port[known[1]] = reader.u8() !== 0
    else unknown?.push(reader.copy())
  }
  return port
}

export function writePort(w: MessageWriter, port: BrportFlags): void {
  for (const [type, field] of BOOLEAN_PORT_ATTRS) {
    const value = port[field]
    if (value !== undefined) w.attrU8(type, value ? 1 : 0)
  }
}

/** Reads IFLA_LINKINFO. With `keep`, attributes of INFO_DATA that are not understood are copied into `unknown`. */
export function readLinkInfo(reader: AttrReader, keep: boolean): LinkInfo {
  const info: LinkInfo = {}
  // The kernel writes KIND before DATA, but nothing promises it: data waits until the whole level is read.
  let data: AttrReader | undefined
  let portData: AttrReader | undefined
  while (reader.next()) {
    if (reader.type === IFLA_INFO_KIND) info.kind = reader.text()
    else if (reader.type === IFLA_INFO_DATA) data = reader.nested()
    else if (reader.type === IFLA_INFO_SLAVE_KIND) info.portKind = reader.text()
    else if (reader.type === IFLA_INFO_SLAVE_DATA) portData = reader.nested()
  }
  if (data !== undefined) readData(info, data, keep)
  const portUnknown: Attr[] = []
  if (info.portKind === 'bridge' && portData !== undefined) info.port = readPort(portData, keep ? portUnknown : undefined)
  else if (keep) while (portData?.next()) portUnknown.push(portData.copy())
  if (portUnknown.length > 0) info.portUnknown = portUnknown
  return info
}

function readData(info: LinkInfo, r: AttrReader, keep: boolean): void {
  const unknown: Attr[] = []
  const known = READERS[info.kind ?? '']
  while (r.next()) if (known?.(info, r) !== true && keep) unknown.push(r.copy())
  if (unknown.length > 0) info.unknown = unknown
}

/** Per kind: takes the current attribute in, or says that it does not know it. */
const READERS: Readonly<Record<string, (info: LinkInfo, r: AttrReader) => boolean>> = {
  bridge(info, r) {
    info.bridge ??= {}
    if (r.type === IFLA_BR_AGEING_TIME) info.bridge.ageingTime = r.u32()
    else if (r.type === IFLA_BR_STP_STATE) info.bridge.stp = r.u32() !== 0
    else if (r.type === IFLA_BR_VLAN_FILTERING) info.bridge.vlanFiltering = r.u8() !== 0
    else if (r.type === IFLA_BR_MCAST_SNOOPING) info.bridge.mcastSnooping = r.u8() !== 0
    else if (r.type === IFLA_BR_VLAN_DEFAULT_PVID) info.bridge.vlanDefaultPvid = r.u16()
    else return false
    return true
  },
  vxlan(info, r) {
    info.vxlan ??= {}
    const v = info.vxlan
    if (r.type === IFLA_VXLAN_ID) v.vni = r.u32()
    else if (r.type === IFLA_VXLAN_PORT) v.port = r.u16be()
    else if (r.type === IFLA_VXLAN_LINK) v.lower = r.u32()
    else if (r.type === IFLA_VXLAN_LEARNING) v.learning = r.u8() !== 0
    else if (r.type === IFLA_VXLAN_PROXY) v.proxy = r.u8() !== 0
    else if (r.type === IFLA_VXLAN_L2MISS) v.l2miss = r.u8() !== 0
    else if (r.type === IFLA_VXLAN_L3MISS) v.l3miss = r.u8() !== 0
    else if (r.length === 4 && r.type === IFLA_VXLAN_LOCAL) v.local = ipFromBytes(r.bytes())
    else if (r.length === 16 && r.type === IFLA_VXLAN_LOCAL6) v.local = ipFromBytes(r.bytes())
    else if (r.length === 4 && r.type === IFLA_VXLAN_GROUP) v.group = ipFromBytes(r.bytes())
    else if (r.length === 16 && r.type === IFLA_VXLAN_GROUP6) v.group = ipFromBytes(r.bytes())
    else return false
    return true
  },
  macvlan(info, r) {
    if (r.type !== IFLA_MACVLAN_MODE) return false
    info.macvlan = { mode: r.u32() }
    return true
  },
  macvtap(info, r) {
    if (r.type !== IFLA_MACVLAN_MODE) return false
    info.macvlan = { mode: r.u32() }
    return true
  },
  ipvlan(info, r) {
    info.ipvlan ??= {}
    if (r.type === IFLA_IPVLAN_MODE) info.ipvlan.mode = r.u16()
    else if (r.type === IFLA_IPVLAN_FLAGS) info.ipvlan.flags = r.u16()
    else return false
    return true
  },
  vlan(info, r) {
    if (r.type !== IFLA_VLAN_ID) return false
    info.vlan = { id: r.u16() }
    return true
  },
}

/** Writes IFLA_LINKINFO's content. `peer` writes the other end of a veth (VETH_INFO_PEER's content). */
export function writeLinkInfo(w: MessageWriter, info: LinkInfo, peer?: (w: MessageWriter) => void): void {
  if (info.kind !== undefined) w.attrText(IFLA_INFO_KIND, info.kind)
  const { bridge, vxlan, macvlan, ipvlan, vlan, unknown, port, portUnknown } = info
  if (bridge || vxlan || macvlan || ipvlan || vlan || unknown || peer) {
    const data = w.openNest(IFLA_INFO_DATA)
    if (bridge?.ageingTime !== undefined) w.attrU32(IFLA_BR_AGEING_TIME, bridge.ageingTime)
    if (bridge?.stp !== undefined) w.attrU32(IFLA_BR_STP_STATE, bridge.stp ? 1 : 0)
    if (bridge?.vlanFiltering !== undefined) w.attrU8(IFLA_BR_VLAN_FILTERING, bridge.vlanFiltering ? 1 : 0)
    if (bridge?.mcastSnooping !== undefined) w.attrU8(IFLA_BR_MCAST_SNOOPING, bridge.mcastSnooping ? 1 : 0)
    if (bridge?.vlanDefaultPvid !== undefined) w.attrU16(IFLA_BR_VLAN_DEFAULT_PVID, bridge.vlanDefaultPvid)
    if (vxlan !== undefined) writeVxlan(w, vxlan)
    if (macvlan?.mode !== undefined) w.attrU32(IFLA_MACVLAN_MODE, macvlan.mode)
    if (ipvlan?.mode !== undefined) w.attrU16(IFLA_IPVLAN_MODE, ipvlan.mode)
    if (ipvlan?.flags !== undefined) w.attrU16(IFLA_IPVLAN_FLAGS, ipvlan.flags)
    if (vlan?.id !== undefined) w.attrU16(IFLA_VLAN_ID, vlan.id)
    if (peer !== undefined) {
      const at = w.openNest(VETH_INFO_PEER)
      peer(w)
      w.closeNest(at)
    }
    if (unknown !== undefined) w.attrs(unknown)
    w.closeNest(data)
  }
  if (info.portKind !== undefined) w.attrText(IFLA_INFO_SLAVE_KIND, info.portKind)
  if (port !== undefined || portUnknown !== undefined) {
    const at = w.openNest(IFLA_INFO_SLAVE_DATA)
    if (port !== undefined) writePort(w, port)
    if (portUnknown !== undefined) w.attrs(portUnknown)
    w.closeNest(at)
  }
}

function writeVxlan(w: MessageWriter, v: VxlanData): void {
  if (v.vni !== undefined) w.attrU32(IFLA_VXLAN_ID, v.vni)
  if (v.group !== undefined) w.attrBytes(v.group.includes(':') ? IFLA_VXLAN_GROUP6 : IFLA_VXLAN_GROUP, ipToBytes(v.group))
  if (v.lower !== undefined) w.attrU32(IFLA_VXLAN_LINK, v.lower)
  if (v.local !== undefined) w.attrBytes(v.local.includes(':') ? IFLA_VXLAN_LOCAL6 : IFLA_VXLAN_LOCAL, ipToBytes(v.local))
  if (v.port !== undefined) w.attrU16be(IFLA_VXLAN_PORT, v.port)
  if (v.learning !== undefined) w.attrU8(IFLA_VXLAN_LEARNING, v.learning ? 1 : 0)
  if (v.proxy !== undefined) w.attrU8(IFLA_VXLAN_PROXY, v.proxy ? 1 : 0)
  if (v.l2miss !== undefined) w.attrU8(IFLA_VXLAN_L2MISS, v.l2miss ? 1 : 0)
  if (v.l3miss !== undefined) w.attrU8(IFLA_VXLAN_L3MISS, v.l3miss ? 1 : 0)
}

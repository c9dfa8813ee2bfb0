/**
 * Connection tracking entries as bytes. A filter is checked by the kernel (Linux 5.8), so that a dump carries only what was asked for.
 * Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h; net/netfilter/nf_conntrack_netlink.c.
 */
import { familyOf, type Ip, ipFromBytes, ipToBytes } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { AttrReader, type MessageWriter, type NetlinkMessage, needHeader } from './netlink.ts'
import { attrU32be, messageType, NFGENMSG_BYTES, NFNL_SUBSYS_CTNETLINK, nfgenmsg, u32be } from './nfnetlink.ts'

export const CT_GET = messageType(NFNL_SUBSYS_CTNETLINK, 1)
export const CT_DELETE = messageType(NFNL_SUBSYS_CTNETLINK, 2)
export const CT_GET_STATS = messageType(NFNL_SUBSYS_CTNETLINK, 5)

const AF_INET = 2
const AF_INET6 = 10
const CTA_STATS_GLOBAL_ENTRIES = 1
const CTA_TUPLE_ORIG = 1
const CTA_TUPLE_REPLY = 2
const CTA_STATUS = 3
const CTA_TIMEOUT = 7
const CTA_MARK = 8
const CTA_ID = 12
const CTA_ZONE = 18
const CTA_FILTER = 25
const CTA_FILTER_ORIG_FLAGS = 1
const CTA_FILTER_REPLY_FLAGS = 2
const CTA_TUPLE_IP = 1
const CTA_TUPLE_PROTO = 2
const CTA_IP_V4_SRC = 1
const CTA_IP_V4_DST = 2
const CTA_IP_V6_SRC = 3
const CTA_IP_V6_DST = 4
const CTA_PROTO_NUM = 1
const CTA_PROTO_SRC_PORT = 2
const CTA_PROTO_DST_PORT = 3

/** CTA_FILTER_F_*: net/netfilter/nf_internals.h. */
const F_IP_SRC = 1
const F_IP_DST = 2
const F_PROTO_NUM = 8
const F_PROTO_DST_PORT = 32

/** IPS_SRC_NAT: the flow's source was translated. */
export const STATUS_SRC_NAT = 1 << 4
/** IPS_DST_NAT: the flow's destination was translated. */
export const STATUS_DST_NAT = 1 << 5

const PROTO_NUMBER: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, 'ipv6-icmp': 58, sctp: 132 }

/** One direction of a flow. Ports are 0 for protocols without. */
export interface Tuple {
  readonly src: Ip
  readonly dst: Ip
  readonly sport: number
  readonly dport: number
}

export interface Flow {
  readonly family: 4 | 6
  /** `tcp`, `udp`, `sctp`, `icmp`, `ipv6-icmp`, or the number. */
  readonly proto: string
  readonly orig: Tuple
  readonly reply: Tuple
  /** IPS_* bits. */
  readonly status: number
  readonly timeoutSeconds: number
  readonly mark: number
  readonly zone: number
  /** The kernel's id of the entry, and its original tuple as it came: together they name exactly this entry. */
  readonly id: number
  readonly rawOrig: Uint8Array
}

/** All given fields must match. `origDst` is the address that the client called, `replySrc` the one that really answers. */
export interface FlowFilter {
  readonly proto?: 'tcp' | 'udp' | 'sctp'
  readonly origSrc?: Ip
  readonly origDst?: Ip
  readonly origDport?: number
  readonly replySrc?: Ip
}

function readTuple(r: AttrReader): Tuple & { readonly proto: number } {
  let src: Ip | undefined
  let dst: Ip | undefined
  let proto = 0
  let sport = 0
  let dport = 0
  while (r.next()) {
    const inner = r.nested()
    if (r.type === CTA_TUPLE_IP) {
      while (inner.next()) {
        if (inner.type === CTA_IP_V4_SRC || inner.type === CTA_IP_V6_SRC) src = ipFromBytes(inner.bytes())
        else if (inner.type === CTA_IP_V4_DST || inner.type === CTA_IP_V6_DST) dst = ipFromBytes(inner.bytes())
      }
    } else if (r.type === CTA_TUPLE_PROTO) {
      while (inner.next()) {
        if (inner.type === CTA_PROTO_NUM) proto = inner.u8()
        else if (inner.type === CTA_PROTO_SRC_PORT) sport = inner.u16be()
        else if (inner.type === CTA_PROTO_DST_PORT) dport = inner.u16be()
      }
    }
  }
  if (src === undefined || dst === undefined) throw new NetError('internal', 'Cannot read conntrack entry: it has no addresses')
  return { src, dst, sport, dport, proto }
}

/** Reads one entry of a dump. */
export function readFlow(message: NetlinkMessage): Flow {
  const family = needHeader(message.payload, NFGENMSG_BYTES, 'nfgenmsg').getUint8(0) === AF_INET6 ? 6 : 4
  const r = new AttrReader(message.payload, NFGENMSG_BYTES)
  let orig: ReturnType<typeof readTuple> | undefined
  let reply: Tuple | undefined
  let rawOrig = new Uint8Array(0)
  const out = { status: 0, timeoutSeconds: 0, mark: 0, zone: 0, id: 0 }
  while (r.next()) {
    if (r.type === CTA_TUPLE_ORIG) {
      orig = readTuple(r.nested())
      rawOrig = r.bytes().slice()
    } else if (r.type === CTA_TUPLE_REPLY) reply = readTuple(r.nested())
    else if (r.type === CTA_STATUS) out.status = u32be(r)
    else if (r.type === CTA_TIMEOUT) out.timeoutSeconds = u32be(r)
    else if (r.type === CTA_MARK) out.mark = u32be(r)
    else if (r.type === CTA_ID) out.id = u32be(r)
    else if (r.type === CTA_ZONE) out.zone = r.u16be()
  }
  if (orig === undefined || reply === undefined) throw new NetError('internal', 'Cannot read conntrack entry: it has no tuples')
  const number = orig.proto
  const proto = Object.keys(PROTO_NUMBER).find((name) => PROTO_NUMBER[name] === number) ?? String(number)
  const plain = ({ src, dst, sport, dport }: Tuple): Tuple => ({ src, dst, sport, dport })
  return { family, proto, orig: plain(orig), reply: plain(reply), ...out, rawOrig }
}

interface TupleFilter {
  src: Ip | undefined
  dst: Ip | undefined
  proto: number | undefined
  dport: number | undefined
}

function writeTupleFilter(w: MessageWriter, type: number, t: TupleFilter): number {
  let flags = 0
  const tuple = w.openNest(type)
  if (t.src !== undefined || t.dst !== undefined) {
    const ip = w.openNest(CTA_TUPLE_IP)
    if (t.src !== undefined) {
      w.attrBytes(familyOf(t.src) === 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, ipToBytes(t.src))
      flags |= F_IP_SRC
    }
    if (t.dst !== undefined) {
      w.attrBytes(familyOf(t.dst) === 4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, ipToBytes(t.dst))
      flags |= F_IP_DST
    }
    w.closeNest(ip)
  }
  if (t.proto !== undefined) {
    const proto = w.openNest(CTA_TUPLE_PROTO)
    w.attrU8(CTA_PROTO_NUM, t.proto)
    flags |= F_PROTO_NUM
    if (t.dport !== undefined) {
      w.attrU16be(CTA_PROTO_DST_PORT, t.dport)
      flags |= F_PROTO_DST_PORT
    }
    w.closeNest(proto)
  }
  w.closeNest(tuple)
  return flags
}

/** Body of a dump (or, since Linux 6.8, deletion) request for the flows of one family that match `filter`. Throws NetError `invalid` for a port without a protocol. */
export function writeFlowQuery(w: MessageWriter, family: 4 | 6, filter: FlowFilter): void {
  if (filter.origDport !== undefined && filter.proto === undefined)
    throw new NetError('invalid', 'a port is filtered with its protocol only')
  nfgenmsg(w, family === 4 ? AF_INET : AF_INET6)
  const proto = filter.proto === undefined ? undefined : (PROTO_NUMBER[filter.proto] as number)
  let orig = 0
  let reply = 0
  if (filter.origSrc !== undefined || filter.origDst !== undefined || proto !== undefined)
    orig = writeTupleFilter(w, CTA_TUPLE_ORIG, { src: filter.origSrc, dst: filter.origDst, proto, dport: filter.origDport })
  if (filter.replySrc !== undefined)
    reply = writeTupleFilter(w, CTA_TUPLE_REPLY, { src: filter.replySrc, dst: undefined, proto: undefined, dport: undefined })
  if (orig === 0 && reply === 0) return
  const nest = w.openNest(CTA_FILTER)
  w.attrU32(CTA_FILTER_ORIG_FLAGS, orig)
  w.attrU32(CTA_FILTER_REPLY_FLAGS, reply)
  w.closeNest(nest)
}

/** Body of a request to delete exactly this entry; one that has been made anew with the same addresses is not it. */
export function writeFlowDelete(w: MessageWriter, flow: Flow): void {
  nfgenmsg(w, flow.family === 4 ? AF_INET : AF_INET6)
  w.attrBytes(CTA_TUPLE_ORIG | 0x8000, flow.rawOrig)
  attrU32be(w, CTA_ID, flow.id)
  if (flow.zone !== 0) w.attrU16be(CTA_ZONE, flow.zone)
}

/** Body of the question for totals. */
export function writeStatsQuery(w: MessageWriter): void {
  nfgenmsg(w, 0)
}

/** Number of entries in the namespace. */
export function readFlowCount(message: NetlinkMessage): number {
  needHeader(message.payload, NFGENMSG_BYTES, 'nfgenmsg')
  const r = new AttrReader(message.payload, NFGENMSG_BYTES)
  while (r.next()) if (r.type === CTA_STATS_GLOBAL_ENTRIES) return u32be(r)
  return 0
}

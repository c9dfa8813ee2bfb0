/**
 * RTM_*LINK messages. One value for both directions: what a dump gives can be written back, and a request names
 * only what it wants changed. Indexes stay numbers here; names of other links are the kernel layer's business.
 * Source: include/uapi/linux/if_link.h, net/core/rtnetlink.c
 */
import type { Mac } from '../base/address.ts'
import { macToBytes } from '../base/address.ts'
import { type Attr, AttrReader, type MessageWriter, NLA_F_NESTED, needHeader } from './netlink.ts'
import { PF_BRIDGE, PF_INET6 } from './rtnetlink.ts'
import { type BrportFlags, type LinkInfo, readLinkInfo, readPort, writeLinkInfo, writePort } from './rtnetlink-link-info.ts'

const IFINFOMSG_BYTES = 16

export const IFF_UP = 0x1
export const IFF_LOOPBACK = 0x8
export const IFF_RUNNING = 0x40
export const IFF_LOWER_UP = 0x10000

const IFLA_ADDRESS = 1
export const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINK = 5
const IFLA_MASTER = 10
const IFLA_PROTINFO = 12
const IFLA_TXQLEN = 13
const IFLA_OPERSTATE = 16
const IFLA_LINKINFO = 18
const IFLA_NET_NS_PID = 19
const IFLA_IFALIAS = 20
const IFLA_STATS64 = 23
const IFLA_AF_SPEC = 26
const IFLA_GROUP = 27
const IFLA_NET_NS_FD = 28
const IFLA_EXT_MASK = 29
const IFLA_NUM_TX_QUEUES = 31
const IFLA_NUM_RX_QUEUES = 32
const IFLA_LINK_NETNSID = 37
export const IFLA_ALT_IFNAME = 53

const IFLA_INET6_ADDR_GEN_MODE = 8
export const ADDR_GEN_MODE: Readonly<Record<string, number>> = { eui64: 0, none: 1 }

/** For `extMask`: leave the counters out of the answer. */
export const RTEXT_FILTER_SKIP_STATS = 8

export interface LinkCounters {
  readonly rxPackets: number
  readonly txPackets: number
  readonly rxBytes: number
  readonly txBytes: number
  readonly rxErrors: number
  readonly txErrors: number
  readonly rxDropped: number
  readonly txDropped: number
}

export interface LinkMessage {
  /** AF_UNSPEC, or AF_BRIDGE for messages about bridge ports. */
  family?: number
  /** ARPHRD_* */
  arphrd?: number
  index?: number
  /** IFF_*, of which `change` says which ones a request means. */
  flags?: number
  change?: number
  name?: string
  altName?: string
  mac?: Mac
  mtu?: number
  /** IFLA_LINK: the peer's or lower device's index. */
  link?: number
  /** Namespace id in which `link` lives; -1 = unknown to this namespace. */
  linkNetnsId?: number
  master?: number
  group?: number
  alias?: string
  txQueueLen?: number
  /** Queues in each direction; requests that create a link only. */
  queues?: number
  operState?: number
  netnsFd?: number
  netnsPid?: number
  extMask?: number
  /** IN6_ADDR_GEN_MODE_* of the IPv6 half; requests only. */
  addrGenMode?: number
  info?: LinkInfo
  /** Other end of a veth pair; requests only (the kernel answers with `link`). */
  peer?: LinkMessage
  /** IFLA_PROTINFO of an AF_BRIDGE message. */
  protinfo?: BrportFlags
  /** IFLA_STATS64, answers only. */
  counters?: LinkCounters
  /** Attributes this codec does not read, in their order, when asked to keep them. */
  unknown?: Attr[]
}

/** Offsets in struct rtnl_link_stats64. */
function readCounters(r: AttrReader): LinkCounters {
  return {
    rxPackets: r.u64(0),
    txPackets: r.u64(8),
    rxBytes: r.u64(16),
    txBytes: r.u64(24),
    rxErrors: r.u64(32),
    txErrors: r.u64(40),
    rxDropped: r.u64(48),
    txDropped: r.u64(56),
  }
}

/**
 * Decodes the payload of RTM_NEWLINK or RTM_DELLINK. `keep` copies the attributes that are not understood, so that
 * {@link writeLink} gives them back; a dump of thousands of links is read without.
 * Throws NetError `internal` on a malformed message.
 */
export function decodeLink(payload: Uint8Array, keep = false): LinkMessage {
  const view = needHeader(payload, IFINFOMSG_BYTES, 'link')
  const link: LinkMessage = {
    family: view.getUint8(0),
    arphrd: view.getUint16(2, true),
    index: view.getInt32(4, true),
    flags: view.getUint32(8, true),
    change: view.getUint32(12, true),
  }
  const unknown: Attr[] = []
  const r = new AttrReader(payload, IFINFOMSG_BYTES, payload.length, view)
  while (r.next()) if (!readLinkAttr(link, r, keep) && keep) unknown.push(r.copy())
  if (unknown.length > 0) link.unknown = unknown
  return link
}

function readLinkAttr(link: LinkMessage, r: AttrReader, keep: boolean): boolean {
  switch (r.type) {
    case IFLA_IFNAME:
      link.name = r.text()
      return true
    case IFLA_ADDRESS: {
      const mac = r.mac()
      if (mac !== '') link.mac = mac
      return mac !== ''
    }
    case IFLA_MTU:
      link.mtu = r.u32()
      return true
    case IFLA_LINK:
      link.link = r.u32()
      return true
    case IFLA_LINK_NETNSID:
      link.linkNetnsId = r.s32()
      return true
    case IFLA_MASTER:
      link.master = r.u32()
      return true
    case IFLA_GROUP:
      link.group = r.u32()
      return true
    case IFLA_IFALIAS:
      link.alias = r.text()
      return true
    case IFLA_TXQLEN:
      link.txQueueLen = r.u32()
      return true
    case IFLA_OPERSTATE:
      link.operState = r.u8()
      return true
    case IFLA_NET_NS_FD:
      link.netnsFd = r.u32()
      return true
    case IFLA_LINKINFO:
      link.info = readLinkInfo(r.nested(), keep)
      return true
    case IFLA_PROTINFO:
      if (link.family !== PF_BRIDGE) return false
      link.protinfo = readPort(r.nested())
      return true
    case IFLA_STATS64:
      link.counters = readCounters(r)
      return false // read-only, and more than is read here: kept whole when asked
    default:
      return false
  }
}

/** Writes ifinfomsg and attributes between `begin` and `end` of a message. */
export function writeLink(w: MessageWriter, link: LinkMessage): void {
  w.u8(link.family ?? 0)
  w.u8(0)
  w.u16(link.arphrd ?? 0)
  w.u32(link.index ?? 0)
  w.u32(link.flags ?? 0)
  w.u32(link.change ?? 0)
  if (link.name !== undefined) w.attrText(IFLA_IFNAME, link.name)
  if (link.altName !== undefined) w.attrText(IFLA_ALT_IFNAME, link.altName)
  if (link.mac !== undefined) w.attrBytes(IFLA_ADDRESS, macToBytes(link.mac))
  if (link.mtu !== undefined) w.attrU32(IFLA_MTU, link.mtu)
  if (link.link !== undefined) w.attrU32(IFLA_LINK, link.link)
  if (link.linkNetnsId !== undefined) w.attrU32(IFLA_LINK_NETNSID, link.linkNetnsId)
  if (link.master !== undefined) w.attrU32(IFLA_MASTER, link.master)
  if (link.group !== undefined) w.attrU32(IFLA_GROUP, link.group)
  if (link.alias !== undefined) w.attrText(IFLA_IFALIAS, link.alias)
  if (link.txQueueLen !== undefined) w.attrU32(IFLA_TXQLEN, link.txQueueLen)
  if (link.queues !== undefined) {
    w.attrU32(IFLA_NUM_TX_QUEUES, link.queues)
    w.attrU32(IFLA_NUM_RX_QUEUES, link.queues)
  }
  if (link.operState !== undefined) w.attrU8(IFLA_OPERSTATE, link.operState)
  if (link.netnsFd !== undefined) w.attrU32(IFLA_NET_NS_FD, link.netnsFd)
  if (link.netnsPid !== undefined) w.attrU32(IFLA_NET_NS_PID, link.netnsPid)
  if (link.extMask !== undefined) w.attrU32(IFLA_EXT_MASK, link.extMask)
  if (link.addrGenMode !== undefined) {
    const spec = w.openNest(IFLA_AF_SPEC)
    const inet6 = w.openNest(PF_INET6)
    w.attrU8(IFLA_INET6_ADDR_GEN_MODE, link.addrGenMode)
    w.closeNest(inet6)
    w.closeNest(spec)
  }
  const { peer } = link
  if (link.info !== undefined) {
    const at = w.openNest(IFLA_LINKINFO)
    writeLinkInfo(w, link.info, peer && ((into) => writeLink(into, peer)))
    w.closeNest(at)
  }
  if (link.protinfo !== undefined) {
    // br_setlink() takes the flags only from a nest that carries NLA_F_NESTED: net/bridge/br_netlink.c
    const at = w.openNest(IFLA_PROTINFO, NLA_F_NESTED)
    writePort(w, link.protinfo)
    w.closeNest(at)
  }
  if (link.unknown !== undefined) w.attrs(link.unknown)
}

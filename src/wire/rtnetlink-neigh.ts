/** RTM_*NEIGH messages: neighbours of both families, and with AF_BRIDGE the forwarding database. Source: include/uapi/linux/neighbour.h */
import type { Ip, Mac } from '../base/address.ts'
import { ipFromBytes, ipToBytes, macToBytes } from '../base/address.ts'
import { type Attr, AttrReader, type MessageWriter, needHeader } from './netlink.ts'

const NDMSG_BYTES = 12

const NDA_DST = 1
const NDA_LLADDR = 2
const NDA_PORT = 6
const NDA_VNI = 7
const NDA_IFINDEX = 8
const NDA_MASTER = 9

/** NUD_* by the words of ip-neighbour(8). */
export const NUD: Readonly<Record<string, number>> = {
  none: 0,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
}

export const NTF_SELF = 0x02
export const NTF_MASTER = 0x04
export const NTF_PROXY = 0x08
export const NTF_EXT_LEARNED = 0x10

export interface NeighbourMessage {
  family: number
  index: number
  /** NUD_* bits. */
  state: number
  /** NTF_* bits. */
  flags: number
  type?: number
  /** The neighbour's address; in an FDB entry the remote tunnel end. */
  dst?: Ip
  mac?: Mac
  vni?: number
  /** UDP port of the tunnel end. */
  port?: number
  master?: number
  unknown?: Attr[]
}

/** Decodes RTM_NEWNEIGH or RTM_DELNEIGH. Throws NetError `internal` on a malformed message. */
export function decodeNeighbour(payload: Uint8Array, keep = false): NeighbourMessage {
  const view = needHeader(payload, NDMSG_BYTES, 'neighbour')
  const neighbour: NeighbourMessage = {
    family: view.getUint8(0),
    index: view.getInt32(4, true),
    state: view.getUint16(8, true),
    flags: view.getUint8(10),
    type: view.getUint8(11),
  }
  const unknown: Attr[] = []
  const r = new AttrReader(payload, NDMSG_BYTES, payload.length, view)
  while (r.next()) if (!readNeighbourAttr(neighbour, r) && keep) unknown.push(r.copy())
  if (unknown.length > 0) neighbour.unknown = unknown
  return neighbour
}

function readNeighbourAttr(neighbour: NeighbourMessage, r: AttrReader): boolean {
  switch (r.type) {
    case NDA_DST:
      neighbour.dst = ipFromBytes(r.bytes())
      return true
    case NDA_LLADDR: {
      const mac = r.mac()
      if (mac !== '') neighbour.mac = mac
      return mac !== ''
    }
    case NDA_PORT:
      neighbour.port = r.u16be()
      return true
    case NDA_VNI:
      neighbour.vni = r.u32()
      return true
    case NDA_MASTER:
      neighbour.master = r.u32()
      return true
    default:
      return false
  }
}

/** Writes ndmsg and attributes between `begin` and `end` of a message. */
export function writeNeighbour(w: MessageWriter, neighbour: NeighbourMessage): void {
  w.u8(neighbour.family)
  w.u8(0)
  w.u16(0)
  w.u32(neighbour.index)
  w.u16(neighbour.state)
  w.u8(neighbour.flags)
  w.u8(neighbour.type ?? 0)
  if (neighbour.dst !== undefined) w.attrBytes(NDA_DST, ipToBytes(neighbour.dst))
  if (neighbour.mac !== undefined) w.attrBytes(NDA_LLADDR, macToBytes(neighbour.mac))
  if (neighbour.port !== undefined) w.attrU16be(NDA_PORT, neighbour.port)
  if (neighbour.vni !== undefined) w.attrU32(NDA_VNI, neighbour.vni)
  if (neighbour.master !== undefined) w.attrU32(NDA_MASTER, neighbour.master)
  if (neighbour.unknown !== undefined) w.attrs(neighbour.unknown)
}

/** A dump request: family, NTF_PROXY for the proxy table, and one link's entries unless `index` is 0. */
export function writeNeighbourFilter(w: MessageWriter, family: number, flags: number, index: number): void {
  writeNeighbour(w, { family, index: 0, state: 0, flags })
  if (index !== 0) w.attrU32(NDA_IFINDEX, index)
}

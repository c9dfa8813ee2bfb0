/** RTM_*ADDR messages. Source: include/uapi/linux/if_addr.h */
import type { Ip } from '../base/address.ts'
import { ipFromBytes, ipToBytes } from '../base/address.ts'
import { type Attr, AttrReader, type MessageWriter, needHeader } from './netlink.ts'

const IFADDRMSG_BYTES = 8

const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_LABEL = 3
const IFA_BROADCAST = 4
const IFA_FLAGS = 8

export const IFA_F_NODAD = 0x02
export const IFA_F_DADFAILED = 0x08
export const IFA_F_TENTATIVE = 0x40
export const IFA_F_PERMANENT = 0x80
export const IFA_F_NOPREFIXROUTE = 0x200

export interface AddressMessage {
  family: number
  prefixLength: number
  index: number
  scope: number
  flags: number
  /** The interface's own address; on a point-to-point link `peer` is the other one. */
  local: Ip
  peer?: Ip
  broadcast?: Ip
  /** IPv4 alias name, usually the interface's. */
  label?: string
  unknown?: Attr[]
}

/** Decodes RTM_NEWADDR or RTM_DELADDR. Throws NetError `internal` on a malformed message. */
export function decodeAddress(payload: Uint8Array, keep = false): AddressMessage {
  const view = needHeader(payload, IFADDRMSG_BYTES, 'address')
  const family = view.getUint8(0)
  let flags = view.getUint8(2)
  let address: Ip | undefined
  let local: Ip | undefined
  let broadcast: Ip | undefined
  let label: string | undefined
  const unknown: Attr[] = []
  const r = new AttrReader(payload, IFADDRMSG_BYTES, payload.length, view)
  while (r.next()) {
    if (r.type === IFA_ADDRESS) address = ipFromBytes(r.bytes())
    else if (r.type === IFA_LOCAL) local = ipFromBytes(r.bytes())
    else if (r.type === IFA_BROADCAST) broadcast = ipFromBytes(r.bytes())
    else if (r.type === IFA_LABEL) label = r.text()
    else if (r.type === IFA_FLAGS) flags = r.u32()
    else if (keep) unknown.push(r.copy())
  }
  const own = local ?? address ?? ipFromBytes(new Uint8Array(family === 10 ? 16 : 4))
  const message: AddressMessage = {
    family,
    prefixLength: view.getUint8(1),
    scope: view.getUint8(3),
    index: view.getUint32(4, true),
    flags,
    local: own,
  }
  if (address !== undefined && address !== own) message.peer = address
  if (broadcast !== undefined) message.broadcast = broadcast
  if (label !== undefined) message.label = label
  if (unknown.length > 0) message.unknown = unknown
  return message
}

/** Writes ifaddrmsg and attributes between `begin` and `end` of a message. */
export function writeAddress(w: MessageWriter, address: AddressMessage): void {
  w.u8(address.family)
  w.u8(address.prefixLength)
  w.u8(address.flags & 0xff)
  w.u8(address.scope)
  w.u32(address.index)
  const local = ipToBytes(address.local)
  w.attrBytes(IFA_LOCAL, local)
  w.attrBytes(IFA_ADDRESS, address.peer === undefined ? local : ipToBytes(address.peer))
  if (address.broadcast !== undefined) w.attrBytes(IFA_BROADCAST, ipToBytes(address.broadcast))
  if (address.label !== undefined) w.attrText(IFA_LABEL, address.label)
  if (address.flags !== 0) w.attrU32(IFA_FLAGS, address.flags)
  if (address.unknown !== undefined) w.attrs(address.unknown)
}

/** The fixed part of a dump request: everything, or one link's (strict checking allows nothing else). */
export function writeAddressFilter(w: MessageWriter, family: number, index: number): void {
  w.u8(family)
  w.u8(0)
  w.u16(0)
  w.u32(index)
}

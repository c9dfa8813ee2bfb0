/**
 * Netlink framing: messages, attributes and acknowledgements as bytes. Knows no descriptor, no clock and no family;
 * `rtnetlink-*.ts` builds on it. Numbers are in host order, which is little-endian on every machine Node 20 ships
 * Linux containers for except s390x (the socket refuses to open there).
 *
 * Reading never trusts a length: whatever the bytes, a reader ends or throws NetError `internal`.
 * Source: include/uapi/linux/netlink.h, Documentation/userspace-api/netlink/intro.rst
 */
import type { Mac } from '../base/address.ts'
import { macFromBytes } from '../base/address.ts'
import { NetError } from '../base/errors.ts'

export const NLMSG_HDRLEN = 16
export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLMSG_OVERRUN = 4

export const NLM_F_REQUEST = 0x1
export const NLM_F_MULTI = 0x2
export const NLM_F_ACK = 0x4
export const NLM_F_ECHO = 0x8
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP_FILTERED = 0x20
export const NLM_F_ROOT = 0x100
export const NLM_F_DUMP = 0x300
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
/** On an acknowledgement: the request's payload was left out. */
export const NLM_F_CAPPED = 0x100
/** On an acknowledgement: attributes follow. */
export const NLM_F_ACK_TLVS = 0x200

export const NLA_F_NESTED = 0x8000
export const NLA_F_NET_BYTEORDER = 0x4000
const NLA_TYPE_MASK = 0x3fff

const NLMSGERR_ATTR_MSG = 1
const NLMSGERR_ATTR_OFFS = 2

export const align4 = (n: number): number => (n + 3) & ~3

/** One attribute as found: `flags` keeps NLA_F_NESTED and NLA_F_NET_BYTEORDER, so that writing it back gives the same bytes. */
export interface Attr {
  readonly type: number
  readonly flags: number
  readonly data: Uint8Array
}

/** One message. `payload` is a view into the receive buffer: decode it before the next receive. */
export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly seq: number
  readonly pid: number
  readonly payload: Uint8Array
}

/** What NLMSG_ERROR (and NLMSG_DONE) says. `errno` is positive, 0 = success. */
export interface NetlinkAck {
  readonly errno: number
  /** The kernel's sentence, '' when it gave none. */
  readonly text: string
  /** Offset in the request of the attribute that was refused. */
  readonly offset?: number
}

function malformed(what: string): NetError {
  return new NetError('internal', `Cannot read netlink message: ${what}`, { op: 'read netlink message' })
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Throws unless `payload` holds at least the fixed header of `bytes` bytes that `what` starts with. */
export function needHeader(payload: Uint8Array, bytes: number, what: string): DataView {
  if (payload.length < bytes) throw malformed(`${what} header has ${payload.length} bytes, expected ${bytes}`)
  return viewOf(payload)
}

/** Splits what one receive returned. Throws NetError `internal` on a length that leaves the buffer. */
export function splitMessages(bytes: Uint8Array): NetlinkMessage[] {
  const view = viewOf(bytes)
  const out: NetlinkMessage[] = []
  for (let at = 0; at < bytes.length; ) {
    if (at + NLMSG_HDRLEN > bytes.length) throw malformed(`${bytes.length - at} bytes after the last message`)
    const length = view.getUint32(at, true)
    if (length < NLMSG_HDRLEN || at + length > bytes.length) throw malformed(`message length ${length} of ${bytes.length - at}`)
    out.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      seq: view.getUint32(at + 8, true),
      pid: view.getUint32(at + 12, true),
      payload: bytes.subarray(at + NLMSG_HDRLEN, at + length),
    })
    at += align4(length)
  }
  return out
}

const ascii = new TextDecoder('utf-8')

/**
 * Walks the attributes of one level: `while (r.next()) switch (r.type) { case X: r.u32() }`.
 * Up to three bytes of padding after the last attribute are skipped, as the kernel's own reader does.
 */
export class AttrReader {
  type = 0
  flags = 0
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #limit: number
  #next: number
  #start = 0
  #end = 0

  constructor(bytes: Uint8Array, start = 0, limit: number = bytes.length, view: DataView = viewOf(bytes)) {
    this.#bytes = bytes
    this.#view = view
    this.#next = start
    this.#limit = limit
  }

  /** Steps to the next attribute; false at the end. */
  next(): boolean {
    const at = this.#next
    if (at + 4 > this.#limit) return false
    const length = this.#view.getUint16(at, true)
    if (length < 4 || at + length > this.#limit) throw malformed(`attribute length ${length} of ${this.#limit - at}`)
    const type = this.#view.getUint16(at + 2, true)
    this.type = type & NLA_TYPE_MASK
    this.flags = type & ~NLA_TYPE_MASK
    this.#start = at + 4
    this.#end = at + length
    this.#next = at + align4(length)
    return true
  }

  /** Length of the current attribute's value. */
  get length(): number {
    return this.#end - this.#start
  }

  #need(bytes: number): number {
    if (this.#end - this.#start < bytes) throw malformed(`attribute ${this.type} has ${this.length} bytes, expected ${bytes}`)
    return this.#start
  }

  u8(): number {
    return this.#view.getUint8(this.#need(1))
  }

  u16(): number {
    return this.#view.getUint16(this.#need(2), true)
  }

  /** A 16-bit number in network order (ports, protocols). */
  u16be(): number {
    return this.#view.getUint16(this.#need(2), false)
  }

  u32(at = 0): number {
    return this.#view.getUint32(this.#need(at + 4) + at, true)
  }

  /** A 32-bit number in network order, as nftables writes all of its numbers. */
  u32be(): number {
    return this.#view.getUint32(this.#need(4), false)
  }

  s32(): number {
    return this.#view.getInt32(this.#need(4), true)
  }

  /** A 64-bit counter; above 2^53 the low bits are rounded. */
  u64(at = 0): number {
    const start = this.#need(at + 8) + at
    return this.#view.getUint32(start, true) + this.#view.getUint32(start + 4, true) * 0x1_0000_0000
  }

  /** Text up to the first NUL. */
  text(): string {
    let end = this.#start
    while (end < this.#end && this.#bytes[end] !== 0) end++
    return ascii.decode(this.#bytes.subarray(this.#start, end))
  }

  /** A six-byte hardware address, or '' for links that have another kind (tunnels, none). */
  mac(): Mac | '' {
    return this.length === 6 ? macFromBytes(this.bytes()) : ''
  }

  /** The value, as a view into the message. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end)
  }

  /** Reader for the attributes inside the current one, after `skip` bytes of fixed header. */
  nested(skip = 0): AttrReader {
    this.#need(skip)
    return new AttrReader(this.#bytes, this.#start + skip, this.#end, this.#view)
  }

  /** The current attribute copied out of the message, for the ones the caller does not know. */
  copy(): Attr {
    return { type: this.type, flags: this.flags, data: this.bytes().slice() }
  }
}

/** All attributes of one level, copied. {@link MessageWriter.attrs} writes them back byte for byte (padding becomes zero). */
export function decodeAttrs(bytes: Uint8Array): Attr[] {
  const reader = new AttrReader(bytes)
  const out: Attr[] = []
  while (reader.next()) out.push(reader.copy())
  return out
}

/** Reads an NLMSG_ERROR payload, with the extended acknowledgement when the socket asked for it. */
export function decodeAck(message: NetlinkMessage): NetlinkAck {
  const { payload, flags } = message
  const view = needHeader(payload, 4, 'acknowledgement')
  const errno = -view.getInt32(0, true) | 0 // never -0
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '' }
  let at = 4
  if (message.type === NLMSG_ERROR) {
    if (payload.length < 4 + NLMSG_HDRLEN) throw malformed('acknowledgement without the header of its request')
    at += (flags & NLM_F_CAPPED) !== 0 ? NLMSG_HDRLEN : align4(view.getUint32(4, true))
  }
  let text = ''
  let offset: number | undefined
  const reader = new AttrReader(payload, at)
  while (reader.next()) {
    if (reader.type === NLMSGERR_ATTR_MSG) text = reader.text()
    else if (reader.type === NLMSGERR_ATTR_OFFS) offset = reader.u32()
  }
  return offset === undefined ? { errno, text } : { errno, text, offset }
}

const encoder = new TextEncoder()

/**
 * Builds one or more messages in a buffer that grows and is used again: `begin`, header fields, attributes, `end`.
 * Nests are opened and closed by offset: `const at = w.openNest(X); ...; w.closeNest(at)`.
 */
export class MessageWriter {
  length = 0
  #bytes: Uint8Array<ArrayBuffer>
  #view: DataView
  #message = 0

  constructor(capacity = 4096) {
    this.#bytes = new Uint8Array(capacity)
    this.#view = viewOf(this.#bytes)
  }

  reset(): void {
    this.length = 0
  }

  /** The messages so far, as a view: valid until the next write. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.length)
  }

  begin(type: number, flags: number, seq = 0, pid = 0): void {
    this.#message = this.length
    this.u32(0)
    this.u16(type)
    this.u16(flags)
    this.u32(seq)
    this.u32(pid)
  }

  /** Closes the message: writes its length and pads to four bytes. */
  end(): void {
    this.#view.setUint32(this.#message, this.length - this.#message, true)
    this.#pad()
  }

  #room(bytes: number): number {
    const at = this.length
    const need = at + bytes
    if (need > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(need, this.#bytes.length * 2))
      grown.set(this.#bytes.subarray(0, at))
      this.#bytes = grown
      this.#view = viewOf(grown)
    }
    this.length = need
    return at
  }

  #pad(): void {
    const bytes = align4(this.length) - this.length
    const at = this.#room(bytes)
    this.#bytes.fill(0, at, at + bytes) // the buffer is used again: old bytes must not leak into padding
  }

  u8(value: number): void {
    const at = this.#room(1) // first: it may replace the buffer and its view
    this.#view.setUint8(at, value)
  }

  u16(value: number): void {
    const at = this.#room(2)
    this.#view.setUint16(at, value, true)
  }

  u32(value: number): void {
    const at = this.#room(4)
    this.#view.setUint32(at, value, true)
  }

  #open(type: number, length: number): number {
    if (length > 0xffff - 4) throw new NetError('invalid', `Cannot write netlink attribute ${type}: ${length} bytes do not fit`)
    const at = this.#room(4)
    this.#view.setUint16(at, length + 4, true)
    this.#view.setUint16(at + 2, type, true)
    return at
  }

  attrU8(type: number, value: number): void {
    this.#open(type, 1)
    this.u8(value)
    this.#pad()
  }

  attrU16(type: number, value: number): void {
    this.#open(type, 2)
    this.u16(value)
    this.#pad()
  }

  attrU16be(type: number, value: number): void {
    this.#open(type, 2)
    const at = this.#room(2)
    this.#view.setUint16(at, value, false)
    this.#pad()
  }

  attrU32(type: number, value: number): void {
    this.#open(type, 4)
    this.u32(value)
  }

  attrBytes(type: number, value: Uint8Array): void {
    this.#open(type, value.length)
    const at = this.#room(value.length)
    this.#bytes.set(value, at)
    this.#pad()
  }

  /** Text with its closing NUL. */
  attrText(type: number, value: string): void {
    const bytes = encoder.encode(value)
    this.#open(type, bytes.length + 1)
    const at = this.#room(bytes.length)
    this.#bytes.set(bytes, at)
    this.u8(0)
    this.#pad()
  }

  /** Attributes as they were read: unknown ones, or a whole level. */
  attrs(attrs: readonly Attr[]): void {
    for (const attr of attrs) this.attrBytes(attr.type | attr.flags, attr.data)
  }

  /** Opens a nest. Families that check strictly want `flag`; the old ones take either. Returns what {@link closeNest} needs. */
  openNest(type: number, flag = NLA_F_NESTED): number {
    return this.#open(type | flag, 0)
  }

  closeNest(at: number): void {
    const length = this.length - at
    if (length > 0xffff) throw new NetError('invalid', `Cannot write netlink attribute: a nest of ${length} bytes does not fit`)
    this.#view.setUint16(at, length, true)
  }
}

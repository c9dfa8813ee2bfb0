/**
 * DNS messages (RFC 1035, EDNS of RFC 6891) as values: complete, allocating, for everything that is not the hot path.
 * `dns-scan.ts` reads the same bytes in place.
 *
 * Names are text without the final dot ('' is the root). A dot or backslash inside a label is written `\.` and `\\`, every other byte
 * outside the printable ASCII range `\DDD`, so any label survives a round trip. Throws NetError `invalid` for bytes that are not a message.
 */
import { NetError } from '../base/errors.ts'

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  DNAME: 39,
  OPT: 41,
  ANY: 255,
} as const

export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const

export const CLASS_IN = 1

/** Bits of the second header word. */
export const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, AD: 0x0020, CD: 0x0010 } as const

export interface DnsQuestion {
  readonly name: string
  readonly type: number
  readonly class: number
}

export interface DnsRecord {
  readonly name: string
  readonly type: number
  /** For OPT: the sender's UDP payload size. */
  readonly class: number
  /** Seconds. For OPT: extended rcode, version and flags. */
  readonly ttl: number
  /** RDATA; names inside the well-known types are uncompressed. */
  readonly data: Uint8Array
}

export interface DnsMessage {
  readonly id: number
  /** QR, AA, ... as {@link FLAG}; opcode and rcode are separate. */
  readonly flags: number
  readonly opcode: number
  readonly rcode: number
  readonly questions: readonly DnsQuestion[]
  readonly answers: readonly DnsRecord[]
  readonly authorities: readonly DnsRecord[]
  readonly additionals: readonly DnsRecord[]
}

const bad = (why: string): NetError => new NetError('invalid', `Cannot decode DNS message: ${why}`)

/** Wire form of a name: length-prefixed labels and a zero byte. Throws `invalid` for labels over 63 and names over 255 bytes. */
export function encodeName(name: string): Uint8Array {
  const out: number[] = []
  let label: number[] = []
  const endLabel = (): void => {
    if (label.length === 0 || label.length > 63)
      throw new NetError('invalid', `Cannot encode DNS name "${name}": a label has 1 to 63 bytes`)
    out.push(label.length, ...label)
    label = []
  }
  const bytes = new TextEncoder().encode(name)
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number
    if (byte === DOT) {
      endLabel()
    } else if (byte === BACKSLASH) {
      const digits = String.fromCharCode(...bytes.subarray(i + 1, i + 4))
      if (/^\d{3}$/.test(digits)) {
        label.push(Number(digits) & 255)
        i += 3
      } else {
        label.push(bytes[++i] ?? BACKSLASH)
      }
    } else {
      label.push(byte)
    }
  }
  if (label.length > 0) endLabel()
  out.push(0)
  if (out.length > 255) throw new NetError('invalid', `Cannot encode DNS name "${name}": longer than 255 bytes`)
  return Uint8Array.from(out)
}

const DOT = 0x2e
const BACKSLASH = 0x5c

/** Text of one label. */
function labelText(bytes: Uint8Array): string {
  let out = ''
  for (const byte of bytes) {
    if (byte === DOT || byte === BACKSLASH) out += `\\${String.fromCharCode(byte)}`
    else if (byte > 0x20 && byte < 0x7f) out += String.fromCharCode(byte)
    else out += `\\${byte.toString().padStart(3, '0')}`
  }
  return out
}

/** Reads a possibly compressed name at `offset`. `end` is where the next field begins. */
export function decodeName(message: Uint8Array, offset: number): { readonly name: string; readonly end: number } {
  const labels: string[] = []
  let at = offset
  let end = -1
  let lowest = offset
  let total = 1
  for (;;) {
    const length = message[at]
    if (length === undefined) throw bad('a name runs over the end')
    if (length === 0) {
      return { name: labels.join('.'), end: end < 0 ? at + 1 : end }
    }
    if (length >= 0xc0) {
      const low = message[at + 1]
      if (low === undefined) throw bad('a name runs over the end')
      if (end < 0) end = at + 2
      const target = ((length & 0x3f) << 8) | low
      // every pointer must go further back than the one before: no loop is possible
      if (target >= lowest) throw bad('a compression pointer does not point backwards')
      at = target
      lowest = target
      continue
    }
    if (length > 63) throw bad('a label type is unknown')
    total += length + 1
    if (total > 255) throw bad('a name is longer than 255 bytes')
    if (at + 1 + length > message.length) throw bad('a name runs over the end')
    labels.push(labelText(message.subarray(at + 1, at + 1 + length)))
    at += length + 1
  }
}

/** Where names stand in the RDATA of the types whose names may be compressed (RFC 1035; others must not be: RFC 3597). */
const NAMES_IN_DATA: Readonly<Record<number, { readonly skip: number; readonly names: number }>> = {
  [TYPE.NS]: { skip: 0, names: 1 },
  [TYPE.CNAME]: { skip: 0, names: 1 },
  [TYPE.PTR]: { skip: 0, names: 1 },
  [TYPE.SOA]: { skip: 0, names: 2 },
  [TYPE.MX]: { skip: 2, names: 1 },
}

class Reader {
  readonly #bytes: Uint8Array
  at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  u16(): number {
    const high = this.#bytes[this.at]
    const low = this.#bytes[this.at + 1]
    if (high === undefined || low === undefined) throw bad('it is cut short')
    this.at += 2
    return (high << 8) | low
  }

  u32(): number {
    return this.u16() * 0x10000 + this.u16()
  }

  name(): string {
    const { name, end } = decodeName(this.#bytes, this.at)
    this.at = end
    return name
  }

  question(): DnsQuestion {
    return { name: this.name(), type: this.u16(), class: this.u16() }
  }

  record(): DnsRecord {
    const name = this.name()
    const type = this.u16()
    const cls = this.u16()
    const ttl = this.u32()
    const length = this.u16()
    const end = this.at + length
    if (end > this.#bytes.length) throw bad('record data runs over the end')
    const data = this.#data(type, end)
    this.at = end
    return { name, type, class: cls, ttl, data }
  }

  #data(type: number, end: number): Uint8Array {
    const layout = NAMES_IN_DATA[type]
    // a copy: slice() of a Buffer would be a view of bytes that the caller may reuse
    if (layout === undefined) return Uint8Array.from(this.#bytes.subarray(this.at, end))
    const parts: Uint8Array[] = [this.#bytes.subarray(this.at, this.at + layout.skip)]
    this.at += layout.skip
    for (let i = 0; i < layout.names; i++) parts.push(encodeName(this.name()))
    if (this.at > end) throw bad('a name runs over its record')
    parts.push(this.#bytes.subarray(this.at, end))
    return concat(parts)
  }
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Bytes after the last record are ignored, as resolvers do. */
export function decodeMessage(bytes: Uint8Array): DnsMessage {
  const reader = new Reader(bytes)
  const id = reader.u16()
  const bits = reader.u16()
  const counts = [reader.u16(), reader.u16(), reader.u16(), reader.u16()] as const
  const records = (n: number): DnsRecord[] => Array.from({ length: n }, () => reader.record())
  return {
    id,
    flags: bits & 0x87f0,
    opcode: (bits >> 11) & 15,
    rcode: bits & 15,
    questions: Array.from({ length: counts[0] }, () => reader.question()),
    answers: records(counts[1]),
    authorities: records(counts[2]),
    additionals: records(counts[3]),
  }
}

/** Writes a message; names that were written before become pointers (RFC 1035 4.1.4), compared byte by byte so that spelling is kept. */
export function encodeMessage(message: DnsMessage): Uint8Array {
  const writer = new Writer()
  writer.u16(message.id)
  writer.u16((message.flags & 0x87f0) | ((message.opcode & 15) << 11) | (message.rcode & 15))
  writer.u16(message.questions.length)
  writer.u16(message.answers.length)
  writer.u16(message.authorities.length)
  writer.u16(message.additionals.length)
  for (const question of message.questions) {
    writer.name(encodeName(question.name))
    writer.u16(question.type)
    writer.u16(question.class)
  }
  for (const record of [...message.answers, ...message.authorities, ...message.additionals]) writer.record(record)
  return writer.bytes()
}

class Writer {
  readonly #out: number[] = []
  readonly #seen = new Map<string, number>()

  u16(value: number): void {
    this.#out.push((value >> 8) & 255, value & 255)
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#out)
  }

  name(wire: Uint8Array): void {
    let at = 0
    while (wire[at] !== 0) {
      const rest = String.fromCharCode(...wire.subarray(at))
      const known = this.#seen.get(rest)
      if (known !== undefined) {
        this.u16(0xc000 | known)
        return
      }
      if (this.#out.length < 0x4000) this.#seen.set(rest, this.#out.length) // a pointer has 14 bits
      const end = at + 1 + (wire[at] as number)
      this.#out.push(...wire.subarray(at, end))
      at = end
    }
    this.#out.push(0)
  }

  record(record: DnsRecord): void {
    this.name(encodeName(record.name))
    this.u16(record.type)
    this.u16(record.class)
    this.u16(record.ttl >>> 16)
    this.u16(record.ttl & 0xffff)
    const lengthAt = this.#out.length
    this.u16(0)
    this.#data(record)
    const length = this.#out.length - lengthAt - 2
    this.#out[lengthAt] = length >> 8
    this.#out[lengthAt + 1] = length & 255
  }

  #data({ type, data }: DnsRecord): void {
    const layout = NAMES_IN_DATA[type]
    if (layout === undefined) {
      for (const byte of data) this.#out.push(byte)
      return
    }
    let at = layout.skip
    this.#out.push(...data.subarray(0, at))
    for (let i = 0; i < layout.names; i++) {
      const end = wireNameEnd(data, at)
      this.name(data.subarray(at, end))
      at = end
    }
    this.#out.push(...data.subarray(at))
  }
}

/** End of an uncompressed name inside record data. */
function wireNameEnd(data: Uint8Array, offset: number): number {
  let at = offset
  for (;;) {
    const length = data[at]
    if (length === undefined || length > 63)
      throw new NetError('invalid', 'Cannot encode DNS record: its data does not hold the names of its type')
    at += length + 1
    if (length === 0) return at
  }
}

/** An OPT record for the additional section: `udpSize` is what its sender can receive. */
export function optRecord(udpSize: number, dnssecOk = false): DnsRecord {
  return { name: '', type: TYPE.OPT, class: udpSize, ttl: dnssecOk ? 0x8000 : 0, data: new Uint8Array(0) }
}

/**
 * DNS messages read in place: no objects on the way of a question, one index for an answer that is going to be cached.
 * Everything is bounds-checked and free of loops; a malformed message is a negative number or undefined, never an exception.
 */
import { TYPE } from './dns.ts'

export const HEADER_BYTES = 12
/** A root name, type OPT, class, ttl and an empty data length. */
export const OPT_BYTES = 11

export const u16 = (bytes: Uint8Array, at: number): number => ((bytes[at] as number) << 8) | (bytes[at + 1] as number)
export const u32 = (bytes: Uint8Array, at: number): number => u16(bytes, at) * 0x10000 + u16(bytes, at + 2)

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8
  bytes[at + 1] = value & 255
}

/** End of the single question (name, type, class) at byte 12; -1 when it is compressed, too long or cut. */
export function questionEnd(bytes: Uint8Array, length: number): number {
  let at = HEADER_BYTES
  const limit = Math.min(length - 5, HEADER_BYTES + 254)
  while (at <= limit) {
    const label = bytes[at] as number
    if (label === 0) return at + 5
    if (label > 63) return -1
    at += label + 1
  }
  return -1
}

/** End of a possibly compressed name without following it; -1 when it is cut or of an unknown kind. */
export function skipName(bytes: Uint8Array, offset: number, length: number): number {
  let at = offset
  while (at < length) {
    const label = bytes[at] as number
    if (label === 0) return at + 1
    if (label >= 0xc0) return at + 2 <= length ? at + 2 : -1
    if (label > 63) return -1
    at += label + 1
  }
  return -1
}

export interface OptInfo {
  readonly udpSize: number
  readonly version: number
  readonly dnssecOk: boolean
}

/** The OPT record of a query whose question ends at `end`: undefined = none, null = malformed. */
export function findOpt(bytes: Uint8Array, end: number, length: number): OptInfo | undefined | null {
  let at = end
  let found: OptInfo | undefined
  for (let left = u16(bytes, 6) + u16(bytes, 8) + u16(bytes, 10); left > 0; left--) {
    const fixed = skipName(bytes, at, length)
    if (fixed < 0 || fixed + 10 > length) return null
    const next = fixed + 10 + u16(bytes, fixed + 8)
    if (next > length) return null
    if (u16(bytes, fixed) === TYPE.OPT) {
      if (found !== undefined) return null // RFC 6891 6.1.1: more than one is a format error
      found = { udpSize: u16(bytes, fixed + 2), version: bytes[fixed + 5] as number, dnssecOk: ((bytes[fixed + 6] as number) & 0x80) !== 0 }
    }
    at = next
  }
  return found
}

/** What must be known about an answer to keep, age and cut it. */
export interface MessageIndex {
  readonly rcode: number
  readonly truncated: boolean
  readonly questionEnd: number
  /** Offsets of the TTL fields that count down (all but OPT). */
  readonly ttls: readonly number[]
  /** End offset of each record of the answer section. */
  readonly answerEnds: readonly number[]
  /** Smallest TTL of the answer section, Infinity when it is empty. */
  readonly answerTtl: number
  /** Negative lifetime in seconds (RFC 2308: smaller of the SOA's TTL and its minimum); undefined without an SOA. */
  readonly negativeTtl?: number
  /** A and AAAA records of the answer section: where the owner name and the address stand. */
  readonly addresses: readonly { readonly nameAt: number; readonly dataAt: number; readonly bytes: 4 | 16 }[]
  /** True when the answer section has a record of the type that was asked, or of ANY when that was asked. */
  readonly answersType: boolean
  /** Offset of the OPT record, -1 without. */
  readonly optAt: number
  readonly end: number
}

/** Indexes a response with exactly one question; undefined when any part of it is malformed. */
export function indexMessage(bytes: Uint8Array, length: number = bytes.length): MessageIndex | undefined {
  if (length < HEADER_BYTES || u16(bytes, 4) !== 1) return undefined
  const qEnd = questionEnd(bytes, length)
  if (qEnd < 0) return undefined
  const asked = u16(bytes, qEnd - 4)
  const answers = u16(bytes, 6)
  const total = answers + u16(bytes, 8) + u16(bytes, 10)
  const ttls: number[] = []
  const answerEnds: number[] = []
  const addresses: { nameAt: number; dataAt: number; bytes: 4 | 16 }[] = []
  let answerTtl = Number.POSITIVE_INFINITY
  let negativeTtl: number | undefined
  let answersType = false
  let optAt = -1
  let at = qEnd
  for (let i = 0; i < total; i++) {
    const fixed = skipName(bytes, at, length)
    if (fixed < 0 || fixed + 10 > length) return undefined
    const type = u16(bytes, fixed)
    const data = fixed + 10
    const next = data + u16(bytes, fixed + 8)
    if (next > length) return undefined
    if (type === TYPE.OPT) optAt = at
    else {
      ttls.push(fixed + 4)
      // a TTL with the top bit set counts as zero: RFC 2181 8
      const ttl = u32(bytes, fixed + 4) > 0x7fffffff ? 0 : u32(bytes, fixed + 4)
      if (i < answers) {
        answerEnds.push(next)
        answerTtl = Math.min(answerTtl, ttl)
        if (type === asked || asked === TYPE.ANY) answersType = true
        const size = next - data
        if ((type === TYPE.A && size === 4) || (type === TYPE.AAAA && size === 16))
          addresses.push({ nameAt: at, dataAt: data, bytes: size })
      } else if (type === TYPE.SOA && next - data >= 20) {
        negativeTtl ??= Math.min(ttl, u32(bytes, next - 4))
      }
    }
    at = next
  }
  return {
    rcode: (bytes[3] as number) & 15,
    truncated: ((bytes[2] as number) & 2) !== 0,
    questionEnd: qEnd,
    ttls,
    answerEnds,
    answerTtl,
    ...(negativeTtl === undefined ? {} : { negativeTtl }),
    addresses,
    answersType,
    optAt,
    end: at,
  }
}

/** True when the questions of two messages, `end` bytes long from byte 12, differ at most in the case of ASCII letters. */
export function sameQuestion(a: Uint8Array, b: Uint8Array, end: number): boolean {
  for (let i = HEADER_BYTES; i < end - 4; i++) {
    const x = a[i] as number
    const y = b[i] as number
    if (x !== y && lowerByte(x) !== lowerByte(y)) return false
  }
  for (let i = end - 4; i < end; i++) if (a[i] !== b[i]) return false
  return true
}

/** ASCII lower case; a length byte of a label (at most 63) is never a letter. */
function lowerByte(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte
}

/**
 * Answers written over the question they belong to: the header is changed, the question stays as it was spelled, records follow it.
 * No allocation per answer. Every function returns the length of the answer.
 */
import { ipToBytes } from '../base/address.ts'
import { encodeName, FLAG, RCODE, TYPE } from '../wire/dns.ts'
import { HEADER_BYTES, type MessageIndex, OPT_BYTES, type OptInfo, putU16, u32 } from '../wire/dns-scan.ts'
import type { LocalAnswer } from './zone.ts'

/** Time to live of local names, in seconds, as Docker gives it. */
const LOCAL_TTL = 600
/** What we can receive: fits the path MTU of every sane network (DNS flag day 2020). */
const OWN_UDP_SIZE = 1232
/** The largest answer over UDP, whatever the client says it takes. */
export const MAX_UDP_ANSWER = 4096
const MIN_UDP_ANSWER = 512

/** A local answer, ready to be copied behind the question; records name the question by a pointer to byte 12. */
export interface PreparedAnswer {
  readonly records: Uint8Array
  readonly count: number
  /** Bytes of one record; all have the same length when there is more than one. */
  readonly recordBytes: number
  readonly isPtr: boolean
}

const EMPTY: PreparedAnswer = { records: new Uint8Array(0), count: 0, recordBytes: 0, isPtr: false }

/** Encodes the records once; undefined when the target of a PTR is no DNS name. */
export function prepareAnswer(answer: LocalAnswer): PreparedAnswer | undefined {
  if (answer.kind === 'empty') return EMPTY
  if (answer.kind === 'ptr') {
    try {
      const record = encodeRecord(TYPE.PTR, encodeName(answer.target))
      return { records: record, count: 1, recordBytes: record.length, isPtr: true }
    } catch {
      return undefined // a network name with a label over 63 bytes: encodeName says `invalid`
    }
  }
  const type = answer.family === 4 ? TYPE.A : TYPE.AAAA
  const recordBytes = HEADER_BYTES + (answer.family === 4 ? 4 : 16)
  const records = new Uint8Array(recordBytes * answer.addresses.length)
  answer.addresses.forEach((ip, i) => {
    records.set(encodeRecord(type, ipToBytes(ip)), i * recordBytes)
  })
  return { records, count: answer.addresses.length, recordBytes, isPtr: false }
}

/** Owner (pointer), type, class, ttl, length: 12 bytes, then the data. */
function encodeRecord(type: number, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(12 + data.length)
  putU16(out, 0, 0xc000 | HEADER_BYTES)
  putU16(out, 2, type)
  putU16(out, 4, 1)
  putU16(out, 8, LOCAL_TTL)
  putU16(out, 10, data.length)
  out.set(data, 12)
  return out
}

/** 32 random bits per call, for shuffling and for message ids. */
export type Random32 = () => number

/** Sets the header of an answer whose question is at its place; `length` and the answer count come later. */
function beginAnswer(buffer: Uint8Array, flags: number): void {
  const recursionDesired = (buffer[2] as number) & 1
  buffer[2] = (flags >> 8) | recursionDesired
  buffer[3] = flags & 255
  for (let at = 6; at < HEADER_BYTES; at++) buffer[at] = 0
}

function appendOpt(buffer: Uint8Array, at: number, extendedRcode: number): number {
  buffer[11] = (buffer[11] as number) + 1
  buffer.fill(0, at, at + OPT_BYTES)
  buffer[at + 2] = TYPE.OPT
  putU16(buffer, at + 3, OWN_UDP_SIZE)
  buffer[at + 5] = extendedRcode
  return at + OPT_BYTES
}

/** Largest answer that this client may be sent. */
export function answerLimit(isTcp: boolean, opt: OptInfo | undefined): number {
  if (isTcp) return 65_535
  return opt === undefined ? MIN_UDP_ANSWER : Math.min(Math.max(opt.udpSize, MIN_UDP_ANSWER), MAX_UDP_ANSWER)
}

/** NOERROR with the prepared records, shuffled when there are several; cut with TC when `limit` is too small. */
export function writeLocal(
  buffer: Uint8Array,
  questionEnd: number,
  answer: PreparedAnswer,
  limit: number,
  opt: OptInfo | undefined,
  random: Random32,
): number {
  const { records, recordBytes } = answer
  const room = limit - questionEnd - (opt === undefined ? 0 : OPT_BYTES)
  let count = answer.count
  let flags: number = FLAG.QR | FLAG.RA
  if (records.length > room) {
    count = Math.max(0, Math.floor(room / recordBytes))
    flags |= FLAG.TC
  }
  beginAnswer(buffer, flags)
  putU16(buffer, 6, count)
  let at = questionEnd
  if (answer.count === 1) {
    if (count === 1) for (let i = 0; i < recordBytes; i++) buffer[at++] = records[i] as number
  } else if (count > 0) {
    at = writeShuffled(buffer, at, answer, count, random)
  }
  return opt === undefined ? at : appendOpt(buffer, at, 0)
}

let order = new Uint16Array(64) // scratch: holds nothing between calls

function writeShuffled(buffer: Uint8Array, start: number, answer: PreparedAnswer, count: number, random: Random32): number {
  const { records, recordBytes } = answer
  const total = answer.count
  if (order.length < total) order = new Uint16Array(total)
  for (let i = 0; i < total; i++) order[i] = i
  let at = start
  for (let i = 0; i < count; i++) {
    const pick = i + Math.floor((random() / 0x1_0000_0000) * (total - i))
    const chosen = order[pick] as number
    order[pick] = order[i] as number
    for (let from = chosen * recordBytes, end = from + recordBytes; from < end; from++) buffer[at++] = records[from] as number
  }
  return at
}

/** An answer with nothing but the question: SERVFAIL, NOTIMP, BADVERS... SERVFAIL has RA off, as Docker's. */
export function writeError(buffer: Uint8Array, questionEnd: number, rcode: number, opt: OptInfo | undefined): number {
  beginAnswer(buffer, FLAG.QR | (rcode === RCODE.SERVFAIL ? 0 : FLAG.RA) | (rcode & 15))
  return opt === undefined ? questionEnd : appendOpt(buffer, questionEnd, rcode >> 4)
}

/** FORMERR for a message whose question cannot be read: the header alone. */
export function writeFormatError(buffer: Uint8Array): number {
  beginAnswer(buffer, FLAG.QR | FLAG.RA | RCODE.FORMERR)
  putU16(buffer, 4, 0)
  return HEADER_BYTES
}

/**
 * An upstream's answer for the question in `buffer`: the client's id and spelling, time to live less `ageSeconds`, cut with TC at `limit`.
 * `buffer` must have room for `limit` bytes or the whole message, whichever is less.
 */
export function writeForwarded(
  buffer: Uint8Array,
  message: Uint8Array,
  index: MessageIndex,
  ageSeconds: number,
  limit: number,
  opt: OptInfo | undefined,
): number {
  const recursionDesired = (buffer[2] as number) & 1
  // from the cache it is not authoritative any more
  const high = ((message[2] as number) & 0xfe & (ageSeconds > 0 ? 0xfb : 0xff)) | recursionDesired
  const low = (message[3] as number) | FLAG.RA
  const fits = index.end <= limit
  const end = fits ? index.end : cutAt(index, limit - (opt === undefined ? 0 : OPT_BYTES))
  for (let at = index.questionEnd; at < end; at++) buffer[at] = message[at] as number
  buffer[2] = fits ? high : high | (FLAG.TC >> 8)
  buffer[3] = low
  putU16(buffer, 4, 1)
  if (fits) for (let at = 6; at < HEADER_BYTES; at++) buffer[at] = message[at] as number
  else {
    putU16(buffer, 6, index.answerEnds.filter((recordEnd) => recordEnd <= end).length)
    putU16(buffer, 8, 0)
    putU16(buffer, 10, 0)
  }
  if (ageSeconds > 0) {
    for (const at of index.ttls) {
      if (at + 4 > end) break
      const left = Math.max(0, u32(message, at) - ageSeconds)
      putU16(buffer, at, left >>> 16)
      putU16(buffer, at + 2, left & 0xffff)
    }
  }
  return fits || opt === undefined ? end : appendOpt(buffer, end, 0)
}

/** End of the last answer record that fits. */
function cutAt(index: MessageIndex, limit: number): number {
  let end = index.questionEnd
  for (const recordEnd of index.answerEnds) {
    if (recordEnd > limit) break
    end = recordEnd
  }
  return end
}

/** A question for an upstream: the client's, with our own id and, when the client speaks EDNS, our own OPT. */
export function writeQuery(
  question: Uint8Array,
  id: number,
  flags: { readonly checkingDisabled: boolean; readonly authenticData: boolean },
  opt: OptInfo | undefined,
): Uint8Array {
  const out = new Uint8Array(HEADER_BYTES + question.length + (opt === undefined ? 0 : OPT_BYTES))
  putU16(out, 0, id)
  putU16(out, 2, FLAG.RD | (flags.checkingDisabled ? FLAG.CD : 0) | (flags.authenticData ? FLAG.AD : 0))
  putU16(out, 4, 1)
  out.set(question, HEADER_BYTES)
  if (opt !== undefined) {
    appendOpt(out, HEADER_BYTES + question.length, 0)
    if (opt.dnssecOk) out[out.length - 4] = 0x80
  }
  return out
}

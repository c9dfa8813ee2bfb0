/**
 * D-Bus messages as bytes: what a caller of methods and a listener to signals needs. Knows no socket. Values are plain: an array is an
 * array, a dictionary an array of pairs, a structure an array, a variant a {@link Variant}. 64-bit numbers are bigints.
 *
 * Reading never trusts a length: whatever the bytes, a reader ends or throws NetError `internal`.
 * Source: https://dbus.freedesktop.org/doc/dbus-specification.html, "Type System" and "Message Protocol"
 */
import { NetError } from '../base/errors.ts'

export interface Variant {
  readonly signature: string
  readonly value: DbusValue
}
export type DbusValue = string | number | bigint | boolean | Variant | readonly DbusValue[]

export const METHOD_CALL = 1
export const METHOD_RETURN = 2
export const ERROR = 3
export const SIGNAL = 4

export interface DbusMessage {
  readonly type: number
  readonly serial: number
  readonly path?: string
  readonly interface?: string
  readonly member?: string
  readonly errorName?: string
  readonly replySerial?: number
  readonly destination?: string
  readonly sender?: string
  readonly signature?: string
  readonly body: readonly DbusValue[]
}

const FIXED_BYTES = 16
/** The specification's bounds. */
const MAX_MESSAGE_BYTES = 128 << 20
const MAX_DEPTH = 64

/** Header fields: code, type, name in {@link DbusMessage}. */
const FIELDS = [
  [1, 'o', 'path'],
  [2, 's', 'interface'],
  [3, 's', 'member'],
  [4, 's', 'errorName'],
  [5, 'u', 'replySerial'],
  [6, 's', 'destination'],
  [7, 's', 'sender'],
  [8, 'g', 'signature'],
] as const

const ALIGNMENT: Readonly<Record<string, number>> = {
  ...{ y: 1, g: 1, v: 1, n: 2, q: 2, b: 4, i: 4, u: 4, h: 4, s: 4, o: 4, a: 4, x: 8, t: 8, d: 8, '(': 8, '{': 8 },
}

const malformed = (what: string) => new NetError('internal', `Cannot read D-Bus message: ${what}`)

/** Splits a signature into complete types: `sa{sv}` -> `s`, `a{sv}`. */
export function splitSignature(signature: string): string[] {
  const out: string[] = []
  for (let at = 0; at < signature.length; ) {
    const end = typeEnd(signature, at, 0)
    out.push(signature.slice(at, end))
    at = end
  }
  return out
}

function typeEnd(signature: string, at: number, depth: number): number {
  const code = signature[at] ?? ''
  if (ALIGNMENT[code] === undefined || depth > MAX_DEPTH) throw malformed(`signature "${signature}"`)
  if (code === 'a') return typeEnd(signature, at + 1, depth + 1)
  const close = code === '(' ? ')' : code === '{' ? '}' : undefined
  if (close === undefined) return at + 1
  let next = at + 1
  while (signature[next] !== close) next = typeEnd(signature, next, depth + 1)
  return next + 1
}

class Writer {
  readonly #bytes: number[] = []

  get length(): number {
    return this.#bytes.length
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }

  align(to: number): void {
    while (this.#bytes.length % to !== 0) this.#bytes.push(0)
  }

  raw(bytes: Iterable<number>): void {
    for (const byte of bytes) this.#bytes.push(byte)
  }

  #number(size: number, set: (view: DataView) => void): void {
    const view = new DataView(new ArrayBuffer(size))
    set(view)
    this.raw(new Uint8Array(view.buffer))
  }

  u32(value: number): void {
    this.#number(4, (view) => view.setUint32(0, value, true))
  }

  value(type: string, value: DbusValue): void {
    this.align(ALIGNMENT[type[0] as string] as number)
    switch (type[0]) {
      case 'y':
        this.raw([Number(value)])
        break
      case 'n':
      case 'q':
        this.#number(2, (view) => view.setUint16(0, Number(value), true))
        break
      case 'b':
      case 'i':
      case 'u':
        this.u32(Number(value) >>> 0)
        break
      case 'x':
      case 't':
        this.#number(8, (view) => view.setBigUint64(0, BigInt.asUintN(64, value as bigint), true))
        break
      case 'd':
        this.#number(8, (view) => view.setFloat64(0, Number(value), true))
        break
      case 's':
      case 'o': {
        const text = new TextEncoder().encode(value as string)
        this.u32(text.length)
        this.raw(text)
        this.raw([0])
        break
      }
      case 'g': {
        const text = new TextEncoder().encode(value as string)
        this.raw([text.length])
        this.raw(text)
        this.raw([0])
        break
      }
      case 'v': {
        const { signature, value: inner } = value as Variant
        this.value('g', signature)
        this.value(signature, inner)
        break
      }
      case 'a':
        this.#array(type.slice(1), value as readonly DbusValue[])
        break
      default:
        for (const [i, part] of splitSignature(type.slice(1, -1)).entries())
          this.value(part, (value as readonly DbusValue[])[i] as DbusValue)
    }
  }

  #array(element: string, values: readonly DbusValue[]): void {
    const at = this.length
    this.u32(0)
    this.align(ALIGNMENT[element[0] as string] as number)
    const start = this.length
    for (const value of values) this.value(element, value)
    const size = new Writer()
    size.u32(this.length - start)
    for (const [i, byte] of size.bytes().entries()) this.#bytes[at + i] = byte
  }
}

/** One message. `body` must be of the types that `signature` says. */
export function encodeMessage(message: DbusMessage): Uint8Array {
  const body = new Writer()
  for (const [i, type] of splitSignature(message.signature ?? '').entries()) body.value(type, message.body[i] as DbusValue)
  const out = new Writer()
  out.raw([0x6c, message.type, 0, 1]) // little-endian, no flags, version 1
  out.u32(body.length)
  out.u32(message.serial)
  const fields = FIELDS.flatMap(([code, type, name]): DbusValue[] => {
    const value = message[name]
    return value === undefined || value === '' ? [] : [[code, { signature: type, value }]]
  })
  out.value('a(yv)', fields)
  out.align(8)
  out.raw(body.bytes())
  return out.bytes()
}

class Reader {
  readonly #view: DataView
  readonly #bytes: Uint8Array
  readonly #little: boolean
  #at: number

  constructor(bytes: Uint8Array, at: number, little: boolean) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#at = at
    this.#little = little
  }

  align(to: number): void {
    this.#at = Math.ceil(this.#at / to) * to
  }

  #take(size: number): number {
    const at = this.#at
    if (size < 0 || at + size > this.#bytes.length) throw malformed('it ends too early')
    this.#at += size
    return at
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), this.#little)
  }

  #text(size: number): string {
    const at = this.#take(size + 1)
    return new TextDecoder().decode(this.#bytes.subarray(at, at + size))
  }

  value(type: string, depth = 0): DbusValue {
    if (depth > MAX_DEPTH) throw malformed('it is nested too deeply')
    const code = type[0] as string
    this.align(ALIGNMENT[code] as number)
    switch (code) {
      case 'y':
        return this.#view.getUint8(this.#take(1))
      case 'n':
        return this.#view.getInt16(this.#take(2), this.#little)
      case 'q':
        return this.#view.getUint16(this.#take(2), this.#little)
      case 'b':
        return this.u32() !== 0
      case 'i':
        return this.u32() | 0
      case 'u':
      case 'h':
        return this.u32()
      case 'x':
        return this.#view.getBigInt64(this.#take(8), this.#little)
      case 't':
        return this.#view.getBigUint64(this.#take(8), this.#little)
      case 'd':
        return this.#view.getFloat64(this.#take(8), this.#little)
      case 's':
      case 'o':
        return this.#text(this.u32())
      case 'g':
        return this.#text(this.#view.getUint8(this.#take(1)))
      case 'v': {
        const signature = this.value('g') as string
        if (splitSignature(signature).length !== 1) throw malformed(`a variant of "${signature}"`)
        return { signature, value: this.value(signature, depth + 1) }
      }
      case 'a':
        return this.#array(type.slice(1), depth)
      default:
        return splitSignature(type.slice(1, -1)).map((part) => this.value(part, depth + 1))
    }
  }

  #array(element: string, depth: number): DbusValue[] {
    const size = this.u32()
    this.align(ALIGNMENT[element[0] as string] as number)
    const end = this.#at + size
    if (end > this.#bytes.length) throw malformed('an array ends behind it')
    const out: DbusValue[] = []
    while (this.#at < end) {
      const before = this.#at
      out.push(this.value(element, depth + 1))
      if (this.#at === before) throw malformed('an array of nothing')
    }
    return out
  }
}

/** Length in bytes of the message that begins here; undefined when too little of it has come. Throws when it is none. */
export function messageLength(bytes: Uint8Array): number | undefined {
  if (bytes.length < FIXED_BYTES) return undefined
  const little = endianness(bytes)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const length = FIXED_BYTES + Math.ceil(view.getUint32(12, little) / 8) * 8 + view.getUint32(4, little)
  if (length > MAX_MESSAGE_BYTES) throw malformed(`it claims ${length} bytes`)
  return length
}

function endianness(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0x6c && bytes[0] !== 0x42) throw malformed(`its first byte is ${bytes[0]}, expected "l" or "B"`)
  return bytes[0] === 0x6c
}

/** Reads one whole message. Fields that are not known are passed over. */
export function decodeMessage(bytes: Uint8Array): DbusMessage {
  const length = messageLength(bytes)
  if (length === undefined || bytes.length < length) throw malformed('it ends too early')
  const little = endianness(bytes)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const reader = new Reader(bytes.subarray(0, length), 12, little)
  const found: Record<string, DbusValue> = {}
  for (const [code, field] of reader.value('a(yv)') as [number, Variant][]) {
    const known = FIELDS.find(([c, type]) => c === code && type === field.signature)
    if (known !== undefined) found[known[2]] = field.value
  }
  reader.align(8)
  const signature = (found['signature'] as string | undefined) ?? ''
  const body = splitSignature(signature).map((type) => reader.value(type))
  return { ...found, type: bytes[1] as number, serial: view.getUint32(8, little), body }
}

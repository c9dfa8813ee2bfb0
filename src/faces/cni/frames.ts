/**
 * What the stub and the engine say to each other, once per connection.
 *
 * Request: {@link REQUEST_MARK}, then `NAME=value` and a zero byte for each `CNI_` variable, one more zero byte, then the plugin's
 * standard input and a zero byte. JSON has no zero bytes: a request is complete when the last byte is one and the variables have
 * ended, and the engine begins without waiting for the end of the stream, which would cost it another turn of its loop.
 *
 * Answer: {@link ANSWER_HEADER_BYTES} bytes (mark, exit status, descriptor 1 or 2, zero, length as 32-bit little-endian), then as
 * many bytes as the length says, which the stub prints on that descriptor.
 */
import { NetError } from '../../base/errors.ts'

export const REQUEST_MARK = 'causeway-cni-1\0'
export const ANSWER_MARK = 0xca
export const ANSWER_HEADER_BYTES = 8

export interface StubRequest {
  readonly env: Readonly<Record<string, string>>
  readonly stdin: Uint8Array
}

/** What the executable prints, and where, and how it ends. */
export interface StubAnswer {
  readonly status: number
  readonly output: string
  /** On standard error instead of standard output. */
  readonly onStderr?: boolean
}

const decoder = new TextDecoder('utf-8')

/** All of it has arrived. */
export function isWholeRequest(bytes: Uint8Array): boolean {
  if (bytes.at(-1) !== 0) return false
  const end = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf('\0\0', REQUEST_MARK.length - 1)
  return end >= 0 && end + 2 < bytes.length
}

/** Throws NetError `invalid` when the bytes are not a request. */
export function decodeRequest(bytes: Uint8Array): StubRequest {
  if (decoder.decode(bytes.subarray(0, REQUEST_MARK.length)) !== REQUEST_MARK)
    throw new NetError('invalid', 'Cannot read CNI request: it does not begin with the mark of the causeway stub')
  const env: Record<string, string> = {}
  for (let at = REQUEST_MARK.length; ; ) {
    const end = bytes.indexOf(0, at)
    if (end < 0) throw new NetError('invalid', 'Cannot read CNI request: it ends within its environment')
    if (end === at) return { env, stdin: bytes.subarray(end + 1, bytes.at(-1) === 0 && bytes.length > end + 1 ? -1 : undefined) }
    const variable = decoder.decode(bytes.subarray(at, end))
    const equals = variable.indexOf('=')
    if (equals > 0) env[variable.slice(0, equals)] = variable.slice(equals + 1)
    at = end + 1
  }
}

export function encodeRequest(request: StubRequest): Uint8Array {
  const variables = Object.entries(request.env).map(([name, value]) => `${name}=${value}\0`)
  return Buffer.concat([Buffer.from(`${REQUEST_MARK}${variables.join('')}\0`), request.stdin, Buffer.of(0)])
}

export function encodeAnswer(answer: StubAnswer): Uint8Array {
  const body = Buffer.from(answer.output)
  const out = Buffer.alloc(ANSWER_HEADER_BYTES + body.length)
  out.set([ANSWER_MARK, answer.status, answer.onStderr ? 2 : 1, 0])
  out.writeUInt32LE(body.length, 4)
  out.set(body, ANSWER_HEADER_BYTES)
  return out
}

/** Throws NetError `unavailable` when the answer is cut short or no answer. */
export function decodeAnswer(bytes: Uint8Array): StubAnswer {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const isWhole = bytes.length >= ANSWER_HEADER_BYTES && bytes[0] === ANSWER_MARK
  if (!isWhole || bytes.length !== ANSWER_HEADER_BYTES + view.getUint32(4, true))
    throw new NetError('unavailable', 'the engine did not answer')
  return { status: bytes[1] as number, output: decoder.decode(bytes.subarray(ANSWER_HEADER_BYTES)), onStderr: bytes[2] === 2 }
}

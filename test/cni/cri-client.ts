/**
 * As much of the Container Runtime Interface as a kubelet needs to start a pod: gRPC over a unix socket with node's own HTTP/2, and
 * messages as objects whose keys are protobuf's field numbers. Source: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
 */
import { type ClientHttp2Session, connect, constants } from 'node:http2'
import { connect as connectSocket } from 'node:net'

type Value = string | number | boolean | Message
/** A field number and its value; several values of a repeated field in a list. */
export interface Message {
  readonly [field: number]: Value | readonly Value[]
}

/** Fields of an answer by number: numbers as they are, everything else as bytes. */
export type Answer = ReadonlyMap<number, readonly (number | Buffer)[]>

const GRPC_HEADER_BYTES = 5
const CALL_TIMEOUT_MS = 30_000

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = BigInt(value); ; rest >>= 7n) {
    if (rest < 0x80n) return Buffer.from([...bytes, Number(rest)])
    bytes.push(Number(rest & 0x7fn) | 0x80)
  }
}

export function encode(message: Message): Buffer {
  return Buffer.concat(
    Object.entries(message).flatMap(([field, given]) =>
      (Array.isArray(given) ? given : [given]).flatMap((value: Value) => {
        if (typeof value === 'number' || typeof value === 'boolean') return [varint(Number(field) * 8), varint(Number(value))]
        const bytes = typeof value === 'string' ? Buffer.from(value) : encode(value)
        return [varint(Number(field) * 8 + 2), varint(bytes.length), bytes]
      }),
    ),
  )
}

export function decode(bytes: Buffer): Answer {
  const fields = new Map<number, (number | Buffer)[]>()
  let at = 0
  const next = (): number => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++] as number
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return Number(value)
    }
  }
  while (at < bytes.length) {
    const tag = next()
    const length = tag % 8 === 2 ? next() : 0
    if (tag % 8 !== 0 && tag % 8 !== 2) throw new Error(`wire type ${tag % 8} is not known here`)
    const value = tag % 8 === 0 ? next() : bytes.subarray(at, at + length)
    at += length
    const field = Math.floor(tag / 8)
    fields.set(field, [...(fields.get(field) ?? []), value])
  }
  return fields
}

/** The only value of a field as text, '' without one. */
export function text(answer: Answer, field: number): string {
  return String(answer.get(field)?.[0] ?? '')
}

/** The message in a field, or in fields of fields. */
export function inner(answer: Answer, ...fields: number[]): Answer {
  return fields.reduce((message, field) => decode((message.get(field)?.[0] as Buffer | undefined) ?? Buffer.alloc(0)), answer)
}

export class CriClient {
  readonly #session: ClientHttp2Session

  constructor(socket: string) {
    this.#session = connect('http://localhost', { createConnection: () => connectSocket(socket) })
    this.#session.on('error', () => {}) // each call says it
  }

  /** A call of the RuntimeService. Throws gRPC's message. */
  call(method: string, message: Message = {}): Promise<Answer> {
    const body = encode(message)
    const header = Buffer.alloc(GRPC_HEADER_BYTES)
    header.writeUInt32BE(body.length, 1)
    return new Promise((resolve, reject) => {
      const stream = this.#session.request({
        [constants.HTTP2_HEADER_METHOD]: 'POST',
        [constants.HTTP2_HEADER_PATH]: `/runtime.v1.RuntimeService/${method}`,
        [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
        te: 'trailers',
      })
      const chunks: Buffer[] = []
      let status = ''
      let problem = 'the call was cut off'
      const read = (headers: Record<string, unknown>) => {
        status = String(headers['grpc-status'] ?? status)
        problem = decodeURIComponent(String(headers['grpc-message'] ?? problem))
      }
      stream.setTimeout(CALL_TIMEOUT_MS, () => stream.close(constants.NGHTTP2_CANCEL))
      stream.on('response', read)
      stream.on('trailers', read)
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('error', reject)
      stream.on('close', () => {
        if (status === '0') resolve(decode(Buffer.concat(chunks).subarray(GRPC_HEADER_BYTES)))
        else reject(new Error(`${method}: ${problem}`))
      })
      stream.end(Buffer.concat([header, body]))
    })
  }

  close(): void {
    this.#session.destroy()
  }
}

/**
 * The server half of RFC 6455, as much as `attach/ws` needs: handshake, binary messages out, any data in, ping, close.
 * No extensions, no subprotocols.
 */
import { createHash } from 'node:crypto'
import { Transform } from 'node:stream'
import { badRequest } from './errors.ts'
import type { Wire } from './hijack.ts'

/** RFC 6455 section 1.3. */
const HANDSHAKE_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const MAX_PAYLOAD = 1024 * 1024
const OP = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** `Sec-WebSocket-Accept` for a client's key. */
function acceptKey(key: string): string {
  return createHash('sha1')
    .update(key + HANDSHAKE_GUID)
    .digest('base64')
}

/** Throws `invalid` when the headers are not a handshake of version 13. */
export function checkHandshake(headers: NodeJS.Dict<string | string[]>): string {
  const key = headers['sec-websocket-key']
  if (
    String(headers['upgrade'] ?? '').toLowerCase() !== 'websocket' ||
    typeof key !== 'string' ||
    headers['sec-websocket-version'] !== '13'
  ) {
    throw badRequest('attach/ws needs a WebSocket handshake (RFC 6455, version 13)')
  }
  return key
}

export function handshakeResponse(key: string): string {
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(key)}\r\n\r\n`
}

export function encodeMessage(payload: Uint8Array, opcode: number = OP.binary): Buffer {
  const { length } = payload
  const head = length < 126 ? Buffer.alloc(2) : length < 65_536 ? Buffer.alloc(4) : Buffer.alloc(10)
  head[0] = 0x80 | opcode
  if (length < 126) head[1] = length
  else if (length < 65_536) {
    head[1] = 126
    head.writeUInt16BE(length, 2)
  } else {
    head[1] = 127
    head.writeBigUInt64BE(BigInt(length), 2)
  }
  return Buffer.concat([head, payload])
}

interface Frame {
  readonly opcode: number
  readonly payload: Buffer
  readonly size: number
}

/** One client frame at the start of `buffer`, undefined when incomplete. Throws when it breaks the protocol. */
function decodeFrame(buffer: Buffer): Frame | undefined {
  if (buffer.length < 2) return undefined
  const second = buffer[1] as number
  if ((second & 0x80) === 0) throw badRequest('WebSocket frame without mask')
  let length = second & 0x7f
  let at = 2
  if (length === 126) {
    if (buffer.length < 4) return undefined
    length = buffer.readUInt16BE(2)
    at = 4
  } else if (length === 127) {
    if (buffer.length < 10) return undefined
    length = Number(buffer.readBigUInt64BE(2))
    at = 10
  }
  if (length > MAX_PAYLOAD) throw badRequest('WebSocket frame too large')
  if (buffer.length < at + 4 + length) return undefined
  const mask = buffer.subarray(at, at + 4)
  const payload = Buffer.from(buffer.subarray(at + 4, at + 4 + length))
  for (let i = 0; i < payload.length; i++) payload[i] = (payload[i] as number) ^ (mask[i & 3] as number)
  return { opcode: (buffer[0] as number) & 0x0f, payload, size: at + 4 + length }
}

/** Turns the client's frames into plain bytes; answers pings; a close frame (or a broken one) ends the stream. */
export function messageDecoder(wire: Wire): Transform {
  let pending: Buffer = Buffer.alloc(0)
  let closed = false
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (closed) return done()
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
      try {
        for (let next = decodeFrame(pending); next !== undefined && !closed; next = decodeFrame(pending)) {
          pending = pending.subarray(next.size)
          if (next.opcode === OP.ping) wire.socket.write(encodeMessage(next.payload, OP.pong))
          else if (next.opcode === OP.close) closed = true
          else if (next.opcode !== OP.pong) this.push(next.payload)
        }
      } catch {
        closed = true
      }
      if (closed) {
        wire.socket.end(encodeMessage(Buffer.from([0x03, 0xe8]), OP.close)) // 1000: normal closure
        this.push(null)
      }
      done()
    },
  })
}

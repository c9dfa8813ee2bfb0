/**
 * Docker's multiplexed stream of containers without a terminal: frames of an 8-byte header
 * (stream number, three zero bytes, big-endian length) and a payload.
 */
import { NetError } from '../base/errors.ts'

export type StreamName = 'stdin' | 'stdout' | 'stderr' | 'system'
export interface Frame {
  readonly stream: StreamName
  readonly data: Uint8Array
}

const NAMES: readonly StreamName[] = ['stdin', 'stdout', 'stderr', 'system']
const HEADER_BYTES = 8

/**
 * Cuts chunks into frames. A frame that spans chunks is handed on in pieces as they come, so that a large
 * write is never held in memory. A stream number outside 0..3 throws NetError `internal` (not a multiplexed stream).
 */
export class Demultiplexer {
  #header = new Uint8Array(HEADER_BYTES)
  #headerLength = 0
  #stream: StreamName = 'stdout'
  #left = 0

  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = []
    let at = 0
    while (at < chunk.length) {
      if (this.#left > 0) {
        const take = Math.min(this.#left, chunk.length - at)
        frames.push({ stream: this.#stream, data: chunk.subarray(at, at + take) })
        this.#left -= take
        at += take
        continue
      }
      const take = Math.min(HEADER_BYTES - this.#headerLength, chunk.length - at)
      this.#header.set(chunk.subarray(at, at + take), this.#headerLength)
      this.#headerLength += take
      at += take
      if (this.#headerLength < HEADER_BYTES) break
      const name = NAMES[this.#header[0] as number]
      if (name === undefined) throw new NetError('internal', `unrecognized stream: ${this.#header[0]}`)
      this.#stream = name
      this.#left = new DataView(this.#header.buffer).getUint32(4)
      this.#headerLength = 0
    }
    return frames
  }
}

/** Cuts a byte stream into the JSON objects that follow each other in it without separators, as OVSDB sends them (RFC 7047 4). */
import { NetError } from '../../base/errors.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN = 0x7b
const CLOSE = 0x7d
const OPEN_LIST = 0x5b
const CLOSE_LIST = 0x5d

export class JsonStream {
  readonly #limit: number
  #parts: Uint8Array[] = []
  #held = 0
  #depth = 0
  #inText = false
  #escaped = false

  /** `limit`: bytes of the longest message that is taken. */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** The messages that are complete now. Throws `invalid` for what is no object and for one that is too long; the stream is of no use then. */
  push(chunk: Uint8Array): unknown[] {
    const out: unknown[] = []
    let start = 0
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] as number
      if (this.#inText) {
        if (this.#escaped) this.#escaped = false
        else if (byte === BACKSLASH) this.#escaped = true
        else if (byte === QUOTE) this.#inText = false
      } else if (byte === QUOTE && this.#depth > 0) this.#inText = true
      else if (byte === OPEN || (byte === OPEN_LIST && this.#depth > 0)) {
        if (this.#depth === 0) start = i
        this.#depth++
      } else if ((byte === CLOSE || byte === CLOSE_LIST) && this.#depth > 0) {
        this.#depth--
        if (this.#depth > 0) continue
        this.#keep(chunk.subarray(start, i + 1))
        out.push(this.#take())
        start = i + 1
      } else if (this.#depth === 0 && byte > 0x20)
        throw new NetError('invalid', `expected a JSON object, got byte 0x${byte.toString(16)} between two messages`)
    }
    if (this.#depth > 0) this.#keep(chunk.subarray(start))
    return out
  }

  #keep(bytes: Uint8Array): void {
    this.#held += bytes.length
    if (this.#held > this.#limit) throw new NetError('invalid', `a message is longer than ${this.#limit} bytes`)
    this.#parts.push(Uint8Array.from(bytes))
  }

  #take(): unknown {
    const text = Buffer.concat(this.#parts).toString('utf8')
    this.#parts = []
    this.#held = 0
    try {
      return JSON.parse(text)
    } catch (cause) {
      throw new NetError('invalid', `a message is no JSON: ${text.slice(0, 80)}`, {}, cause)
    }
  }
}

/**
 * Upstream answers, kept for their time to live (RFC 2181) or, for "no such name" and "no such data", for what the zone's SOA allows
 * (RFC 2308). Bounded by bytes; the entry that was not used for longest goes first. Pure: time is a parameter, in milliseconds.
 */
import type { MessageIndex } from '../wire/dns-scan.ts'

export interface CacheEntry {
  /** The answer as it came; id and spelling of the question belong to the one who asked first. */
  readonly message: Uint8Array
  readonly index: MessageIndex
  readonly storedMs: number
  readonly expiresMs: number
  usedMs: number
}

const MAX_POSITIVE_SECONDS = 86_400
const MAX_NEGATIVE_SECONDS = 900
const OVERHEAD_BYTES = 400

/** Seconds that an answer may be kept; 0 = not at all. */
export function lifetimeOf(index: MessageIndex): number {
  if (index.truncated || (index.rcode !== 0 && index.rcode !== 3)) return 0
  if (index.rcode === 0 && index.answersType) return Math.min(index.answerTtl, MAX_POSITIVE_SECONDS)
  // a CNAME that leads to nothing lives as long as both the alias and the "nothing"
  return index.negativeTtl === undefined ? 0 : Math.min(index.negativeTtl, index.answerTtl, MAX_NEGATIVE_SECONDS)
}

export class DnsCache {
  readonly #entries = new Map<string, CacheEntry>()
  readonly #maxBytes: number
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get(key: string, nowMs: number): CacheEntry | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    if (entry.expiresMs <= nowMs) {
      this.#delete(key, entry)
      return undefined
    }
    if (nowMs - entry.usedMs > 1000) {
      // moving it to the end of the map on every use would cost more than the answer
      entry.usedMs = nowMs
      this.#entries.delete(key)
      this.#entries.set(key, entry)
    }
    return entry
  }

  /** Keeps `message` if it may be kept. The caller must not change it afterwards. */
  put(key: string, message: Uint8Array, index: MessageIndex, nowMs: number): void {
    const seconds = lifetimeOf(index)
    if (seconds <= 0) return
    const old = this.#entries.get(key)
    if (old !== undefined) this.#delete(key, old)
    this.#entries.set(key, { message, index, storedMs: nowMs, expiresMs: nowMs + seconds * 1000, usedMs: nowMs })
    this.#bytes += cost(key, message)
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#maxBytes) break
      this.#delete(oldest, entry)
    }
  }

  clear(): void {
    this.#entries.clear()
    this.#bytes = 0
  }

  get size(): number {
    return this.#entries.size
  }

  get bytes(): number {
    return this.#bytes
  }

  #delete(key: string, entry: CacheEntry): void {
    this.#entries.delete(key)
    this.#bytes -= cost(key, entry.message)
  }
}

const cost = (key: string, message: Uint8Array): number => key.length + message.length + OVERHEAD_BYTES

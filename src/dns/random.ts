/** Unpredictable 32-bit numbers, taken from the Rng a few thousand at a time: message ids must not be guessable (RFC 5452). */
import type { Rng } from '../base/ports.ts'

const POOL_BYTES = 4096

/** A source of unsigned 32-bit numbers. */
export function random32From(rng: Rng): () => number {
  let pool = new Uint32Array(0)
  let next = 0
  return () => {
    if (next === pool.length) {
      pool = new Uint32Array(Uint8Array.from(rng.bytes(POOL_BYTES)).buffer)
      next = 0
    }
    return pool[next++] as number
  }
}

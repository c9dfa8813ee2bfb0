/** The real source of randomness. */
import { randomFillSync } from 'node:crypto'
import type { Rng } from './ports.ts'

/** Asking the system costs far more than the few bytes of an id: they are fetched by the page. */
const PAGE_BYTES = 4096
const page = new Uint8Array(PAGE_BYTES)
let next = PAGE_BYTES

/** Bytes are given out once and wiped from the page, so that no later reader of memory finds what became a key. */
function take(n: number): Uint8Array {
  if (n > PAGE_BYTES / 8) return randomFillSync(new Uint8Array(n))
  if (next + n > PAGE_BYTES) {
    randomFillSync(page)
    next = 0
  }
  const bytes = page.slice(next, next + n)
  page.fill(0, next, next + n)
  next += n
  return bytes
}

/** Random bytes of the kernel. */
export const systemRng: Rng = { bytes: take }

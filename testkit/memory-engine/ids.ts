/** Ids as long as the real ones, the same in every run. */
import { createHash } from 'node:crypto'

/** A 64-digit id that depends on `seed` only. */
export function idOf(seed: string): string {
  return createHash('sha256').update(seed).digest('hex')
}

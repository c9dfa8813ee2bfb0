/** The real source of randomness. */
import { randomFillSync } from 'node:crypto'
import type { Rng } from './ports.ts'

export const systemRng: Rng = { bytes: (n) => randomFillSync(new Uint8Array(n)) }

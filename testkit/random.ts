/** Seeded chance for property tests: a failure prints its seed and can be run again. */

export interface Random {
  readonly seed: number
  /** A whole number in [0, n). */
  below(n: number): number
  pick<T>(list: readonly T[]): T
  shuffled<T>(list: readonly T[]): T[]
}

/** The generator is mulberry32's recurrence: 32 bits of state, good enough to wander through states. */
export function seeded(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (n: number) => Math.floor(next() * n)
  return {
    seed,
    below,
    pick: (list) => list[below(list.length)] as (typeof list)[number],
    shuffled: (list) => {
      const out = [...list]
      for (let i = out.length - 1; i > 0; i--) {
        const j = below(i + 1)
        ;[out[i], out[j]] = [out[j] as (typeof out)[number], out[i] as (typeof out)[number]]
      }
      return out
    },
  }
}

/** Runs `body` with several seeds (or the one of CAUSEWAY_SEED) and names the seed of a failure. */
export function withSeeds(rounds: number, body: (random: Random) => void): void {
  const fixed = process.env['CAUSEWAY_SEED']
  const seeds = fixed === undefined ? Array.from({ length: rounds }, () => Math.floor(Math.random() * 2 ** 32)) : [Number(fixed)]
  for (const seed of seeds) {
    try {
      body(seeded(seed))
    } catch (error) {
      if (error instanceof Error) error.message += `\n(run again with CAUSEWAY_SEED=${seed})`
      throw error
    }
  }
}

/** Pauses between attempts: they grow while attempts fail, are spread so that hosts do not act at one moment, and end early on news. */
import type { Clock, Rng } from '../base/ports.ts'

const FIRST_MS = 250
const LONGEST_MS = 5_000
/** What one host may take of a second in which all of them have the same news. */
const PER_HOST_MS = 2
const LONGEST_SPREAD_MS = 1_000

export interface PausesOptions {
  readonly clock: Clock
  readonly rng: Rng
  /** How many hosts may act on the same news. */
  readonly hosts: () => number
}

export class Pauses {
  readonly #o: PausesOptions
  #next = FIRST_MS
  #wake: (() => void) | undefined

  constructor(options: PausesOptions) {
    this.#o = options
  }

  /** The next attempt is the first one again. */
  reset(): void {
    this.#next = FIRST_MS
  }

  /** Waits, longer each time; less when {@link end} is called meanwhile. Never rejects, also not when `signal` aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    const { clock } = this.#o
    const ms = this.#next * (0.75 + this.#chance() / 2)
    this.#next = Math.min(this.#next * 2, LONGEST_MS)
    const ending = new AbortController()
    this.#wake = () => ending.abort()
    await clock.sleep(ms, AbortSignal.any([signal, ending.signal])).catch(() => {})
    this.#wake = undefined
  }

  /** The store is back, or there is other news: a pause that runs ends within a moment that depends on how many hosts hear the same. */
  end(): void {
    this.#next = FIRST_MS
    if (this.#wake === undefined) return
    const spread = Math.min(this.#o.hosts() * PER_HOST_MS, LONGEST_SPREAD_MS)
    const wake = this.#wake
    this.#o.clock.after(this.#chance() * spread, () => wake())
  }

  #chance(): number {
    return (this.#o.rng.bytes(1)[0] as number) / 255
  }
}

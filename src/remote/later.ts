/** Work that waits for a plugin to come back: repeated with growing pauses until it succeeds or the engine ends. */
import { messageOf, NetError } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'

const FIRST_PAUSE_MS = 1000
const LONGEST_PAUSE_MS = 60_000

/** True when trying again may help: the plugin is away or keeps silent. */
export function isAway(error: unknown): boolean {
  return error instanceof NetError && (error.code === 'unavailable' || error.code === 'not-found')
}

export class Later {
  readonly #clock: Clock
  readonly #log: Logger
  readonly #stop = new Set<() => void>()
  #closed = false

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock
    this.#log = log
  }

  /** Runs `fn` until it succeeds or fails for another reason than an absent plugin. `firstPauseMs` 0 = at once. */
  repeat(what: string, fn: () => Promise<unknown>, pauseMs = FIRST_PAUSE_MS): void {
    if (this.#closed) return
    const cancel = this.#clock.after(pauseMs, () => {
      this.#stop.delete(cancel)
      fn().catch((error) => {
        if (isAway(error)) this.repeat(what, fn, Math.min(Math.max(pauseMs, FIRST_PAUSE_MS) * 2, LONGEST_PAUSE_MS))
        else this.#log.warn('plugin refuses', { what, error: messageOf(error) })
      })
    })
    this.#stop.add(cancel)
  }

  close(): void {
    this.#closed = true
    for (const cancel of this.#stop) cancel()
    this.#stop.clear()
  }
}

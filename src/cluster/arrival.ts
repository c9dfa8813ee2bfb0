/**
 * Waiting for the watch. Only watches write the tables: what a transaction or a read has shown may be newer or older than what the watch
 * has told, and nobody could say which. So whoever has written, or has lost a race, waits until the table has moved on.
 */
import type { Version } from './store/types.ts'

/** The clock's timer. */
export type After = (ms: number, fn: () => void) => () => void

/** A watch that is late delays its reader, never for good. */
const PATIENCE_MS = 1000

export class Arrival {
  readonly #waiting = new Set<() => void>()
  readonly #current: (key: string) => Version | undefined

  /** `current`: the version at which the watch has shown a key, undefined when it is not there. */
  constructor(current: (key: string) => Version | undefined) {
    this.#current = current
  }

  /** Resolves when `key` was seen at `version` (undefined: deleted) or has changed since the call, or after a while. */
  of(key: string, version: Version | undefined, after: After): Promise<void> {
    const before = this.#current(key)
    if (before === version) return Promise.resolve()
    return this.until(() => this.#current(key) !== before, after)
  }

  /** Resolves when `key` is not at `version` any more, or after a while. */
  past(key: string, version: Version | undefined, after: After, timeoutMs = PATIENCE_MS): Promise<void> {
    return this.until(() => this.#current(key) !== version, after, timeoutMs)
  }

  /** Resolves when `holds` after a change of the table, or after `timeoutMs`. */
  until(holds: () => boolean, after: After, timeoutMs = PATIENCE_MS): Promise<void> {
    if (holds()) return Promise.resolve()
    return new Promise((resolve) => {
      const done = () => {
        cancel()
        this.#waiting.delete(look)
        resolve()
      }
      const look = () => {
        if (holds()) done()
      }
      const cancel = after(timeoutMs, done)
      this.#waiting.add(look)
    })
  }

  /** The table has changed. */
  note(): void {
    for (const look of [...this.#waiting]) look()
  }
}

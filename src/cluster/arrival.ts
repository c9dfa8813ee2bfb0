/** Lets a writer wait until its own write has come back through the watch, so that there is one order of events and no second truth. */
import type { Version } from './store/types.ts'

interface Waiting {
  readonly version: Version | undefined
  readonly go: () => void
}

export class Arrival {
  readonly #waiting = new Map<string, Waiting[]>()
  readonly #current: (key: string) => Version | undefined

  /** `current`: the version at which the watch has shown a key, undefined when it has not. */
  constructor(current: (key: string) => Version | undefined) {
    this.#current = current
  }

  /**
   * Resolves when `key` is seen at `version` (undefined: deleted), when everything was read anew, or after `timeoutMs`: a watch that is
   * late delays its reader, never the writer for good. `after` is the clock's.
   */
  of(key: string, version: Version | undefined, after: (ms: number, fn: () => void) => () => void, timeoutMs = 1000): Promise<void> {
    if (this.#current(key) === version) return Promise.resolve()
    return new Promise((resolve) => {
      const cancel = after(timeoutMs, () => waiting.go())
      const waiting: Waiting = {
        version,
        go: () => {
          cancel()
          const left = (this.#waiting.get(key) ?? []).filter((other) => other !== waiting)
          if (left.length === 0) this.#waiting.delete(key)
          else this.#waiting.set(key, left)
          resolve()
        },
      }
      this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), waiting])
    })
  }

  note(key: string, version: Version | undefined): void {
    for (const waiting of this.#waiting.get(key) ?? []) if (waiting.version === version) waiting.go()
  }

  all(): void {
    for (const list of [...this.#waiting.values()]) for (const waiting of [...list]) waiting.go()
  }
}

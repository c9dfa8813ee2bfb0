/** Says once of each value in the store that it is not what it should be. */
import type { Logger } from '../base/ports.ts'

const REMEMBERED = 1024

export class BadValues {
  readonly #log: Logger
  readonly #said = new Map<string, string>()

  constructor(log: Logger) {
    this.#log = log
  }

  note(key: string, why: string): void {
    if (this.#said.get(key) === why) return
    if (this.#said.size >= REMEMBERED) this.#said.clear()
    this.#said.set(key, why)
    this.#log.warn('a value in the cluster store is skipped: it is not what Causeway writes there', { key: key.slice(0, 200), why })
  }

  /** The key is right again, or gone. */
  forget(key: string): void {
    this.#said.delete(key)
  }
}

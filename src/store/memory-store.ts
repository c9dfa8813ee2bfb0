/** The store in memory: for tests and for engines that keep nothing. Same behaviour as on disk, values are kept as text. */
import { checkKey, checkSynchronous, closedError, decodeValue, encodeValue } from './codec.ts'
import type { Store } from './types.ts'

class MemoryStore implements Store {
  readonly #entries = new Map<string, string>()
  /** Newest last: how to undo each write of the running transaction. */
  readonly #undo: (() => void)[] = []
  #depth = 0
  #closed = false

  get<T>(key: string): T | undefined {
    this.#checkOpen()
    checkKey(key)
    const text = this.#entries.get(key)
    return text === undefined ? undefined : decodeValue<T>(text)
  }

  put(key: string, value: unknown): void {
    this.#checkOpen()
    checkKey(key)
    this.#write(key, encodeValue(key, value))
  }

  remove(key: string): void {
    this.#checkOpen()
    checkKey(key)
    this.#write(key, undefined)
  }

  list<T>(prefix: string): [string, T][] {
    this.#checkOpen()
    if (prefix !== '') checkKey(prefix)
    const keys = [...this.#entries.keys()].filter((key) => key.startsWith(prefix))
    keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    return keys.map((key) => [key, decodeValue<T>(this.#entries.get(key) as string)])
  }

  transaction(fn: () => void): void {
    this.#checkOpen()
    const mark = this.#undo.length
    this.#depth++
    try {
      checkSynchronous(fn())
    } catch (error) {
      while (this.#undo.length > mark) this.#undo.pop()?.()
      throw error
    } finally {
      this.#depth--
      if (this.#depth === 0) this.#undo.length = 0
    }
  }

  async flush(): Promise<void> {
    this.#checkOpen()
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #write(key: string, text: string | undefined): void {
    const before = this.#entries.get(key)
    if (text === undefined) this.#entries.delete(key)
    else this.#entries.set(key, text)
    if (this.#depth === 0) return
    this.#undo.push(() => {
      if (before === undefined) this.#entries.delete(key)
      else this.#entries.set(key, before)
    })
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError()
  }
}

/** A store that lives as long as the process. Keeps the contract of LMDB's, which one suite checks for both. */
export function memoryStore(): Store {
  return new MemoryStore()
}

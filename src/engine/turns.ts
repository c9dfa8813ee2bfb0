/** Turns: what is said under one key happens one after the other; what is said alone happens at once. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>()

  /** Starts `fn` now, in this call, when nobody holds the key; else when everybody before has finished, well or badly. */
  run<T>(key: string, fn: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key)
    const turn = before === undefined ? fn() : before.then(fn, fn)
    const held = turn.catch(() => undefined)
    this.#last.set(key, held)
    void held.then(() => {
      if (this.#last.get(key) === held) this.#last.delete(key)
    })
    return turn
  }
}

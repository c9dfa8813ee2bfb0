/** The key sequence that leaves a container running and lets go of it: `ctrl-p,ctrl-q` unless told otherwise. */
import { NetError } from '../../base/errors.ts'

export const DEFAULT_DETACH_KEYS = 'ctrl-p,ctrl-q'

/** `ctrl-a,b` -> bytes. `ctrl-` takes a letter or one of `@ [ \ ] ^ _`. Throws NetError `invalid`. */
export function parseDetachKeys(text: string): Uint8Array {
  const keys = (text === '' ? DEFAULT_DETACH_KEYS : text).split(',')
  return Uint8Array.from(
    keys.map((key) => {
      if ([...key].length === 1) return key.charCodeAt(0)
      const control = /^ctrl-([a-zA-Z@[\\\]^_])$/.exec(key)?.[1]
      if (control === undefined) throw new NetError('invalid', `Unknown character: '${key}'`)
      return control.toUpperCase().charCodeAt(0) - 64
    }),
  )
}

/** Holds back typed bytes while they may be the beginning of the sequence. */
export class DetachWatcher {
  readonly #keys: Uint8Array
  #matched = 0

  constructor(keys: Uint8Array) {
    this.#keys = keys
  }

  /** The bytes to pass on, and whether the sequence was completed (what was typed behind it is dropped). */
  push(typed: Uint8Array): { data: Uint8Array; detached: boolean } {
    const out: number[] = []
    for (const byte of typed) {
      if (byte !== this.#keys[this.#matched] && this.#matched > 0) {
        out.push(...this.#keys.subarray(0, this.#matched))
        this.#matched = 0
      }
      if (byte !== this.#keys[this.#matched]) out.push(byte)
      else if (++this.#matched === this.#keys.length) return { data: Uint8Array.from(out), detached: true }
    }
    return { data: Uint8Array.from(out), detached: false }
  }
}

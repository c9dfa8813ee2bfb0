/** The key sequence that lets a client leave a container without ending it: `ctrl-p,ctrl-q` unless the client says otherwise. */
import { NetError } from '../base/errors.ts'

export const DEFAULT_DETACH_KEYS = 'ctrl-p,ctrl-q'

/** Bytes of a sequence: comma separated single characters or `ctrl-<a-z|@|[|\|]|^|_>`. Throws `invalid`. '' gives the default. */
export function parseDetachKeys(text: string | undefined): Uint8Array {
  const keys = (text === undefined || text === '' ? DEFAULT_DETACH_KEYS : text).split(',')
  return Uint8Array.from(keys, (key) => {
    if (key.length === 1 && key.charCodeAt(0) < 128) return key.charCodeAt(0)
    const control = /^ctrl-([a-z@[\\\]^_])$/.exec(key)
    if (!control) throw new NetError('invalid', `Invalid detach keys (${text}) provided: Unknown character: '${key}'`)
    return (control[1] as string).toUpperCase().charCodeAt(0) - 64 // ^@ is 0, ^A is 1, ^_ is 31
  })
}

/**
 * Watches a stream of typed bytes for the sequence. Bytes that might begin it are held back until it is clear that they do not,
 * so a half-typed sequence never reaches the container.
 */
export class DetachScanner {
  readonly #keys: Uint8Array
  #held: number[] = []

  constructor(keys: Uint8Array) {
    this.#keys = keys
  }

  /** What may be passed on, and whether the sequence is complete (what follows it is dropped). */
  scan(data: Uint8Array): { readonly pass: Uint8Array; readonly detached: boolean } {
    const pass: number[] = []
    for (const byte of data) {
      this.#held.push(byte)
      // release held bytes until what is left is again a beginning of the sequence
      while (this.#held.some((b, i) => b !== this.#keys[i])) pass.push(this.#held.shift() as number)
      if (this.#held.length === this.#keys.length) {
        this.#held = []
        return { pass: Uint8Array.from(pass), detached: true }
      }
    }
    return { pass: Uint8Array.from(pass), detached: false }
  }
}

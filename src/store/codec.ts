/** What both stores do to keys and values, so that they cannot differ. */
import { messageOf, NetError } from '../base/errors.ts'

/** LMDB's limit for a key, less the room its encoding needs. */
const MAX_KEY_BYTES = 1000

/** Throws `invalid` for a key that is empty, too long or holds control characters or half a surrogate pair. */
export function checkKey(key: string): void {
  if (key === '') throw new NetError('invalid', 'a store key must not be empty')
  if (Buffer.byteLength(key) > MAX_KEY_BYTES) throw new NetError('invalid', `store key is too long: ${key.slice(0, 40)}…`)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f]|\p{Surrogate}/u.test(key)) throw new NetError('invalid', `store key is not plain text: ${JSON.stringify(key)}`)
}

/** JSON text of a value. Throws `invalid` for what JSON cannot hold: undefined, a function, bigint, a cycle. */
export function encodeValue(key: string, value: unknown): string {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (cause) {
    throw new NetError('invalid', `cannot store "${key}": ${messageOf(cause)}`, { subject: key }, cause)
  }
  if (text === undefined) throw new NetError('invalid', `cannot store "${key}": ${typeof value} is not a JSON value`, { subject: key })
  return text
}

/** The value of {@link encodeValue}'s text. The caller knows its type. */
export function decodeValue<T>(text: string): T {
  return JSON.parse(text) as T
}

/** Throws when a transaction's function was asynchronous: what it does after its first await would be outside. */
export function checkSynchronous(result: unknown): void {
  const then = (result as { then?: unknown } | null | undefined)?.then
  if (typeof then === 'function')
    throw new NetError('internal', 'a store transaction must be synchronous, but its function returned a promise')
}

/** What every call on a closed store throws. */
export function closedError(): NetError {
  return new NetError('unavailable', 'the store is closed')
}

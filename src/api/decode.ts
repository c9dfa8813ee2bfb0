/**
 * Typed reading of request bodies. A shape takes an unknown value and its place, and returns the typed value or throws
 * `invalid`. As Docker's decoder: unknown fields are ignored (or kept, where they are echoed), null means unset, and a
 * field is found in any capitalisation when its exact spelling is absent.
 */
import { tryParseIp } from '../base/address.ts'
import { badRequest } from './errors.ts'

export type Shape<T> = (value: unknown, at: string) => T
type Fields = Readonly<Record<string, Shape<unknown>>>
export type Decoded<F extends Fields> = { -readonly [K in keyof F]?: ReturnType<F[K]> }

/** Nesting that a kept (echoed) value may have; far above what any client sends, far below what recursion takes. */
const MAX_DEPTH = 100

/** Text. All shapes throw NetError `invalid` that names the field, in Docker's words. */
export const str: Shape<string> = (value, at) => (typeof value === 'string' ? value : mismatch(at, 'a string', value))
/** `true` or `false`, not their texts. */
export const bool: Shape<boolean> = (value, at) => (typeof value === 'boolean' ? value : mismatch(at, 'a boolean', value))
/** Within 64 bits, as Docker's integers; above 2^53 a JavaScript number is only near. */
export const int: Shape<number> = (value, at) =>
  typeof value === 'number' && Number.isInteger(value) && Math.abs(value) <= 2 ** 63 ? value : mismatch(at, 'an integer', value)

/** An address, or '' for none. Go decodes these fields as netip values and says so: clients match on its sentences. */
export const ipText: Shape<string> = (value, at) => {
  const text = str(value, at)
  const problem = text === '' ? undefined : ipProblem(text)
  if (problem !== undefined) throw badRequest(`invalid JSON: ${problem}`)
  return text
}

/** A subnet, or '' for none; host bits are not judged here. */
export const cidrText: Shape<string> = (value, at) => {
  const text = str(value, at)
  if (text === '') return text
  const fail = (why: string) => badRequest(`invalid JSON: netip.ParsePrefix(${quoted(text)}): ${why}`)
  const slash = text.lastIndexOf('/')
  if (slash < 0) throw fail(`no '/'`)
  const ip = text.slice(0, slash)
  const bits = text.slice(slash + 1)
  const problem = ipProblem(ip)
  if (problem !== undefined) throw fail(problem)
  if (!/^(0|[1-9]\d*)$/.test(bits)) throw fail(`bad bits after slash: ${quoted(bits)}`)
  if (Number(bits) > (ip.includes(':') ? 128 : 32)) throw fail('prefix length out of range')
  return text
}

function ipProblem(text: string): string | undefined {
  if (tryParseIp(text) !== undefined) return undefined
  const fields = /^\d+(\.\d+){3}$/.test(text) ? text.split('.') : []
  const why = fields.some((field) => field.length > 1 && field.startsWith('0'))
    ? 'IPv4 field has octet with leading zero'
    : fields.length > 0
      ? 'IPv4 field has value >255'
      : 'unable to parse IP'
  return `ParseAddr(${quoted(text)}): ${why}`
}

const quoted = (text: string) => JSON.stringify(text.slice(0, 100))

/** A list whose items all have one shape. */
export function list<T>(item: Shape<T>): Shape<T[]> {
  return (value, at) => (Array.isArray(value) ? value.map((v, i) => item(v, `${at}[${i}]`)) : mismatch(at, 'a list', value))
}

/** An object whose values all have one shape. */
export function mapOf<T>(item: Shape<T>): Shape<Record<string, T>> {
  return (value, at) => {
    if (!isObject(value)) return mismatch(at, 'an object', value)
    // fromEntries defines own properties, so that a key `__proto__` stays a plain key.
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, item(v, `${at}.${key}`)]))
  }
}

/** The shape, or null. */
export function nullable<T>(inner: Shape<T>): Shape<T | null> {
  return (value, at) => (value === null ? null : inner(value, at))
}

/** A string or a list of strings, always returned as a list (`Cmd`, `Entrypoint`). */
export const strOrList: Shape<string[]> = (value, at) => (typeof value === 'string' ? [value] : list(str)(value, at))

/** An object of texts; a null in it is the empty text, as Go reads it. */
export const strMap: Shape<Record<string, string>> = mapOf((value, at) => (value === null ? '' : str(value, at)))
/** `{"80/tcp": {}}`: only the keys carry meaning. */
export const keySet: Shape<Record<string, object>> = mapOf(() => ({}))
/** Any object, unread. */
export const anyObject: Shape<Record<string, unknown>> = (value, at) => {
  if (!isObject(value)) return mismatch(at, 'an object', value)
  return keep(value, at) as Record<string, unknown>
}

/** An object with these fields; others are dropped, or kept as they are with `'keep'`. */
export function object<F extends Fields>(fields: F, extra: 'drop' | 'keep' = 'drop'): Shape<Decoded<F>> {
  const spelling = new Map(Object.keys(fields).map((name) => [name.toLowerCase(), name]))
  return (value, at) => {
    if (!isObject(value)) return mismatch(at, 'an object', value)
    const entries = new Map<string, unknown>()
    for (const [key, raw] of Object.entries(value)) {
      const name = Object.hasOwn(fields, key) ? key : spelling.get(key.toLowerCase())
      if (name === undefined) {
        if (extra === 'keep' && key !== '__proto__') entries.set(key, keep(raw, `${at}.${key}`))
        continue
      }
      if (raw === null || (name !== key && Object.hasOwn(value, name))) continue
      entries.set(name, (fields[name] as Shape<unknown>)(raw, at === '' ? name : `${at}.${name}`))
    }
    return Object.fromEntries(entries) as Decoded<F>
  }
}

function keep(value: unknown, at: string): unknown {
  if (depthExceeds(value, MAX_DEPTH)) throw badRequest(`invalid JSON: ${at} is nested too deeply`)
  return value
}

function depthExceeds(value: unknown, limit: number): boolean {
  if (value === null || typeof value !== 'object') return false
  if (limit === 0) return true
  return Object.values(value).some((inner) => depthExceeds(inner, limit - 1))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

function mismatch(at: string, expected: string, value: unknown): never {
  throw badRequest(`invalid JSON: ${at === '' ? 'the body' : at.slice(0, 200)}: expected ${expected}, found ${kindOf(value)}`)
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'number') return `number ${value}`
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

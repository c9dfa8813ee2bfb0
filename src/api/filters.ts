/** The `filters` parameter: two encodings, closed sets of keys, and the ways in which a value matches. */
import { NetError } from '../base/errors.ts'
import { badRequest } from './errors.ts'
import { parseTime } from './times.ts'

export class Filters {
  readonly #values: ReadonlyMap<string, readonly string[]>

  constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values
  }

  /** Reads `{"name":{"x":true}}` and the older `{"name":["x"]}`. Throws `invalid` for garbage and for keys not in `allowed`. */
  static parse(text: string | null, allowed: readonly string[]): Filters {
    const values = new Map<string, readonly string[]>()
    if (text === null || text.trim() === '') return new Filters(values)
    for (const [key, raw] of Object.entries(asObject(text))) {
      if (!allowed.includes(key)) throw badRequest(`invalid filter '${key.slice(0, 100)}'`)
      values.set(key, valuesOf(raw))
    }
    return new Filters(values)
  }

  has(key: string): boolean {
    return (this.#values.get(key)?.length ?? 0) > 0
  }

  get(key: string): readonly string[] {
    return this.#values.get(key) ?? []
  }

  /** True when the key is not given, or one of its values passes. */
  any(key: string, test: (value: string) => boolean): boolean {
    const values = this.get(key)
    return values.length === 0 || values.some(test)
  }

  /** Exact match with one of the values. */
  exact(key: string, actual: string): boolean {
    return this.any(key, (value) => value === actual)
  }

  /** Exact or unanchored regular expression, against any of the texts. */
  matches(key: string, ...texts: readonly string[]): boolean {
    return this.any(key, (value) => {
      if (texts.includes(value)) return true
      const pattern = safePattern(value)
      return pattern !== undefined && texts.some((text) => pattern.test(text))
    })
  }

  /** Every `label` is there, and no `label!` is. */
  labels(labels: Readonly<Record<string, string>>): boolean {
    const holds = (wanted: string): boolean => {
      const eq = wanted.indexOf('=')
      const key = eq < 0 ? wanted : wanted.slice(0, eq)
      return Object.hasOwn(labels, key) && (eq < 0 || labels[key] === wanted.slice(eq + 1))
    }
    return this.get('label').every(holds) && !(this.has('label!') && this.get('label!').every(holds))
  }

  /** A filter that takes one boolean; undefined when not given. Throws `invalid`. */
  bool(key: string): boolean | undefined {
    const values = this.get(key)
    if (values.length === 0) return undefined
    if (values.length > 1) throw badRequest(`got more than one value for filter key "${key}"`)
    const value = (values[0] as string).toLowerCase()
    if (value === 'true' || value === '1') return true
    if (value === 'false' || value === '0') return false
    throw badRequest(`invalid value for filter '${key}', must be "true" (or "1"), or "false" (or "0")`)
  }

  /** Seconds since the epoch of the one `until` value of a prune. Throws `invalid`. */
  until(nowMs: number): number | undefined {
    const values = this.get('until')
    if (values.length > 1) throw badRequest('more than one until filter specified')
    return values[0] === undefined ? undefined : parseTime('until', values[0], nowMs)
  }
}

/** `type` of networks: builtin, custom, or both (= all). Docker answers 500 to anything else. */
export function networkTypeMatches(filters: Filters, predefined: boolean): boolean {
  for (const value of filters.get('type')) {
    if (value !== 'builtin' && value !== 'custom') throw new NetError('internal', `invalid filter: 'type'='${value}'`)
  }
  return filters.any('type', (value) => (value === 'builtin') === predefined)
}

function asObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // answered below, with the documented text
  }
  throw badRequest('invalid filter')
}

function valuesOf(raw: unknown): readonly string[] {
  if (Array.isArray(raw) && raw.every((value) => typeof value === 'string')) return raw as string[]
  if (raw !== null && typeof raw === 'object' && !Array.isArray(raw)) return Object.keys(raw)
  throw badRequest('invalid filter')
}

const MAX_PATTERN = 256
/** With few repetitions, and none inside another, a backtracking matcher stays polynomial on names of bounded length. */
const MAX_REPETITIONS = 2

/**
 * A regular expression from a client, or undefined when it is invalid or could run for exponential time: this engine
 * backtracks, Docker's does not, and one request must not stall all others.
 */
export function safePattern(text: string): RegExp | undefined {
  if (text.length > MAX_PATTERN || /\\[1-9kpP]|\(\?/.test(text)) return undefined
  let repetitions = 0
  const groups: boolean[] = []
  let closed = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string
    const closedBefore = closed
    closed = false
    if (c === '\\') i++
    else if (c === '[') i = endOfClass(text, i)
    else if (c === '(') groups.push(false)
    else if (c === ')') {
      closed = groups.pop() ?? false
      if (closed && groups.length > 0) groups[groups.length - 1] = true
    } else if (c === '|' && groups.length > 0) groups[groups.length - 1] = true
    else if (c === '*' || c === '+' || c === '{') {
      if (closedBefore || ++repetitions > MAX_REPETITIONS) return undefined
      if (groups.length > 0) groups[groups.length - 1] = true
    }
  }
  try {
    return new RegExp(text)
  } catch {
    return undefined
  }
}

function endOfClass(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '\\') i++
    else if (text[i] === ']' && i > start + 1) return i
  }
  return text.length
}

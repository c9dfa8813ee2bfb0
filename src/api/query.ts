/** Query parameters, read as Docker reads them. */
import { badRequest } from './errors.ts'

/** Docker's loose boolean: everything but "", 0, no, false and none is true. */
export function boolParam(query: URLSearchParams, name: string): boolean {
  return !['', '0', 'no', 'false', 'none'].includes((query.get(name) ?? '').trim().toLowerCase())
}

/** As `boolParam`, with a default for an absent parameter. */
export function boolParamOr(query: URLSearchParams, name: string, otherwise: boolean): boolean {
  return query.has(name) ? boolParam(query, name) : otherwise
}

/** A whole number, or undefined when absent or empty. Throws `invalid`. */
export function intParam(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name)
  if (text === null || text === '') return undefined
  const value = Number(text)
  if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(value))
    throw badRequest(`invalid value for ${name}: "${text.slice(0, 100)}" is not an integer`)
  return value
}

/** A size in rows or columns: 0 to 65535. Throws `invalid`. */
export function sizeParam(query: URLSearchParams, name: string): number {
  const value = intParam(query, name)
  if (value === undefined) throw badRequest(`invalid value for ${name}: it is required`)
  if (value < 0 || value > 65_535) throw badRequest(`invalid value for ${name}: ${value} is out of range`)
  return value
}

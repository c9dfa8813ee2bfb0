/**
 * Reads values of the shared store field by field. Anybody who can write to the store can write anything: a field that is not as it should be
 * refuses the whole value, and nothing outside of {@link decode} throws.
 */
import { type Cidr, type Ip, type Mac, tryParseCidr, tryParseIp, tryParseMac } from '../base/address.ts'
import { messageOf } from '../base/errors.ts'

export type Decoded<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string }

export type Fields = Readonly<Record<string, unknown>>

/** What a reader throws; its message says what is wrong. */
export class Wrong extends Error {}

/** Longest list and largest table of one value. */
export const MAX_ITEMS = 4096
const ID = /^[0-9a-f]{8,64}$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const CONTROL = /[\u0000-\u001f\u007f]/

export const isId = (text: string): boolean => ID.test(text)

/** Reads a JSON object with `read`, which throws {@link Wrong} for what it refuses. */
export function decode<T>(text: string, read: (fields: Fields) => T): Decoded<T> {
  try {
    return { ok: true, value: read(fieldsOf(JSON.parse(text) as unknown, 'the value')) }
  } catch (error) {
    if (error instanceof Wrong || error instanceof SyntaxError) return { ok: false, why: messageOf(error) }
    throw error
  }
}

export function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Wrong(`${what} is not an object`)
  return value as Fields
}

/** Refuses what is nested deeper than `depth`: whoever walks through it later must not run out of stack. */
export function shallow(value: unknown, what: string, depth = 8): void {
  if (typeof value !== 'object' || value === null) return
  if (depth === 0) throw new Wrong(`${what} is nested too deeply`)
  for (const inner of Object.values(value)) shallow(inner, what, depth - 1)
}

export function text(fields: Fields, name: string, max = 255): string {
  const value = fields[name]
  if (typeof value !== 'string' || value.length > max || CONTROL.test(value))
    throw new Wrong(`"${name}" is not a plain text of at most ${max}`)
  return value
}

export function id(fields: Fields, name: string): string {
  const value = text(fields, name)
  if (!isId(value)) throw new Wrong(`"${name}" is not an id`)
  return value
}

export function bool(fields: Fields, name: string): boolean {
  const value = fields[name]
  if (typeof value !== 'boolean') throw new Wrong(`"${name}" is not true or false`)
  return value
}

export function int(fields: Fields, name: string, least: number, most: number): number {
  const value = fields[name]
  if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
    throw new Wrong(`"${name}" is not a number from ${least} to ${most}`)
  return value as number
}

export function items(fields: Fields, name: string, most = MAX_ITEMS): readonly unknown[] {
  const value = fields[name]
  if (!Array.isArray(value) || value.length > most) throw new Wrong(`"${name}" is not a list of at most ${most}`)
  return value
}

export function texts(fields: Fields, name: string, most: number, max = 255): string[] {
  return items(fields, name, most).map((value) => text({ [name]: value }, name, max))
}

export function table(fields: Fields, name: string): Record<string, string> {
  const entries = Object.entries(fieldsOf(fields[name], `"${name}"`))
  if (entries.length > MAX_ITEMS) throw new Wrong(`"${name}" has more than ${MAX_ITEMS} entries`)
  for (const [key, value] of entries)
    if (typeof value !== 'string' || key === '__proto__') throw new Wrong(`"${name}" is not a table of texts`)
  return Object.fromEntries(entries) as Record<string, string>
}

export function ip(fields: Fields, name: string): Ip {
  const value = text(fields, name)
  if (tryParseIp(value) !== value) throw new Wrong(`"${name}" is not an IP address`)
  return value as Ip
}

export function cidr(fields: Fields, name: string): Cidr {
  const value = text(fields, name)
  if (tryParseCidr(value) !== value) throw new Wrong(`"${name}" is not a subnet`)
  return value as Cidr
}

export function unicastMac(fields: Fields, name: string): Mac {
  const value = text(fields, name)
  if (tryParseMac(value) !== value || (Number.parseInt(value.slice(0, 2), 16) & 1) === 1 || value === '00:00:00:00:00:00')
    throw new Wrong(`"${name}" is not the MAC address of one station`)
  return value as Mac
}

/** `read` for a field that may be missing or null. */
export function optional<T>(fields: Fields, name: string, read: (fields: Fields, name: string) => T): T | undefined {
  return fields[name] === undefined || fields[name] === null ? undefined : read(fields, name)
}

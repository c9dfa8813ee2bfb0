/** Values of OVSDB columns (RFC 7047 5.1): atoms, sets, maps and references, read defensively and written exactly. */

export type Uuid = string

export type Operation = Readonly<Record<string, unknown>>

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export const uuid = (id: Uuid): readonly ['uuid', Uuid] => ['uuid', id]
/** A row that the same transaction inserts. */
export const named = (name: string): readonly ['named-uuid', string] => ['named-uuid', name]
export const set = (members: readonly unknown[]): readonly ['set', readonly unknown[]] => ['set', members]
export const map = (entries: Readonly<Record<string, string>>): readonly ['map', readonly (readonly [string, string])[]] => [
  'map',
  Object.entries(entries),
]
export const isRow = (id: Uuid): readonly unknown[] => [['_uuid', '==', uuid(id)]]

export function readText(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Members of a set; a single value is a set of one. */
function members(value: unknown): readonly unknown[] {
  if (Array.isArray(value) && value[0] === 'set') return Array.isArray(value[1]) ? value[1] : []
  return value === undefined ? [] : [value]
}

export function readUuids(value: unknown): Uuid[] {
  return members(value).flatMap((one) =>
    Array.isArray(one) && one[0] === 'uuid' && typeof one[1] === 'string' && UUID.test(one[1]) ? [one[1]] : [],
  )
}

/** An optional integer: absent, or of another type, is undefined. */
export function readNumber(value: unknown): number | undefined {
  const [first] = members(value)
  return typeof first === 'number' && Number.isSafeInteger(first) ? first : undefined
}

export function readOptionalText(value: unknown): string {
  const [first] = members(value)
  return typeof first === 'string' ? first : ''
}

export function readMap(value: unknown): Readonly<Record<string, string>> {
  const out: Record<string, string> = {}
  if (!Array.isArray(value) || value[0] !== 'map' || !Array.isArray(value[1])) return out
  for (const pair of value[1])
    if (Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'string' && pair[0] !== '__proto__') out[pair[0]] = pair[1]
  return out
}

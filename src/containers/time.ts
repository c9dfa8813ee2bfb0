/** Times as Docker writes them. */

/** Go's zero time: "never". */
export const ZERO_TIME = '0001-01-01T00:00:00Z'

/** RFC3339 with the shortest fraction, as Go's RFC3339Nano prints it. */
export function rfc3339(ms: number): string {
  return new Date(ms).toISOString().replace(/\.?0+Z$/, 'Z')
}

/** Nanosecond RFC3339 text with any offset to seconds since the epoch (a double: about 200 ns exact). NaN when it is no time. */
export function secondsOf(text: string): number {
  const match = /^(.{19})(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(text)
  if (!match) return Number.NaN
  return Date.parse(`${match[1]}${match[3]}`) / 1000 + Number(`0${match[2] ?? ''}`)
}

/** Order of RFC3339 times, oldest first. Their texts do not sort: a fraction is written without its zeros, and "Z" comes after the digits. */
export function byTime(a: string, b: string): number {
  return Date.parse(a) - Date.parse(b)
}

/** Sizes and times as Docker shows them. */

const DECIMAL = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB', 'ZB', 'YB']
const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB', 'ZiB', 'YiB']

/** `1.984MB`: powers of 1000, four significant digits unless told. */
export function humanSize(bytes: number, digits = 4): string {
  return scaled(bytes, 1000, DECIMAL, digits)
}

/** `23.54GiB`: powers of 1024. */
export function bytesSize(bytes: number): string {
  return scaled(bytes, 1024, BINARY, 4)
}

function scaled(bytes: number, base: number, units: readonly string[], digits: number): string {
  let value = bytes
  let unit = 0
  while (value >= base && unit < units.length - 1) {
    value /= base
    unit++
  }
  return `${Number(value.toPrecision(digits))}${units[unit]}`
}

/** `About a minute`, `3 hours`, for a length of time in milliseconds. */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000)
  if (seconds < 1) return 'Less than a second'
  if (seconds === 1) return '1 second'
  if (seconds < 60) return `${seconds} seconds`
  const minutes = Math.trunc(seconds / 60)
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  const hours = Math.trunc(ms / 3_600_000 + 0.5)
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  if (hours < 24 * 7 * 2) return `${Math.trunc(hours / 24)} days`
  if (hours < 24 * 30 * 2) return `${Math.trunc(hours / 24 / 7)} weeks`
  if (hours < 24 * 365 * 2) return `${Math.trunc(hours / 24 / 30)} months`
  return `${Math.trunc(ms / 3_600_000 / 24 / 365)} years`
}

/** `3 minutes ago`. */
export function ago(thenMs: number, nowMs: number): string {
  return `${humanDuration(nowMs - thenMs)} ago`
}

/** `2026-11-21 00:20:25 +0000 UTC`: local time as Go's Time.String prints whole seconds. */
export function goTime(ms: number, fraction = ''): string {
  const date = new Date(ms)
  const two = (n: number) => String(n).padStart(2, '0')
  const offset = -date.getTimezoneOffset()
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.trunc(Math.abs(offset) / 60))}${two(Math.abs(offset) % 60)}`
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  const name = offset === 0 ? 'UTC' : (/\(([A-Z]+)\)/.exec(date.toString())?.[1] ?? zone)
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${fraction} ${zone} ${name}`
}

/** An RFC 3339 time of the engine as {@link goTime}, nanoseconds kept, zone of the text (the engine speaks UTC). */
export function goTimeOf(rfc3339: string): string {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(rfc3339)
  if (match === null) return rfc3339
  const [, day, time, fraction = '', zone = 'Z'] = match
  const tidy = fraction.replace(/\.?0+$/, '')
  return `${day} ${time}${tidy} ${zone === 'Z' ? '+0000 UTC' : `${zone.replace(':', '')} ${zone.replace(':', '')}`}`
}

/** Cuts to `length` columns, the last one an ellipsis. */
export function ellipsis(text: string, length: number): string {
  const chars = [...text]
  return chars.length <= length ? text : `${chars.slice(0, length - 1).join('')}…`
}

/** The 12 digits people read, without `sha256:`. */
export function truncateId(id: string): string {
  return id.replace(/^[a-z0-9]+:/, '').slice(0, 12)
}

/** `Up 3 seconds` needs no work; names of things sort as people count: n2 before n10. */
export function naturalCompare(a: string, b: string): number {
  const chunks = (s: string) => s.match(/\d+|\D+/g) ?? []
  const [as, bs] = [chunks(a), chunks(b)]
  for (let i = 0; i < Math.min(as.length, bs.length); i++) {
    const [x, y] = [as[i] as string, bs[i] as string]
    if (x === y) continue
    if (/^\d/.test(x) && /^\d/.test(y)) {
      const difference = BigInt(x) - BigInt(y)
      if (difference !== 0n) return difference < 0n ? -1 : 1
      if (x.length !== y.length) return x.length - y.length
    }
    return x < y ? -1 : 1
  }
  return as.length - bs.length
}

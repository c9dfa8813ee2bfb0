/** Points in time of `--since` and `--until`. */
import { parseDuration } from './args/units.ts'
import { fail } from './fail.ts'

/**
 * `10m` ago, an RFC 3339 time (date alone and missing zone are fine: local time), or Unix seconds,
 * as `seconds.nanoseconds`. Throws NetError `invalid`.
 */
export function parseWhen(name: 'since' | 'until', text: string, nowMs: number): string {
  const wrong = () => fail(`invalid value for "${name}": failed to parse value as time or duration: "${text}"`)
  if (/^\d+(\.\d{1,9})?$/.test(text)) return text
  if (/^\d{4}-/.test(text)) {
    const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d(?::\d\d(?::\d\d)?)?)(\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/.exec(text)
    if (match === null) throw wrong()
    const [, day, time = '00', fraction = '.', zone = ''] = match
    const clock = [...time.split(':'), '00', '00'].slice(0, 3).join(':')
    const ms = Date.parse(`${day}T${clock}${zone}`)
    return `${Math.trunc(ms / 1000)}.${fraction.slice(1).padEnd(9, '0').slice(0, 9)}`
  }
  const nanos = tryDuration(text)
  if (nanos === undefined) throw wrong()
  const at = nowMs * 1e6 - nanos
  const seconds = Math.floor(at / 1e9)
  return `${seconds}.${String(Math.round(at - seconds * 1e9)).padStart(9, '0')}`
}

function tryDuration(text: string): number | undefined {
  try {
    return parseDuration(text)
  } catch {
    return undefined // not a duration: the caller says so in its own words
  }
}

/** Times as Docker's clients write and read them. */
import { badRequest } from './errors.ts'

const UNIT_SECONDS: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 1e-3, us: 1e-6, µs: 1e-6, ns: 1e-9 }

/** Seconds of a Go duration such as `1h30m` or `-1.5s`; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  if (!/^[+-]?(\d+(\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)((\d+(\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns))*$/.test(text)) return undefined
  let total = 0
  for (const part of text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)/g))
    total += Number(part[1]) * (UNIT_SECONDS[part[2] as string] ?? 0)
  return text.startsWith('-') ? -total : total
}

/**
 * Seconds since the epoch of what `since`/`until` may be: a unix time with optional fraction, an RFC 3339 time (or a part of
 * one, then UTC), or a duration before now. Throws `invalid`.
 */
export function parseTime(name: string, text: string, nowMs: number): number {
  if (/^-?\d{1,15}(\.\d+)?$/.test(text)) return Number(text)
  const duration = parseDuration(text)
  if (duration !== undefined) return nowMs / 1000 - duration
  const ms = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(/T\d{2}$/.test(text) ? `${text}:00Z` : withZone(text)) : Number.NaN
  if (Number.isNaN(ms)) throw badRequest(`invalid value for "${name}": "${text.slice(0, 100)}" is neither a time nor a duration`)
  return ms / 1000
}

function withZone(text: string): string {
  return /T.*(Z|[+-]\d{2}:?\d{2})$/.test(text) || !text.includes('T') ? text : `${text}Z`
}

/** Optional time parameter: undefined when absent, empty or "0" (Docker's "from the beginning"). */
export function timeParam(query: URLSearchParams, name: string, nowMs: number): number | undefined {
  const text = query.get(name)
  return text === null || text === '' || text === '0' ? undefined : parseTime(name, text, nowMs)
}

/** Unix seconds of an RFC 3339 text, 0 for Docker's zero time. */
export function unixSeconds(rfc3339: string): number {
  const ms = Date.parse(rfc3339)
  return Number.isNaN(ms) || ms < 0 ? 0 : Math.floor(ms / 1000)
}

/** "2 hours", "About a minute": the rough span that `docker ps` prints. */
export function roughSpan(seconds: number): string {
  const s = Math.floor(seconds)
  if (s < 1) return 'Less than a second'
  if (s === 1) return '1 second'
  if (s < 60) return `${s} seconds`
  const minutes = Math.floor(s / 60)
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  const hours = Math.round(s / 3600)
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`
  if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`
  return `${Math.floor(hours / 24 / 365)} years`
}

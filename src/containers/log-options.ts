/**
 * Options of the log drivers that keep a file on this host. conmon writes one file and begins it anew when it is full: `max-file` files of
 * `max-size` each are one file of all their bytes, so the same disk is used and at times less of the past is kept.
 */
import { NetError } from '../base/errors.ts'
import type { HostConfig } from './types.ts'

const DRIVERS = ['json-file', 'local', 'k8s-file', 'none']
const OPTIONS = ['max-size', 'max-file', 'compress', 'labels', 'labels-regex', 'env', 'env-regex', 'tag', 'mode', 'max-buffer-size']
const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12, p: 1e15 }

function invalid(message: string): NetError {
  return new NetError('invalid', message)
}

/** Refuses what Docker refuses. Throws `invalid` with its texts. */
export function checkLogConfig(host: HostConfig): void {
  const type = host.LogConfig?.Type || 'json-file'
  if (!DRIVERS.includes(type)) throw invalid(`logger: no log driver named '${type}' is registered`)
  if (type === 'none') return
  for (const key of Object.keys(host.LogConfig?.Config ?? {}))
    if (!OPTIONS.includes(key)) throw invalid(`unknown log opt '${key}' for ${type} log driver`)
  logMaxBytes(host)
}

/** Bound of the log file in bytes; undefined = none. Sizes are decimal, as Docker reads them here (`10m` = 10,000,000). Throws `invalid`. */
export function logMaxBytes(host: HostConfig): number | undefined {
  const { 'max-size': size, 'max-file': files = '1' } = host.LogConfig?.Config ?? {}
  if (!/^\d+$/.test(files)) throw invalid(`strconv.Atoi: parsing ${JSON.stringify(files.slice(0, 100))}: invalid syntax`)
  if (Number(files) < 1) throw invalid('max-file cannot be less than 1')
  if (size === undefined || size === '' || size === '-1') return undefined
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(size) ?? []
  if (number === undefined) throw invalid(`invalid size: '${size.slice(0, 100)}'`)
  const bytes = Math.floor(Number(number) * (UNITS[unit.toLowerCase()] as number))
  if (bytes <= 0) throw invalid('max-size must be a positive number')
  return Math.min(bytes * Number(files), Number.MAX_SAFE_INTEGER)
}

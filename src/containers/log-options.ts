/** Options of the log drivers that keep files on this host, as Docker reads them. */
import { NetError } from '../base/errors.ts'
import type { HostConfig } from './types.ts'

const DRIVERS = ['json-file', 'local', 'k8s-file', 'none']
const OPTIONS = ['max-size', 'max-file', 'compress', 'labels', 'labels-regex', 'env', 'env-regex', 'tag', 'mode', 'max-buffer-size']
const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12, p: 1e15 }
/** What the driver `local` keeps when nothing is said. */
const LOCAL_DEFAULTS = { 'max-size': '20m', 'max-file': '5', compress: 'true' }

/** How much of a container's output is kept. */
export interface LogBounds {
  /** Size in bytes at which a file is full. */
  readonly maxBytes: number
  /** Files that are kept, with the one being written. */
  readonly maxFiles: number
  /** Full files are kept as gzip. */
  readonly compress?: boolean
}

function invalid(message: string): NetError {
  return new NetError('invalid', message)
}

/** Refuses what Docker refuses. Throws `invalid` with its texts. */
export function checkLogConfig(host: HostConfig): void {
  const type = host.LogConfig?.Type || 'json-file'
  const options = host.LogConfig?.Config ?? {}
  if (!DRIVERS.includes(type)) throw invalid(`logger: no log driver named '${type}' is registered`)
  if (type === 'none') return
  for (const key of Object.keys(options)) if (!OPTIONS.includes(key)) throw invalid(`unknown log opt '${key}' for ${type} log driver`)
  const bounds = logBounds(host)
  const { compress } = options
  if (compress === undefined) return
  if (!/^(1|t|true|0|f|false)$/i.test(compress))
    throw invalid(`strconv.ParseBool: parsing ${JSON.stringify(compress.slice(0, 100))}: invalid syntax`)
  if (/^[1t]/i.test(compress) && (bounds === undefined || bounds.maxFiles === 1))
    throw invalid('compress cannot be true when max-file is less than 2 or max-size is not set')
}

/** Bounds of a container's log; undefined = none. Sizes are decimal (`10m` = 10,000,000), as Docker reads them here. Throws `invalid`. */
export function logBounds(host: HostConfig): LogBounds | undefined {
  const defaults = host.LogConfig?.Type === 'local' ? LOCAL_DEFAULTS : {}
  const { 'max-size': size, 'max-file': files = '1', compress = '' }: Record<string, string> = { ...defaults, ...host.LogConfig?.Config }
  if (!/^\d+$/.test(files)) throw invalid(`strconv.Atoi: parsing ${JSON.stringify(files.slice(0, 100))}: invalid syntax`)
  if (Number(files) < 1) throw invalid('max-file cannot be less than 1')
  if (size === undefined || size === '' || size === '-1') return undefined
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(size) ?? []
  if (number === undefined) throw invalid(`invalid size: '${size.slice(0, 100)}'`)
  const maxBytes = Math.floor(Number(number) * (UNITS[unit.toLowerCase()] as number))
  if (maxBytes <= 0) throw invalid('max-size must be a positive number')
  const maxFiles = Math.min(Number(files), Number.MAX_SAFE_INTEGER)
  return {
    maxBytes: Math.min(maxBytes, Number.MAX_SAFE_INTEGER),
    maxFiles,
    ...(/^[1t]/i.test(compress) && maxFiles > 1 ? { compress: true } : {}),
  }
}

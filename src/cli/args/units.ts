/** Sizes, durations and other numbers as they are typed on Docker's command line. */
import { NetError } from '../../base/errors.ts'

const bad = (message: string): NetError => new NetError('invalid', message)

const POWER: Readonly<Record<string, number>> = { '': 0, b: 0, k: 1, m: 2, g: 3, t: 4, p: 5 }

/** `10m`, `1.5GiB`, `512` -> bytes; units are powers of 1024. Throws NetError `invalid`. */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(text)
  if (match === null) throw bad(`invalid size: '${text}'`)
  return Math.trunc(Number(match[1]) * 1024 ** (POWER[(match[2] as string).toLowerCase()] as number))
}

/** As {@link parseBytes}, and -1 for no limit. */
export function parseBytesOrUnlimited(text: string): number {
  return text === '-1' ? -1 : parseBytes(text)
}

/** `1.5` CPUs -> 1500000000 billionths. */
export function parseCpus(text: string): number {
  const match = /^(\d*)(?:\.(\d*))?$/.exec(text)
  if (match === null || text === '' || text === '.') throw bad(`failed to parse ${text} as a rational number`)
  const fraction = (match[2] ?? '').replace(/0+$/, '')
  if (fraction.length > 9) throw bad('value is too precise')
  return Number(match[1] || '0') * 1e9 + Number((fraction || '0').padEnd(9, '0'))
}

const NANOS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 }

/** Go's durations (`1h15m30.5s`) in nanoseconds. */
export function parseDuration(text: string): number {
  const parts = [...text.replace(/^[+-]/, '').matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/g)]
  if (text === '0') return 0
  if (parts.length === 0 || parts.map((p) => p[0]).join('') !== text.replace(/^[+-]/, ''))
    throw bad(/^[+-]?[\d.]+$/.test(text) ? `time: missing unit in duration "${text}"` : `time: invalid duration "${text}"`)
  const nanos = parts.reduce((sum, [, n, unit]) => sum + Number(n) * (NANOS[unit as string] as number), 0)
  return Math.round(text.startsWith('-') ? -nanos : nanos)
}

export interface Ulimit {
  readonly Name: string
  readonly Hard: number
  readonly Soft: number
}

const ULIMITS = [
  'core',
  'cpu',
  'data',
  'fsize',
  'locks',
  'memlock',
  'msgqueue',
  'nice',
  'nofile',
  'nproc',
  'rss',
  'rtprio',
  'rttime',
  'sigpending',
  'stack',
]

/** `nofile=1024:2048`. */
export function parseUlimit(text: string): Ulimit {
  const [name, limits, ...rest] = text.split('=')
  if (limits === undefined || rest.length > 0) throw bad(`invalid ulimit argument: ${text}`)
  if (!ULIMITS.includes(name as string)) throw bad(`invalid ulimit type: ${name}`)
  const [soft, hard, ...more] = limits.split(':')
  if (more.length > 0) throw bad(`too many limit value arguments - ${limits}, can only have up to two, \`soft[:hard]\``)
  const number = (t: string): number => {
    if (!/^-?\d+$/.test(t)) throw bad(`strconv.ParseInt: parsing "${t}": invalid syntax`)
    return Number(t)
  }
  const Soft = number(soft as string)
  const Hard = hard === undefined ? Soft : number(hard)
  if (Hard !== -1 && (Soft === -1 || Soft > Hard))
    throw bad(`ulimit soft limit must be less than or equal to hard limit: ${Soft} > ${Hard}`)
  return { Name: name as string, Hard, Soft }
}

/** `on-failure:3`. The name is checked by the engine. */
export function parseRestartPolicy(text: string): { Name: string; MaximumRetryCount: number } {
  if (text === '') return { Name: '', MaximumRetryCount: 0 }
  const [name, count, ...rest] = text.split(':')
  if (name === '') throw bad('invalid restart policy format: no policy provided before colon')
  if (rest.length > 0 || (count !== undefined && !/^-?\d+$/.test(count)))
    throw bad('invalid restart policy format: maximum retry count must be an integer')
  return { Name: name as string, MaximumRetryCount: Number(count ?? 0) }
}

/** `-e`, `--env-file`, `-l`, `--label-file`, `--add-host`, `--sysctl`, `--dns`, capabilities: the small ones. */
import { readFileSync } from 'node:fs'
import { tryParseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'

const bad = (message: string): NetError => new NetError('invalid', message)

/** `NAME` or `NAME=value`. Throws NetError `invalid`, as all checks of this file do. */
export function checkEnv(text: string): string {
  if (text === '' || text.startsWith('=')) throw bad(`invalid environment variable: ${text}`)
  return text
}

/** A label has a key. */
export function checkLabel(text: string): string {
  if (text === '' || text.startsWith('=')) throw bad(`invalid label '${text}': empty name`)
  return text
}

/** Lines of an env or label file: blank lines and `#` are skipped, a bare name is looked up by `lookup`. */
function readPairs(path: string, lookup: (name: string) => string | undefined): string[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    throw new NetError('invalid', `open ${path}: ${missing ? 'no such file or directory' : (cause as Error).message}`, {}, cause)
  }
  const out: string[] = []
  for (const raw of text.replace(/^\uFEFF/, '').split('\n')) {
    const line = raw.replace(/\r$/, '').trimStart()
    if (line === '' || line.startsWith('#')) continue
    const eq = line.indexOf('=')
    const name = eq < 0 ? line.trim() : line.slice(0, eq)
    if (name === '') throw bad(`no variable name on line '${line}'`)
    if (/\s/.test(name)) throw bad(`variable '${name}' contains whitespaces`)
    const value = eq < 0 ? lookup(name) : line.slice(eq + 1)
    if (value !== undefined) out.push(`${name}=${value}`)
  }
  return out
}

/** Files first, then `-e`; `-e NAME` takes the value from our own environment, and removes the variable when there is none. */
export function environment(
  files: readonly string[],
  items: readonly string[],
  own: Readonly<Record<string, string | undefined>>,
): string[] {
  const fromFiles = files.flatMap((file) => readPairs(file, (name) => own[name]))
  const fromItems = items.map((item) => (item.includes('=') || own[item] === undefined ? item : `${item}=${own[item]}`))
  return [...fromFiles, ...fromItems]
}

/** Labels of files, then of flags: the last one wins. */
export function labels(files: readonly string[], items: readonly string[]): Record<string, string> {
  const pairs = [...files.flatMap((file) => readPairs(file, () => '')), ...items]
  return pairsToRecord(pairs)
}

/** `a=b` pairs as an object; a missing value is empty. */
export function pairsToRecord(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const eq = pair.indexOf('=')
      return eq < 0 ? [pair, ''] : [pair.slice(0, eq), pair.slice(eq + 1)]
    }),
  )
}

/** `name:ip` or `name=ip`; brackets around IPv6 are taken off; `host-gateway` is the engine's word. */
export function checkExtraHost(text: string): string {
  const match = /^([^=:]+)[=:](.+)$/s.exec(text) ?? (text.includes('=') ? /^([^=]+)=(.+)$/s.exec(text) : null)
  if (match === null) throw bad(`bad format for add-host: "${text}"`)
  const [, name = '', given = ''] = match
  const ip = given.startsWith('[') && given.endsWith(']') ? given.slice(1, -1) : given
  if (ip !== 'host-gateway' && tryParseIp(ip) === undefined) throw bad(`invalid IP address in add-host: "${ip}"`)
  return `${name}:${ip}`
}

const SYSCTLS = [
  'kernel.msgmax',
  'kernel.msgmnb',
  'kernel.msgmni',
  'kernel.sem',
  'kernel.shmall',
  'kernel.shmmax',
  'kernel.shmmni',
  'kernel.shm_rmid_forced',
]

/** `name=value` of a sysctl that belongs to a namespace. */
export function checkSysctl(text: string): string {
  const eq = text.indexOf('=')
  const name = eq < 0 ? '' : text.slice(0, eq)
  if (eq > 0 && (SYSCTLS.includes(name) || name.startsWith('net.') || name.startsWith('fs.mqueue.'))) return text
  throw bad(`sysctl '${text}' is not allowed`)
}

/** An address of either family. */
export function checkIp(text: string): string {
  const ip = tryParseIp(text.trim())
  if (ip === undefined) throw bad(`IP address is not correctly formatted: ${text}`)
  return ip
}

/** A search domain; `.` clears the list. */
export function checkSearchDomain(text: string): string {
  const domain = text.trim()
  if (domain === '.') return domain
  if (
    domain.length < 256 &&
    /^(:?(:?[a-zA-Z0-9]|(:?[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))(:?\.(:?[a-zA-Z0-9]|(:?[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])))*)\.?$/.test(
      domain,
    )
  )
    return domain
  throw bad(`${text} is not a valid domain`)
}

/** `container` or `container:alias`. */
export function checkLink(text: string): string {
  if (text === '') throw bad('empty string specified for links')
  if (text.split(':').length > 2) throw bad(`bad format for links: ${text}`)
  return text
}

/** stdin, stdout or stderr. */
export function checkAttach(text: string): string {
  const stream = text.toLowerCase()
  if (['stdin', 'stdout', 'stderr'].includes(stream)) return stream
  throw bad('valid streams are STDIN, STDOUT and STDERR')
}

/** `net_admin` -> `CAP_NET_ADMIN`; sorted, once each; null when none. */
export function capabilities(names: readonly string[]): string[] | null {
  const tidy = names.map((n) => n.trim().toUpperCase()).map((n) => (n === 'ALL' || n.startsWith('CAP_') ? n : `CAP_${n}`))
  return tidy.length === 0 ? null : [...new Set(tidy)].sort()
}

/**
 * The host's resolver configuration: parsed as glibc does (resolv.conf(5)), and watched, because it changes when a VPN or a network comes up.
 */
import { type FSWatcher, readFileSync, realpathSync, watch } from 'node:fs'
import { dirname } from 'node:path'
import { type Ip, tryParseIp } from '../base/address.ts'
import type { Clock } from '../base/ports.ts'
import { HOST_RESOLV_CONF, SYSTEMD_RESOLV_CONF } from '../sys/resolv-paths.ts'

/** systemd-resolved's own address: reachable in the host's namespace only. */
const SYSTEMD_STUB = '127.0.0.53'

export interface ResolvConf {
  readonly nameservers: readonly Ip[]
  /** What stood where an address belongs. */
  readonly invalid: readonly string[]
  readonly search: readonly string[]
  readonly options: readonly string[]
  /** Lines with other keywords, as they stand. */
  readonly other: readonly string[]
}

/** Comments and empty lines are dropped; the last `search` or `domain` line counts; options add up. */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers: Ip[] = []
  const invalid: string[] = []
  const options: string[] = []
  const other: string[] = []
  let search: string[] = []
  for (const raw of text.split('\n')) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    const [keyword, ...values] = line.split(/\s+/) as [string, ...string[]]
    if (keyword === 'nameserver') {
      const ip = tryParseIp(values[0] ?? '')
      if (ip !== undefined) nameservers.push(ip)
      else if (values[0] !== undefined) invalid.push(values[0])
    } else if (keyword === 'search' || keyword === 'domain') {
      search = values
    } else if (keyword === 'options') {
      options.push(...values)
    } else {
      other.push(line)
    }
  }
  return { nameservers, invalid, search, options, other }
}

/** The value of `ndots` if the options set it to a number from 0 up; the last one counts. */
export function ndotsOf(options: readonly string[]): number | undefined {
  let value: number | undefined
  for (const option of options) {
    const digits = /^ndots:(\d+)$/.exec(option)?.[1]
    if (digits !== undefined) value = Number(digits)
  }
  return value
}

/** Both files of the host, read at one time. */
export interface HostResolv {
  /** The file that programs on the host read. Missing = empty. */
  readonly path: string
  readonly text: string
  /** For containers that talk to the servers themselves: without systemd's stub, which they cannot reach. */
  readonly legacyPath: string
  readonly legacyText: string
}

export interface HostResolvPaths {
  readonly path?: string
  readonly systemdPath?: string
}

/** The host's configuration; where it names only systemd-resolved's stub, `legacyText` names the servers behind that. */
export function readHostResolv(paths: HostResolvPaths = {}): HostResolv {
  const path = paths.path ?? HOST_RESOLV_CONF
  const text = readOptional(path)
  const { nameservers } = parseResolvConf(text)
  if (nameservers.length === 0 || nameservers.some((ip) => ip !== SYSTEMD_STUB)) return { path, text, legacyPath: path, legacyText: text }
  const legacyPath = paths.systemdPath ?? SYSTEMD_RESOLV_CONF
  const legacyText = readOptional(legacyPath)
  return legacyText === '' ? { path, text, legacyPath: path, legacyText: text } : { path, text, legacyPath, legacyText }
}

function readOptional(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return ''
    throw error
  }
}

const SETTLE_MS = 100
const POLL_MS = 10_000

/**
 * Calls `onChange` after the contents changed, also when the file is replaced or is a symbolic link whose target changes.
 * Watches folders, which sees replacements; looks every 10 seconds as well, for file systems that do not tell. Returns the way to stop.
 */
export function watchHostResolv(clock: Clock, onChange: (now: HostResolv) => void, paths: HostResolvPaths = {}): () => void {
  let last = readHostResolv(paths)
  let watchers: FSWatcher[] = []
  let cancelSettle: (() => void) | undefined
  let isStopped = false

  const look = (): void => {
    if (isStopped) return
    const now = readHostResolv(paths)
    const isSame = now.text === last.text && now.legacyText === last.legacyText && now.legacyPath === last.legacyPath
    last = now
    rewatch()
    if (!isSame) onChange(now)
  }
  const soon = (): void => {
    cancelSettle?.()
    cancelSettle = clock.after(SETTLE_MS, look) // writers truncate first and fill afterwards
  }
  const rewatch = (): void => {
    for (const watcher of watchers) watcher.close()
    watchers = foldersOf([last.path, last.legacyPath]).flatMap((folder) => watchFolder(folder, soon))
  }
  let cancelPoll: () => void
  const poll = (): void => {
    look()
    cancelPoll = clock.after(POLL_MS, poll)
  }
  rewatch()
  cancelPoll = clock.after(POLL_MS, poll)
  return () => {
    isStopped = true
    cancelPoll()
    cancelSettle?.()
    for (const watcher of watchers) watcher.close()
  }
}

/** Folders of the files and of what they link to. */
function foldersOf(files: readonly string[]): string[] {
  const out = new Set<string>()
  for (const file of files) {
    out.add(dirname(file))
    try {
      out.add(dirname(realpathSync(file)))
    } catch {
      // a link to nothing yet: the poll finds it later
    }
  }
  return [...out]
}

function watchFolder(folder: string, onEvent: () => void): FSWatcher[] {
  try {
    const watcher = watch(folder, { persistent: false }, onEvent)
    watcher.on('error', () => watcher.close()) // the folder went away: the poll goes on
    return [watcher]
  } catch {
    return [] // no such folder, or no inotify watch left: the poll goes on
  }
}

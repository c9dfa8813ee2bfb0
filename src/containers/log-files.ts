/**
 * The files of one container's log: `container.log` is being written, `container.log.1` was full before it, and so on. Who writes is
 * conmon, which goes on in the file it has open, whatever that is called meanwhile, until it is told to open its log anew. A shift is
 * therefore: rename, then tell; nothing is lost in between, and an interrupted one is finished by {@link keepLogs}.
 *
 * conmon also opens a new file on its own when it has written its own bound ({@link monitorBound}), which holds while the engine is
 * away. It would throw the old file away, so `container.log.now`, a second name of the file being written, keeps it.
 */
import { linkSync, readdirSync, renameSync, rmSync, type Stats, statSync } from 'node:fs'
import { compressedLog, compressLog } from './log-compress.ts'
import type { LogBounds } from './log-options.ts'

/** conmon's own bound is this far above what is kept: room for output that comes faster than the engine looks. */
const SPARE_BYTES = 16 << 20

export interface LogFile {
  readonly path: string
  /** Of a compressed file: the one that it had before. */
  readonly inode: number
  /** Bytes, of a compressed file before that. */
  readonly size: number
}

/** A place in a log: the bytes before it are `offset` in this file and all of the older ones. */
export interface LogPosition {
  readonly inode: number
  readonly offset: number
}

/** Bytes after which conmon itself begins a new file; undefined = never. One file alone is begun anew by conmon, as Docker does it. */
export function monitorBound(bounds: LogBounds | undefined): number | undefined {
  if (bounds === undefined) return undefined
  const kept = bounds.maxFiles === 1 ? bounds.maxBytes : bounds.maxBytes * bounds.maxFiles + SPARE_BYTES
  return Math.min(kept, Number.MAX_SAFE_INTEGER)
}

/** The files of the log `path` that are there, oldest first. */
export function logFiles(path: string): LogFile[] {
  const full = fullFiles(path).reverse()
  const found: LogFile[] = []
  for (const name of [...full.map((file) => file.name), `${path}.now`, path]) {
    const stats = name.endsWith('.gz') ? undefined : statusOf(name)
    const compressed = name.endsWith('.gz') ? compressedLog(name) : undefined
    if (compressed !== undefined) found.push({ path: name, ...compressed })
    // another name of the same file: the later place is the true one, except for the spare name
    if (stats === undefined || found.some((file) => file.inode === stats.ino && !file.path.endsWith('.gz'))) continue
    found.push({ path: name, inode: stats.ino, size: stats.size })
  }
  // inodes are used again: what was compressed long ago then has none that anybody knows
  for (const [i, file] of found.entries())
    if (found.some((other, k) => k > i && other.inode === file.inode)) found[i] = { ...file, inode: -(statusOf(file.path)?.ino ?? 0) }
  const last = found.at(-1)
  const current = statusOf(path)
  return last !== undefined && current?.ino === last.inode ? [...found.slice(0, -1), { ...last, path }] : found
}

/** Where the log ends now. */
export function logEnd(path: string): LogPosition {
  const last = logFiles(path).at(-1)
  return { inode: last?.inode ?? 0, offset: last?.size ?? 0 }
}

/** What {@link keepLogs} found. `full`: conmon has to be told to open its log anew. */
export type LogCheck = { readonly kind: 'full' } | { readonly kind: 'room'; readonly size: number }

/** Shifts a full log and drops what is beyond the bounds. Safe to repeat; finishes what was interrupted. */
export function keepLogs(path: string, bounds: LogBounds): LogCheck {
  const spare = `${path}.now`
  const current = statusOf(path)
  const kept = statusOf(spare)
  if (kept !== undefined && kept.ino !== current?.ino) {
    if (kept.ino === statusOf(`${path}.1`)?.ino || kept.ino === compressedLog(`${path}.1.gz`)?.inode) rmSync(spare, { force: true })
    else shift(path, spare, bounds) // conmon has begun a new file on its own
  }
  if (current === undefined) return fullFiles(path).length === 0 ? { kind: 'room', size: 0 } : { kind: 'full' }
  if (current.size >= bounds.maxBytes) {
    shift(path, path, bounds)
    rmSync(spare, { force: true })
    return { kind: 'full' }
  }
  if (statusOf(spare) === undefined) linkQuietly(path, spare)
  return { kind: 'room', size: current.size }
}

/** Makes `from` the newest of the full files. */
function shift(path: string, from: string, { maxBytes, maxFiles }: LogBounds): void {
  let free = 1
  const numbers = new Set(fullFiles(path).map((file) => file.number))
  while (numbers.has(free)) free++
  for (let n = free; n > 1; n--)
    for (const suffix of ['', '.gz'])
      if (statusOf(`${path}.${n - 1}${suffix}`) !== undefined) renameSync(`${path}.${n - 1}${suffix}`, `${path}.${n}${suffix}`)
  renameSync(from, `${path}.1`)
  // files may be larger than asked, when output came faster than it was looked at: then fewer of them hold as much
  let bytes = 0
  for (const { number, name } of fullFiles(path)) {
    if (number >= maxFiles || bytes >= maxBytes * (maxFiles - 1))
      for (const suffix of ['', '.gz']) rmSync(`${path}.${number}${suffix}`, { force: true })
    else bytes += (name.endsWith('.gz') ? compressedLog(name)?.size : statusOf(name)?.size) ?? 0
  }
}

/**
 * Compresses the full files that are not yet. Safe to repeat; takes up what was interrupted. Does nothing while there is no new file:
 * then the writer still has the last one open.
 */
export async function compressLogs(path: string): Promise<void> {
  if (statusOf(path) === undefined) return
  for (const { name } of fullFiles(path)) {
    if (name.endsWith('.gz')) continue
    await compressLog(
      path,
      name,
      (inode) => fullFiles(path).find((file) => statusOf(file.name)?.ino === inode && !file.name.endsWith('.gz'))?.name,
    )
  }
}

interface FullFile {
  readonly number: number
  readonly name: string
}

/** The full files, newest (1) first. One that is there in both forms counts as it was: compressing it was interrupted. */
function fullFiles(path: string): FullFile[] {
  const slash = path.lastIndexOf('/')
  const prefix = `${path.slice(slash + 1)}.`
  let names: string[]
  try {
    names = readdirSync(path.slice(0, slash))
  } catch {
    return [] // the container's folder is not there: no log
  }
  return names
    .filter((name) => name.startsWith(prefix) && /^[1-9]\d*(\.gz)?$/.test(name.slice(prefix.length)))
    .filter((name) => !name.endsWith('.gz') || !names.includes(name.slice(0, -3)))
    .map((name) => ({ number: Number.parseInt(name.slice(prefix.length), 10), name: `${path.slice(0, slash)}/${name}` }))
    .sort((a, b) => a.number - b.number)
}

function statusOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false })
}

/** Without the second name the log is only less well protected while the engine is away. */
function linkQuietly(path: string, name: string): void {
  try {
    linkSync(path, name)
  } catch {
    // a file system without hard links, or the file has just been replaced: the next look tries again
  }
}

/**
 * `docker cp` and `docker export` on a root file system: the tree of a stopped container, or `/proc/<pid>/root` of a live one.
 * Paths are the container's own, and every lookup is done by the kernel inside the root (see sys/rooted.ts), so links, `..` and
 * a process that swaps directories while we read cannot lead out of it.
 */
import { fstatSync, readlinkSync, type Stats } from 'node:fs'
import { posix } from 'node:path'
import { Readable } from 'node:stream'
import { NetError } from '../base/errors.ts'
import { below, closeFd, O_DIRECTORY, O_NOFOLLOW, O_PATH, openRoot, tryOpenInRoot } from '../sys/rooted.ts'
import { decompress } from './archive-compress.ts'
import { extractTar } from './archive-extract.ts'
import { inChunks, packTree } from './archive-pack.ts'
import { TAR_END, TarReader } from './archive-tar.ts'
import type { ArchiveStat } from './rootfs-types.ts'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

export interface PutOptions {
  readonly noOverwriteDirNonDir: boolean
  /** Owner of everything written, instead of the archive's. */
  readonly owner?: Owner
}

/** Go's os.FileMode: the permission bits, and the kind of file in the upper half. Source: Go's io/fs. */
function goFileMode(stats: Stats): number {
  let mode = stats.mode & 0o777
  if (stats.isDirectory()) mode += 2 ** 31
  else if (stats.isSymbolicLink()) mode += 2 ** 27
  else if (stats.isBlockDevice()) mode += 2 ** 26
  else if (stats.isCharacterDevice()) mode += 2 ** 26 + 2 ** 21
  else if (stats.isFIFO()) mode += 2 ** 25
  else if (stats.isSocket()) mode += 2 ** 24
  if (stats.mode & 0o4000) mode += 2 ** 23
  if (stats.mode & 0o2000) mode += 2 ** 22
  if (stats.mode & 0o1000) mode += 2 ** 20
  return mode
}

/**
 * Information on one path, for `docker cp` and its header X-Docker-Container-Path-Stat. A link at the end is not followed unless
 * the path ends in `/` or `/.`. `container` is only for the text of the error: `not-found`, Docker's words.
 */
export async function statPath(root: string, path: string, container: string): Promise<ArchiveStat> {
  return inRoot(root, (top) => {
    const { directory, base, fd } = openEntry(top, path, container)
    try {
      const stats = fstatSync(fd)
      return {
        name: base,
        size: stats.size,
        mode: goFileMode(stats),
        mtime: new Date(stats.mtimeMs).toISOString(),
        linkTarget: stats.isSymbolicLink() ? linkTarget(top, directory, base) : '',
      }
    } finally {
      closeFd(fd)
    }
  })
}

/** A tar of the file or directory at `path`; its first name is the last component of the path. Throws `not-found`. */
export async function getArchive(root: string, path: string, container: string): Promise<Readable> {
  const top = openRoot(root)
  try {
    const { directory, base, fd } = openEntry(top, path, container)
    const isDirectory = fstatSync(fd).isDirectory()
    if (isDirectory) return archive(fd, '', base, [top])
    closeFd(fd)
    const parent = tryOpenInRoot(top, directory, O_PATH | O_DIRECTORY)
    if (parent === undefined) throw missing(path, container)
    return archive(parent, base, base, [top])
  } catch (error) {
    closeFd(top)
    throw error
  }
}

/**
 * Extracts a tar, compressed or not, into the directory `path` of the root; its links are followed inside the root.
 * Throws `not-found` (no such directory), `invalid` (not a directory, hostile or broken archive, refused overwrite).
 */
export async function putArchive(root: string, path: string, tar: Readable, options: PutOptions, container: string): Promise<void> {
  await inRoot(root, async (top) => {
    const at = tryOpenInRoot(top, posix.join('/', path), O_PATH, ['ENOENT', 'ENOTDIR', 'ELOOP'])
    if (at === undefined) throw missing(path, container)
    const isDirectory = fstatSync(at).isDirectory()
    closeFd(at)
    if (!isDirectory) throw new NetError('invalid', 'extraction point is not a directory', { subject: path })
    const reader = new TarReader(decompress(tar))
    try {
      await extractTar(reader, top, { ...options, prefix: path })
      await reader.finish()
    } finally {
      await reader.cancel()
    }
  })
}

/** The whole tree as a tar, names without a leading `./`: `docker export`. */
export async function exportRoot(root: string): Promise<Readable> {
  return archive(openRoot(root), '', '', [])
}

/** Copies everything below the directory `path` of `root` to the directory `target`. False when there is no such directory. */
export async function copyDirectory(root: string, path: string, target: string): Promise<boolean> {
  return inRoot(root, async (top) => {
    const from = tryOpenInRoot(top, posix.join('/', path), O_DIRECTORY, ['ENOENT', 'ENOTDIR', 'ELOOP'])
    if (from === undefined) return false
    const to = openRoot(target)
    try {
      const reader = new TarReader(inChunks(withEnd(packTree(from, '', './'))))
      await extractTar(reader, to)
      return true
    } finally {
      closeFd(to)
      closeFd(from)
    }
  })
}

async function inRoot<T>(root: string, work: (top: number) => T | Promise<T>): Promise<T> {
  const top = openRoot(root)
  try {
    return await work(top)
  } finally {
    closeFd(top)
  }
}

function missing(path: string, container: string): NetError {
  return new NetError('not-found', `Could not find the file ${path} in container ${container}`, { subject: path })
}

/** Opens what `path` names, and says its parent and name. With `/` or `/.` at the end a link is followed and must be a directory. */
function openEntry(top: number, path: string, container: string): { directory: string; base: string; fd: number } {
  if (path.includes('\0')) throw new NetError('invalid', 'invalid path: it holds a zero byte')
  const follows = /(^|\/)\.?$/.test(path)
  const clean = posix.join('/', path).replace(/(?<=.)\/+$/, '')
  const flags = follows ? O_DIRECTORY : O_PATH | O_NOFOLLOW
  const fd = tryOpenInRoot(top, clean, flags, ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'])
  if (fd === undefined) throw missing(path, container)
  if (follows || !fstatSync(fd).isDirectory()) return { directory: posix.dirname(clean), base: baseOf(path, clean), fd }
  closeFd(fd)
  const readable = tryOpenInRoot(top, clean, O_DIRECTORY | O_NOFOLLOW)
  if (readable === undefined) throw missing(path, container)
  return { directory: posix.dirname(clean), base: baseOf(path, clean), fd: readable }
}

/** `/`, and `.` for a path that ends in `/.`, are names too: the client puts its own in their place. */
function baseOf(path: string, clean: string): string {
  if (clean === '/') return '/'
  return path.endsWith('/.') ? '.' : posix.basename(clean)
}

/** Where a link leads inside the root, as a path of the container; a dangling one is resolved as far as it goes. */
function linkTarget(top: number, directory: string, base: string): string {
  const seen = new Set<string>()
  let at = posix.join(directory, base)
  for (;;) {
    const parent = tryOpenInRoot(top, posix.dirname(at), O_PATH | O_DIRECTORY, ['ENOENT', 'ENOTDIR', 'ELOOP'])
    if (parent === undefined || seen.has(at)) return at
    seen.add(at)
    try {
      at = posix.resolve('/', posix.dirname(at), readlinkSync(below(parent, posix.basename(at))))
    } catch {
      return at // EINVAL: no link any more; ENOENT: it dangles
    } finally {
      closeFd(parent)
    }
  }
}

async function* withEnd(entries: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  yield* entries
  yield TAR_END
}

/** A tar stream of an entry of `fd`, which it closes with the `others` when it has ended or was destroyed. */
function archive(fd: number, name: string, as: string, others: readonly number[]): Readable {
  const stream = Readable.from(inChunks(withEnd(packTree(fd, name, as))), { objectMode: false, highWaterMark: 1 << 18 })
  stream.once('close', () => {
    for (const each of [fd, ...others]) closeFd(each)
  })
  return stream
}

/**
 * Writes a directory tree, or one file of it, as a tar stream. The tree may belong to a live container: directories are entered
 * through descriptors without following links, and a file that shrinks while it is read is filled up with zeros.
 */
import { closeSync, fstatSync, lstatSync, openSync, read, readdirSync, readlinkSync, readSync, type Stats } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { promisify } from 'node:util'
import { below, closeFd, getXattr, listXattrs, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, openInRoot } from '../sys/rooted.ts'
import { encodeHeader, paddingOf, type TarHeader, type TarType } from './archive-tar.ts'

const CHUNK = 1 << 17
const readAsync = promisify(read)

/** The tar entry type of a file; undefined for a socket, which tar cannot carry. */
function typeOf(stats: Stats): TarType | undefined {
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'directory'
  if (stats.isSymbolicLink()) return 'symlink'
  if (stats.isCharacterDevice()) return 'char'
  if (stats.isBlockDevice()) return 'block'
  return stats.isFIFO() ? 'fifo' : undefined
}

/** glibc's gnu_dev_major and gnu_dev_minor; a device number fits a JavaScript number. */
function device(rdev: number): { devMajor: number; devMinor: number } {
  const dev = BigInt(rdev)
  return {
    devMajor: Number(((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn)),
    devMinor: Number((dev & 0xffn) | ((dev >> 12n) & ~0xffn)),
  }
}

/**
 * Packs the entry `name` of the opened directory `parent` (or that directory itself when `name` is empty) and all below it.
 * `as` is its name in the archive without a slash at the end; '' drops the top directory and leaves the names of its children bare.
 * The descriptor must stay open until the generator has ended.
 */
export async function* packTree(parent: number, name: string, as: string): AsyncGenerator<Buffer> {
  yield* new Packer().pack(parent, name === '' ? '.' : name, as)
}

/**
 * Packs the opened upper directory of an overlayfs as an image layer: what overlayfs marks as deleted becomes whiteout files.
 * https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
 */
export async function* packUpper(fd: number): AsyncGenerator<Buffer> {
  yield* new Packer(true).pack(fd, '.', '')
}

class Packer {
  readonly #isUpper: boolean
  /** First name of every file with several links. */
  readonly #links = new Map<string, string>()

  constructor(isUpper = false) {
    this.#isUpper = isUpper
  }

  async *pack(parent: number, name: string, as: string): AsyncGenerator<Buffer> {
    const at = below(parent, name)
    const stats = lstatSync(at, { throwIfNoEntry: false })
    const type = stats === undefined ? undefined : typeOf(stats)
    if (stats === undefined || type === undefined) return // gone meanwhile, or a socket
    if (type === 'directory') {
      yield* this.#directory(parent, name, as, stats)
      return
    }
    if (this.#isUpper && type === 'char' && stats.rdev === 0) {
      const slash = as.lastIndexOf('/') + 1
      yield encodeHeader({ name: `${as.slice(0, slash)}.wh.${as.slice(slash)}`, type: 'file' })
      return
    }
    const header = { ...common(stats, at), name: as, type }
    const key = `${stats.dev}:${stats.ino}`
    const first = stats.nlink > 1 ? this.#links.get(key) : undefined
    if (first !== undefined) {
      yield encodeHeader({ ...header, type: 'link', linkName: first, xattrs: new Map() })
      return
    }
    if (stats.nlink > 1) this.#links.set(key, as)
    if (type === 'file') yield* file(at, header)
    else if (type === 'symlink') yield encodeHeader({ ...header, linkName: readlinkSync(at) })
    else yield encodeHeader({ ...header, ...(type === 'fifo' ? {} : device(stats.rdev)) })
  }

  async *#directory(parent: number, name: string, as: string, stats: Stats): AsyncGenerator<Buffer> {
    const fd = openInRoot(parent, name, O_DIRECTORY | O_NOFOLLOW)
    try {
      if (as !== '') yield encodeHeader({ ...common(stats, `${below(fd)}/.`), name: as.endsWith('/') ? as : `${as}/`, type: 'directory' })
      if (this.#isUpper && getXattr(`${below(fd)}/.`, 'trusted.overlay.opaque')?.toString() === 'y')
        yield encodeHeader({ name: `${as === '' || as.endsWith('/') ? as : `${as}/`}.wh..wh..opq`, type: 'file' })
      for (const child of sortedNames(fd)) yield* this.pack(fd, child, as === '' || as.endsWith('/') ? `${as}${child}` : `${as}/${child}`)
    } finally {
      closeFd(fd)
    }
  }
}

function common(stats: Stats, at: string): Pick<TarHeader, 'mode' | 'uid' | 'gid' | 'mtime' | 'xattrs'> {
  const xattrs = new Map<string, Buffer>()
  // overlayfs's own attributes are not part of the tree, a label of the host is not the container's business
  for (const [key, value] of listXattrs(at)) {
    if (key === 'security.capability' || (key.startsWith('user.') && !key.startsWith('user.overlay.'))) xattrs.set(key, value)
  }
  return { mode: stats.mode & 0o7777, uid: stats.uid, gid: stats.gid, mtime: Math.floor(stats.mtimeMs / 1000), xattrs }
}

async function* file(at: string, header: TarHeader): AsyncGenerator<Buffer> {
  // O_NONBLOCK: should it have become a fifo since, opening it must not wait for a writer
  const fd = openSync(at, O_NOFOLLOW | O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) return
    yield encodeHeader({ ...header, size: stats.size })
    yield* readExactly(fd, stats.size)
    yield paddingOf(stats.size)
  } finally {
    closeSync(fd)
  }
}

/** Exactly `size` bytes of a file, zeros where it has become shorter. A small file is read at once: a round trip through the pool costs more. */
export async function* readExactly(fd: number, size: number): AsyncGenerator<Buffer> {
  for (let left = size; left > 0; ) {
    const chunk = Buffer.allocUnsafe(Math.min(left, CHUNK))
    const bytes = size <= CHUNK ? readSync(fd, chunk) : (await readAsync(fd, chunk, 0, chunk.length, null)).bytesRead
    const got = bytes === 0 ? chunk.fill(0) : chunk.subarray(0, bytes)
    left -= got.length
    yield got
  }
}

/**
 * The same bytes in pieces of at least 64 KiB (but the last), with a turn of the event loop after each: a tree of small files is
 * packed by calls that never wait, and nobody else would get to run until its end.
 */
export async function* inChunks(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = []
  let bytes = 0
  for await (const part of source) {
    parts.push(part)
    bytes += part.length
    if (bytes < CHUNK / 2) continue
    yield parts.length === 1 ? part : Buffer.concat(parts, bytes)
    parts = []
    bytes = 0
    await setImmediate()
  }
  if (bytes > 0) yield Buffer.concat(parts, bytes)
}

/** Names in an opened directory, sorted by bytes so that archives come out the same every time. */
function sortedNames(fd: number): string[] {
  return readdirSync(below(fd)).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

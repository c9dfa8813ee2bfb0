/**
 * Writes tar entries into a directory that they cannot leave. Two uses: layers (whiteouts become overlayfs's, nothing else is in
 * the tree) and `docker cp` (a live container may change the tree while we write).
 *
 * Every parent is opened with RESOLVE_IN_ROOT; the last component is only touched by calls that do not follow links, and modes are
 * set through descriptors. So `..`, absolute names, links out of the tree and links swapped under our feet all end inside it.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { posix } from 'node:path'
import { NetError } from '../base/errors.ts'
import { below, closeFd, mknod, O_DIRECTORY, O_NOFOLLOW, O_PATH, openInRoot, removeTree, setXattr, tryOpenInRoot } from '../sys/rooted.ts'
import type { TarEntry, TarReader } from './archive-tar.ts'

const { S_IFBLK, S_IFCHR, S_IFIFO, O_CREAT, O_EXCL, O_WRONLY } = constants
const WHITEOUT = '.wh.'
const OPAQUE = '.wh..wh..opq'
/** Refusals that are the machine's, whatever the archive says. */
const HOST_ERRORS = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'ENOMEM', 'EMFILE', 'ENFILE'])
const YES = Buffer.from('y')

export interface ExtractOptions {
  /** Directory of the root that the names of the archive start from; its links are followed inside the root. */
  readonly prefix?: string
  /** Translate `.wh.` names to overlayfs whiteouts and opaque directories. */
  readonly whiteouts?: boolean
  /** Refuse to replace a directory by something else, or the other way round. */
  readonly noOverwriteDirNonDir?: boolean
  /** Owner of everything written, instead of the archive's. */
  readonly owner?: { readonly uid: number; readonly gid: number }
  /** Called after each file that was written, with its path below the root. */
  readonly onFile?: (path: string, entry: TarEntry) => void
  /** Moves away what stands at `path` (reachable as `at`) and is about to be replaced. Without it, it is deleted. */
  readonly onReplace?: (path: string, at: string) => void
}

/** Cleans a name of an archive to components below the root. Throws `invalid` for one that climbs above it. */
function entryPath(name: string): string {
  const out: string[] = []
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') out.push(part)
    else if (out.pop() === undefined)
      throw new NetError('invalid', `invalid tar archive: "${name}" is outside of the root`, { subject: name })
  }
  return out.join('/')
}

/**
 * Extracts everything `reader` has left below the directory `root` (a descriptor). Returns the bytes of the files written.
 * Errors are NetError `invalid` when the archive is to blame. What was written before an error stays: the caller throws it away.
 */
export async function extractTar(reader: TarReader, root: number, options: ExtractOptions = {}): Promise<number> {
  const extractor = new Extractor(root, options)
  try {
    for (;;) {
      const entry = await reader.next()
      if (entry === undefined) break
      await extractor.write(entry, reader)
    }
    extractor.finish()
    return extractor.bytes
  } finally {
    extractor.close()
  }
}

class Extractor {
  bytes = 0
  readonly #root: number
  readonly #options: ExtractOptions
  readonly #prefix: string
  /** The parent opened last: archives are mostly in directory order. */
  #parent: { path: string; fd: number } | undefined
  /** Times of directories, set at the end because filling a directory changes them. */
  readonly #directories = new Map<string, number>()

  constructor(root: number, options: ExtractOptions) {
    this.#root = root
    this.#options = options
    this.#prefix = posix.join('/', options.prefix ?? '').replace(/^\/|\/$/g, '')
  }

  /** Where a name of the archive belongs, from the root. */
  #place(name: string): string {
    const path = entryPath(name)
    return this.#prefix === '' || path === '' ? this.#prefix + path : `${this.#prefix}/${path}`
  }

  async write(entry: TarEntry, reader: TarReader): Promise<void> {
    const path = this.#place(entry.name)
    try {
      const slash = path.lastIndexOf('/')
      const name = path.slice(slash + 1)
      if (path === this.#prefix) {
        // the starting point itself: its attributes, never its kind
        if (entry.type === 'directory') this.#finishDirectory(entry, path, openInRoot(this.#root, path, O_DIRECTORY))
        return
      }
      const parent = this.#openParent(slash < 0 ? '' : path.slice(0, slash))
      if (this.#options.whiteouts === true && name.startsWith(WHITEOUT)) return this.#whiteout(parent, name)
      await this.#entry(entry, reader, parent, name, path)
    } catch (error) {
      throw explain(error, entry.name)
    }
  }

  finish(): void {
    this.#closeParent()
    for (const [path, mtime] of this.#directories) {
      const fd = tryOpenInRoot(this.#root, path, O_PATH | O_DIRECTORY | (path === this.#prefix ? 0 : O_NOFOLLOW), [
        'ENOENT',
        'ENOTDIR',
        'ELOOP',
      ])
      if (fd === undefined) continue // replaced by a later entry
      try {
        lutimesSync(`${below(fd)}/.`, mtime, mtime)
      } finally {
        closeFd(fd)
      }
    }
  }

  close(): void {
    this.#closeParent()
  }

  #closeParent(): void {
    if (this.#parent !== undefined) closeFd(this.#parent.fd)
    this.#parent = undefined
  }

  #openParent(path: string): number {
    if (this.#parent?.path === path) return this.#parent.fd
    this.#closeParent()
    const flags = O_PATH | O_DIRECTORY
    const fd = tryOpenInRoot(this.#root, path, flags) ?? this.#makeParents(path, flags)
    this.#parent = { path, fd }
    return fd
  }

  /** Parents that the archive does not list: 0755, root's. */
  #makeParents(path: string, flags: number): number {
    let at = ''
    for (const part of path.split('/')) {
      const next = at === '' ? part : `${at}/${part}`
      let fd = tryOpenInRoot(this.#root, next, flags)
      if (fd === undefined) {
        const parent = openInRoot(this.#root, at, flags)
        try {
          mkdirSync(below(parent, part), 0o755)
          fd = openInRoot(parent, part, O_DIRECTORY | O_NOFOLLOW)
          fchmodSync(fd, 0o755)
          if (this.#options.owner !== undefined) fchownSync(fd, this.#options.owner.uid, this.#options.owner.gid)
        } finally {
          closeFd(parent)
        }
      }
      closeFd(fd)
      at = next
    }
    return openInRoot(this.#root, path, flags)
  }

  /** https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts to Documentation/filesystems/overlayfs.rst. */
  #whiteout(parent: number, name: string): void {
    if (name === OPAQUE) {
      setXattr(`${below(parent)}/.`, 'trusted.overlay.opaque', YES)
      return
    }
    const hidden = name.slice(WHITEOUT.length)
    if (hidden.startsWith(WHITEOUT)) return // aufs's own bookkeeping (.wh..wh.plnk)
    if (hidden === '' || hidden === '.' || hidden === '..') throw new NetError('invalid', `invalid tar archive: whiteout "${name}"`)
    // a whiteout speaks of lower layers only: what this layer has itself stays, cut off from below
    const there = lstatSync(below(parent, hidden), { throwIfNoEntry: false })
    if (there === undefined) mknod(below(parent, hidden), S_IFCHR, 0)
    else if (there.isDirectory()) setXattr(below(parent, hidden), 'trusted.overlay.opaque', YES)
  }

  /** Removes what stands in the way. */
  #clear(parent: number, name: string, path: string): void {
    if (lstatSync(below(parent, name), { throwIfNoEntry: false }) === undefined) return
    if (this.#options.onReplace === undefined) removeTree(parent, name)
    else this.#options.onReplace(path, below(parent, name))
  }

  async #entry(entry: TarEntry, reader: TarReader, parent: number, name: string, path: string): Promise<void> {
    const at = below(parent, name)
    const there = lstatSync(at, { throwIfNoEntry: false })
    if (there !== undefined && this.#options.noOverwriteDirNonDir === true) {
      if (there.isDirectory() && entry.type !== 'directory')
        throw new NetError('invalid', `cannot overwrite directory "/${path}" with non-directory "/"`)
      if (!there.isDirectory() && entry.type === 'directory')
        throw new NetError('invalid', `cannot overwrite non-directory "/${path}" with directory "/"`)
    }
    if (entry.type === 'directory') {
      if (there !== undefined && !there.isDirectory()) this.#clear(parent, name, path)
      if (there?.isDirectory() !== true) mkdirSync(at, 0o700)
      this.#finishDirectory(entry, path, openInRoot(parent, name, O_DIRECTORY | O_NOFOLLOW))
      // deleted and made anew in one layer: nothing of the old directory may shine through
      if (this.#options.whiteouts === true && there?.isCharacterDevice() === true && there.rdev === 0) {
        setXattr(below(parent, name), 'trusted.overlay.opaque', YES)
      }
      return
    }
    // GNU tar writes a file with two names that it was given twice as a link to itself
    if (entry.type === 'link' && there !== undefined && this.#place(entry.linkName) === path) return
    if (there !== undefined) this.#clear(parent, name, path)
    if (entry.type === 'link') return this.#link(entry, at)
    if (entry.type === 'file') {
      const fd = openSync(at, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
      try {
        for await (const chunk of reader.body()) for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done)
        this.bytes += entry.size
        this.#attributes(entry, fd, at)
      } finally {
        closeSync(fd)
      }
      this.#options.onFile?.(path, entry)
      return
    }
    if (entry.type === 'symlink') {
      symlinkSync(entry.linkName, at)
      this.#attributes(entry, undefined, at)
      return
    }
    mknod(at, entry.type === 'char' ? S_IFCHR : entry.type === 'block' ? S_IFBLK : S_IFIFO, 0o600, entry.devMajor, entry.devMinor)
    const node = openInRoot(parent, name, O_PATH | O_NOFOLLOW)
    try {
      this.#attributes(entry, node, at)
    } finally {
      closeFd(node)
    }
  }

  /** A hard link: its target is a name of the archive, so it is looked up in the root, but the link at its end is not followed. */
  #link(entry: TarEntry, at: string): void {
    const target = this.#place(entry.linkName)
    const slash = target.lastIndexOf('/')
    const parent = openInRoot(this.#root, slash < 0 ? '' : target.slice(0, slash), O_PATH | O_DIRECTORY)
    try {
      linkSync(below(parent, target.slice(slash + 1)), at)
    } finally {
      closeFd(parent)
    }
  }

  #finishDirectory(entry: TarEntry, path: string, fd: number): void {
    try {
      this.#attributes(entry, fd, `${below(fd)}/.`)
    } finally {
      closeFd(fd)
    }
    this.#directories.delete(path)
    this.#directories.set(path, entry.mtime)
  }

  /** Owner first: chown clears setuid bits and file capabilities. `fd` is the file itself, undefined for a symbolic link. */
  #attributes(entry: TarEntry, fd: number | undefined, at: string): void {
    const { uid, gid } = this.#options.owner ?? entry
    if (fd === undefined) lchownSync(at, uid, gid)
    else if (entry.type === 'file' || entry.type === 'directory') {
      fchownSync(fd, uid, gid)
      fchmodSync(fd, entry.mode)
    } else {
      lchownSync(at, uid, gid)
      chmodSync(below(fd), entry.mode)
    }
    // overlayfs's own attributes could point a layer at other directories of the host
    for (const [key, value] of entry.xattrs) {
      if (!key.startsWith('trusted.overlay.') && !key.startsWith('user.overlay.')) setXattr(at, key, value)
    }
    if (entry.type !== 'directory') lutimesSync(at, entry.mtime, entry.mtime)
  }
}

/** What a system call refused because of the archive is the archive's fault, not ours. */
function explain(error: unknown, name: string): unknown {
  const code = error instanceof NetError ? error.detail.errno : (error as NodeJS.ErrnoException).code
  if (code === undefined) return error
  const shown = name.length > 200 ? `${name.slice(0, 200)}…` : name
  const kind = HOST_ERRORS.has(code) ? 'internal' : 'invalid'
  return new NetError(kind, `Cannot extract "${shown}": ${code}`, { op: 'extract', subject: shown, errno: code }, error)
}

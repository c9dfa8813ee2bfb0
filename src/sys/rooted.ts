/**
 * File access that cannot leave a directory: every lookup is openat2(2) with RESOLVE_IN_ROOT, so the kernel itself treats the
 * directory as `/` for `..`, absolute links and links that are swapped while we look. Nothing here checks paths as text, and
 * nothing can be raced by a process that lives inside the tree.
 *
 * A path below an opened directory is then named through {@link below}: `/proc/self/fd/<n>/<name>`, which node:fs takes. Only use
 * it with calls that do not follow a link in the last component (lstat, mkdir, unlink, rename, symlink, readlink, O_NOFOLLOW).
 */
import { type Dirent, promises as fs, readdirSync, rmdirSync, unlinkSync } from 'node:fs'
import { check, close, EAGAIN, errno, errnoName, kernelError, O_CLOEXEC, raw } from './libc.ts'

const SYS_OPENAT2 = 437
const RESOLVE_NO_MAGICLINKS = 0x02
const RESOLVE_IN_ROOT = 0x10
const AT_FDCWD = -100

export const O_WRONLY = 1
export const O_CREAT = 0o100
export const O_EXCL = 0o200
export const O_NONBLOCK = 0o4000
export const O_DIRECTORY = 0o200000
export const O_NOFOLLOW = 0o400000
export const O_PATH = 0o10000000

function how(flags: number, mode: number, resolve: number): Uint8Array {
  const bytes = new Uint8Array(24) // struct open_how: include/uapi/linux/openat2.h
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, BigInt(flags), true)
  view.setBigUint64(8, BigInt(mode), true)
  view.setBigUint64(16, BigInt(resolve), true)
  return bytes
}

/** Opens a directory of the host as a root for the calls below. The caller closes it with {@link closeFd}. Throws `not-found`. */
export function openRoot(path: string): number {
  return check(Number(raw.openat2(SYS_OPENAT2, AT_FDCWD, path, how(O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0), 24)), 'open directory', path)
}

/** Like {@link openInRoot}, but answers undefined when errno is one of `quiet` (`ENOENT`). */
export function tryOpenInRoot(
  root: number,
  path: string,
  flags: number,
  quiet: readonly string[] = ['ENOENT'],
  mode = 0,
): number | undefined {
  const open = how(flags | O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
  for (let attempt = 0; ; attempt++) {
    const fd = Number(raw.openat2(SYS_OPENAT2, root, path === '' ? '.' : path, open, 24))
    if (fd >= 0) return fd
    const why = errno()
    // a rename elsewhere in the system while `..` was walked: openat2(2) says try again
    if (why === EAGAIN && attempt < 32) continue
    if (quiet.includes(errnoName(why))) return undefined
    throw kernelError('open', path, why)
  }
}

/** Opens `path` as a process that is chrooted to `root` would. Links are followed inside the root unless O_NOFOLLOW. */
export function openInRoot(root: number, path: string, flags: number, mode = 0): number {
  return tryOpenInRoot(root, path, flags, [], mode) as number
}

/** The name of an entry of an opened directory, or of the opened file itself, for node:fs. */
export function below(fd: number, name = ''): string {
  return name === '' ? `/proc/self/fd/${fd}` : `/proc/self/fd/${fd}/${name}`
}

export function closeFd(fd: number): void {
  close(fd)
}

/** Deletes an entry with everything below it, without following any link. A missing entry is fine. */
export function removeTree(directory: number, name: string): void {
  try {
    unlinkSync(below(directory, name))
    return
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') return
    if (code !== 'EISDIR' && code !== 'EPERM') throw error // unlink(2) of a directory: EISDIR on Linux, EPERM by POSIX
  }
  const fd = tryOpenInRoot(directory, name, O_DIRECTORY | O_NOFOLLOW)
  if (fd === undefined) return
  try {
    for (const entry of readdirSync(below(fd))) removeTree(fd, entry)
  } finally {
    close(fd)
  }
  rmdirSync(below(directory, name))
}

/**
 * Deletes a tree that nobody else changes, one entry after the other in the pool: slower than all at once, but the loop stays free
 * (fs.rm on 10,000 files stalls it for tens of milliseconds). Links are not followed. A missing tree is fine.
 */
export async function deleteTree(path: string): Promise<void> {
  let entries: Dirent[]
  try {
    entries = await fs.readdir(path, { withFileTypes: true })
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') return
    if (code !== 'ENOTDIR') throw error
    return fs.unlink(path)
  }
  for (const entry of entries) {
    const child = `${path}/${entry.name}`
    if (entry.isDirectory()) await deleteTree(child)
    else await fs.unlink(child)
  }
  await fs.rmdir(path)
}

/** mknod(2). `type` is one of S_IFCHR, S_IFBLK, S_IFIFO; the umask applies to `mode`. */
export function mknod(path: string, type: number, mode: number, major = 0, minor = 0): void {
  // glibc's gnu_dev_makedev
  const dev =
    (BigInt(minor) & 0xffn) | ((BigInt(major) & 0xfffn) << 8n) | ((BigInt(minor) & ~0xffn) << 12n) | ((BigInt(major) & ~0xfffn) << 32n)
  check(raw.mknod(path, type | mode, dev), 'make node', path)
}

/** Extended attributes of a file, links not followed. Empty where the file system has none. */
export function listXattrs(path: string): Map<string, Buffer> {
  const out = new Map<string, Buffer>()
  const size = Number(raw.llistxattr(path, null, 0))
  if (size <= 0) return out
  const names = Buffer.alloc(size + 256) // room for one that is added meanwhile
  const got = Number(raw.llistxattr(path, names, names.length))
  if (got <= 0) return out
  for (const name of names.toString('utf8', 0, got).split('\0')) {
    const value = name === '' ? undefined : getXattr(path, name)
    if (value !== undefined) out.set(name, value)
  }
  return out
}

export function getXattr(path: string, name: string): Buffer | undefined {
  const size = Number(raw.lgetxattr(path, name, null, 0))
  if (size < 0) return undefined
  const value = Buffer.alloc(size)
  const got = size === 0 ? 0 : Number(raw.lgetxattr(path, name, value, size))
  return got < 0 ? undefined : value.subarray(0, got)
}

/** Sets an attribute, links not followed. False when the file system or the kind of file does not take it. */
export function setXattr(path: string, name: string, value: Uint8Array): boolean {
  if (raw.lsetxattr(path, name, value, value.length, 0) === 0) return true
  const why = errno()
  if (['EOPNOTSUPP', 'ENOTSUP', 'EPERM', 'EINVAL'].includes(errnoName(why))) return false
  throw kernelError('set attribute of', path, why)
}

/**
 * Network namespaces: create, persist by bind mount, enter for a synchronous stretch, remove.
 *
 * setns(2) moves the calling thread and the children it starts; libuv's pool threads stay at home only if they
 * were started before the first setns, which is why {@link initNetns} must have run. Nothing may `await` inside.
 */
import { closeSync, promises as fs, fstatSync, mkdirSync, openSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { NetError } from '../base/errors.ts'
import { CLONE_NEWNET, check, errno, kernelError, MS_BIND, raw, unmount } from './libc.ts'

/** A namespace held open. `inode` identifies it for as long as anything holds it. */
export interface Netns {
  readonly fd: number
  readonly inode: number
  readonly path: string
}

/** What a synchronous callback may return: never a promise. */
export type Sync<T> = T extends PromiseLike<unknown> ? never : T

let home: Netns | undefined
const SELF = '/proc/thread-self/ns/net'

/** Remembers the calling thread's namespace as home and starts libuv's pool there. Idempotent. */
export async function initNetns(): Promise<Netns> {
  await Promise.all(Array.from({ length: 8 }, () => fs.stat('/')))
  return homeNetns()
}

/** The namespace that this process belongs to. */
export function homeNetns(): Netns {
  home ??= openNetns(SELF)
  return home
}

/** Opens a namespace file (bind mount or `/proc/<pid>/ns/net`). The caller closes it with {@link closeNetns}. */
export function openNetns(path: string): Netns {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (cause) {
    throw new NetError('not-found', `Cannot open network namespace "${path}": it does not exist`, { subject: path }, cause)
  }
  return { fd, inode: fstatSync(fd).ino, path }
}

/** Lets go of a namespace. It lives on as long as something else holds it. */
export function closeNetns(ns: Netns): void {
  closeSync(ns.fd)
}

/**
 * Runs `fn` on this thread inside `ns`. A socket opened in there stays in that namespace.
 * Failing to come home aborts the process: everything after it would act on somebody else's network.
 */
export function inNetns<T>(ns: Netns, fn: () => Sync<T>): Sync<T> {
  const back = homeNetns()
  check(raw.setns(ns.fd, CLONE_NEWNET), 'enter network namespace', ns.path)
  try {
    return fn()
  } finally {
    if (raw.setns(back.fd, CLONE_NEWNET) < 0) process.abort()
  }
}

/**
 * Creates a namespace and keeps it alive by a bind mount on `path` (made when missing).
 * The new namespace has only `lo`, down. Throws `conflict` when a namespace is mounted there already.
 */
export function createNetns(path: string): void {
  if (isNetnsMounted(path)) throw new NetError('conflict', `Cannot create network namespace "${path}": it exists`)
  const back = homeNetns()
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, '')
  check(raw.unshare(CLONE_NEWNET), 'create network namespace', path)
  let failure: unknown
  if (raw.mount(SELF, path, '', MS_BIND, '') < 0) failure = kernelError('mount network namespace', path, errno())
  if (raw.setns(back.fd, CLONE_NEWNET) < 0) process.abort()
  if (failure !== undefined) {
    unlinkSync(path)
    throw failure
  }
}

/** Gives a namespace that is open its file back, after somebody has taken it away. Throws what mount(2) says. */
export function remountNetns(ns: Netns): void {
  mkdirSync(dirname(ns.path), { recursive: true })
  writeFileSync(ns.path, '')
  if (raw.mount(`/proc/self/fd/${ns.fd}`, ns.path, '', MS_BIND, '') < 0) throw kernelError('mount network namespace', ns.path, errno())
}

/** Drops the bind mount and the file. The kernel ends the namespace when its last process has gone. Idempotent. */
export function removeNetns(path: string): void {
  while (unmount(path)) {
    // stacked mounts happen when a crashed run mounted twice
  }
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** True when `path` leads to a namespace (and is not merely an empty file): a mount, or a link of a process below /proc. */
export function isNetnsMounted(path: string): boolean {
  try {
    const id = statSync(path).dev
    return id === statSync(SELF).dev
  } catch {
    return false
  }
}

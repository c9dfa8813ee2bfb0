/**
 * Kernel parameters below /proc/sys. Those of the network are per namespace: /proc/sys/net shows the namespace of the
 * thread that looks, so another namespace's are read and written inside `inNetns`.
 */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { NetError } from '../base/errors.ts'
import { close, errno, errnoName, O_CLOEXEC, raw } from './libc.ts'
import { inNetns, type Netns } from './netns.ts'

const ROOT = '/proc/sys'
const O_WRONLY = 1

/** In these directories the next component is the name of a link, which may hold dots. */
const HOLDS_LINK_NAMES = /^net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\./

/**
 * Path below /proc/sys of a key in either spelling. As in sysctl(8) the first separator decides: `net/ipv4/conf/eth0.50/forwarding`,
 * or `net.ipv4.conf.eth0/50.forwarding`; dots inside a link's name are also understood (`net.ipv4.conf.eth0.50.forwarding`).
 * Throws NetError `invalid` for anything that is not a path to one parameter.
 */
export function sysctlPath(key: string): string {
  const trimmed = key.startsWith(`${ROOT}/`) ? key.slice(ROOT.length + 1) : key
  const path = /^[^/]*\./.test(trimmed) ? fromDots(trimmed) : trimmed
  const parts = path.split('/')
  if (parts.length < 2 || parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0')))
    throw new NetError('invalid', `Cannot use sysctl "${key}": expected a key such as net.ipv4.ip_forward`, { subject: key })
  return path
}

function fromDots(key: string): string {
  const prefix = HOLDS_LINK_NAMES.exec(key)?.[0]
  const swap = (text: string) => text.replace(/[./]/g, (c) => (c === '.' ? '/' : '.'))
  const last = key.lastIndexOf('.')
  if (prefix === undefined || last < prefix.length) return swap(key)
  const name = key.slice(prefix.length, last)
  return `${swap(prefix)}${name.replaceAll('/', '.')}/${key.slice(last + 1)}`
}

function inside<T>(ns: Netns | undefined, fn: () => T): T {
  if (ns === undefined) return fn()
  let out: T | undefined
  inNetns(ns, () => {
    out = fn()
  })
  return out as T
}

/** ENOENT means no such parameter (or link); EINVAL and ERANGE a value the kernel does not take. */
function sysctlError(op: string, key: string, error: unknown, value?: string): NetError {
  const errno = (error as NodeJS.ErrnoException).code ?? 'unknown'
  const detail = { op, subject: key, errno }
  if (errno === 'ENOENT') return new NetError('not-found', `Cannot ${op} "${key}": there is no such parameter`, detail, error)
  if (errno === 'EACCES' || errno === 'EPERM') return new NetError('denied', `Cannot ${op} "${key}": ${errno}`, detail, error)
  if (value === undefined) return new NetError('internal', `Cannot ${op} "${key}": ${errno}`, detail, error)
  return new NetError('invalid', `Cannot ${op} "${key}" to "${value}": ${errno}`, detail, error)
}

/** The value without its closing newline. Throws NetError `not-found` when the kernel has no such parameter. */
export function readSysctl(key: string, ns?: Netns): string {
  const path = sysctlPath(key)
  try {
    return inside(ns, () => readFileSync(`${ROOT}/${path}`, 'latin1')).replace(/\n$/, '')
  } catch (error) {
    throw error instanceof NetError ? error : sysctlError('read sysctl', key, error)
  }
}

/** Like {@link readSysctl}, but undefined when the kernel has no such parameter. */
export function tryReadSysctl(key: string, ns?: Netns): string | undefined {
  try {
    return readSysctl(key, ns)
  } catch (error) {
    if (error instanceof NetError && error.code === 'not-found') return undefined
    throw error
  }
}

/** Writes a parameter and returns what it was ('' when it cannot be read). Nothing is written when the value is there already. */
export function writeSysctl(key: string, value: string | number, ns?: Netns): string {
  const path = `${ROOT}/${sysctlPath(key)}`
  const text = String(value)
  try {
    return inside(ns, () => {
      const previous = previousValue(path)
      // 'r+': what 'w' adds, creating and truncating, has no place on a kernel file (and O_CREAT gives EACCES for a missing one)
      if (previous !== text) writeFileSync(path, text, { flag: 'r+' })
      return previous
    })
  } catch (error) {
    throw error instanceof NetError ? error : sysctlError('set sysctl', key, error, text)
  }
}

/**
 * Writes a parameter without looking first: for things that were made a moment ago, whose parameters nobody has set yet. A tenth of what
 * {@link writeSysctl} costs. Of the calling thread's namespace; throws as {@link writeSysctl} does.
 */
export function setSysctl(key: string, value: string): void {
  const fd = raw.open(`${ROOT}/${sysctlPath(key)}`, O_WRONLY | O_CLOEXEC, 0)
  if (fd < 0) throw sysctlError('set sysctl', key, { code: errnoName(errno()) }, value)
  const bytes = Buffer.from(value, 'latin1')
  const failure = raw.write(fd, bytes, bytes.length) < 0 ? errno() : 0
  close(fd)
  if (failure !== 0) throw sysctlError('set sysctl', key, { code: errnoName(failure) }, value)
}

function previousValue(path: string): string {
  try {
    return readFileSync(path, 'latin1').replace(/\n$/, '')
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code
    if (errno === 'EACCES' || errno === 'EPERM' || errno === 'EIO') return '' // write-only, or not set yet (stable_secret)
    throw error
  }
}

/**
 * A reader of one sysctl of the calling thread's namespace that is asked often: the file stays open. Undefined while there is no such
 * sysctl (its module is not loaded).
 */
export function standingSysctl(path: string): () => string | undefined {
  const buffer = Buffer.alloc(64)
  let fd = -1
  return () => {
    try {
      if (fd < 0) fd = openSync(`${ROOT}/${path}`, 'r')
      return buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, 0)).trim()
    } catch {
      if (fd >= 0) closeSync(fd)
      fd = -1
      return undefined
    }
  }
}

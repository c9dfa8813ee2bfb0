/** What can only be known when a container starts: devices of the host, users of the root file system, programs, other containers. */
import { closeSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { posix } from 'node:path'
import { NetError } from '../base/errors.ts'
import { findProgram, ownCapabilities } from '../sys/process.ts'
import { below, openRoot, tryOpenInRoot } from '../sys/rooted.ts'
import { objects, strings, text } from './fields.ts'
import { type ProcessUser, resolveUser } from './passwd.ts'
import type { ContainerRecord } from './record.ts'
import type { ExecFacts, SpecDevice } from './spec.ts'
import type { HostConfig } from './types.ts'

/** Non-blocking: an image may hold a FIFO where a file is expected. */
const O_READ = 0o4000

/** A small file of the container's root file system, read without leaving it; '' when it is missing. */
function readInRootfs(rootfs: string, path: string): string {
  const root = openRoot(rootfs)
  try {
    const fd = tryOpenInRoot(root, path, O_READ, ['ENOENT', 'ENOTDIR', 'ELOOP'])
    if (fd === undefined) return ''
    try {
      return statSync(below(fd)).isFile() ? readFileSync(below(fd), 'utf8') : ''
    } finally {
      closeSync(fd)
    }
  } finally {
    closeSync(root)
  }
}

/** `user` in the container's own passwd and group. Throws `invalid`. */
export function userIn(rootfs: string, user: string, groupAdd: readonly string[]): ProcessUser {
  return resolveUser(user, groupAdd, readInRootfs(rootfs, 'etc/passwd'), readInRootfs(rootfs, 'etc/group'))
}

/** A small init program of this host, for `--init`. */
export function findInitProgram(): string | undefined {
  return ['docker-init', 'catatonit', 'tini-static', 'tini', '/usr/libexec/podman/catatonit', 'dumb-init'].map(findProgram).find(Boolean)
}

/** The same. Throws `unavailable` when there is none. */
export function initProgram(): string {
  const found = findInitProgram()
  if (found === undefined) {
    throw new NetError(
      'unavailable',
      'Cannot use an init process: none of docker-init, catatonit, tini is installed, expected package catatonit',
    )
  }
  return found
}

/** HostConfig.Devices; with Privileged every device of the host. Throws `invalid` when a named device is missing. */
export function devicesOf(host: HostConfig): SpecDevice[] {
  const named = objects(host, 'Devices').flatMap((d) => {
    const source = text(d, 'PathOnHost')
    const target = text(d, 'PathInContainer') || source
    const access = text(d, 'CgroupPermissions') || 'rwm'
    if (!existsSync(source)) {
      throw new NetError('invalid', `error gathering device information while adding custom device "${source}": no such file or directory`)
    }
    if (statSync(source).isDirectory())
      return nodesBelow(source).map((n) => ({ ...n, path: posix.join(target, posix.relative(source, n.path)), access }))
    const node = deviceAt(source)
    if (node === undefined) {
      throw new NetError('invalid', `error gathering device information while adding custom device "${source}": not a device node`)
    }
    return [{ ...node, path: target, access }]
  })
  if (host.Privileged !== true) return named
  const given = new Set(named.map((d) => d.path))
  return [...named, ...nodesBelow('/dev').filter((d) => !given.has(d.path))]
}

function deviceAt(path: string): SpecDevice | undefined {
  const stat = statSync(path)
  if (!stat.isCharacterDevice() && !stat.isBlockDevice()) return undefined
  // makedev() of glibc: 12 bits of major, 20 of minor, interleaved
  const major = ((stat.rdev >>> 8) & 0xfff) | (Math.floor(stat.rdev / 2 ** 32) & ~0xfff)
  const minor = (stat.rdev & 0xff) | (Math.floor(stat.rdev / 2 ** 12) & 0xfff00)
  return {
    path,
    type: stat.isBlockDevice() ? 'b' : 'c',
    major,
    minor,
    fileMode: stat.mode & 0o777,
    uid: stat.uid,
    gid: stat.gid,
    access: 'rwm',
  }
}

/** Terminals, shared memory and queues are the container's own. */
const SKIPPED = new Set(['/dev/pts', '/dev/shm', '/dev/fd', '/dev/mqueue', '/dev/console', '/dev/.lxc', '/dev/.lxd-mounts', '/dev/.udev'])

function nodesBelow(dir: string): SpecDevice[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((e) => {
    const path = `${dir}/${e.name}`
    if (SKIPPED.has(path) || e.isSymbolicLink()) return []
    if (e.isDirectory()) return nodesBelow(path)
    try {
      const node = deviceAt(path)
      return node === undefined ? [] : [node]
    } catch {
      return [] // unplugged while we look
    }
  })
}

export function groupAddOf(record: ContainerRecord): readonly string[] {
  return strings(record.hostConfig, 'GroupAdd')
}

/** For another process in a running container. `user` '' = the container's own; `linkEnv`: the variables of legacy links. */
export function execFacts(record: ContainerRecord, rootfs: string, user: string, linkEnv: readonly string[]): ExecFacts {
  return {
    user: userIn(rootfs, user || record.config.User || '', groupAddOf(record)),
    hostname: record.config.Hostname || record.id.slice(0, 12),
    linkEnv,
    availableCapabilities: ownCapabilities(),
  }
}

/** Locks that the kernel takes back when their process ends, however it ends: nothing is ever stale. */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { NetError } from '../base/errors.ts'
import { check, close, errno, errnoName, raw, SOCK_CLOEXEC, SOCK_STREAM } from './libc.ts'

export interface Lock {
  release(): void
}

const LOCK_EX_NB = 2 | 4
const AF_UNIX = 1

/**
 * Locks the file at `path` (made when missing) for this process and writes its pid into it. Throws `conflict` that names the process
 * which has it.
 */
export function lockFile(path: string, what: string): Lock {
  const fd = openSync(path, 'a+', 0o600)
  if (raw.flock(fd, LOCK_EX_NB) < 0) {
    closeSync(fd)
    const pid = readFileSync(path, 'utf8').trim()
    throw new NetError('conflict', `${what} is in use by another engine${pid === '' ? '' : ` (process with PID ${pid} is still running)`}`)
  }
  ftruncateSync(fd)
  writeSync(fd, `${process.pid}\n`)
  return { release: () => closeSync(fd) }
}

/**
 * Takes a name that exists once in each network namespace: an address of the abstract kind, see unix(7). Throws `conflict` when another
 * process has it.
 */
export function lockInNetns(name: string, otherwise: string): Lock {
  const text = new TextEncoder().encode(name)
  const address = new Uint8Array(3 + text.length)
  new DataView(address.buffer).setUint16(0, AF_UNIX, true)
  address.set(text, 3)
  const fd = check(raw.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 'open socket for', name)
  if (raw.bind(fd, address, address.length) >= 0) return { release: () => close(fd) }
  const why = errnoName(errno())
  close(fd)
  throw new NetError('conflict', why === 'EADDRINUSE' ? otherwise : `Cannot take the name "${name}": ${why}`)
}

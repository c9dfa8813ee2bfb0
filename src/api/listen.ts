/** The doors of the API: a unix socket of a group, TCP, TLS. */
import { chmodSync, chownSync, readFileSync, statSync, unlinkSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { NetError } from '../base/errors.ts'

export interface UnixOptions {
  /** Permission bits, default 0o660. */
  readonly mode?: number
  /** Name or number of the owning group. */
  readonly group?: string | number
}

export interface TlsOptions {
  /** PEM texts. */
  readonly cert: string | Buffer
  readonly key: string | Buffer
  readonly ca?: string | Buffer
  /** Clients must show a certificate signed by `ca`. */
  readonly verify: boolean
}

/**
 * Listens on a unix socket that is never, not even for a moment, open to others than its mode allows. A socket file that
 * nobody answers on is replaced. Throws `conflict` when somebody does, `not-found` for an unknown group.
 */
export async function listenUnix(server: Server, path: string, options: UnixOptions): Promise<void> {
  const gid = options.group === undefined ? undefined : groupId(options.group)
  await removeStaleSocket(path)
  // Node binds a pipe before listen() returns, so the mask is changed for this one call only.
  const mask = process.umask(0o177)
  try {
    const listening = started(server)
    server.listen({ path })
    process.umask(mask)
    await listening
  } finally {
    process.umask(mask)
  }
  if (gid !== undefined) chownSync(path, -1 as number, gid)
  chmodSync(path, options.mode ?? 0o660)
}

/** Listens on TCP; port 0 chooses one. Returns the port. */
export async function listenTcp(server: Server, host: string, port: number): Promise<number> {
  const listening = started(server)
  server.listen({ host, port })
  await listening
  return (server.address() as AddressInfo).port
}

function started(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('listening', () => {
      server.removeListener('error', reject)
      resolve()
    })
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new NetError('unavailable', `Cannot listen: ${error.message}`, error.code === undefined ? {} : { errno: error.code }, error))
    })
  })
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) throw new NetError('conflict', `Cannot listen on "${path}": it exists and is not a socket`)
  if (await answers(path)) throw new NetError('conflict', `Cannot listen on "${path}": another process answers there`)
  unlinkSync(path)
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
}

/** Looks a group up in the group file, as the C library would without NSS. */
function groupId(group: string | number): number {
  if (typeof group === 'number') return group
  if (/^\d+$/.test(group)) return Number(group)
  for (const line of readFileSync('/etc/group', 'utf8').split('\n')) {
    const [name, , gid] = line.split(':')
    if (name === group && gid !== undefined) return Number(gid)
  }
  throw new NetError('not-found', `group ${group} not found`)
}

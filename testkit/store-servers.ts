/** What the servers of a shared store have in common, whichever store it is: places, certificates, lives. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Certs, makeCerts } from './certs.ts'
import type { ServerProcess } from './server-process.ts'
import { until } from './until.ts'

export interface StoreServersOptions {
  readonly members?: 1 | 3
  /** Where each member lives, instead of addresses in 127/8 of the caller's namespace. `netns`: namespace file. */
  readonly places?: readonly StorePlace[]
  /** `server`: clients check the server. `mutual`: the server checks clients too. */
  readonly tls?: 'server' | 'mutual'
}

export interface StorePlace {
  readonly ip: string
  readonly netns?: string
}

export interface StoreMember extends ServerProcess {
  readonly name: string
  readonly ip: string
  /** `ip:port` of clients. */
  readonly endpoint: string
}

export interface StoreServers {
  readonly members: readonly StoreMember[]
  readonly certs: Certs | undefined
  /** What `--cluster-store` gets. */
  storeUrl(path?: string): string
  /** What `--cluster-store-opt` gets for this TLS and this user. */
  readonly storeOpts: Readonly<Record<string, string>>
  /** Starts what does not run and waits until the cluster answers. */
  start(): Promise<void>
  /** Ends all members; their data stays. */
  stop(): Promise<void>
  /** Waits until a quorum answers. */
  ready(): Promise<void>
  /** Writes a snapshot of the data to a file. */
  save(file: string): Promise<void>
  /** Gives the servers the snapshot's data. */
  restore(file: string): Promise<void>
  /** Ends all members, throws their data away, starts them empty. */
  wipe(): Promise<void>
  close(): Promise<void>
}

/** A folder, addresses and certificates for new servers. */
export interface StoreGround {
  readonly dir: string
  readonly places: readonly StorePlace[]
  readonly certs: Certs | undefined
  /** The part of `storeOpts` that TLS needs. */
  readonly tlsOpts: Readonly<Record<string, string>>
}

/** Prepares what `startEtcd` and `startConsul` start their members on. `kind` names the folder. */
export function storeGround(kind: string, options: StoreServersOptions): StoreGround {
  const dir = serverDir(kind)
  const net = loopbackNet()
  const places = options.places ?? Array.from({ length: options.members ?? 1 }, (_, i) => ({ ip: net(i + 1) }))
  if (options.tls === undefined) return { dir, places, certs: undefined, tlsOpts: {} }
  const ips = places.map((place) => place.ip)
  const certs = makeCerts(join(dir, 'tls'), ips)
  const client = options.tls === 'mutual' ? { 'kv.certfile': certs.clientCert, 'kv.keyfile': certs.clientKey } : {}
  return { dir, places, certs, tlsOpts: { 'kv.cacertfile': certs.ca, ...client } }
}

/** How members are started together, waited for and thrown away. `answers`: whether a quorum does, now. */
export function storeLives(
  scheme: 'etcd' | 'consul',
  { dir, certs }: StoreGround,
  members: readonly StoreMember[],
  answers: () => Promise<boolean>,
): Pick<StoreServers, 'members' | 'certs' | 'storeUrl' | 'start' | 'ready' | 'close'> {
  const ready = async () => {
    await until(`${scheme} answers`, answers, { ms: 30_000, log: () => members.map((member) => member.log()).join('\n') })
  }
  return {
    members,
    certs,
    storeUrl: (path = '') => `${scheme}://${members.map((member) => member.endpoint).join(',')}${path}`,
    ready,
    async start() {
      for (const member of members) member.start()
      await ready()
    },
    async close() {
      await Promise.all(members.map((member) => member.kill9()))
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** An address in 127/8 that no other test has, for servers with fixed ports: `127.<x>.<y>.<host>`. */
function loopbackNet(): (host: number) => string {
  const [x, y] = [1 + Math.floor(Math.random() * 254), 1 + Math.floor(Math.random() * 254)]
  return (host) => `127.${x}.${y}.${host}`
}

/**
 * A folder for the data of servers, in memory where that is possible: stores wait for the disk at every write, and a test should not depend
 * on how busy that is. Takes away what tests that were killed left behind.
 */
function serverDir(kind: string): string {
  const base = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  for (const name of readdirSync(base)) {
    const pid = new RegExp(`^causeway-${kind}-(\\d+)-`).exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(base, name), { recursive: true, force: true })
  }
  return mkdtempSync(join(base, `causeway-${kind}-${process.pid}-`))
}

/** What everything else stands on: locks, the store, the doors to the kernel, the threads for packets and names. Opened first, closed last. */
import { mkdirSync } from 'node:fs'
import { systemClock } from '../base/clock.ts'
import { hex } from '../base/ids.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import { systemRng } from '../base/rng.ts'
import { Runtimes } from '../containers/runtimes.ts'
import { DnsService } from '../dns/service.ts'
import { Conntrack } from '../kernel/conntrack.ts'
import { Nft } from '../kernel/nft.ts'
import { openRtnl } from '../kernel/rtnl.ts'
import type { Rtnl } from '../kernel/types.ts'
import { openLmdbStore } from '../store/lmdb-store.ts'
import type { Store } from '../store/types.ts'
import { keepFromChildren } from '../sys/descriptors.ts'
import { type Lock, lockFile, lockInNetns } from '../sys/locks.ts'
import { initNetns } from '../sys/netns.ts'
import { bootId } from '../sys/pidfile.ts'
import { run } from '../sys/process.ts'
import { Reactor } from '../sys/reactor.ts'
import type { DaemonConfig } from './config.ts'
import { type CrashPoint, crashPoint } from './crash-point.ts'

export interface Foundation {
  readonly config: DaemonConfig
  readonly log: Logger
  readonly clock: Clock
  readonly rng: Rng
  readonly store: Store
  readonly reactor: Reactor
  readonly dns: DnsService
  readonly rtnl: Rtnl
  readonly nft: Nft
  readonly conntrack: Conntrack
  readonly runtimes: Runtimes
  /** Of the OCI runtime that containers get; '' when it does not say. */
  readonly runtimeVersion: string
  /** 32 hex digits, made at the first start in this data folder. */
  readonly hostId: string
  /** Folder of the sandboxes' namespaces. */
  readonly netnsDir: string
  readonly crashing: CrashPoint
}

/** Takes back one part of a start, in reverse order: when the engine ends, and when it fails to start. */
export type Closers = (() => unknown)[]

/** Throws `conflict` when another engine has the folders or this network namespace. */
export async function openFoundation(config: DaemonConfig, log: Logger, closers: Closers): Promise<Foundation> {
  await initNetns()
  mkdirSync(config.dataRoot, { recursive: true, mode: 0o711 })
  takeLocks(config, closers)
  const netnsDir = `${config.execRoot}/netns`
  mkdirSync(netnsDir, { recursive: true, mode: 0o755 })
  const clock = systemClock
  const rng = systemRng
  const crashing = crashPoint(process.env['CAUSEWAY_CRASH_AT'])
  const opened = openLmdbStore({ dir: `${config.dataRoot}/store`, bootId: bootId(), clock, logger: log })
  closers.push(() => opened.close())
  const store = crashing(opened, ['put', 'remove', 'transaction'])
  keepFromChildren() // lmdb opens its file a second time without close-on-exec
  const runtimes = new Runtimes({ run: config.execRoot, configured: config.runtimes, fallback: config.runtime })
  const [reactor, dns, runtimeVersion] = await Promise.all([
    Reactor.start({ logger: log }),
    DnsService.start({ logger: log }),
    versionOf(runtimes.default.path ?? ''),
  ])
  const rtnl = crashing(openRtnl(), ['apply'])
  const nft = crashing(Nft.open(), ['change', 'ensureTables', 'removeAll'])
  const conntrack = Conntrack.open()
  closers.push(async () => {
    await dns.close()
    await reactor.close()
    nft.close()
    conntrack.close()
    rtnl.close()
  })
  const hostId = hostIdIn(store, rng)
  return { config, log, clock, rng, store, reactor, dns, rtnl, nft, conntrack, runtimes, runtimeVersion, hostId, netnsDir, crashing }
}

/** One engine for each folder, and one for each network namespace, whose firewall table and bridges it owns. */
function takeLocks(config: DaemonConfig, closers: Closers): void {
  const locks: Lock[] = []
  closers.push(() => locks.forEach((lock) => void lock.release()))
  mkdirSync(config.execRoot, { recursive: true, mode: 0o755 })
  for (const root of new Set([config.dataRoot, config.execRoot])) locks.push(lockFile(`${root}/lock`, root))
  locks.push(
    lockInNetns('causeway-engine', 'another engine is running in this network namespace: there can be one, it owns the firewall table'),
  )
}

function hostIdIn(store: Store, rng: Rng): string {
  const known = store.get<string>('host')
  if (known !== undefined) return known
  const hostId = hex(rng.bytes(16))
  store.put('host', hostId)
  return hostId
}

/** First line's version of an OCI runtime, '' when it does not say. */
async function versionOf(runtime: string): Promise<string> {
  try {
    return /version (\S+)/.exec((await run([runtime, '--version'])).stdout)?.[1] ?? ''
  } catch {
    return '' // missing: the container service says so
  }
}

/**
 * Several hosts with an engine each, joined by a cluster store, in namespaces of this machine. Call `isolate()` first.
 *
 *   const lab = await startLab({ hosts: 2 })
 *   await lab.engines[0].causeway('network', 'create', '-d', 'overlay', 'net1')
 *   await lab.close()
 */
import { readFileSync } from 'node:fs'
import { type EngineLab, startEngineLab } from './engine-lab.ts'
import { type EtcdLab, startEtcd } from './etcd.ts'
import { buildLabNet, type LabHost, type LabNet, type LabNetOptions } from './lab-net.ts'

export const CLUSTER_PORT = 2377

export interface LabPlace {
  readonly ip: string
  readonly netns: string
}

/** What both kinds of stores have. */
export interface LabStore {
  storeUrl(path?: string): string
  readonly storeOpts: Readonly<Record<string, string>>
  close(): Promise<void>
}

export interface LabOptions extends LabNetOptions {
  /** Members of the store, on the first hosts. */
  readonly etcdMembers?: 1 | 3
  /** Another store than a plain etcd, started on hosts of the network; its members are the caller's. `lab.etcd` does not exist then. */
  readonly store?: (places: readonly LabPlace[]) => Promise<LabStore>
  /** Hosts advertise their IPv6 addresses: tunnels and probes go by IPv6. */
  readonly ipv6Underlay?: boolean
  /** More flags of every engine. */
  readonly flags?: readonly string[]
}

export interface Lab {
  readonly net: LabNet
  readonly etcd: EtcdLab
  readonly engines: readonly (EngineLab & { readonly host: LabHost })[]
  /** Ends everything. Returns what the engines left behind, which should be nothing. */
  close(): Promise<string[]>
}

export async function startLab(options: LabOptions = {}): Promise<Lab> {
  const net = buildLabNet(options)
  const closers: (() => Promise<unknown>)[] = [async () => net.close()]
  try {
    const places = net.hosts.slice(0, options.etcdMembers ?? 1).map(({ ip, netns }): LabPlace => ({ ip, netns }))
    const started = options.store?.(places) ?? startEtcd({ places, ...(options.etcdMembers === 3 ? { members: 3 as const } : {}) })
    const store = await started
    closers.push(() => store.close())
    const storeFlags = Object.entries(store.storeOpts).flatMap(([key, value]) => ['--cluster-store-opt', `${key}=${value}`])
    const engines = await Promise.all(
      net.hosts.map(async (host) => {
        const advertise = options.ipv6Underlay ? `[${host.ip6}]` : 'eth0'
        const flags = ['--cluster-store', store.storeUrl('/network'), '--cluster-advertise', `${advertise}:${CLUSTER_PORT}`, ...storeFlags]
        const engine = await startEngineLab([...flags, ...(options.flags ?? [])], { enter: host.enter })
        closers.push(() => engine.close())
        // the default paths, as people type them
        await host.sh(`ln -s ${engine.dir}/run /run/causeway; ln -s ${engine.socket} ${engine.dir}/run/causeway.sock`)
        return { ...engine, host }
      }),
    )
    return {
      net,
      etcd: store as EtcdLab,
      engines,
      async close() {
        const left = await Promise.all(engines.map((engine) => engine.close()))
        await store.close()
        net.close()
        return left.flat()
      },
    }
  } catch (error) {
    for (const close of closers.reverse()) await close().catch(() => {})
    throw error
  }
}

const LIMITS = [
  ['gc_thresh3', 65536],
  ['gc_thresh2', 49152],
  ['gc_thresh1', 8192],
] as const

/**
 * Raises the kernel's limits on neighbour entries, which are one for all namespaces and can be changed in the first one only: call it before
 * `isolate()`. Engines of real hosts do this themselves. Returns the words that put them back (for sysctl -w), '' when nothing was changed.
 */
export function neighbourLimits(): { readonly raise: string[]; readonly restore: string[] } {
  const raise: string[] = []
  const restore: string[] = []
  for (const family of ['ipv4', 'ipv6'])
    for (const [name, value] of LIMITS) {
      const path = `/proc/sys/net/${family}/neigh/default/${name}`
      try {
        const now = Number(readFileSync(path, 'utf8'))
        if (now >= value) continue
        raise.push(`net.${family}.neigh.default.${name}=${value}`)
        restore.unshift(`net.${family}.neigh.default.${name}=${now}`)
      } catch {
        // not in the first namespace: nothing can be done
      }
    }
  return { raise, restore }
}

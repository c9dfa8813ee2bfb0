/** Members of a cluster for the tests of the model: whole services with engines' stores of their own, no kernel. */
import type { Ip } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import { newId } from '../../src/base/ids.ts'
import type { Clock, Logger } from '../../src/base/ports.ts'
import { systemRng } from '../../src/base/rng.ts'
import type { Conflict } from '../../src/cluster/endpoint-claims.ts'
import type { ReadKernelEntries } from '../../src/cluster/model.ts'
import type { RemoteEvent } from '../../src/cluster/remote-names.ts'
import { type ClusterOptions, ClusterService } from '../../src/cluster/service.ts'
import type { ClusterStore } from '../../src/cluster/store/types.ts'
import type { EndpointAsk, EndpointFinal } from '../../src/drivers/authority.ts'
import type { NetworkDraft } from '../../src/drivers/types.ts'
import type { EndpointSettings } from '../../src/model/endpoint.ts'
import type { IpamPoolRequest, Network } from '../../src/model/network.ts'
import { memoryStore } from '../../src/store/memory-store.ts'
import type { Store } from '../../src/store/types.ts'

export interface Member {
  readonly name: string
  readonly id: string
  readonly service: ClusterService
  readonly store: ClusterStore
  readonly cache: Store
  /** What its engine was told. */
  readonly known: Map<string, Network>
  /** `network/endpoint` -> names, as its resolvers have them. */
  readonly names: Map<string, readonly string[]>
  readonly events: RemoteEvent[]
  readonly conflicts: Conflict[]
  readonly warnings: string[]
  /** Endpoints that live here, as the engine's records have them. */
  readonly live: Map<string, { network: Network; endpoint: EndpointFinal }>
  create(name: string, requests?: readonly IpamPoolRequest[], options?: Partial<NetworkDraft>): Promise<Network>
  remove(network: Network): Promise<void>
  /** Grant, create and activate, as a container start does. */
  start(network: Network, containerName: string, settings?: EndpointSettings, aliases?: readonly string[]): Promise<EndpointFinal>
  stop(endpoint: EndpointFinal): Promise<void>
  /** Ends the service as a crash does: the lease runs on, nothing is given back. */
  crash(): Promise<void>
  close(): Promise<void>
}

export interface MemberOptions {
  readonly name: string
  readonly id?: string
  readonly address?: Ip
  readonly store: ClusterStore
  readonly cache?: Store
  readonly clock?: Clock
  readonly leaseSeconds?: number
  readonly live?: Map<string, { network: Network; endpoint: EndpointFinal }>
  readonly known?: Map<string, Network>
  readonly readKernel?: ReadKernelEntries
  readonly repairKernel?: (networkId: string) => void
  readonly surveyPaths?: ClusterOptions['surveyPaths']
}

let lastHost = 0

/** A member with its engine's part faked: records and names are kept, nothing is made in the kernel. */
export function startMember(options: MemberOptions): Member {
  const clock = options.clock ?? systemClock
  const { name, store } = options
  const number = ++lastHost
  const cache = options.cache ?? memoryStore()
  const id = options.id ?? newId(systemRng).slice(0, 32)
  const known = options.known ?? new Map<string, Network>()
  const names = new Map<string, readonly string[]>()
  const events: RemoteEvent[] = []
  const conflicts: Conflict[] = []
  const warnings: string[] = []
  const live = options.live ?? new Map()
  const log: Logger = {
    debug() {},
    info() {},
    warn: (message, fields) => void warnings.push(`${message} ${JSON.stringify(fields ?? {})}`),
    error: (message, fields) => void warnings.push(`${message} ${JSON.stringify(fields ?? {})}`),
  }
  const service = new ClusterService({
    store,
    cache,
    clock,
    rng: systemRng,
    log,
    hostId: id,
    hostName: name,
    version: '0.1.0',
    advertise: { address: options.address ?? (`10.99.${number >> 8}.${number & 255}` as Ip), port: 2377 },
    ...(options.leaseSeconds === undefined ? {} : { leaseSeconds: options.leaseSeconds }),
    ...(options.readKernel === undefined ? {} : { readKernel: options.readKernel }),
    ...(options.repairKernel === undefined ? {} : { repairKernel: options.repairKernel }),
    ...(options.surveyPaths === undefined ? {} : { surveyPaths: options.surveyPaths }),
    routes: () => [],
    names: {
      setEndpoint: (networkId, record) => void names.set(`${networkId}/${record.endpointId}`, record.names),
      removeEndpoint: (networkId, endpointId) => void names.delete(`${networkId}/${endpointId}`),
    },
    onEvent: (event) => void events.push(event),
    onConflict: async (conflict) => `conflict ${conflicts.push(conflict)}`,
  })
  service.start()
  const { authority } = service
  const begun = (live.size > 0 ? authority.restore([...known.values()], [...live.values()]) : Promise.resolve()).then(() =>
    service.begin({
      networks: () => [...known.values()],
      adopt: (network) => void known.set(network.id, network),
      abandon: (networkId) => void known.delete(networkId),
    }),
  )
  void begun
  return {
    name,
    id,
    service,
    store,
    cache,
    known,
    names,
    events,
    conflicts,
    warnings,
    live,
    async create(networkName, requests = [], draft = {}) {
      await service.membership.join()
      const networkId = newId(systemRng)
      const whole: NetworkDraft = {
        id: networkId,
        name: networkName,
        enableIpv4: true,
        enableIpv6: false,
        internal: false,
        options: {},
        subnets: requests as NetworkDraft['subnets'],
        ...draft,
      }
      const grant = await authority.grantNetwork(whole, requests)
      const network: Network = {
        id: networkId,
        name: networkName,
        created: new Date(clock.now()).toISOString(),
        driver: 'overlay',
        scope: 'global',
        enableIpv4: whole.enableIpv4,
        enableIpv6: whole.enableIpv6,
        internal: whole.internal,
        attachable: false,
        ingress: false,
        configOnly: false,
        configFrom: '',
        ipamDriver: 'default',
        ipamOptions: null,
        pools: grant.pools ?? [],
        options: whole.options,
        labels: {},
        predefined: false,
        ...(grant.data === undefined ? {} : { data: grant.data }),
      }
      await authority.createNetwork(network)
      known.set(networkId, network)
      return network
    },
    async remove(network) {
      await authority.removeNetwork(network, false)
      known.delete(network.id)
    },
    async start(network, containerName, settings = {}, aliases = []) {
      await service.membership.join()
      const ask: EndpointAsk = {
        endpointId: newId(systemRng),
        containerId: newId(systemRng),
        containerName,
        hostname: containerName,
        sandboxId: newId(systemRng),
        sandboxKey: '',
        settings,
        dnsNames: [containerName, ...aliases],
        ports: [],
        exposed: [],
      }
      const { ipv4 = '', ipv6 = '', mac = '', data = {} } = await authority.grantEndpoint(network, ask)
      const endpoint: EndpointFinal = { ...ask, ipv4, ipv6, mac, data }
      live.set(ask.endpointId, { network, endpoint })
      await authority.activateEndpoint(network, endpoint)
      return endpoint
    },
    async stop(endpoint) {
      const entry = live.get(endpoint.endpointId)
      live.delete(endpoint.endpointId)
      if (entry) await authority.removeEndpoint(entry.network, endpoint.endpointId)
    },
    async crash() {
      await store.close() // nothing more reaches the store
      await service.close()
    },
    async close() {
      await service.close()
      await store.close()
    },
  }
}

/** Waits until `holds`, failing with `what` after `ms`. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, ms = 8000): Promise<void> {
  const end = Date.now() + ms
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Runs all at once; what was won and what was refused. */
export async function race<T>(tries: readonly (() => Promise<T>)[]): Promise<{ won: T[]; lost: Error[] }> {
  const results = await Promise.allSettled(tries.map((run) => run()))
  return {
    won: results.flatMap((r) => (r.status === 'fulfilled' ? [r.value] : [])),
    lost: results.flatMap((r) => (r.status === 'rejected' ? [r.reason as Error] : [])),
  }
}

/** Runs `round` for 0 to `count` - 1, `width` at a time. */
export async function inTurns(count: number, width: number, round: (n: number) => Promise<void>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < count) await round(next++)
  }
  await Promise.all(Array.from({ length: width }, lane))
}

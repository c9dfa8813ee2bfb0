/**
 * The cluster on this host, wired: membership, the picture of the shared store, the authority for overlay networks, and what the rest of
 * the engine is told. Starts whether the store answers or not.
 *
 *   const cluster = startCluster({ store, cache, hostId, ... })
 *   controller = new Controller({ findAuthority: (driver) => (driver === 'overlay' ? cluster.authority : undefined), ... })
 *   await controller.restore(live); cluster.begin({ networks: controller.listNetworks(), adopt, abandon })
 */
import type { Cidr } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { hex } from '../base/ids.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import type { Network } from '../model/network.ts'
import type { Store } from '../store/types.ts'
import { ClusterAuthority } from './authority.ts'
import { Claims } from './claims.ts'
import { Conflicts, type SettledConflict } from './conflicts.ts'
import { type Conflict, EndpointClaims } from './endpoint-claims.ts'
import { type Evicted, evictHost } from './evict.ts'
import { fetchEndpoints, type HostDetail, inspectHost } from './host-detail.ts'
import { KernelPublisher } from './kernel-publisher.ts'
import { CACHE_KEY } from './keys.ts'
import { type Advertise, Membership } from './membership.ts'
import { Mirror } from './mirror.ts'
import type { ClusterEndpoint, ClusterHost, ClusterView, ReadKernelEntries } from './model.ts'
import { NetworkClaims } from './network-claims.ts'
import type { PathReport } from './paths/paths.ts'
import { PathVerifier } from './paths/verify.ts'
import type { LocalSpace } from './pools/local-subnets.ts'
import { PoolStore } from './pools/pool-store.ts'
import { SharedPools } from './pools/shared-pools.ts'
import { type NamePort, type RemoteEvent, RemoteNames } from './remote-names.ts'
import { Settler } from './settler.ts'
import type { ClusterStore, StoreCounters, StoreStatus } from './store/types.ts'
import { type Verdict, Verifier } from './verify.ts'

/** Seconds after which a host that is not heard of is down. */
const LEASE_SECONDS = 60
const VERIFY_MS = 5_000

export interface ClusterOptions {
  readonly store: ClusterStore
  /** The engine's own store: the last known state. */
  readonly cache: Store
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** 32 or 64 hex digits, the same for ever. */
  readonly hostId: string
  readonly hostName: string
  readonly version: string
  readonly advertise: Advertise
  readonly leaseSeconds?: number
  /** See {@link ClusterHost.mtu}; 0 when absent. Call {@link ClusterService.hostChanged} when it changes. */
  readonly mtu?: () => number
  /** Looks at the paths to all members that are up; undefined when it cannot. */
  readonly surveyPaths?: (survey: number) => Promise<PathReport | undefined>
  /** Subnets that this host routes to. */
  readonly routes: () => readonly Cidr[]
  /** The engine's address space: subnets of shared pools that are used here are held in it. */
  readonly space?: LocalSpace
  /** Subnets that the host itself uses: never chosen for a shared pool. */
  readonly inUse?: () => readonly Cidr[]
  readonly names: NamePort
  readonly onEvent: (event: RemoteEvent) => void
  /**
   * A container of this host lost its name or address to another one while this host was evicted. It must leave that place; what becomes of
   * it is shown in `cluster ls`.
   */
  readonly onConflict?: (conflict: Conflict) => Promise<string>
  /** What the kernel holds; what it should hold when absent. May be set later, before anybody verifies. */
  readonly readKernel?: ReadKernelEntries
  /** Brings what the kernel holds of a network in line with the view, soon. */
  readonly repairKernel?: (networkId: string) => void
}

/** The engine's side, known once its controller has taken up what it had. */
export interface EngineHooks {
  /** Overlay networks that the engine has. */
  networks(): readonly Network[]
  /** Idempotent. */
  adopt(network: Network): void
  abandon(networkId: string): void
}

export interface ClusterSummary {
  readonly store: StoreStatus
  readonly self: string
  /** This host holds its lease. */
  readonly joined: boolean
  /** Why it does not, as far as that is known. */
  readonly problem: string
  /** Why networks of the cluster may be unknown here; '' when all are known. */
  readonly gap: string
  readonly hosts: readonly ClusterHost[]
  readonly networks: readonly {
    readonly id: string
    readonly name: string
    readonly subnets: readonly { readonly subnet: string; readonly vni: number }[]
  }[]
  readonly conflicts: readonly SettledConflict[]
  readonly operations: StoreCounters
}

export class ClusterService {
  readonly authority: ClusterAuthority
  /** Of the IPAM driver `causeway`. */
  readonly pools: SharedPools
  readonly view: ClusterView
  readonly membership: Membership
  readonly #o: ClusterOptions
  readonly #mirror: Mirror
  readonly #claims: Claims
  readonly #settler: Settler
  readonly #networks: NetworkClaims
  readonly #publisher: KernelPublisher
  readonly #verifier: Verifier
  readonly #conflicts: Conflicts
  #hooks: EngineHooks | undefined

  constructor(options: ClusterOptions) {
    const { store, cache, clock, rng, log, hostId, advertise } = options
    this.#o = options
    this.#claims = new Claims(cache)
    this.#conflicts = new Conflicts(log, options.onConflict)
    this.#mirror = new Mirror({
      store,
      cache,
      clock,
      log,
      hostId,
      isEndpointHeld: (id) => this.#claims.isHeld(id),
      isNetworkHeld: (id) => this.#claims.holdsOn(id),
      onDisagreement: () => this.#settle(),
      onLostNetworks: () => this.#settle(),
      onVerification: (question) => void this.#verifier.answer(question),
    })
    this.view = this.#mirror
    const mirror = this.#mirror
    this.membership = new Membership({
      store,
      hosts: mirror.hostTable,
      clock,
      rng,
      log,
      hostId,
      hostName: options.hostName,
      advertise,
      version: options.version,
      instance: hex(rng.bytes(8)),
      leaseSeconds: options.leaseSeconds ?? LEASE_SECONDS,
      mtu: options.mtu ?? (() => 0),
      routes: options.routes,
      onJoined: () => {
        this.#publisher.joined()
        if (this.#hooks === undefined) return
        this.#settler.joined()
        this.pools.joined()
      },
    })
    const { membership } = this
    this.pools = new SharedPools({
      records: new PoolStore(store, mirror.bad),
      ...{ cache, mirror, membership, clock, rng, log },
      space: options.space ?? NO_SPACE,
      inUse: options.inUse ?? (() => []),
      onConflict: (conflict) => this.#conflicts.note(conflict),
    })
    this.#networks = new NetworkClaims({ store, mirror, membership, clock, rng, log })
    const networks = this.#networks
    const endpoints = new EndpointClaims({
      store,
      mirror,
      claims: this.#claims,
      membership,
      clock,
      rng,
      address: advertise.address,
      usable: (id, name) => networks.usable(id, name),
    })
    this.#settler = new Settler({
      store,
      mirror,
      claims: this.#claims,
      membership,
      endpoints,
      networks,
      clock,
      rng,
      log,
      onConflict: (conflict) => this.#conflicts.note(conflict),
    })
    const { surveyPaths } = options
    const survey = surveyPaths === undefined ? undefined : new PathVerifier({ store, mirror, membership, clock, log, survey: surveyPaths })
    const { repairKernel } = options
    this.#publisher = new KernelPublisher({
      store,
      mirror,
      membership,
      clock,
      rng,
      log,
      readKernel: (id) => this.#readKernel(id),
      ...(repairKernel === undefined ? {} : { repair: repairKernel }),
    })
    this.#verifier = new Verifier({
      store,
      mirror,
      membership,
      clock,
      rng,
      log,
      publisher: this.#publisher,
      ...(survey === undefined ? {} : { paths: survey }),
    })
    this.authority = new ClusterAuthority({
      hostName: options.hostName,
      clock,
      mirror,
      claims: this.#claims,
      membership,
      networks,
      endpoints,
      settler: this.#settler,
      fetch: (networkId) => this.fetchEndpoints(networkId),
    })
    const names = new RemoteNames(mirror, options.names, options.onEvent)
    mirror.onChange((change) => {
      names.follow(change)
      if (change.kind === 'network') this.#networkChanged(change.networkId)
      if (change.kind === 'endpoint' || change.kind === 'endpoints') this.#publisher.changed(change.networkId)
      if (change.kind === 'host' && change.hostId === hostId) {
        membership.noteLease(mirror.hostTable.leaseOf(hostId))
        membership.recordChanged()
      }
    })
  }

  /** Begins to watch and to join. Does not wait for the store. */
  start(): void {
    this.#mirror.start()
    void this.membership.join()
  }

  /** The engine has taken up what lives here (`authority.restore` was called if it had anything): from now on it is told, and the store settled. */
  begin(hooks: EngineHooks): void {
    this.#hooks = hooks
    const used = new Set(this.#mirror.used())
    if (used.size === 0) void this.authority.restore([], [])
    for (const [key] of this.#o.cache.list<string>(CACHE_KEY.allEndpoints)) {
      const networkId = key.slice(CACHE_KEY.allEndpoints.length).split('/')[0] ?? ''
      if (!used.has(networkId)) this.#o.cache.remove(key)
    }
    for (const { id } of hooks.networks()) if (this.#mirror.networkTable.isSynced) this.#networkChanged(id)
    for (const { id } of this.#mirror.networks()) this.#networkChanged(id)
    this.#settler.joined()
    this.pools.joined()
  }

  /** Resolves when the cluster's networks are known, or the store is seen to be away; after a few seconds in any case. Never rejects. */
  async firstLook(): Promise<void> {
    const { store, clock } = this.#o
    const { networkTable } = this.#mirror
    if (store.status().state === 'down') return
    let off = () => {}
    const isAway = new Promise<void>((resolve) => {
      off = store.onStatus(({ state }) => {
        if (state === 'down') resolve()
      })
    })
    await Promise.race([isAway, networkTable.arrived.until(() => networkTable.isSynced, clock.after, FIRST_LOOK_MS)])
    off()
  }

  /** Why networks of the cluster may be unknown here, as a sentence; undefined when all are known. */
  whyUnknown(): string | undefined {
    const { state, url, error } = this.#o.store.status()
    if (state === 'up' && this.#mirror.networkTable.isSynced) return undefined
    return state === 'down' && error !== '' ? error : `The cluster store ${url} has not answered yet`
  }

  /** What is said of this host (its MTU) has changed. */
  hostChanged(): void {
    void this.membership.update()
  }

  /** Entries of a network that somebody had changed were put right. */
  kernelRepaired(networkId: string): void {
    this.#publisher.repaired(networkId)
  }

  summary(): ClusterSummary {
    return {
      store: this.#o.store.status(),
      self: this.#o.hostId,
      joined: this.membership.isJoined,
      problem: this.membership.problem,
      gap: this.whyUnknown() ?? '',
      hosts: this.#mirror.hosts().toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      networks: this.#mirror
        .networks()
        .map(({ id, name, subnets }) => ({ id, name, subnets: subnets.map(({ subnet, vni }) => ({ subnet, vni })) }))
        .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      conflicts: this.#conflicts.list(),
      operations: this.#o.store.counters(),
    }
  }

  /** A host and what it owns, by id, name or id prefix. Throws `not-found`, `unavailable`. */
  inspectHost(ref: string): Promise<HostDetail> {
    return inspectHost({ store: this.#o.store, mirror: this.#mirror, pools: this.pools }, ref)
  }

  /** See {@link fetchEndpoints}. */
  fetchEndpoints(networkId: string): Promise<readonly ClusterEndpoint[]> {
    return fetchEndpoints(this.#o.store, this.#mirror, networkId)
  }

  /** Frees what a host has; see `evict.ts`. */
  evict(ref: string, force = false): Promise<Evicted> {
    const { store, clock, log } = this.#o
    return evictHost({ store, mirror: this.#mirror, networks: this.#networks, pools: this.pools, clock, log }, ref, force)
  }

  /** See {@link Verifier.verify}. */
  verify(timeoutMs = VERIFY_MS, everyEntry = false): Promise<Verdict> {
    if (!this.membership.isJoined)
      throw new NetError('unavailable', `cannot verify: the cluster store ${this.#o.store.status().url} cannot be reached`)
    return this.#verifier.verify(timeoutMs, everyEntry)
  }

  /** Stops watching and leaves; what this host owns stays its own. The store is the caller's to close. */
  async close(): Promise<void> {
    this.#mirror.close()
    await this.#publisher.close()
    await this.#settler.close()
    await this.pools.close()
    await this.membership.close()
  }

  #settle(): void {
    if (this.#hooks !== undefined) this.#settler.kick()
  }

  #networkChanged(networkId: string): void {
    if (this.#hooks === undefined || this.authority.busy.has(networkId)) return
    const network = this.#mirror.network(networkId)
    if (network?.network !== undefined) this.#hooks.adopt(network.network)
    else if (network === undefined) this.#hooks.abandon(networkId)
  }

  #readKernel(networkId: string): ReturnType<ReadKernelEntries> {
    if (this.#o.readKernel !== undefined) return this.#o.readKernel(networkId)
    return this.#mirror
      .endpointsOf(networkId)
      .flatMap(({ ipv4, ipv6, mac, hostAddress }) => [ipv4, ipv6].flatMap((ip) => (ip === '' ? [] : [{ ip, mac, host: hostAddress }])))
  }
}

/** An engine that starts does not wait longer for its cluster. */
const FIRST_LOOK_MS = 3000

/** Nothing else of this host has subnets. */
const NO_SPACE: LocalSpace = { requestPool: ({ subnet }) => ({ key: subnet }), restorePool: ({ subnet }) => subnet, releasePool() {} }

/** Makes the service and starts it. */
export function startCluster(options: ClusterOptions): ClusterService {
  const service = new ClusterService(options)
  service.start()
  return service
}

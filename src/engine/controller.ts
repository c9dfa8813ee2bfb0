/**
 * The network controller: the one owner of networks, endpoints and published ports. See `types.ts` for its contract.
 * Operations run synchronously from validation to the last kernel call, so they never interleave; `async` is only their face.
 */
import { type Ip, parseIp } from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import type { Authority, EndpointFinal, RemoteEndpoint } from '../drivers/authority.ts'
import type { Driver } from '../drivers/types.ts'
import type { AddressSpace } from '../ipam/address-space.ts'
import type { HostSubnets } from '../ipam/host-subnets.ts'
import { GRAVEYARD_GROUP } from '../kernel/link-reaper.ts'
import type { EndpointInfo, EndpointSettings, PortBinding, PortRequest, SandboxInfo, SandboxRequest } from '../model/endpoint.ts'
import type { Network, NetworkSpec } from '../model/network.ts'
import { standingSysctl } from '../sys/sysctl.ts'
import { AdoptedBridges } from './adopted-bridges.ts'
import { finalOf, tellGone } from './asking.ts'
import { Attachments } from './attachments.ts'
import { AuthorityDesk, type FindAuthority } from './authority-desk.ts'
import { EndpointReserver } from './endpoint-reserve.ts'
import { checkEndpointSettings } from './endpoint-rules.ts'
import type { Environment, NetworkingConfig } from './environment.ts'
import { Firewall } from './firewall.ts'
import { Forwarding } from './forwarding.ts'
import { GatewayBridge, gatewayEndpointName } from './gateway-bridge.ts'
import { gatewaysOf, tellGatewaysAfterwards } from './gateway-tell.ts'
import { HostKernel } from './host-kernel.ts'
import { HostRoutes } from './host-routes.ts'
import { LegacyLinks } from './legacy-links.ts'
import { LiveChanges } from './live-changes.ts'
import { MemberLinks } from './member-links.ts'
import { NetworkLife } from './network-life.ts'
import { Networks } from './networks.ts'
import { PortMapper, type SocketTable } from './port-mapper.ts'
import { type EndpointRecord, KEY, type SandboxRecord } from './records.ts'
import { Repairs } from './repairs.ts'
import { SandboxFiles } from './sandbox-files.ts'
import type { Parts } from './sandbox-parts.ts'
import { SandboxRegistry } from './sandbox-registry.ts'
import { Sandboxes } from './sandboxes.ts'
import { StaticAddresses } from './static-addresses.ts'
import { Turns } from './turns.ts'
import type { NetworkController, NetworkEvent, RepairEvent, SubnetUsage } from './types.ts'

export interface ControllerOptions {
  readonly env: Environment
  readonly config: NetworkingConfig
  readonly ipam: AddressSpace
  readonly sockets: SocketTable
  readonly ephemeral: () => { first: number; last: number }
  /** Subnets that the host itself uses. */
  readonly hostUse: () => HostSubnets
  /** The host's own hosts file. */
  readonly hostFile: () => { path: string; text: string }
  /** Drivers besides the built-in ones. */
  readonly drivers?: readonly Driver[]
  /** A driver that is known under a name at run time (a plugin); asked after the others. */
  readonly findDriver?: (name: string) => Driver | undefined
  /** Why networks may exist that are not known here, as a sentence. */
  readonly whyUnknown?: () => string | undefined
  /** Looks for a driver or IPAM driver that is not known yet; done before a network is created. */
  readonly discover?: (name: string) => Promise<void>
  readonly findAuthority?: FindAuthority
}

export class Controller implements NetworkController {
  readonly #o: ControllerOptions
  readonly networks: Networks
  readonly host: HostKernel
  readonly registry: SandboxRegistry
  readonly files: SandboxFiles
  readonly forwarding: Forwarding
  readonly hostRoutes: HostRoutes
  readonly firewall: Firewall
  readonly #adopted: AdoptedBridges
  readonly #attachments: Attachments
  readonly #statics: StaticAddresses
  readonly #memberLinks: MemberLinks
  readonly #desk: AuthorityDesk
  readonly #parts: Parts
  /** Operations on one container, or on one network's name, that wait for an authority. */
  readonly #turns = new Turns()
  readonly #sandboxes: Sandboxes
  readonly #changes: LiveChanges
  readonly #listeners = new Set<(event: NetworkEvent) => void>()
  readonly #life: NetworkLife
  readonly repairs: Repairs
  readonly #repairListeners = new Set<(event: RepairEvent) => void>()

  constructor(options: ControllerOptions) {
    this.#o = options
    const { env, config, ipam } = options
    const lanBridges = new Set<string>()
    this.host = new HostKernel(env.rtnl, env.log)
    this.#adopted = new AdoptedBridges(env.store, env.rtnl, this.host)
    this.firewall = new Firewall(env.nft)
    this.hostRoutes = new HostRoutes(options.hostUse)
    this.networks = new Networks({
      store: env.store,
      ipam,
      clock: env.clock,
      rng: env.rng,
      hostUse: () => this.hostRoutes.subnets(),
      drivers: options.drivers ?? [],
      findDriver: options.findDriver ?? (() => undefined),
      whyUnknown: options.whyUnknown ?? (() => undefined),
      defaultOpts: config.defaultNetworkOpts ?? {},
    })
    this.forwarding = new Forwarding({
      store: env.store,
      rtnl: env.rtnl,
      log: env.log,
      isOurs: (name) => this.host.isWanted(name) && !lanBridges.has(name),
      enabled: config.ipForward ?? true,
      setElements: (wanted, unwanted) => this.firewall.change(wanted, unwanted),
    })
    this.#statics = new StaticAddresses(this.networks, ipam)
    this.registry = new SandboxRegistry(env.store)
    const callIptables = standingSysctl('net/bridge/bridge-nf-call-iptables')
    const callIp6tables = standingSysctl('net/bridge/bridge-nf-call-ip6tables')
    this.#attachments = new Attachments(this.networks, () => callIptables() === '1' || callIp6tables() === '1')
    this.files = new SandboxFiles({
      config,
      attachments: this.#attachments,
      hostFile: options.hostFile,
      hostGateway: () => this.#hostGateway(),
    })
    this.#desk = new AuthorityDesk({
      store: env.store,
      clock: env.clock,
      log: env.log,
      find: options.findAuthority ?? (() => undefined),
    })
    const gatewayBridge = new GatewayBridge({
      networks: this.networks,
      rtnl: env.rtnl,
      log: env.log,
      create: (spec) => this.#life.make(spec),
    })
    const memberLinks = new MemberLinks({ networks: this.networks, registry: this.registry, host: this.host, rtnl: env.rtnl, log: env.log })
    const parts: Parts = {
      env,
      desk: this.#desk,
      gatewayBridge: () => gatewayBridge.network(),
      networks: this.networks,
      registry: this.registry,
      attachments: this.#attachments,
      reserver: new EndpointReserver({
        networks: this.networks,
        ipam,
        rng: env.rng,
        isIfnameTaken: (name) => this.host.isWanted(name),
        wanted: (at) => this.#attachments.wanted(at, -1),
      }),
      host: this.host,
      firewall: this.firewall,
      ports: new PortMapper({
        sockets: options.sockets,
        ephemeral: options.ephemeral,
        clock: env.clock,
        log: env.log,
        reactor: env.reactor,
      }),
      files: this.files,
      emit: (action, network, containerId) => {
        memberLinks.refresh(network)
        this.#emit(action, network, { containerId })
      },
    }
    this.#parts = parts
    this.#sandboxes = new Sandboxes(parts, new LegacyLinks(parts))
    this.#changes = new LiveChanges(parts)
    this.#memberLinks = memberLinks
    this.#life = new NetworkLife({
      env,
      config,
      networks: this.networks,
      host: this.host,
      firewall: this.firewall,
      forwarding: this.forwarding,
      registry: this.registry,
      adopted: this.#adopted,
      memberLinks,
      statics: this.#statics,
      desk: this.#desk,
      turns: this.#turns,
      discover: options.discover,
      lanBridges,
      emit: (action, network) => this.#emit(action, network),
    })
    this.repairs = new Repairs({
      env,
      networks: this.networks,
      host: this.host,
      firewall: this.firewall,
      forwarding: this.forwarding,
      registry: this.registry,
      sandboxes: this.#sandboxes,
      onRepaired: (event) => this.noteRepair(event),
    })
  }

  // ---- start ---------------------------------------------------------------------------------------------------------------

  /** Takes up the stored networks, makes the default ones, and brings the kernel in line. Throws when the default bridge cannot be made. */
  start(): void {
    const { env, config } = this.#o
    env.rtnl
      .deleteGroupInBackground(GRAVEYARD_GROUP)
      .catch((error) => env.log.warn('cannot delete the links that an earlier engine released', { error: messageOf(error) }))
    this.firewall.ensureTables()
    this.#life.start()
    if (config.icc === false) env.log.debug('default bridge: containers reach each other only through links')
  }

  async restore(liveContainerIds: ReadonlySet<string>): Promise<void> {
    const records = this.#o.env.store.list<SandboxRecord>(KEY.sandboxes).map(([, record]) => record)
    this.#sandboxes.restore(records, liveContainerIds)
    this.#memberLinks.refreshAll()
    this.repairs.links()
    this.firewall.sync()
    this.repairs.removeStrayLinks()
    await this.#restoreAuthorities()
  }

  /** Authorities learn what of theirs is alive; what a crash left unsettled is taken back behind the caller's back. */
  async #restoreAuthorities(): Promise<void> {
    const shares = new Map<Authority, { networks: Network[]; endpoints: { network: Network; endpoint: EndpointFinal }[] }>()
    const shareOf = (network: Network) => {
      const authority = this.#desk.of(network)
      if (authority === undefined) return undefined
      const share = shares.get(authority) ?? { networks: [], endpoints: [] }
      shares.set(authority, share)
      return share
    }
    for (const network of this.networks.list()) shareOf(network)?.networks.push(network)
    for (const record of this.registry.all()) {
      const gateways = gatewaysOf(this.#parts, record)
      for (const at of this.#attachments.of(record)) {
        const isGateway = gateways.some((gateway) => gateway.record.id === at.record.id)
        shareOf(at.network)?.endpoints.push({ network: at.network, endpoint: { ...finalOf(record, at), isGateway } })
      }
    }
    for (const [authority, { networks, endpoints }] of shares)
      try {
        await authority.restore?.(networks, endpoints)
      } catch (error) {
        this.#o.env.log.error(`cannot take up the networks of ${authority.name}`, { error: messageOf(error) })
      }
    const live = new Set([
      ...this.networks.list().map((n) => n.id),
      ...this.registry.all().flatMap((record) => record.endpoints.map((e) => e.id)),
    ])
    this.#desk.resume((id) => live.has(id))
  }

  // ---- networks --------------------------------------------------------------------------------------------------------------

  async createNetwork(spec: NetworkSpec): Promise<{ network: Network; warning: string }> {
    return { network: await this.#life.create(spec), warning: '' }
  }

  async removeNetwork(ref: string, force = false): Promise<void> {
    await this.#life.remove(ref, force)
  }

  /** A network that an authority says exists (made on another host). Idempotent. */
  adopt(network: Network): void {
    this.#life.adopt(network)
  }

  /** A network that an authority says exists no longer. Idempotent. */
  abandon(networkId: string): void {
    this.#life.abandon(networkId)
  }

  async readMembers(networkId: string): Promise<void> {
    const network = this.networks.get(networkId)
    await this.#desk.of(network)?.readMembers?.(network)
  }

  /** Members of a network on other hosts. */
  remoteEndpointsOf(networkId: string): readonly RemoteEndpoint[] {
    const network = this.networks.get(networkId)
    return this.#desk.of(network)?.remoteEndpoints?.(network) ?? []
  }

  getNetwork(ref: string): Network {
    return this.networks.get(ref)
  }

  findNetwork(ref: string): Network | undefined {
    return this.networks.find(ref)
  }

  listNetworks(): readonly Network[] {
    return this.networks.list()
  }

  endpointsOf(networkId: string): readonly EndpointInfo[] {
    return this.registry.endpointsOf(networkId).map((e) => this.#attachments.info(e, this.#gatewayName(e)))
  }

  #gatewayName(e: EndpointRecord): string | undefined {
    const sandbox = e.gatewayBridge ? this.registry.get(e.containerId) : undefined
    return sandbox && gatewayEndpointName(sandbox.id)
  }

  usageOf(networkId: string): readonly SubnetUsage[] {
    const network = this.networks.get(networkId)
    return this.networks.poolKeys(network).map((key, i) => {
      const usage = this.#o.ipam.usage(key)
      return { subnet: network.pools[i]?.subnet ?? '', ipsInUse: usage.ipsInUse, dynamicAvailable: usage.dynamicAvailable }
    })
  }

  validateEndpoint(network: string, settings: EndpointSettings): void {
    checkEndpointSettings(network, this.networks.find(network), settings)
  }

  declareAddresses(containerId: string, endpoints: SandboxRequest['endpoints']): void {
    this.#statics.declare(containerId, endpoints)
  }

  // ---- sandboxes -----------------------------------------------------------------------------------------------------------------

  async openSandbox(request: SandboxRequest): Promise<SandboxInfo> {
    try {
      for (const { network } of request.endpoints) this.#life.makeIfUnmade(network)
      const isAsking = request.endpoints.some(({ network }) => this.#isAsking(network))
      return await this.#turns.run(request.containerId, async () =>
        isAsking ? this.#sandboxes.openAsking(request) : this.#sandboxes.open(request),
      )
    } catch (error) {
      throw new NetError(
        error instanceof NetError ? error.code : 'internal',
        `failed to set up container networking: ${messageOf(error)}`,
        error instanceof NetError ? error.detail : {},
        error,
      )
    }
  }

  /** A network's authority has to be asked for an endpoint. */
  #isAsking(ref: string): boolean {
    const network = this.networks.find(ref)
    return network !== undefined && this.#desk.of(network) !== undefined
  }

  async closeSandbox(containerId: string): Promise<void> {
    await this.#turns.run(containerId, async () => {
      const record = this.registry.get(containerId)
      const gone = record === undefined ? [] : this.#attachments.of(record)
      try {
        this.#sandboxes.close(containerId)
      } finally {
        await tellGone(this.#parts, gone)
        this.#life.dropAbandoned()
      }
    })
  }

  sandboxOf(containerId: string): SandboxInfo | undefined {
    const record = this.registry.get(containerId)
    return record && this.#sandboxes.info(record)
  }

  async connect(containerId: string, network: string, settings: EndpointSettings): Promise<EndpointInfo> {
    this.#life.makeIfUnmade(network)
    return this.#turns.run(containerId, async () =>
      this.#isAsking(network)
        ? this.#changes.connectAsking(containerId, network, settings)
        : this.#connectTelling(containerId, network, settings),
    )
  }

  /** Another network may have been the way out until now. */
  async #connectTelling(containerId: string, network: string, settings: EndpointSettings): Promise<EndpointInfo> {
    const before = this.registry.get(containerId)
    const info = this.#changes.connect(containerId, network, settings)
    await tellGatewaysAfterwards(this.#parts, before, this.registry.get(containerId))
    return info
  }

  async disconnect(containerId: string, network: string, _force: boolean): Promise<void> {
    await this.#turns.run(containerId, async () => {
      const before = this.registry.get(containerId)
      const gone = this.#changes.disconnect(containerId, network)
      if (gone) await tellGone(this.#parts, [gone])
      await tellGatewaysAfterwards(this.#parts, before, this.registry.get(containerId))
      this.#life.dropAbandoned()
    })
  }

  async renameContainer(containerId: string, name: string): Promise<void> {
    const before = this.registry.get(containerId)
    const told: (() => Promise<void> | undefined)[] = []
    try {
      for (const at of before === undefined ? [] : this.#attachments.of(before)) {
        const authority = this.#desk.of(at.network)
        if (before === undefined || authority?.renameEndpoint === undefined) continue
        await authority.renameEndpoint(at.network, finalOf({ ...before, containerName: name }, at))
        told.push(() => authority.renameEndpoint?.(at.network, finalOf(before, at)))
      }
      this.#changes.rename(containerId, name)
    } catch (cause) {
      for (const takeBack of told)
        await takeBack()?.catch((error: unknown) =>
          this.#o.env.log.error('cannot take a new name back', { container: containerId, error: messageOf(error) }),
        )
      throw cause
    }
  }

  async addPorts(containerId: string, ports: readonly PortRequest[]): Promise<readonly PortBinding[]> {
    return this.#changes.addPorts(containerId, ports)
  }

  async removePorts(containerId: string, ports: readonly PortRequest[]): Promise<void> {
    this.#changes.removePorts(containerId, ports)
  }

  filesOf(containerId: string) {
    const record = this.registry.get(containerId)
    return record && this.files.paths(record.filesDir)
  }

  /** The device is the host's own place on a LAN, not one of containers alone. */
  isOnLan(dev: string): boolean {
    return this.#life.lanBridges.has(dev)
  }

  onEvent(listener: (event: NetworkEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  onRepair(listener: (event: RepairEvent) => void): () => void {
    this.#repairListeners.add(listener)
    return () => this.#repairListeners.delete(listener)
  }

  /** Tells of a repair that somebody else made, who keeps what a network has beyond the host's own namespace (a cluster). */
  noteRepair(event: RepairEvent): void {
    for (const listener of this.#repairListeners) listener(event)
  }

  #emit(action: NetworkEvent['action'], network: Network, extra: { containerId?: string } = {}): void {
    const event: NetworkEvent = { action, network: { id: network.id, name: network.name, driver: network.driver }, ...extra }
    for (const listener of this.#listeners) listener(event)
  }

  async close(): Promise<void> {
    this.#desk.close()
    this.#listeners.clear()
    this.#repairListeners.clear()
    // links that were released a moment ago are still waiting for company: they go before the engine does
    await this.#o.env.rtnl.deleteLinksInBackground([])
  }

  /** What `host-gateway` stands for: the flag, else the default bridge's gateway. */
  #hostGateway(): Ip | undefined {
    const given = this.#o.config.hostGatewayIp?.[0]
    if (given) return parseIp(given)
    return this.networks.byName('bridge')?.pools[0]?.gateway
  }

  /** Takes every trace out of the kernel: bridges, tables, sysctls. For `causeway down --all`, when no container runs any more. */
  async removeEverything(): Promise<void> {
    for (const network of this.networks.list()) {
      if (network.configOnly) continue
      this.#adopted.withdraw(this.networks.driverOf(network).networkWanted(network).links)
    }
    await this.host.release(this.host.wantedNames())
    this.#o.env.cards?.giveBackAll()
    this.forwarding.restore()
    this.firewall.removeAll()
  }
}

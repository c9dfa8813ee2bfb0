/**
 * The network controller: the one owner of networks, endpoints and published ports. See `types.ts` for its contract.
 * Operations run synchronously from validation to the last kernel call, so they never interleave; `async` is only their face.
 */
import { cidrContains, type Ip, parseIp } from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import type { Authority, EndpointFinal, RemoteEndpoint } from '../drivers/authority.ts'
import type { Driver } from '../drivers/types.ts'
import type { AddressSpace } from '../ipam/address-space.ts'
import type { HostSubnets } from '../ipam/host-subnets.ts'
import { STATUS_DST_NAT, STATUS_SRC_NAT } from '../kernel/conntrack.ts'
import { GRAVEYARD_GROUP } from '../kernel/link-reaper.ts'
import type { EndpointInfo, EndpointSettings, PortBinding, PortRequest, SandboxInfo, SandboxRequest } from '../model/endpoint.ts'
import type { Network, NetworkSpec } from '../model/network.ts'
import { networkElements } from '../plan/firewall/elements.ts'
import { tryReadSysctl } from '../sys/sysctl.ts'
import { AdoptedBridges } from './adopted-bridges.ts'
import { finalOf, tellGone } from './asking.ts'
import { Attachments } from './attachments.ts'
import { AuthorityDesk, type FindAuthority } from './authority-desk.ts'
import { type DefaultBridgePlan, HOST_SPEC, NONE_SPEC, planDefaultBridge } from './default-networks.ts'
import { EndpointReserver } from './endpoint-reserve.ts'
import { checkEndpointSettings } from './endpoint-rules.ts'
import type { Environment, NetworkingConfig } from './environment.ts'
import { Firewall } from './firewall.ts'
import { Forwarding } from './forwarding.ts'
import { GatewayBridge, gatewayEndpointName } from './gateway-bridge.ts'
import { HostKernel } from './host-kernel.ts'
import { HostRoutes } from './host-routes.ts'
import { LegacyLinks } from './legacy-links.ts'
import { LiveChanges } from './live-changes.ts'
import { MemberLinks } from './member-links.ts'
import { Networks, type PrepareOptions } from './networks.ts'
import { PortMapper, type SocketTable } from './port-mapper.ts'
import { type EndpointRecord, KEY, type SandboxRecord } from './records.ts'
import { SandboxFiles } from './sandbox-files.ts'
import type { Parts } from './sandbox-parts.ts'
import { SandboxRegistry } from './sandbox-registry.ts'
import { Sandboxes } from './sandboxes.ts'
import { StaticAddresses } from './static-addresses.ts'
import { Turns } from './turns.ts'
import type { NetworkController, NetworkEvent, RepairEvent, SubnetUsage } from './types.ts'
import { UndoStack } from './undo.ts'

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
  /** Networks that could not be made at the start, by id: something of somebody else is in their place. */
  readonly #unmade = new Set<string>()
  /** Bridges that are the host's own place on a LAN. */
  readonly #lanBridges = new Set<string>()
  readonly #repairListeners = new Set<(event: RepairEvent) => void>()

  constructor(options: ControllerOptions) {
    this.#o = options
    const { env, config, ipam } = options
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
      defaultOpts: config.defaultNetworkOpts ?? {},
    })
    this.forwarding = new Forwarding({
      store: env.store,
      rtnl: env.rtnl,
      log: env.log,
      isOurs: (name) => this.host.isWanted(name) && !this.#lanBridges.has(name),
      enabled: config.ipForward ?? true,
      setElements: (wanted, unwanted) => this.firewall.change(wanted, unwanted),
    })
    this.#statics = new StaticAddresses(this.networks, ipam)
    this.registry = new SandboxRegistry(env.store)
    this.#attachments = new Attachments(
      this.networks,
      remembered(
        () => tryReadSysctl('net/bridge/bridge-nf-call-iptables') === '1' || tryReadSysctl('net/bridge/bridge-nf-call-ip6tables') === '1',
        env.clock,
      ),
    )
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
      create: (spec) => this.#create(spec),
    })
    this.#memberLinks = new MemberLinks({ networks: this.networks, registry: this.registry, host: this.host, rtnl: env.rtnl, log: env.log })
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
        this.#memberLinks.refresh(network)
        this.#emit(action, network, { containerId })
      },
    }
    this.#parts = parts
    this.#sandboxes = new Sandboxes(parts, new LegacyLinks(parts))
    this.#changes = new LiveChanges(parts)
  }

  // ---- start ---------------------------------------------------------------------------------------------------------------

  /** Takes up the stored networks, makes the default ones, and brings the kernel in line. Throws when the default bridge cannot be made. */
  start(): void {
    const { env, config } = this.#o
    env.rtnl
      .deleteGroupInBackground(GRAVEYARD_GROUP)
      .catch((error) => env.log.warn('cannot delete the links that an earlier engine released', { error: messageOf(error) }))
    this.firewall.ensureTables()
    const stored = env.store.list<Network>(KEY.networks).map(([, network]) => network)
    env.cards?.recover((id) => stored.some((network) => network.id === id))
    for (const network of stored) {
      if (network.name === 'bridge') continue // made anew from the flags below
      try {
        this.networks.restore(network)
        if (network.configOnly) continue
        this.#materialise(network)
      } catch (error) {
        this.#unmade.add(network.id)
        env.log.error('cannot restore network; it stays listed and can be removed', { network: network.name, error: messageOf(error) })
      }
    }
    for (const spec of [NONE_SPEC, HOST_SPEC])
      if (!this.networks.byName(spec.name)) this.networks.add(this.networks.prepare(spec, new UndoStack(), { predefined: true }))
    this.#startDefaultBridge(stored.find((n) => n.name === 'bridge'))
    if (config.icc === false) env.log.debug('default bridge: containers reach each other only through links')
  }

  #startDefaultBridge(stored: Network | undefined): void {
    const { env, config } = this.#o
    const inUse =
      stored !== undefined &&
      env.store.list<SandboxRecord>(KEY.sandboxes).some(([, record]) => record.endpoints.some((e) => e.networkId === stored.id))
    const device = config.defaultBridgeName ?? 'docker0'
    const plan = planDefaultBridge(config, env.rtnl, device, stored, env.log)
    if (stored && inUse) {
      if (plan === undefined || !isAsPlanned(stored, plan))
        env.log.warn('containers are on the default bridge: it stays as it is, and its new settings apply at a start when none is')
      this.networks.restore(stored)
      this.#materialise(stored)
      return
    }
    if (plan === undefined) {
      if (stored) env.store.remove(KEY.network(stored.id))
      return
    }
    const undo = new UndoStack()
    // the record is overwritten, never missing: a crash here must not cost the network its id
    const network = this.networks.prepare(plan.spec, undo, { predefined: true, ...(stored ? { reuse: stored } : {}) })
    this.networks.add(network)
    this.#materialise(network, plan.adopted)
  }

  /** A network that could not be made at the start is tried again when somebody needs it. Throws what is in the way. */
  #makeIfUnmade(ref: string): void {
    const network = this.networks.find(ref)
    if (network === undefined || !this.#unmade.has(network.id)) return
    this.#materialise(network)
    this.#unmade.delete(network.id)
  }

  /** Makes a network's links, sysctls and firewall elements. */
  #materialise(network: Network, adoptedDefault?: boolean, isNew = false): void {
    const driver = this.networks.driverOf(network)
    const wanted = driver.networkWanted(network)
    const done: string[] = []
    const cards = this.#o.env.cards
    try {
      if (cards?.concerns(network)) cards.take(network)
      for (const link of wanted.links) {
        if (driver.sharesLinks && this.host.isWanted(link.spec.name)) continue // another network has made it
        if (isNew && !link.adopted && link.spec.name === `br-${network.id.slice(0, 12)}`)
          this.host.create(link) // a name made of a random id is nobody's
        else this.host.ensure(this.#adopted.prepare(link, adoptedDefault))
        done.push(link.spec.name)
        const families = ([4, 6] as const).filter((f) => (f === 4 ? network.enableIpv4 : network.enableIpv6))
        if (wanted.firewall?.isLan) {
          this.#lanBridges.add(link.spec.name)
          this.forwarding.interfaceAppeared(link.spec.name)
        } else if (!network.internal && link.spec.kind === 'bridge') this.forwarding.openBridge(link.spec.name, families)
      }
      if (wanted.firewall) this.firewall.change(networkElements(wanted.firewall))
    } catch (error) {
      this.host.releaseNow(done)
      if (cards?.concerns(network)) cards.giveBack(network)
      throw error
    }
  }

  async restore(liveContainerIds: ReadonlySet<string>): Promise<void> {
    const records = this.#o.env.store.list<SandboxRecord>(KEY.sandboxes).map(([, record]) => record)
    this.#sandboxes.restore(records, liveContainerIds)
    this.#memberLinks.refreshAll()
    this.repairLinks()
    this.firewall.sync()
    this.#removeStrayLinks()
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
    for (const record of this.registry.all())
      for (const at of this.#attachments.of(record))
        shareOf(at.network)?.endpoints.push({ network: at.network, endpoint: finalOf(record, at) })
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

  async createNetwork(asked: NetworkSpec): Promise<{ network: Network; warning: string }> {
    const spec = this.#o.env.cards?.complete(asked) ?? asked
    const driver = spec.driver || 'bridge'
    const ipamDriver = spec.ipam?.driver || 'default'
    if (this.#o.discover) {
      if (!spec.configOnly && !this.networks.knows(driver)) await this.#o.discover(driver)
      if (ipamDriver !== 'default' && ipamDriver !== 'null' && this.#desk.find(driver, ipamDriver) === undefined)
        await this.#o.discover(ipamDriver)
    }
    const authority = spec.configOnly ? undefined : this.#desk.find(driver, ipamDriver)
    if (authority === undefined) return { network: this.#create(spec), warning: '' }
    return { network: await this.#turns.run(`network ${spec.name}`, () => this.#createAsking(spec, authority)), warning: '' }
  }

  /** Makes a network and all that belongs to it, or nothing. */
  #create(spec: NetworkSpec, options: PrepareOptions = {}, undo = new UndoStack()): Network {
    try {
      const network = this.networks.prepare(spec, undo, options)
      this.#memberLinks.check(network)
      this.#install(network, undo)
      return network
    } catch (cause) {
      this.#unwind(undo)
      throw cause
    }
  }

  #install(network: Network, undo: UndoStack): void {
    this.networks.add(network)
    undo.defer('record', () => this.networks.delete(network))
    if (!network.configOnly) this.#materialise(network, undefined, true)
    undo.commit()
    this.#statics.networkAdded(network)
    this.#emit('create', network)
  }

  #unwind(undo: UndoStack): void {
    for (const error of undo.unwind())
      this.#o.env.log.error('cleanup after a failed network create is incomplete', { error: error.message })
  }

  /** The same when somebody else has a say: he grants the subnets, and hears of the network before it is ours. */
  async #createAsking(spec: NetworkSpec, authority: Authority): Promise<Network> {
    const { draft, source } = this.networks.draft(spec, { authority: true })
    if (draft === undefined) throw new NetError('internal', 'a configuration network has no authority')
    const requests = source.ipam?.config ?? []
    const options: PrepareOptions = { authority: true, id: draft.id }
    const undo = new UndoStack()
    let asked = this.networks.prepare(spec, new UndoStack(), { ...options, grant: { pools: [] } })
    this.#desk.begin({ kind: 'network', network: asked })
    try {
      const grant = (await authority.grantNetwork?.(draft, requests, source.ipam?.options ?? {})) ?? {}
      asked = this.networks.prepare(spec, undo, { ...options, grant })
      this.#memberLinks.check(asked)
      this.#desk.begin({ kind: 'network', network: asked })
      const more = await authority.createNetwork?.(asked)
      const network = more === undefined ? asked : { ...asked, data: { ...asked.data, ...more } }
      // a cluster may have told us of it in the meantime
      if (this.networks.find(network.id) === undefined) this.#install(network, undo)
      this.#desk.settle(network.id)
      return network
    } catch (cause) {
      this.#unwind(undo)
      await this.#desk.withdrawNetwork(asked)
      throw cause
    }
  }

  /** A network that an authority says exists (made on another host): known from now on, made in the kernel when somebody uses it. */
  adopt(network: Network): void {
    if (this.networks.find(network.id) !== undefined) return
    this.networks.add(network)
    this.#emit('create', network)
  }

  /** A network that an authority says exists no longer. One that is in use here stays until its last container has gone. */
  abandon(networkId: string): void {
    const network = this.networks.list().find((n) => n.id === networkId)
    if (network === undefined || this.registry.endpointsOf(networkId).length > 0) return
    this.#drop(network)
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

  async removeNetwork(ref: string, force = false): Promise<void> {
    const network = this.networks.get(ref)
    if (network.predefined) throw new NetError('denied', `${network.name} is a pre-defined network and cannot be removed`)
    if (network.configOnly && this.networks.usersOfConfig(network.name).length > 0)
      throw new NetError('denied', `error while removing network: configuration network "${network.name}" is in use`)
    const active = this.registry.endpointsOf(network.id)
    if (active.length > 0) {
      const names = active.map((e) => `name:"${this.registry.get(e.containerId)?.containerName ?? ''}" id:"${e.id.slice(0, 12)}"`)
      throw new NetError('denied', `error while removing network: network ${network.name} has active endpoints (${names.join(', ')})`)
    }
    const authority = this.#desk.of(network)
    if (authority?.removeNetwork === undefined) return this.#drop(network)
    if (this.#desk.isPinned(network.id))
      throw new NetError('denied', `error while removing network: network ${network.name} has active endpoints (one is being made)`)
    await this.#turns.run(`network ${network.name}`, async () => {
      await authority.removeNetwork?.(network, force)
      if (this.networks.find(network.id) === network) this.#drop(network)
    })
  }

  #drop(network: Network): void {
    const { env } = this.#o
    if (!network.configOnly) {
      const driver = this.networks.driverOf(network)
      const wanted = driver.networkWanted(network)
      if (wanted.firewall) this.firewall.change([], networkElements(wanted.firewall))
      this.#adopted.withdraw(wanted.links)
      const names = wanted.links.map((l) => l.spec.name)
      const links = driver.sharesLinks ? names.filter((name) => !this.#isWantedBeside(network, name)) : names
      for (const name of links) {
        this.forwarding.closeBridge(name)
        this.#lanBridges.delete(name)
      }
      this.host.release(links).catch((error) => env.log.warn('cannot delete bridge', { links, error: messageOf(error) }))
      env.dns.removeNetwork(network.id)
      env.cards?.giveBack(network)
    }
    this.networks.delete(network)
    this.#unmade.delete(network.id)
    this.#emit('destroy', network)
  }

  /** Another network wants this link too. */
  #isWantedBeside(network: Network, link: string): boolean {
    return this.networks.list().some(
      (n) =>
        n.id !== network.id &&
        !n.configOnly &&
        this.networks
          .driverOf(n)
          .networkWanted(n)
          .links.some((l) => l.spec.name === link),
    )
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
      for (const { network } of request.endpoints) this.#makeIfUnmade(network)
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
      }
    })
  }

  sandboxOf(containerId: string): SandboxInfo | undefined {
    const record = this.registry.get(containerId)
    return record && this.#sandboxes.info(record)
  }

  async connect(containerId: string, network: string, settings: EndpointSettings): Promise<EndpointInfo> {
    this.#makeIfUnmade(network)
    return this.#turns.run(containerId, async () =>
      this.#isAsking(network)
        ? this.#changes.connectAsking(containerId, network, settings)
        : this.#changes.connect(containerId, network, settings),
    )
  }

  async disconnect(containerId: string, network: string, _force: boolean): Promise<void> {
    await this.#turns.run(containerId, async () => {
      const gone = this.#changes.disconnect(containerId, network)
      if (gone) await tellGone(this.#parts, [gone])
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

  // ---- keeping it right ------------------------------------------------------------------------------------------------------------

  /** The device is the host's own place on a LAN, not one of containers alone. */
  isOnLan(dev: string): boolean {
    return this.#lanBridges.has(dev)
  }

  /** A bridge that was deleted took the host's addresses along. */
  #retakeCards(): void {
    const { cards, log } = this.#o.env
    for (const network of cards === undefined ? [] : this.networks.list()) {
      const bridge = cards?.concerns(network) ? this.networks.driverOf(network).deviceOf?.(network) : undefined
      if (bridge === undefined || !this.host.isWanted(bridge) || this.host.rtnl.link(bridge) !== undefined) continue
      try {
        cards?.take(network)
        this.#repaired(bridge, 'link is missing', 'made anew, with the addresses of the host')
      } catch (error) {
        log.error('cannot repair link', { link: bridge, error: messageOf(error) })
      }
    }
  }

  /** Repairs links (all when absent) and the container ends of pairs that had to be made anew. */
  repairLinks(names?: readonly string[]): void {
    const missingPairs = (names ?? this.host.wantedNames()).filter(
      (name) => this.host.wanted(name)?.spec.kind === 'veth' && this.host.rtnl.link(name) === undefined,
    )
    const bridges =
      names?.filter((name) => !missingPairs.includes(name)) ?? this.host.wantedNames().filter((n) => !missingPairs.includes(n))
    this.#retakeCards()
    const { findings, created } = this.host.repair(bridges)
    for (const { subject, wrong } of findings) this.#repaired(subject, wrong, created.includes(subject) ? 'made anew' : 'set right')
    for (const name of created) for (const family of [4, 6] as const) this.forwarding.repair(family, name)
    for (const name of missingPairs) {
      try {
        if (this.#sandboxes.replug(name)) this.#repaired(name, 'link is missing', 'made anew with its container end')
      } catch (error) {
        this.#o.env.log.error('cannot repair link', { link: name, error: messageOf(error) })
      }
    }
  }

  /** Puts back what is missing of the firewall. `culprit` is the program that committed the last foreign change. */
  repairFirewall(culprit = ''): void {
    const state = this.firewall.isIntact()
    if (state !== true) this.firewall.ensureTables()
    const { missing, strange } = this.firewall.sync()
    const wrong = [
      state === true ? '' : state,
      missing > 0 ? `${missing} elements missing` : '',
      strange > 0 ? `${strange} elements not ours` : '',
    ]
    const text = wrong.filter((part) => part !== '').join(', ')
    if (text === '') return
    this.#repaired('nftables table causeway', `${text}${culprit === '' ? '' : ` (changed by ${culprit})`}`, 'put back')
    if (state !== true || missing > 0) this.#forgetStuckFlows()
  }

  /** A flow that began while rules were missing goes on untranslated for as long as it lives: forgotten, it is translated at its next packet. */
  #forgetStuckFlows(): void {
    const pools = this.networks.list().flatMap((n) => n.pools.map((pool) => pool.subnet))
    const ports = new Set(
      this.registry.all().flatMap(({ ports }) => ports.filter((b) => b.count === 1).map((b) => `${b.proto} ${b.hostPort}`)),
    )
    const isContainer = (ip: Ip) => pools.some((subnet) => cidrContains(subnet, ip))
    try {
      this.#o.env.conntrack.deleteWhere(
        ({ orig, proto, status }, isLocal) =>
          (ports.has(`${proto} ${orig.dport}`) && (status & STATUS_DST_NAT) === 0 && isLocal(orig.dst)) ||
          ((status & STATUS_SRC_NAT) === 0 && isContainer(orig.src) && !isContainer(orig.dst) && !isLocal(orig.dst)),
      )
    } catch (error) {
      this.#o.env.log.warn('cannot forget flows that began without rules', { error: messageOf(error) })
    }
  }

  /** Forwarding was switched off somewhere; `dev` empty = for the whole host. */
  repairForwarding(family: 4 | 6, dev: string): void {
    for (const { subject, wrong } of this.forwarding.repair(family, dev)) this.#repaired(subject, wrong, 'switched on')
  }

  /** Links that carry our mark but that nobody wants are leftovers of a crash. */
  #removeStrayLinks(): void {
    const strays = this.#o.env.rtnl
      .links()
      .filter((l) => /^causeway:(network|endpoint|parent):/.test(l.alias) && !this.host.isWanted(l.name))
      .map((l) => l.name)
    if (strays.length === 0) return
    this.#o.env.log.info('removing links left by a crash', { links: strays })
    this.host.release(strays).catch((error) => this.#o.env.log.warn('cannot remove leftover links', { error: messageOf(error) }))
  }

  #repaired(subject: string, wrong: string, repair: string): void {
    const event: RepairEvent = { at: this.#o.env.clock.now(), subject, wrong, repair }
    this.#o.env.log.warn(`repaired ${subject}: ${wrong}`, { repair })
    for (const listener of this.#repairListeners) listener(event)
  }

  onEvent(listener: (event: NetworkEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  onRepair(listener: (event: RepairEvent) => void): () => void {
    this.#repairListeners.add(listener)
    return () => this.#repairListeners.delete(listener)
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

/** Asks at most once a second: two files below /proc are a tenth of what an attachment costs. */
function remembered(ask: () => boolean, clock: Clock): () => boolean {
  let known = { at: Number.NEGATIVE_INFINITY, answer: false }
  return () => {
    const now = clock.now()
    if (Math.abs(now - known.at) > 1000) known = { at: now, answer: ask() }
    return known.answer
  }
}

/** The stored default network is what the flags ask for. */
function isAsPlanned(stored: Network, { spec }: DefaultBridgePlan): boolean {
  const asked = (spec.ipam?.config ?? []).map((c) => c.subnet ?? '')
  return (
    JSON.stringify(stored.options) === JSON.stringify(spec.options) &&
    stored.enableIpv6 === (spec.enableIpv6 ?? false) &&
    asked.every((subnet) => stored.pools.some((pool) => pool.subnet === subnet))
  )
}

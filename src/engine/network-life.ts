/** Networks from their creation to their removal, and at the engine's start: record, links, firewall, and whoever else has a say. */
import { messageOf, NetError } from '../base/errors.ts'
import { type ActiveEndpoint, activeEndpointsError } from '../drivers/active-endpoints.ts'
import type { Authority } from '../drivers/authority.ts'
import type { Network, NetworkSpec } from '../model/network.ts'
import { networkElements } from '../plan/firewall/elements.ts'
import type { AdoptedBridges } from './adopted-bridges.ts'
import type { AuthorityDesk } from './authority-desk.ts'
import { type DefaultBridgePlan, HOST_SPEC, NONE_SPEC, planDefaultBridge } from './default-networks.ts'
import type { Environment, NetworkingConfig } from './environment.ts'
import type { Firewall } from './firewall.ts'
import type { Forwarding } from './forwarding.ts'
import type { HostKernel } from './host-kernel.ts'
import type { MemberLinks } from './member-links.ts'
import type { Networks, PrepareOptions } from './networks.ts'
import { KEY, type SandboxRecord } from './records.ts'
import type { SandboxRegistry } from './sandbox-registry.ts'
import type { StaticAddresses } from './static-addresses.ts'
import type { Turns } from './turns.ts'
import { UndoStack } from './undo.ts'

export interface NetworkLifeOptions {
  readonly env: Environment
  readonly config: NetworkingConfig
  readonly networks: Networks
  readonly host: HostKernel
  readonly firewall: Firewall
  readonly forwarding: Forwarding
  readonly registry: SandboxRegistry
  readonly adopted: AdoptedBridges
  readonly memberLinks: MemberLinks
  readonly statics: StaticAddresses
  readonly desk: AuthorityDesk
  readonly turns: Turns
  /** Bridges that are the host's own place on a LAN. */
  readonly lanBridges: Set<string>
  /** Looks for a driver or IPAM driver that is not known yet. */
  readonly discover?: ((name: string) => Promise<void>) | undefined
  readonly emit: (action: 'create' | 'destroy', network: Network) => void
}

export class NetworkLife {
  readonly #o: NetworkLifeOptions
  /** Networks that could not be made at the start, by id: something of somebody else is in their place. */
  readonly #unmade = new Set<string>()
  /** Networks that no longer exist for their authority and still have a container here. */
  readonly #abandoned = new Set<string>()

  constructor(options: NetworkLifeOptions) {
    this.#o = options
  }

  get lanBridges(): ReadonlySet<string> {
    return this.#o.lanBridges
  }

  /** Takes up the stored networks and makes the default ones. Throws when the default bridge cannot be made. */
  start(): void {
    const { env } = this.#o
    const stored = env.store.list<Network>(KEY.networks).map(([, network]) => network)
    env.cards?.recover((id) => stored.some((network) => network.id === id))
    for (const network of stored) {
      if (network.name === 'bridge') continue // made anew from the flags below
      try {
        this.#o.networks.restore(network)
        if (network.configOnly) continue
        this.#materialise(network)
      } catch (error) {
        this.#unmade.add(network.id)
        env.log.error('cannot restore network; it stays listed and can be removed', { network: network.name, error: messageOf(error) })
      }
    }
    for (const spec of [NONE_SPEC, HOST_SPEC])
      if (!this.#o.networks.byName(spec.name)) this.#o.networks.add(this.#o.networks.prepare(spec, new UndoStack(), { predefined: true }))
    this.#startDefaultBridge(stored.find((n) => n.name === 'bridge'))
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
      this.#o.networks.restore(stored)
      this.#materialise(stored)
      return
    }
    if (plan === undefined) {
      if (stored) env.store.remove(KEY.network(stored.id))
      return
    }
    const undo = new UndoStack()
    // the record is overwritten, never missing: a crash here must not cost the network its id
    const network = this.#o.networks.prepare(plan.spec, undo, { predefined: true, ...(stored ? { reuse: stored } : {}) })
    this.#o.networks.add(network)
    this.#materialise(network, plan.adopted)
  }

  /** A network that could not be made at the start is tried again when somebody needs it. Throws what is in the way. */
  makeIfUnmade(ref: string): void {
    const network = this.#o.networks.find(ref)
    if (network === undefined || !this.#unmade.has(network.id)) return
    this.#materialise(network)
    this.#unmade.delete(network.id)
  }

  /** Makes a network's links, sysctls and firewall elements. */
  #materialise(network: Network, adoptedDefault?: boolean, isNew = false): void {
    const driver = this.#o.networks.driverOf(network)
    const wanted = driver.networkWanted(network)
    const done: string[] = []
    const cards = this.#o.env.cards
    try {
      if (cards?.concerns(network)) cards.take(network)
      for (const link of wanted.links) {
        if (driver.sharesLinks && this.#o.host.isWanted(link.spec.name)) continue // another network has made it
        if (isNew && !link.adopted && link.spec.name === `br-${network.id.slice(0, 12)}`)
          this.#o.host.create(link) // a name made of a random id is nobody's
        else this.#o.host.ensure(this.#o.adopted.prepare(link, adoptedDefault))
        done.push(link.spec.name)
        const families = ([4, 6] as const).filter((f) => (f === 4 ? network.enableIpv4 : network.enableIpv6))
        if (wanted.firewall?.isLan) {
          this.#o.lanBridges.add(link.spec.name)
          this.#o.forwarding.interfaceAppeared(link.spec.name)
        } else if (!network.internal && (link.spec.kind === 'bridge' || wanted.firewall?.bridge === link.spec.name))
          this.#o.forwarding.openBridge(link.spec.name, families)
      }
      if (wanted.firewall) this.#o.firewall.change(networkElements(wanted.firewall))
    } catch (error) {
      this.#o.host.releaseNow(done)
      if (cards?.concerns(network)) cards.giveBack(network)
      throw error
    }
  }

  async create(asked: NetworkSpec): Promise<Network> {
    const spec = this.#o.env.cards?.complete(asked) ?? asked
    const driver = spec.driver || 'bridge'
    const ipamDriver = spec.ipam?.driver || 'default'
    if (this.#o.discover) {
      if (!spec.configOnly && !this.#o.networks.knows(driver)) await this.#o.discover(driver)
      if (ipamDriver !== 'default' && ipamDriver !== 'null' && this.#o.desk.find(driver, ipamDriver) === undefined)
        await this.#o.discover(ipamDriver)
    }
    const authority = spec.configOnly ? undefined : this.#o.desk.find(driver, ipamDriver)
    if (authority === undefined) return this.make(spec)
    return this.#o.turns.run(`network ${spec.name}`, () => this.#createAsking(spec, authority))
  }

  /** Makes a network and all that belongs to it, or nothing. */
  make(spec: NetworkSpec, options: PrepareOptions = {}, undo = new UndoStack()): Network {
    try {
      const network = this.#o.networks.prepare(spec, undo, options)
      this.#o.memberLinks.check(network)
      this.#install(network, undo)
      return network
    } catch (cause) {
      this.#unwind(undo)
      throw cause
    }
  }

  #install(network: Network, undo: UndoStack): void {
    this.#o.networks.add(network)
    undo.defer('record', () => this.#o.networks.delete(network))
    if (!network.configOnly) this.#materialise(network, undefined, true)
    undo.commit()
    this.#o.statics.networkAdded(network)
    this.#o.emit('create', network)
  }

  #unwind(undo: UndoStack): void {
    for (const error of undo.unwind())
      this.#o.env.log.error('cleanup after a failed network create is incomplete', { error: error.message })
  }

  /** The same when somebody else has a say: he grants the subnets, and hears of the network before it is ours. */
  async #createAsking(spec: NetworkSpec, authority: Authority): Promise<Network> {
    const { draft, source } = this.#o.networks.draft(spec, { authority: true })
    if (draft === undefined) throw new NetError('internal', 'a configuration network has no authority')
    const requests = source.ipam?.config ?? []
    const options: PrepareOptions = { authority: true, id: draft.id }
    const undo = new UndoStack()
    let asked = this.#o.networks.prepare(spec, new UndoStack(), { ...options, grant: { pools: [] } })
    this.#o.desk.begin({ kind: 'network', network: asked })
    try {
      const grant = (await authority.grantNetwork?.(draft, requests, source.ipam?.options ?? {})) ?? {}
      asked = this.#o.networks.prepare(spec, undo, { ...options, grant })
      this.#o.memberLinks.check(asked)
      this.#o.desk.begin({ kind: 'network', network: asked })
      const more = await authority.createNetwork?.(asked)
      const network = more === undefined ? asked : { ...asked, data: { ...asked.data, ...more } }
      // a cluster may have told us of it in the meantime
      if (this.#o.networks.find(network.id) === undefined) this.#install(network, undo)
      this.#o.desk.settle(network.id)
      return network
    } catch (cause) {
      this.#unwind(undo)
      await this.#o.desk.withdrawNetwork(asked)
      throw cause
    }
  }

  /** A network that an authority says exists (made on another host): known from now on, made in the kernel when somebody uses it. */
  adopt(network: Network): void {
    if (this.#o.networks.find(network.id) !== undefined) return
    this.#o.networks.add(network)
    try {
      this.#materialise(network)
    } catch (error) {
      this.#unmade.add(network.id)
      this.#o.env.log.error('cannot make a network of the cluster on this host', { network: network.name, error: messageOf(error) })
    }
    this.#o.emit('create', network)
  }

  /** A network that an authority says exists no longer. One that is in use here stays until its last container has gone. */
  abandon(networkId: string): void {
    const network = this.#o.networks.list().find((n) => n.id === networkId)
    if (network === undefined) return
    if (this.#o.registry.endpointsOf(networkId).length > 0) this.#abandoned.add(networkId)
    else this.#drop(network)
  }

  /** Containers have left: networks that were only waiting for that go. */
  dropAbandoned(): void {
    for (const id of this.#abandoned) {
      if (this.#o.registry.endpointsOf(id).length > 0) continue
      this.#abandoned.delete(id)
      this.abandon(id)
    }
  }

  async remove(ref: string, force: boolean): Promise<void> {
    const network = this.#o.networks.get(ref)
    if (network.predefined) throw new NetError('denied', `${network.name} is a pre-defined network and cannot be removed`)
    if (network.configOnly && this.#o.networks.usersOfConfig(network.name).length > 0)
      throw new NetError('denied', `error while removing network: configuration network "${network.name}" is in use`)
    const authority = this.#o.desk.of(network)
    if (this.#o.registry.endpointsOf(network.id).length > 0) throw activeEndpointsError(network, await this.#holdersOf(network, authority))
    if (authority?.removeNetwork === undefined) return this.#drop(network)
    if (this.#o.desk.isPinned(network.id))
      throw new NetError('denied', `error while removing network: network ${network.name} has active endpoints (one is being made)`)
    await this.#o.turns.run(`network ${network.name}`, async () => {
      await authority.removeNetwork?.(network, force)
      if (this.#o.networks.find(network.id) === network) this.#drop(network)
    })
  }

  /** Who uses a network: here, and elsewhere as far as the authority can be asked. */
  async #holdersOf(network: Network, authority: Authority | undefined): Promise<ActiveEndpoint[]> {
    const { registry, env } = this.#o
    const host = authority?.host === undefined ? {} : { host: authority.host }
    const here = registry
      .endpointsOf(network.id)
      .map((e) => ({ name: registry.get(e.containerId)?.containerName ?? '', id: e.id, ...host }))
    try {
      await authority?.readMembers?.(network)
    } catch (error) {
      env.log.debug('members on other hosts are not known', { network: network.name, error: messageOf(error) })
    }
    return [...here, ...(authority?.remoteEndpoints?.(network) ?? [])]
  }

  #drop(network: Network): void {
    const { env } = this.#o
    if (!network.configOnly) {
      const driver = this.#o.networks.driverOf(network)
      const wanted = driver.networkWanted(network)
      if (wanted.firewall) this.#o.firewall.change([], networkElements(wanted.firewall))
      this.#o.adopted.withdraw(wanted.links)
      // what could not be made is not ours: somebody else's device may have the name
      const names = wanted.links.map((l) => l.spec.name).filter((name) => this.#o.host.isWanted(name))
      const links = driver.sharesLinks ? names.filter((name) => !this.#isWantedBeside(network, name)) : names
      for (const name of links) {
        this.#o.forwarding.closeBridge(name)
        if (this.#o.lanBridges.delete(name) && env.cards?.concerns(network)) this.#o.forwarding.interfaceGone(name)
      }
      this.#o.host.release(links).catch((error) => env.log.warn('cannot delete bridge', { links, error: messageOf(error) }))
      env.dns.removeNetwork(network.id)
      env.cards?.giveBack(network)
    }
    this.#o.networks.delete(network)
    this.#unmade.delete(network.id)
    this.#o.emit('destroy', network)
  }

  /** Another network wants this link too. */
  #isWantedBeside(network: Network, link: string): boolean {
    return this.#o.networks.list().some(
      (n) =>
        n.id !== network.id &&
        !n.configOnly &&
        this.#o.networks
          .driverOf(n)
          .networkWanted(n)
          .links.some((l) => l.spec.name === link),
    )
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

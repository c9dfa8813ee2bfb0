/**
 * Open vSwitch as the authority over networks of driver ovs: bridges, uplinks, gateway devices and ports are rows of its database, and an
 * endpoint is there when the switch says so. What somebody takes out of the database comes back; what this engine no longer has goes.
 */
import { messageOf, NetError } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import type { Authority, EndpointFinal, EndpointGrant, NetworkGrant } from '../../drivers/authority.ts'
import { bridgeMac } from '../../drivers/bridge/bridge.ts'
import { hasGatewayDevice, OVS_OPTION, parseOvsConfig } from '../../drivers/ovs/config.ts'
import type { NetworkDraft } from '../../drivers/types.ts'
import type { Rtnl } from '../../kernel/types.ts'
import { LENT_KEY } from '../../model/endpoint.ts'
import type { Network } from '../../model/network.ts'
import { switchOffTxChecksum } from '../../sys/ethtool.ts'
import { isModuleLoaded } from '../../sys/kernel-module.ts'
import { closeNetns, openNetns } from '../../sys/netns.ts'
import { addEndpoint, addNetwork, leftovers, removeEndpoint, removeNetwork, type WantedEndpoint, type WantedNetwork } from './changes.ts'
import { OvsDatabase } from './database.ts'
import type { Replica } from './replica.ts'
import type { Operation } from './values.ts'

/** Where Open vSwitch listens when nothing else is said (ovs-vswitchd(8)). */
export const OVSDB_SOCKET = '/var/run/openvswitch/db.sock'

/** How long the switch may take to take up a port. */
const PORT_MS = 10_000
/** The database changes in bursts. */
const SETTLE_MS = 200
const ATTEMPTS = 5

export interface OvsParts {
  readonly rtnl: Rtnl
  readonly clock: Clock
  readonly log: Logger
  /** Path of the database's socket. */
  readonly socket: string
  /** Marks what is ours in a database that others use too. */
  readonly engineId: string
}

interface Member {
  readonly networkId: string
  readonly wanted: WantedEndpoint
  readonly sandboxKey: string
  /** The outer end that the switch has, by its index; 0 = not seen yet. */
  index: number
}

export class OvsAuthority implements Authority {
  readonly name = 'ovs'
  readonly #parts: OvsParts
  readonly #db: OvsDatabase
  readonly #networks = new Map<string, WantedNetwork>()
  readonly #members = new Map<string, Member>()
  #pending: (() => void) | undefined
  #syncing = false
  #restored = false
  #swept: Replica | undefined
  #lastTrouble = ''

  constructor(parts: OvsParts) {
    this.#parts = parts
    this.#db = new OvsDatabase({ ...parts, path: parts.socket, onChange: () => this.#syncSoon() })
  }

  /** A device that the switch made again since (after a reboot) is known by its name. Before the engine looks at its networks. */
  markDevices(networks: readonly Network[]): void {
    for (const network of networks) if (network.driver === 'ovs' && hasGatewayDevice(network)) this.#mark(network.id)
  }

  async grantNetwork(draft: NetworkDraft): Promise<NetworkGrant> {
    const { parent, bridge } = parseOvsConfig(draft)
    const replica = await this.#db.read()
    const port = parent === '' ? undefined : replica.port(parent)
    const holder = port && replica.bridgeOf(port.id)
    if (holder !== undefined && holder.name !== bridge)
      throw new NetError(
        'conflict',
        `parent interface ${parent} is a port of Open vSwitch bridge ${holder.name}: use -o ${OVS_OPTION.bridge}=${holder.name}`,
      )
    return {}
  }

  async createNetwork(network: Network): Promise<undefined> {
    const wanted = this.#wantedNetwork(network)
    this.#networks.set(network.id, wanted)
    await this.#makeNetwork(wanted)
    this.#begin()
    return undefined
  }

  async removeNetwork(network: Network): Promise<void> {
    this.#networks.delete(network.id)
    await this.#change((replica) => removeNetwork(replica, network.id))
  }

  async grantEndpoint(): Promise<EndpointGrant> {
    await this.#db.read()
    return {}
  }

  /** Resolves when the switch forwards to the endpoint. */
  async activateEndpoint(network: Network, endpoint: EndpointFinal): Promise<void> {
    const member = this.#learn(network, endpoint)
    if (member === undefined) return
    const wanted = this.#networks.get(network.id) ?? this.#wantedNetwork(network)
    this.#networks.set(network.id, wanted)
    await this.#plug(wanted, member)
  }

  async removeEndpoint(_network: Network, endpointId: string): Promise<void> {
    this.#members.delete(endpointId)
    await this.#change((replica) => removeEndpoint(replica, endpointId))
  }

  async restore(
    networks: readonly Network[],
    endpoints: readonly { readonly network: Network; readonly endpoint: EndpointFinal }[],
  ): Promise<void> {
    for (const network of networks) this.#networks.set(network.id, this.#wantedNetwork(network))
    for (const { network, endpoint } of endpoints) this.#learn(network, endpoint)
    this.#begin()
    // behind the start: a switch may take long to come up, and what runs is connected already
    void this.#sync()
  }

  /** All that lives is known: from now on the database is kept in line with it. */
  #begin(): void {
    this.#restored = true
    this.#db.keep()
  }

  close(): void {
    this.#pending?.()
    this.#db.close()
  }

  // ---- one network, one endpoint ---------------------------------------------------------------------------------------------

  #wantedNetwork(network: Network): WantedNetwork {
    const config = parseOvsConfig(network)
    const chosen = config.datapath || (isModuleLoaded('openvswitch') ? 'system' : 'netdev')
    return {
      id: network.id,
      config,
      gatewayMac: hasGatewayDevice(network) ? bridgeMac(network.id) : undefined,
      datapath: chosen === 'system' ? '' : chosen,
    }
  }

  #learn(network: Network, endpoint: EndpointFinal): Member | undefined {
    const { hostIfname = '', endpointId, containerId, mac, settings, sandboxKey } = endpoint
    if (hostIfname === '') return undefined
    const ifaceId = settings.driverOpts?.[OVS_OPTION.ifaceId] || endpointId
    const wanted = { id: endpointId, hostIfname, mac, containerId, ifaceId }
    const member: Member = { networkId: network.id, wanted, sandboxKey, index: 0 }
    this.#members.set(endpointId, member)
    return member
  }

  async #makeNetwork(wanted: WantedNetwork): Promise<void> {
    const { config } = wanted
    await this.#change((replica) => addNetwork(replica, wanted, this.#parts.engineId))
    if (config.parent !== '') {
      await this.#taken(config.parent)
      if (!this.#parts.rtnl.link(config.parent)?.up) this.#parts.rtnl.apply([{ op: 'link.set', dev: config.parent, set: { up: true } }])
    }
    if (wanted.gatewayMac === undefined) return
    await this.#taken(config.device)
    this.#mark(wanted.id)
  }

  async #plug(network: WantedNetwork, member: Member): Promise<void> {
    const { wanted } = member
    const add = async () => {
      await this.#change((replica) => addEndpoint(replica, network, wanted, this.#parts.engineId))
      await this.#taken(wanted.hostIfname)
    }
    await add()
    const outer = this.#parts.rtnl.link(wanted.hostIfname)
    if (outer === undefined || outer.index === member.index) return
    if (member.index !== 0) {
      // a pair that was made again at once: the switch shows the new one's index and reads from the old one (3.1, user space)
      await this.#change((replica) => removeEndpoint(replica, wanted.id))
      await this.#db.until((replica) => replica.isSettled || undefined, PORT_MS, `Open vSwitch did not let go of ${wanted.hostIfname}`)
      await add()
    }
    const replica = await this.#db.read()
    if (replica.bridge(network.config.bridge)?.datapathType === 'netdev') completeFrames(member.sandboxKey, outer.link)
    member.index = outer.index
  }

  /** Waits until the switch has opened a device. Throws with the switch's own reason when it cannot. */
  #taken(name: string): Promise<true> {
    return this.#db.until(
      (replica) => {
        const row = replica.interface(name)
        if (row?.ofport === undefined) return undefined
        if (row.ofport > 0) return true
        throw new NetError('internal', `Open vSwitch cannot use ${name}: ${row.error || 'it gives no reason'}`, { subject: name })
      },
      PORT_MS,
      `Open vSwitch did not take up ${name}`,
    )
  }

  #mark(networkId: string): void {
    const device = `og-${networkId.slice(0, 12)}`
    const link = this.#parts.rtnl.link(device)
    const alias = `causeway:ovs:${networkId}`
    if (link !== undefined && link.alias !== alias) this.#parts.rtnl.apply([{ op: 'link.set', dev: device, set: { alias } }])
  }

  /** Carries out what `plan` makes of the database as it is, again when somebody else changed it meanwhile. */
  async #change(plan: (replica: Replica) => readonly Operation[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const operations = plan(await this.#db.read())
      if (operations.length === 0) return
      try {
        await this.#db.transact(operations)
        return
      } catch (error) {
        if (!(error instanceof NetError) || error.code !== 'busy' || attempt === ATTEMPTS) throw error
        await this.#parts.clock.sleep(20 * attempt)
      }
    }
  }

  // ---- keeping it so ---------------------------------------------------------------------------------------------------------

  #syncSoon(): void {
    if (!this.#restored || this.#pending !== undefined) return
    this.#pending = this.#parts.clock.after(SETTLE_MS, () => {
      this.#pending = undefined
      void this.#sync()
    })
  }

  /** Brings the database in line with what lives. Never throws; the same trouble is logged once. */
  async #sync(): Promise<void> {
    if (this.#syncing) return this.#syncSoon()
    this.#syncing = true
    const troubles = new Set<string>()
    const attempt = async (fn: () => Promise<void>) => {
      try {
        await fn()
      } catch (error) {
        troubles.add(messageOf(error))
      }
    }
    await attempt(async () => {
      // without a network of ours nobody needs a switch
      if (this.#networks.size === 0 && this.#members.size === 0) return
      const replica = await this.#db.read()
      if (replica !== this.#swept) await this.#removeLeftovers(replica)
      this.#swept = replica
      for (const network of [...this.#networks.values()]) await attempt(() => this.#makeNetwork(network))
      for (const member of [...this.#members.values()]) {
        const network = this.#networks.get(member.networkId)
        // it may have gone while others were seen to
        if (network !== undefined && this.#members.get(member.wanted.id) === member) await attempt(() => this.#plug(network, member))
      }
    })
    const trouble = [...troubles].join('; ')
    if (trouble !== '' && trouble !== this.#lastTrouble)
      this.#parts.log.error('networks of driver ovs are not complete', { error: trouble })
    this.#lastTrouble = trouble
    this.#syncing = false
  }

  /** Once for each connection: what is removed in the ordinary way does not count. */
  async #removeLeftovers(replica: Replica): Promise<void> {
    const alive = { networks: new Set(this.#networks.keys()), endpoints: new Set(this.#members.keys()) }
    const found = leftovers(replica, this.#parts.engineId, alive)
    if (found.networks.length + found.endpoints.length === 0) return
    this.#parts.log.info('taking ports out of Open vSwitch that nobody has any more', found)
    for (const id of found.endpoints) if (!this.#members.has(id)) await this.#change((replica) => removeEndpoint(replica, id))
    for (const id of found.networks) if (!this.#networks.has(id)) await this.#change((replica) => removeNetwork(replica, id))
  }
}

/** Frames that a program reads must be complete: the kernel leaves checksums open on a veth pair. `index`: the inner end's. */
function completeFrames(sandboxKey: string, index: number): void {
  if (sandboxKey === LENT_KEY) return // the engine that has it is the one to do that
  const ns = openNetns(sandboxKey)
  try {
    switchOffTxChecksum(ns, index)
  } finally {
    closeNetns(ns)
  }
}

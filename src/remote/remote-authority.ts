/**
 * The authority over a network whose driver, IPAM driver or both are plugins. Everything is asked and told over the plugin protocol;
 * what must be found again is in the records' data. A part that is built in is left to the engine.
 */
import { cidrContains, type Ip, type IpPrefix, type Mac, parseMac, splitPrefix, tryParseIp, trySplitPrefix } from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import { randomMac } from '../base/ids.ts'
import type { Logger, Rng } from '../base/ports.ts'
import type { Authority, AuthorityData, EndpointAsk, EndpointFinal, EndpointGrant, NetworkGrant } from '../drivers/authority.ts'
import { endpointData, type HeldPool, networkData, type RemoteEndpointData } from '../drivers/remote/data.ts'
import { LABEL } from '../drivers/remote/protocol.ts'
import type { NetworkDraft } from '../drivers/types.ts'
import type { IpamPool, IpamPoolRequest, Network } from '../model/network.ts'
import { isAway, type Later } from './later.ts'
import type { RemoteIpam } from './remote-ipam.ts'
import { networkOptions, type RemoteNetwork } from './remote-network.ts'
import { AnswerTimedOut } from './transport.ts'

export interface RemoteAuthorityParts {
  readonly name: string
  /** Absent: the network's driver is built in. */
  readonly network?: RemoteNetwork
  /** Absent: the engine's own address space decides. */
  readonly ipam?: RemoteIpam
  /** Nobody has subnets: the driver says which address an endpoint has. */
  readonly withoutIpam: boolean
  /** Waits for plugins that are on their way up, and asks them what they are. */
  readonly ready: () => Promise<void>
  /** Scope of the network's driver. */
  readonly scope: () => 'local' | 'global'
  /** The driver's word on gateways, after {@link checkGateways}. */
  readonly skipGateway: (draft: NetworkDraft) => { ipv4: boolean; ipv6: boolean }
  /** Asks a driver that wants to be asked; its answer is what `skipGateway` says from then on. */
  readonly checkGateways: (draft: NetworkDraft, options: Readonly<Record<string, unknown>>) => Promise<void>
  /** The engine makes networks for a whole cluster: drivers of global scope choose what all hosts must agree on. */
  readonly isManager: boolean
  readonly later: Later
  readonly rng: Rng
  readonly log: Logger
}

export class RemoteAuthority implements Authority {
  readonly name: string
  readonly #p: RemoteAuthorityParts
  /** Endpoints that are, or are not, the gateway of their sandbox, by id. */
  readonly #gateways = new Map<string, boolean>()

  constructor(parts: RemoteAuthorityParts) {
    this.name = parts.name
    this.#p = parts
  }

  // ---- networks ------------------------------------------------------------------------------------------------------------

  async grantNetwork(
    draft: NetworkDraft,
    requests: readonly IpamPoolRequest[],
    ipamOptions: Readonly<Record<string, string>>,
  ): Promise<NetworkGrant> {
    const { ipam } = this.#p
    await this.#p.ready()
    await this.#p.checkGateways(draft, networkOptions(draft))
    if (this.#p.withoutIpam) return { pools: [] }
    if (ipam === undefined) return {}
    const skip = this.#p.skipGateway(draft)
    const pools: IpamPool[] = []
    const held: HeldPool[] = []
    try {
      for (const family of [4, 6] as const) {
        if (family === 4 ? !draft.enableIpv4 : !draft.enableIpv6) continue
        const wanted = requests.filter(({ subnet }) => subnet && subnet.includes(':') === (family === 6))
        for (const request of wanted.length > 0 ? wanted : [family === 4 ? (requests.find(({ subnet }) => !subnet) ?? {}) : {}]) {
          const granted = await ipam.requestPool(family, request, ipamOptions, this.#p.scope(), family === 4 ? !skip.ipv4 : !skip.ipv6)
          pools.push(granted.pool)
          held.push(granted.held)
        }
      }
    } catch (error) {
      this.#takeBack(`pools of network ${draft.name}`, () => ipam.releasePools(held))
      throw error
    }
    return { pools, data: { pools: held } }
  }

  async createNetwork(network: Network): Promise<AuthorityData | undefined> {
    const driver = this.#p.network
    if (driver === undefined) return undefined
    const allocates = this.#p.isManager && network.scope === 'global'
    try {
      await driver.createNetwork(network, allocates ? await driver.allocate(network) : {})
    } catch (error) {
      // an answer says that nothing was made; silence does not
      if (isAway(error))
        this.#takeBack(`network ${network.name}`, async () => {
          await settled(error)
          await driver.deleteNetwork(network.id)
        })
      if (allocates) this.#takeBack(`network ${network.name}`, () => driver.free(network.id))
      throw error
    }
    return allocates ? { allocated: true } : undefined
  }

  async removeNetwork(network: Network, force: boolean): Promise<void> {
    const { network: driver, ipam, log } = this.#p
    const remove = async () => {
      if (driver !== undefined) {
        await this.#tolerant(`network ${network.name}`, () => driver.deleteNetwork(network.id))
        if (network.data?.['allocated'] === true) await this.#tolerant(`network ${network.name}`, () => driver.free(network.id))
      }
      await ipam?.releasePools(networkData(network.data).pools)
    }
    try {
      await remove()
    } catch (error) {
      if (!isAway(error)) throw error
      if (!force) throw away(`Cannot remove network ${network.name}`, error)
      log.warn('network is removed without its plugin, which is told when it comes back', { network: network.name, plugin: this.name })
      this.#takeBack(`network ${network.name}`, remove)
    }
  }

  // ---- endpoints -----------------------------------------------------------------------------------------------------------

  async grantEndpoint(network: Network, ask: EndpointAsk): Promise<EndpointGrant> {
    const { ipam } = this.#p
    const wantedMac = ask.settings.mac ? parseMac(ask.settings.mac) : undefined
    if (this.#p.withoutIpam) return this.#asChosen(network, ask, wantedMac ?? '')
    if (ipam === undefined) return wantedMac ? { mac: wantedMac } : {}
    const needsMac = (await ipam.capabilities()).RequiresMACAddress === true
    const mac: Mac | undefined = wantedMac ?? (needsMac ? randomMac(this.#p.rng) : undefined)
    const options = { [LABEL.endpointName]: ask.containerName, ...(needsMac && mac ? { [LABEL.endpointMac]: mac } : {}) }
    const held: { pool: string; ip: Ip }[] = []
    const own: Record<string, string> = {}
    const take = async (family: 4 | 6, wanted: string | undefined): Promise<Ip | undefined> => {
      const got = await this.#address(network, family, wanted, options)
      if (got === undefined) return undefined
      const { ip, length } = splitPrefix(got.address)
      held.push({ pool: got.pool, ip })
      if (length !== got.poolLength) own[`address${family}`] = got.address
      return ip
    }
    try {
      const ipv4 = network.enableIpv4 ? await take(4, ask.settings.ipv4) : undefined
      const ipv6 = network.enableIpv6 ? await take(6, ask.settings.ipv6) : undefined
      return { ...(ipv4 ? { ipv4 } : {}), ...(ipv6 ? { ipv6 } : {}), ...(mac ? { mac } : {}), data: { held, ...own } }
    } catch (error) {
      for (const { pool, ip } of held) this.#takeBack(`address ${ip}`, () => ipam.releaseAddress(pool, ip))
      throw error
    }
  }

  /** Without IPAM the endpoint is made at once: its addresses are known afterwards. */
  async #asChosen(network: Network, ask: EndpointAsk, mac: Mac | ''): Promise<EndpointGrant> {
    const driver = this.#p.network as RemoteNetwork
    try {
      const chosen = await driver.createEndpoint(network, { ...ask, ipv4: '', ipv6: '', mac, data: {} })
      const ipv4 = trySplitPrefix(chosen.address4)?.ip
      const ipv6 = trySplitPrefix(chosen.address6)?.ip
      const macs = mac || chosen.mac
      return { ...(ipv4 ? { ipv4 } : {}), ...(ipv6 ? { ipv6 } : {}), ...(macs ? { mac: macs } : {}), data: { ...chosen, isMade: true } }
    } catch (error) {
      await this.#undoEndpoint(driver, { NetworkID: network.id, EndpointID: ask.endpointId }, error)
      throw error
    }
  }

  /** An address of the pool that contains the wanted one, else of the first pool that has one to give. */
  async #address(network: Network, family: 4 | 6, wanted: string | undefined, options: Readonly<Record<string, string>>) {
    const ipam = this.#p.ipam as RemoteIpam
    const all = networkData(network.data).pools.filter(({ subnet }) => subnet.includes(':') === (family === 6))
    const ip = tryParseIp(wanted ?? '')
    const pools = ip === undefined ? all : all.filter(({ subnet }) => cidrContains(subnet, ip))
    let refusal: unknown
    for (const { id, subnet } of pools) {
      let got: IpPrefix
      try {
        got = await ipam.requestAddress(id, ip ?? '', options)
      } catch (error) {
        if (isAway(error)) throw error
        refusal ??= error
        continue
      }
      const { ip: gotIp } = splitPrefix(got)
      if (cidrContains(subnet, gotIp)) return { pool: id, address: got, poolLength: splitPrefix(subnet).length }
      this.#takeBack(`address ${gotIp}`, () => ipam.releaseAddress(id, gotIp))
      throw new NetError(
        'internal',
        `IpamDriver.RequestAddress: plugin "${network.ipamDriver}" answered ${gotIp}, which is not in subnet ${subnet}`,
      )
    }
    if (refusal !== undefined) throw refusal
    if (ip !== undefined) throw new NetError('invalid', `no configured subnet contains IP address ${ip}`)
    return undefined
  }

  async createEndpoint(network: Network, endpoint: EndpointFinal): Promise<AuthorityData | undefined> {
    const driver = this.#p.network
    if (driver === undefined) return undefined
    this.#gateways.set(endpoint.endpointId, false)
    const ref = { NetworkID: network.id, EndpointID: endpoint.endpointId }
    try {
      const chosen = endpoint.data['isMade'] === true ? endpointData(endpoint.data) : await driver.createEndpoint(network, endpoint)
      const joined = await driver.join(network, endpoint)
      const given = endpointData(endpoint.data)
      const data: RemoteEndpointData = {
        ...chosen,
        ...joined,
        address4: chosen.address4 || given.address4,
        address6: chosen.address6 || given.address6,
        held: given.held,
      }
      return { ...data }
    } catch (error) {
      await this.#undoEndpoint(driver, ref, error)
      throw error
    }
  }

  /** Leave and DeleteEndpoint at once; what a silent plugin may have made is taken back as soon as it answers again. */
  async #undoEndpoint(driver: RemoteNetwork, ref: { NetworkID: string; EndpointID: string }, cause: unknown): Promise<void> {
    const undo = async () => {
      await settled(cause)
      await this.#tolerant('endpoint', () => driver.leave(ref), 'debug')
      await this.#tolerant('endpoint', () => driver.deleteEndpoint(ref), 'debug')
    }
    if (isAway(cause)) return this.#takeBack(`endpoint ${ref.EndpointID}`, undo)
    await undo().catch(() => this.#takeBack(`endpoint ${ref.EndpointID}`, undo))
  }

  /** As libnetwork has it: only the endpoint that is its sandbox's gateway hears of published ports, and it hears when it is that no longer. */
  async setGateway(network: Network, endpoint: EndpointFinal, isGateway: boolean): Promise<void> {
    const driver = this.#p.network
    if (driver === undefined) return
    const { endpointId } = endpoint
    if (!isGateway) {
      this.#gateways.set(endpointId, false)
      await this.#tolerant('endpoint', () => driver.revokeExternal({ NetworkID: network.id, EndpointID: endpointId }))
      return
    }
    this.#gateways.set(endpointId, true) // an answer that is lost may be a yes
    try {
      await driver.programExternal(network, endpoint)
    } catch (error) {
      const text = `driver failed programming external connectivity on endpoint ${endpoint.containerName} (${endpointId}): ${messageOf(error)}`
      throw new NetError(error instanceof NetError ? error.code : 'internal', text, {}, error)
    }
  }

  async removeEndpoint(network: Network, endpointId: string, data: AuthorityData): Promise<void> {
    const { network: driver, ipam } = this.#p
    const ref = { NetworkID: network.id, EndpointID: endpointId }
    const { gateway4, gateway6, held } = endpointData(data)
    // of one that a crash has left nobody knows
    const wasGateway = this.#gateways.get(endpointId) ?? (gateway4 !== '' || gateway6 !== '')
    try {
      if (driver !== undefined) {
        if (wasGateway) await this.#tolerant('endpoint', () => driver.revokeExternal(ref))
        await this.#tolerant('endpoint', () => driver.leave(ref), 'debug')
        await this.#tolerant('endpoint', () => driver.deleteEndpoint(ref), 'debug')
      }
      if (ipam !== undefined) for (const { pool, ip } of held) await this.#tolerant(`address ${ip}`, () => ipam.releaseAddress(pool, ip))
      this.#gateways.delete(endpointId)
    } catch (error) {
      throw away(`Cannot take endpoint ${endpointId.slice(0, 12)} off network ${network.name}`, error)
    }
  }

  // ---- restart -------------------------------------------------------------------------------------------------------------

  /** A plugin's IPAM that keeps nothing is told again what it had given out; in the background, because it may not be up yet. */
  async restore(
    networks: readonly Network[],
    endpoints: readonly { readonly network: Network; readonly endpoint: EndpointFinal }[],
  ): Promise<void> {
    const { ipam, later, log } = this.#p
    for (const { endpoint } of endpoints) this.#gateways.set(endpoint.endpointId, endpoint.isGateway === true)
    if (ipam === undefined || networks.length === 0) return
    const replay = async () => {
      if ((await ipam.capabilities('once')).RequiresRequestReplay !== true) return
      for (const network of networks)
        for (const pool of networkData(network.data).pools) {
          const range = network.pools.find(({ subnet }) => subnet === pool.subnet)?.ipRange ?? ''
          await ipam.replay(pool.subnet.includes(':') ? 6 : 4, pool, range, network.ipamOptions ?? {}, this.#p.scope())
        }
      for (const { endpoint } of endpoints)
        for (const { pool, ip } of endpointData(endpoint.data).held)
          await ipam.requestAddress(pool, ip, { [LABEL.endpointName]: endpoint.containerName }).catch((error) => {
            if (isAway(error)) throw error
            log.warn('plugin does not know an address of ours', { plugin: this.name, ip, error: messageOf(error) })
          })
    }
    later.repeat(`replay for ${this.name}`, replay, 0)
  }

  // ---- small ---------------------------------------------------------------------------------------------------------------

  /** In the background, again and again while the plugin is away: what failed has been reported already. */
  #takeBack(what: string, fn: () => Promise<unknown>): void {
    this.#p.later.repeat(what, fn, 0)
  }

  /** A plugin that answers with an error has nothing more of ours (Docker logs it and goes on); one that is away is told again. */
  async #tolerant(what: string, fn: () => Promise<unknown>, level: 'debug' | 'warn' = 'warn'): Promise<void> {
    try {
      await fn()
    } catch (error) {
      if (isAway(error)) throw error
      this.#p.log[level]('plugin refuses', { plugin: this.name, what, error: messageOf(error) })
    }
  }
}

/** Waits until a call that went unanswered has come to its end. */
async function settled(error: unknown): Promise<void> {
  if (error instanceof NetError && error.cause instanceof AnswerTimedOut) await error.cause.settled
}

function away(text: string, cause: unknown): NetError {
  return new NetError('unavailable', text.includes(messageOf(cause)) ? text : `${text}: ${messageOf(cause)}`, {}, cause)
}

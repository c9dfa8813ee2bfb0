/** Subnets and addresses from a plugin's IPAM: pools with their gateways, and one address after the other. */
import {
  cidrContains,
  type Ip,
  type IpPrefix,
  ipPrefixOf,
  isWholeSpace,
  parseIp,
  splitPrefix,
  tryParseCidr,
  tryParseIp,
  trySplitPrefix,
} from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import type { HeldPool } from '../drivers/remote/data.ts'
import {
  type AddressRequest,
  type AddressResponse,
  type AddressSpaces,
  IPAM_DRIVER,
  type IpamCapabilities,
  LABEL,
  type PoolRequest,
  type PoolResponse,
} from '../drivers/remote/protocol.ts'
import type { IpamPool, IpamPoolRequest } from '../model/network.ts'
import type { Patience, Plugin } from './plugin.ts'

/** How many subnets of the host's own a plugin may offer before we give up: each is held until a free one is found. */
const MAX_OFFERS = 64

export interface GrantedPool {
  readonly pool: IpamPool
  readonly held: HeldPool
}

export class RemoteIpam {
  readonly #plugin: Plugin
  readonly #log: Logger
  /** Subnets that the host itself uses. */
  readonly #isUsedByHost: (subnet: string) => boolean
  #capabilities: IpamCapabilities | undefined

  constructor(plugin: Plugin, log: Logger, isUsedByHost: (subnet: string) => boolean) {
    this.#plugin = plugin
    this.#log = log
    this.#isUsedByHost = isUsedByHost
  }

  /** A plugin without the method needs neither MACs nor a replay. */
  async capabilities(patience: Patience = 'retry'): Promise<IpamCapabilities> {
    this.#capabilities ??= (await this.#plugin.callOptional<IpamCapabilities>(`${IPAM_DRIVER}.GetCapabilities`, undefined, patience)) ?? {}
    return this.#capabilities
  }

  /** One subnet with its gateway and auxiliary addresses. Takes everything back when it throws. */
  async requestPool(
    family: 4 | 6,
    request: IpamPoolRequest,
    options: Readonly<Record<string, string>>,
    scope: 'local' | 'global',
    wantsGateway: boolean,
  ): Promise<GrantedPool> {
    const spaces = await this.#plugin.call<AddressSpaces>(`${IPAM_DRIVER}.GetDefaultAddressSpaces`, undefined)
    const AddressSpace = (scope === 'global' ? spaces.GlobalDefaultAddressSpace : spaces.LocalDefaultAddressSpace) ?? ''
    const body: PoolRequest = {
      AddressSpace,
      Pool: request.subnet ?? '',
      SubPool: request.ipRange ?? '',
      Options: options,
      V6: family === 6,
    }
    const { id, subnet, data } = await this.#offer(body, scope === 'local' && request.subnet === undefined)
    const taken: Ip[] = []
    try {
      if ((family === 6) !== subnet.includes(':')) throw this.#wrong('RequestPool', `${subnet}, which is no IPv${family} subnet`)
      const named = data?.[LABEL.gateway]
      const told = trySplitPrefix(named ?? '')?.ip
      if (named && told === undefined) throw this.#wrong('RequestPool', `gateway "${named}", expected an address with its prefix length`)
      let gateway = told
      if (request.gateway !== undefined || (told === undefined && wantsGateway))
        gateway = splitPrefix(await this.requestAddress(id, request.gateway ?? '', { [LABEL.requestAddressType]: LABEL.gateway })).ip
      if (gateway !== undefined) taken.push(gateway)
      const aux: Record<string, Ip> = {}
      for (const [name, text] of Object.entries(request.aux ?? {})) {
        aux[name] = parseIp(text)
        if (!cidrContains(subnet, aux[name]))
          throw new NetError('invalid', `auxiliary address: (${name}:${text}) must belong to the master pool: ${subnet}`)
        taken.push(splitPrefix(await this.requestAddress(id, text, {})).ip)
      }
      const ipRange = tryParseCidr(request.ipRange ?? '')
      return {
        pool: { subnet, ...(gateway === undefined ? {} : { gateway }), ...(ipRange ? { ipRange } : {}), aux },
        held: { id, subnet, gateway: gateway ?? '', aux: Object.values(aux) },
      }
    } catch (error) {
      await this.#giveBack(id, taken)
      throw error
    }
  }

  /** Asks until the subnet is none of the host's own; what was refused is held meanwhile, else the same would be offered again. */
  async #offer(body: PoolRequest, avoidHost: boolean) {
    const refused: string[] = []
    try {
      for (let n = 0; n < MAX_OFFERS; n++) {
        const answer = await this.#plugin.call<PoolResponse>(`${IPAM_DRIVER}.RequestPool`, body)
        const subnet = tryParseCidr(answer.Pool ?? '')
        const id = answer.PoolID ?? ''
        if (subnet === undefined) {
          if (id !== '') refused.push(id)
          throw this.#wrong('RequestPool', `Pool "${answer.Pool ?? ''}", which is no subnet`)
        }
        if (!avoidHost || isWholeSpace(subnet) || !this.#isUsedByHost(subnet)) return { id, subnet, data: answer.Data }
        refused.push(id)
      }
      throw this.#wrong('RequestPool', `${MAX_OFFERS} subnets that this host uses itself`)
    } finally {
      for (const id of refused) await this.#attempt(`pool ${id}`, () => this.#releasePool(id))
    }
  }

  /** One address with the prefix length that the plugin gives it; `wanted` '' = any. @throws NetError with the plugin's text, or ours when it answered what is no address. */
  async requestAddress(pool: string, wanted: string, options: Readonly<Record<string, string>>): Promise<IpPrefix> {
    const body: AddressRequest = { PoolID: pool, Address: wanted, Options: options }
    const { Address } = await this.#plugin.call<AddressResponse>(`${IPAM_DRIVER}.RequestAddress`, body)
    const got = trySplitPrefix(Address ?? '')
    const ip = got?.ip
    if (got !== undefined && (wanted === '' || tryParseIp(wanted) === ip)) return ipPrefixOf(got.ip, got.length)
    const problem = this.#wrong(
      'RequestAddress',
      `Address "${Address ?? ''}", expected ${wanted === '' ? 'an address with its prefix length' : `${wanted} with its prefix length`}`,
    )
    if (ip !== undefined) await this.#attempt(`address ${ip}`, () => this.releaseAddress(pool, ip))
    throw problem
  }

  async releaseAddress(pool: string, ip: Ip): Promise<void> {
    await this.#plugin.call(`${IPAM_DRIVER}.ReleaseAddress`, { PoolID: pool, Address: ip }, 'once')
  }

  /** Gives a network's pools back with everything reserved in them. @throws NetError `unavailable` when the plugin cannot be reached. */
  async releasePools(pools: readonly HeldPool[]): Promise<void> {
    for (const pool of pools) {
      const addresses = pool.gateway === '' ? pool.aux : [pool.gateway, ...pool.aux]
      for (const ip of addresses) await this.#tolerant(`address ${ip}`, () => this.releaseAddress(pool.id, ip))
      await this.#tolerant(`pool ${pool.subnet}`, () => this.#releasePool(pool.id))
    }
  }

  /** For plugins that keep nothing over their restart: asks for the same pool and addresses again. */
  async replay(
    family: 4 | 6,
    pool: HeldPool,
    ipRange: string,
    options: Readonly<Record<string, string>>,
    scope: 'local' | 'global',
  ): Promise<void> {
    const spaces = await this.#plugin.call<AddressSpaces>(`${IPAM_DRIVER}.GetDefaultAddressSpaces`, undefined, 'once')
    const AddressSpace = (scope === 'global' ? spaces.GlobalDefaultAddressSpace : spaces.LocalDefaultAddressSpace) ?? ''
    const body: PoolRequest = { AddressSpace, Pool: pool.subnet, SubPool: ipRange, Options: options, V6: family === 6 }
    await this.#plugin.call<PoolResponse>(`${IPAM_DRIVER}.RequestPool`, body, 'once')
    if (pool.gateway !== '')
      await this.#attempt(`gateway ${pool.gateway}`, () =>
        this.requestAddress(pool.id, pool.gateway, { [LABEL.requestAddressType]: LABEL.gateway }),
      )
    for (const ip of pool.aux) await this.#attempt(`address ${ip}`, () => this.requestAddress(pool.id, ip, {}))
  }

  async #releasePool(id: string): Promise<void> {
    await this.#plugin.call(`${IPAM_DRIVER}.ReleasePool`, { PoolID: id }, 'once')
  }

  async #giveBack(pool: string, addresses: readonly Ip[]): Promise<void> {
    for (const ip of addresses) await this.#attempt(`address ${ip}`, () => this.releaseAddress(pool, ip))
    await this.#attempt(`pool ${pool}`, () => this.#releasePool(pool))
  }

  /** What the plugin refuses to take back is no reason to keep it here; only one that is away is told again later. */
  async #tolerant(what: string, fn: () => Promise<unknown>): Promise<void> {
    try {
      await fn()
    } catch (error) {
      if (error instanceof NetError && (error.code === 'unavailable' || error.code === 'not-found')) throw error
      this.#log.warn('plugin does not take back what it gave', { plugin: this.#plugin.name, what, error: messageOf(error) })
    }
  }

  async #attempt(what: string, fn: () => Promise<unknown>): Promise<void> {
    try {
      await fn()
    } catch (error) {
      this.#log.warn('plugin refuses', { plugin: this.#plugin.name, what, error: messageOf(error) })
    }
  }

  #wrong(method: string, what: string): NetError {
    return new NetError('internal', `${IPAM_DRIVER}.${method}: plugin "${this.#plugin.name}" answered ${what}`)
  }
}

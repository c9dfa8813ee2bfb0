/**
 * The authority over networks that were made with `--ipam-driver causeway`: subnets and addresses are the cluster's. The driver is one of
 * the engine's own. Networks of before the engine was in a cluster keep the engine's own addresses.
 */
import { cidrContains, type Family, type Ip, parseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Authority, EndpointAsk, EndpointFinal, EndpointGrant, NetworkGrant } from '../../drivers/authority.ts'
import type { Driver, NetworkDraft } from '../../drivers/types.ts'
import type { IpamPool, IpamPoolRequest, Network } from '../../model/network.ts'
import { poolOverlaps } from './choose.ts'
import type { SharedPools } from './shared-pools.ts'

/** The IPAM driver's name, as users type it. */
export const POOL_IPAM = 'causeway'

export class PoolAuthority implements Authority {
  readonly name = 'IPAM driver causeway'
  readonly #pools: SharedPools
  readonly #driver: Driver

  constructor(pools: SharedPools, driver: Driver) {
    this.#pools = pools
    this.#driver = driver
  }

  async grantNetwork(draft: NetworkDraft, requests: readonly IpamPoolRequest[]): Promise<NetworkGrant> {
    const skip = this.#driver.skipGateway(draft)
    const pools: IpamPool[] = []
    try {
      for (const family of [4, 6] as const) {
        if (family === 4 ? !draft.enableIpv4 : !draft.enableIpv6) continue
        const wanted = requests.filter(({ subnet }) => subnet && subnet.includes(':') === (family === 6))
        for (const request of wanted.length > 0 ? wanted : [{}])
          pools.push(await this.#join(draft, family, request, family === 4 ? !skip.ipv4 : !skip.ipv6))
      }
    } catch (error) {
      for (const { subnet } of pools) await this.#pools.leave(subnet, draft.id)
      throw error
    }
    return { pools, data: { sharedPools: true, userSubnets: requests.some(({ subnet }) => Boolean(subnet)) } }
  }

  async #join(draft: NetworkDraft, family: Family, request: IpamPoolRequest, wantsGateway: boolean): Promise<IpamPool> {
    const aux = Object.fromEntries(Object.entries(request.aux ?? {}).map(([name, text]) => [name, parseIp(text)]))
    const taken = await this.#pools.join({
      ...{ user: draft.id, for: 'engine', name: draft.name, family, subnet: request.subnet, ipRange: request.ipRange },
      ...{ gateway: request.gateway ? parseIp(request.gateway) : undefined, wantsGateway, aux: Object.values(aux) },
    })
    this.#pools.confirm(taken.subnet, draft.id)
    const { subnet, ipRange, gateway } = taken
    const other = this.#pools.claims.users().find((user) => user.subnet === subnet && user.id !== draft.id && user.state !== 'releasing')
    if (other !== undefined && this.#driver.sharesSubnets !== true) {
      await this.#pools.leave(subnet, draft.id)
      throw poolOverlaps(subnet, subnet, ` of network "${other.name}" on this host`)
    }
    return { subnet, ...(gateway ? { gateway } : {}), ...(ipRange ? { ipRange } : {}), aux }
  }

  async removeNetwork(network: Network): Promise<void> {
    for (const { subnet, id } of this.#pools.claims.users()) if (id === network.id) await this.#pools.leave(subnet, id)
  }

  async grantEndpoint(network: Network, ask: EndpointAsk): Promise<EndpointGrant> {
    if (!isShared(network)) return {}
    const taken: { subnet: IpamPool['subnet']; ip: Ip }[] = []
    const take = async (family: Family, text: string | undefined): Promise<Ip | undefined> => {
      const wanted = text ? parseIp(text) : undefined
      const all = network.pools.filter(({ subnet }) => subnet.includes(':') === (family === 6))
      const pools = wanted === undefined ? all : all.filter(({ subnet }) => cidrContains(subnet, wanted))
      if (wanted !== undefined && pools.length === 0)
        throw new NetError('invalid', `Invalid address ${wanted}: It does not belong to any of this network's subnets`, { subject: wanted })
      let full: unknown
      for (const { subnet } of pools)
        try {
          const ip = await this.#pools.take({ subnet, user: network.id, ip: wanted, endpointId: ask.endpointId, name: ask.containerName })
          taken.push({ subnet, ip })
          this.#pools.confirm(subnet, network.id, ip)
          return ip
        } catch (error) {
          if (!isFull(error)) throw error
          full = error
        }
      if (full !== undefined) throw full
      return undefined
    }
    try {
      const { ipv4: asked4, ipv6: asked6 } = ask.settings
      const ipv4 = network.enableIpv4 ? await take(4, asked4) : undefined
      const ipv6 = network.enableIpv6 ? await take(6, asked6) : undefined
      return { ...(ipv4 ? { ipv4 } : {}), ...(ipv6 ? { ipv6 } : {}) }
    } catch (error) {
      for (const { subnet, ip } of taken) await this.#pools.free(subnet, network.id, ip)
      throw error
    }
  }

  async removeEndpoint(_network: Network, endpointId: string): Promise<void> {
    for (const claim of this.#pools.claims.addresses())
      if (claim.endpointId === endpointId) await this.#pools.free(claim.subnet, claim.user, claim.ip)
  }

  /** What died with the engine before is given back; what was being asked for was taken up as that already. */
  async restore(
    networks: readonly Network[],
    endpoints: readonly { readonly network: Network; readonly endpoint: EndpointFinal }[],
  ): Promise<void> {
    const alive = new Set(endpoints.map(({ endpoint }) => endpoint.endpointId))
    const own = new Set(networks.map(({ id }) => id))
    for (const claim of this.#pools.claims.addresses())
      if (claim.for === 'engine' && own.has(claim.user) && !alive.has(claim.endpointId))
        this.#pools.claims.putAddress({ ...claim, state: 'releasing' })
    this.#pools.kick()
  }
}

/** Stands in on an engine that is in no cluster: the engine's own address space decides, as for any network. */
export const localPools: Authority = {
  name: 'IPAM driver causeway',
  async grantEndpoint(network) {
    if (isShared(network))
      throw new NetError(
        'unavailable',
        `network ${network.name} has its addresses from a cluster: start this engine with --cluster-store and --cluster-advertise`,
      )
    return {}
  },
}

function isShared({ data }: Network): boolean {
  return data?.['sharedPools'] === true
}

function isFull(error: unknown): boolean {
  return error instanceof NetError && error.code === 'unavailable' && error.message.startsWith('no available')
}

/** The cluster as the engine's authority for overlay networks: who may have which name, subnet, address and VXLAN id. */
import { splitPrefix } from '../base/address.ts'
import type { Clock } from '../base/ports.ts'
import type {
  Authority,
  AuthorityData,
  EndpointAsk,
  EndpointFinal,
  EndpointGrant,
  NetworkGrant,
  RemoteEndpoint,
} from '../drivers/authority.ts'
import type { NetworkDraft } from '../drivers/types.ts'
import type { IpamPoolRequest, Network } from '../model/network.ts'
import { macOf, poolWith } from './choose.ts'
import type { Claims } from './claims.ts'
import type { EndpointClaims } from './endpoint-claims.ts'
import type { Membership } from './membership.ts'
import type { Mirror } from './mirror.ts'
import type { ClusterEndpoint } from './model.ts'
import type { NetworkClaims } from './network-claims.ts'
import type { Settler } from './settler.ts'

/** A stop is given up after ten seconds, and a container may be on several networks. */
const RELEASE_MS = 1500

export interface AuthorityOptions {
  readonly hostName: string
  readonly clock: Clock
  readonly mirror: Mirror
  readonly claims: Claims
  readonly membership: Membership
  readonly networks: NetworkClaims
  readonly endpoints: EndpointClaims
  readonly settler: Settler
  /** Endpoints of a network that is not followed. */
  readonly fetch: (networkId: string) => Promise<readonly ClusterEndpoint[]>
}

export class ClusterAuthority implements Authority {
  readonly name = 'cluster'
  readonly host: string
  readonly #o: AuthorityOptions
  /** Networks that are followed for an endpoint of this host. */
  readonly #uses = new Map<string, string>()
  /** Members of networks that are not followed here, as last looked at. */
  readonly #read = new Map<string, readonly ClusterEndpoint[]>()
  /** Networks that this host is just creating or removing: the engine knows. */
  readonly busy = new Set<string>()

  constructor(options: AuthorityOptions) {
    this.#o = options
    this.host = options.hostName
  }

  grantNetwork(draft: NetworkDraft, requests: readonly IpamPoolRequest[]): Promise<NetworkGrant> {
    return this.#whileBusy(draft.id, () => this.#o.networks.grant(draft, requests))
  }

  createNetwork(network: Network): Promise<AuthorityData | undefined> {
    return this.#whileBusy(network.id, () => this.#o.networks.create(network))
  }

  removeNetwork(network: Network, _force: boolean): Promise<void> {
    return this.#whileBusy(network.id, () => this.#o.networks.remove(network))
  }

  async grantEndpoint(network: Network, ask: EndpointAsk): Promise<EndpointGrant> {
    this.#use(ask.endpointId, network.id)
    try {
      const endpoint = await this.#o.endpoints.grant(network, ask)
      return {
        ...(endpoint.ipv4 === '' ? {} : { ipv4: endpoint.ipv4 }),
        ...(endpoint.ipv6 === '' ? {} : { ipv6: endpoint.ipv6 }),
        mac: endpoint.mac,
        data: { vni: this.#vniOf(endpoint) },
      }
    } catch (error) {
      this.#unuse(ask.endpointId)
      this.#o.settler.kick()
      throw error
    }
  }

  activateEndpoint(network: Network, endpoint: EndpointFinal): Promise<void> {
    return this.#o.endpoints.activate(network, endpoint)
  }

  renameEndpoint(network: Network, endpoint: EndpointFinal): Promise<void> {
    return this.#o.endpoints.activate(network, endpoint)
  }

  /** A store that is slow to refuse does not keep a container from stopping: what was to be freed is noted, and freed in the background. */
  async removeEndpoint(network: Network, endpointId: string): Promise<void> {
    const { endpoints, claims, clock, settler } = this.#o
    const releasing = endpoints.release(network.id, endpointId)
    let cancel = () => {}
    const late = new Promise<'late'>((resolve) => {
      cancel = clock.after(RELEASE_MS, () => resolve('late'))
    })
    try {
      const said = await Promise.race([releasing, late])
      if (said === 'late' && claims.get(endpointId)?.state !== 'releasing') await releasing
      else if (said === 'late') {
        releasing.catch(() => settler.kick())
        settler.kick()
      }
    } finally {
      cancel()
    }
    this.#unuse(endpointId)
  }

  async readMembers(network: Network): Promise<void> {
    if (this.#o.mirror.endpointTable.isSynced(network.id)) this.#read.delete(network.id)
    else if (!this.#o.mirror.used().includes(network.id)) this.#read.set(network.id, await this.#o.fetch(network.id))
  }

  remoteEndpoints(network: Network): readonly RemoteEndpoint[] {
    const { mirror } = this.#o
    const isFollowed = mirror.used().includes(network.id)
    const endpoints = isFollowed ? mirror.endpointsOf(network.id) : (this.#read.get(network.id) ?? [])
    return endpoints.filter(({ hostId }) => hostId !== mirror.hostId).map((endpoint) => this.remote(network, endpoint))
  }

  /** An endpoint of another host as inspect shows it. */
  remote(network: Network, endpoint: ClusterEndpoint): RemoteEndpoint {
    const length = (ip: ClusterEndpoint['ipv4']) => {
      const pool = ip === '' ? undefined : network.pools[poolWith(network.pools, ip)]
      return pool === undefined ? 0 : splitPrefix(pool.subnet).length
    }
    const { id, name, hostId, ipv4, ipv6, mac } = endpoint
    const where = this.#o.mirror.host(hostId)
    const host = { host: where?.name ?? hostId, ...(where?.state === 'down' ? { isHostDown: true } : {}) }
    return { id, name, ...host, ipv4, ipv4Length: length(ipv4), ipv6, ipv6Length: length(ipv6), mac }
  }

  /** Takes up what lives on this host. Does not wait for the store: what it has to be told is told as soon as it answers. */
  async restore(
    _networks: readonly Network[],
    endpoints: readonly { readonly network: Network; readonly endpoint: EndpointFinal }[],
  ): Promise<void> {
    const { claims } = this.#o
    const alive = new Set(endpoints.map(({ endpoint }) => endpoint.endpointId))
    for (const claim of claims.list()) if (!alive.has(claim.endpointId)) claims.put({ ...claim, state: 'releasing' })
    for (const { network, endpoint } of endpoints) {
      const { endpointId, containerName } = endpoint
      const claimed = claims.get(endpointId)?.endpoint ?? this.#fromFinal(network, endpoint)
      claims.put({ endpointId, networkId: network.id, name: containerName, state: 'held', endpoint: { ...claimed, active: true } })
      this.#use(endpointId, network.id)
    }
    this.#o.settler.joined()
  }

  /** An endpoint whose claim was lost with the engine's store, from the engine's record. */
  #fromFinal(network: Network, final: EndpointFinal): ClusterEndpoint {
    const { mirror, membership } = this.#o
    return {
      id: final.endpointId,
      networkId: network.id,
      containerId: final.containerId,
      name: final.containerName,
      dnsNames: final.dnsNames.slice(0, 64),
      ipv4: final.ipv4,
      ipv6: final.ipv6,
      mac: final.mac === '' ? macOf((final.ipv4 || final.ipv6) as NonNullable<ClusterEndpoint['hostAddress']>) : final.mac,
      hostId: mirror.hostId,
      hostAddress: membership.address,
      active: true,
    }
  }

  #vniOf({ networkId, ipv4, ipv6 }: ClusterEndpoint): number {
    const network = this.#o.mirror.network(networkId)
    const pools = network?.subnets.map(({ subnet }) => ({ subnet, aux: {} })) ?? []
    const ip = ipv4 || ipv6
    return ip === '' ? 0 : (network?.subnets[poolWith(pools, ip)]?.vni ?? 0)
  }

  #use(endpointId: string, networkId: string): void {
    if (this.#uses.has(endpointId)) return
    this.#uses.set(endpointId, networkId)
    this.#o.mirror.endpointTable.use(networkId)
  }

  #unuse(endpointId: string): void {
    const networkId = this.#uses.get(endpointId)
    if (networkId === undefined) return
    this.#uses.delete(endpointId)
    this.#o.mirror.endpointTable.unuse(networkId)
  }

  async #whileBusy<T>(networkId: string, run: () => Promise<T>): Promise<T> {
    this.busy.add(networkId)
    try {
      return await run()
    } finally {
      this.busy.delete(networkId)
    }
  }
}

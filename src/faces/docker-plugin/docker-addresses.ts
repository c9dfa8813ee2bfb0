/**
 * The authority over networks that a Docker Engine makes here: subnets and addresses are Docker's, we take them as they come. The
 * subnet is held in the engine's address space, so that no network of our own is laid over it.
 */
import { type Cidr, type Ip, parseCidr, parseIp, parseMac } from '../../base/address.ts'
import type { Authority, EndpointAsk, EndpointGrant, NetworkGrant } from '../../drivers/authority.ts'
import type { NetworkDraft } from '../../drivers/types.ts'
import type { IpamPool, IpamPoolRequest, Network } from '../../model/network.ts'
import type { SubnetSpace } from './ports.ts'

/** The IPAM driver of such networks, as the engine's records name it. */
export const DOCKER_IPAM = 'docker'

export class DockerAddresses implements Authority {
  readonly name = 'Docker'
  readonly #space: SubnetSpace
  readonly #isGiven: (subnet: Cidr) => boolean
  /** Keys in the address space, by network. */
  readonly #keys = new Map<string, string[]>()

  /** `isGiven` says whether our own IPAM gave the subnet to Docker: it holds it then. */
  constructor(space: SubnetSpace, isGiven: (subnet: Cidr) => boolean) {
    this.#space = space
    this.#isGiven = isGiven
  }

  async grantNetwork(draft: NetworkDraft, requests: readonly IpamPoolRequest[]): Promise<NetworkGrant> {
    const pools = requests.map(
      ({ subnet = '', gateway, aux = {} }): IpamPool => ({
        subnet: parseCidr(subnet),
        ...(gateway ? { gateway: parseIp(gateway) } : {}),
        aux: Object.fromEntries(Object.entries(aux).map(([name, ip]) => [name, parseIp(ip)])),
      }),
    )
    const keys: string[] = []
    try {
      for (const { subnet } of pools)
        if (!this.#isGiven(subnet))
          keys.push(this.#space.requestPool({ family: subnet.includes(':') ? 6 : 4, subnet, holder: holderOf(draft), shared: false }).key)
    } catch (error) {
      for (const key of keys) this.#space.releasePool(key)
      throw error
    }
    this.#keys.set(draft.id, keys)
    return { pools }
  }

  async removeNetwork(network: Network): Promise<void> {
    for (const key of this.#keys.get(network.id) ?? []) this.#space.releasePool(key)
    this.#keys.delete(network.id)
  }

  async grantEndpoint(_network: Network, { settings }: EndpointAsk): Promise<EndpointGrant> {
    const ip = (text: string | undefined): Ip | undefined => (text ? parseIp(text) : undefined)
    const ipv4 = ip(settings.ipv4)
    const ipv6 = ip(settings.ipv6)
    return { ...(ipv4 ? { ipv4 } : {}), ...(ipv6 ? { ipv6 } : {}), ...(settings.mac ? { mac: parseMac(settings.mac) } : {}) }
  }

  /** Holds the subnets of stored networks again; before anything is asked for. */
  hold(networks: readonly Network[]): void {
    for (const network of networks)
      this.#keys.set(
        network.id,
        network.pools
          .filter(({ subnet }) => !this.#isGiven(subnet))
          .map(({ subnet }) => this.#space.restorePool({ subnet, holder: holderOf(network), shared: false, aux: [] })),
      )
  }
}

function holderOf({ name }: { readonly name: string }): string {
  return `network "${name}"`
}

/**
 * Addresses that containers were given by hand. They are declared to the allocator for as long as the container exists, running or not,
 * so that automatic choice leaves them alone. Networks are known by name here: one that is removed and made anew finds its declarations.
 */
import { familyOf, type Ip, tryParseIp } from '../base/address.ts'
import type { AddressSpace } from '../ipam/address-space.ts'
import type { EndpointSettings } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import type { Networks } from './networks.ts'

type Wanted = ReadonlyMap<string, readonly Ip[]>

export class StaticAddresses {
  readonly #networks: Networks
  readonly #ipam: AddressSpace
  /** Container -> network as the container names it -> addresses. */
  readonly #byContainer = new Map<string, Wanted>()

  constructor(networks: Networks, ipam: AddressSpace) {
    this.#networks = networks
    this.#ipam = ipam
  }

  /** Replaces what `containerId` has declared; without endpoints everything is taken back. Idempotent. */
  declare(containerId: string, endpoints: readonly { readonly network: string; readonly settings: EndpointSettings }[]): void {
    const wanted = new Map<string, readonly Ip[]>()
    for (const { network, settings } of endpoints) {
      const ips = [settings.ipv4, settings.ipv6].flatMap((text) => (text ? (tryParseIp(text) ?? []) : []))
      if (ips.length > 0) wanted.set(network, ips)
    }
    const before = this.#byContainer.get(containerId)
    if (before !== undefined) this.#each(before, (key, ip) => this.#ipam.unreserve(key, ip, containerId))
    this.#byContainer.delete(containerId)
    if (wanted.size === 0) return
    this.#byContainer.set(containerId, wanted)
    this.#each(wanted, (key, ip) => this.#ipam.reserve(key, ip, containerId))
  }

  /** A network came to be: containers may have been waiting for it by name. */
  networkAdded(network: Network): void {
    for (const [containerId, wanted] of this.#byContainer)
      for (const [ref, ips] of wanted)
        if (ref === network.name || ref === network.id)
          this.#each(new Map([[ref, ips]]), (key, ip) => this.#ipam.reserve(key, ip, containerId))
  }

  /** Addresses that lie in no pool are passed over: starting the container says so. */
  #each(wanted: Wanted, act: (key: string, ip: Ip) => void): void {
    for (const [ref, ips] of wanted) {
      const network = this.#networks.byName(ref) ?? this.#networks.list().find((n) => n.id === ref)
      if (network === undefined) continue
      for (const ip of ips) {
        const key = this.#networks.poolKey(network, familyOf(ip), ip)
        if (key !== undefined) act(key, ip)
      }
    }
  }
}

/** What a driver is: a pure translation from the model to wanted kernel state. No driver touches the kernel itself. */
import { type Cidr, cidrContains, type Ip, type Mac } from '../base/address.ts'
import type { Address, Link, LinkSpec } from '../model/kernel-state.ts'
import type { Network } from '../model/network.ts'
import type { FirewallEndpoint, FirewallNetwork, GatewayMode } from '../plan/firewall/elements.ts'
import type { WantedInside, WantedLink } from '../plan/wanted.ts'
import type { AuthorityData } from './authority.ts'
import type { Options } from './options.ts'

/** A network that is being asked for, before it has pools. */
export interface NetworkDraft {
  readonly id: string
  readonly name: string
  readonly enableIpv4: boolean
  readonly enableIpv6: boolean
  readonly internal: boolean
  readonly options: Options
  /** Requested subnets. */
  readonly subnets: readonly { readonly subnet?: string; readonly ipRange?: string }[]
}

/** Facts of one attachment that the driver needs. */
export interface EndpointFacts {
  readonly id: string
  readonly ifname: string
  readonly hostIfname: string
  readonly mac: Mac | ''
  readonly ipv4: Ip | ''
  readonly ipv6: Ip | ''
  readonly linkLocalIps: readonly Ip[]
  readonly sysctls: readonly { readonly path: string; readonly value: string }[]
  /** The kernel bridges translated packets too (br_netfilter is on). */
  readonly bridgeNetfilter?: boolean
  /** Descriptor of the sandbox's namespace, -1 when only the outer side matters. */
  readonly netnsFd: number
  /** What the network's authority said of this endpoint; empty when there is none. */
  readonly data: AuthorityData
}

export interface NetworkWanted {
  readonly links: readonly WantedLink[]
  readonly firewall?: FirewallNetwork
}

/** How an endpoint's interface comes into its sandbox. */
export type Plug =
  /** A veth pair: `link` is the outer end, its spec creates the inner one. `place`: namespace file in which the outer end lives, else the host. */
  | { readonly kind: 'pair'; readonly link: WantedLink; readonly place?: string }
  /** A link without an outer end (macvlan, ipvlan): born in the sandbox, with `netnsFd` in its spec and a parent on the host. */
  | { readonly kind: 'born'; readonly link: LinkSpec }
  /** A link of the host that somebody else made: moved in and renamed, with `mac` if given; when the endpoint goes, moved back under its old name. */
  | { readonly kind: 'taken'; readonly hostIfname: string; readonly mac?: Mac }
  /** The endpoint has no interface: a plugin that named none. It keeps its addresses and names. */
  | { readonly kind: 'none' }

export interface EndpointWanted {
  readonly plug: Plug
  readonly inside: WantedInside
  readonly firewall?: FirewallEndpoint
}

/** What a driver may look at on the host. */
export interface HostFacts {
  link(name: string): Link | undefined
  addressesOf(link: string): readonly Address[]
}

/** A live endpoint of a network, as seen by the host side. */
export interface MemberFacts {
  readonly ipv4: Ip | ''
  readonly ipv6: Ip | ''
  readonly mac: Mac | ''
}

export interface Driver {
  readonly name: string
  readonly scope: 'local' | 'global'
  /** Only one network of this driver can exist (`host`, `null`). */
  readonly singleton: boolean
  /** Networks of this driver have no addresses of ours. */
  readonly withoutIpam: boolean
  /** A stand-in for a driver that is not there now. */
  readonly isAbsent?: boolean
  /** Embedded DNS, aliases and --ip work on it. */
  readonly userDefined: boolean
  /** Throws NetError with Docker's text when an option is wrong. */
  validate(draft: NetworkDraft): void
  /** Families for which no gateway address is to be reserved. */
  skipGateway(draft: NetworkDraft): { ipv4: boolean; ipv6: boolean }
  /** What only the host, and the driver's other networks, can tell; asked before a new network is made. Throws Docker's texts. */
  checkHost?(network: Network, host: HostFacts, others: readonly Network[]): void
  networkWanted(network: Network): NetworkWanted
  /** Links among those of `networkWanted` whose state follows from the network's members: asked again whenever one comes or goes. */
  membersWanted?(network: Network, members: readonly MemberFacts[], host: HostFacts): readonly WantedLink[]
  endpointWanted(network: Network, endpoint: EndpointFacts): EndpointWanted
  /** Default gateways an endpoint with these addresses could use ('' = none in that family). */
  gatewayOf(network: Network, data: AuthorityData, ips?: EndpointIps): { ipv4: Ip | ''; ipv6: Ip | '' }
  /** Families in which an endpoint can be the default route without a gateway address (ipvlan l3). */
  deviceRoute?(network: Network): { ipv4: boolean; ipv6: boolean }
  /** Names that the network does not know are asked outside although it gives no default route (a LAN without a known gateway). */
  reachesOutside?(network: Network): boolean
  /** Its endpoints reach the outside through docker_gwbridge when the sandbox has no other gateway. */
  usesGatewayBridge?(network: Network, data: AuthorityData): boolean
  /** Where published ports of its endpoints lead through. Undefined: nothing of it can be published. */
  publishing?(network: Network): Publishing | undefined
  /** Prefix of interface names in the sandbox, `eth` unless said. */
  ifacePrefix?(network: Network, data: AuthorityData): string
  /** MAC for an address (overlay: 02:42 and the address); random when absent or undefined. `''` = the kernel's or the parent's. */
  macFor?(ipv4: Ip | '', network: Network): Mac | '' | undefined
  /** Prefix length of an endpoint's address, where it need not be the pool's. */
  prefixLength?(data: AuthorityData, ip: Ip): number | undefined
  /** Links of `networkWanted` may be wanted by several networks (a VLAN sub-interface): the last one's removal takes them away. */
  readonly sharesLinks?: boolean
  /** Subnets may overlap those of other networks of this driver (Docker's macvlan: same parent, different ranges). */
  readonly sharesSubnets?: boolean
  /** The device that a network has for itself, when it has one. */
  deviceOf?(network: Network): string
  /** What two networks that claim one device, or overlap, cannot share; undefined when they can live side by side. */
  conflict?(network: Network, other: Network): string | undefined
}

export interface Publishing {
  /** Device of the host behind which the endpoints are. */
  readonly bridge: string
  readonly mode4: GatewayMode
  readonly mode6: GatewayMode
  /** Host address for bindings that name none. */
  readonly hostBindingIpv4: Ip | undefined
}

export interface EndpointIps {
  readonly ipv4: Ip | ''
  readonly ipv6: Ip | ''
}

/** The pool of a family, or undefined; of several the one that holds `ip`. */
export function poolOf(network: Network, family: 4 | 6, ip: Ip | '' = ''): { readonly subnet: Cidr; readonly gateway?: Ip } | undefined {
  const pools = network.pools.filter((pool) => pool.subnet.includes(':') === (family === 6))
  return pools.length > 1 && ip !== '' ? pools.find((pool) => cidrContains(pool.subnet, ip)) : pools[0]
}

/** The gateways of the pools that an endpoint's addresses are from. */
export function gatewaysOf(network: Network, ips: EndpointIps = { ipv4: '', ipv6: '' }): { ipv4: Ip | ''; ipv6: Ip | '' } {
  return { ipv4: poolOf(network, 4, ips.ipv4)?.gateway ?? '', ipv6: poolOf(network, 6, ips.ipv6)?.gateway ?? '' }
}

/** What a driver is: a pure translation from the model to wanted kernel state. No driver touches the kernel itself. */
import type { Cidr, Ip, Mac } from '../base/address.ts'
import type { Network } from '../model/network.ts'
import type { FirewallEndpoint, FirewallNetwork } from '../plan/firewall/elements.ts'
import type { WantedInside, WantedLink } from '../plan/wanted.ts'
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
  /** Descriptor of the sandbox's namespace. */
  readonly netnsFd: number
}

export interface NetworkWanted {
  readonly links: readonly WantedLink[]
  readonly firewall?: FirewallNetwork
}

export interface EndpointWanted {
  /** Host side; its spec creates the container's side too. */
  readonly link: WantedLink
  readonly inside: WantedInside
  readonly firewall?: FirewallEndpoint
}

export interface Driver {
  readonly name: string
  readonly scope: 'local' | 'global'
  /** Only one network of this driver can exist (`host`, `null`). */
  readonly singleton: boolean
  /** Networks of this driver have no addresses of ours. */
  readonly withoutIpam: boolean
  /** Embedded DNS, aliases and --ip work on it. */
  readonly userDefined: boolean
  /** Throws NetError with Docker's text when an option is wrong. */
  validate(draft: NetworkDraft): void
  /** Families for which no gateway address is to be reserved. */
  skipGateway(draft: NetworkDraft): { ipv4: boolean; ipv6: boolean }
  networkWanted(network: Network): NetworkWanted
  endpointWanted(network: Network, endpoint: EndpointFacts): EndpointWanted
  /** Default gateways an endpoint could use ('' = none in that family). */
  gatewayOf(network: Network): { ipv4: Ip | ''; ipv6: Ip | '' }
  /** The device that a network has for itself, when it has one. */
  deviceOf?(network: Network): string
  /** What two networks that claim one device, or overlap, cannot share; undefined when they can live side by side. */
  conflict?(network: Network, other: Network): string | undefined
}

/** The pool of a family, or undefined. */
export function poolOf(network: Network, family: 4 | 6): { readonly subnet: Cidr; readonly gateway?: Ip } | undefined {
  return network.pools.find((pool) => pool.subnet.includes(':') === (family === 6))
}

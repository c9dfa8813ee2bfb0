/** The network of the Container Network Model: what was asked for, what was allocated. */
import type { Cidr, Ip } from '../base/address.ts'

export interface IpamPool {
  readonly subnet: Cidr
  readonly gateway?: Ip
  readonly ipRange?: Cidr
  readonly aux: Readonly<Record<string, Ip>>
}

/** What the user asked of one pool; text is parsed by the controller so that errors carry Docker's words. */
export interface IpamPoolRequest {
  readonly subnet?: string
  readonly ipRange?: string
  readonly gateway?: string
  readonly aux?: Readonly<Record<string, string>>
}

export interface NetworkSpec {
  readonly name: string
  /** Empty = bridge. */
  readonly driver: string
  readonly scope?: string
  readonly enableIpv4?: boolean
  readonly enableIpv6?: boolean
  readonly internal?: boolean
  readonly attachable?: boolean
  readonly ingress?: boolean
  readonly configOnly?: boolean
  readonly configFrom?: string
  readonly ipam?: {
    readonly driver?: string
    readonly options?: Readonly<Record<string, string>> | null
    readonly config?: readonly IpamPoolRequest[]
  }
  readonly options?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
}

/** A network as stored. Immutable: a change makes a new value. */
export interface Network {
  readonly id: string
  readonly name: string
  /** RFC3339 with nanoseconds. */
  readonly created: string
  readonly driver: string
  readonly scope: 'local' | 'global' | 'swarm'
  readonly enableIpv4: boolean
  readonly enableIpv6: boolean
  readonly internal: boolean
  readonly attachable: boolean
  readonly ingress: boolean
  readonly configOnly: boolean
  readonly configFrom: string
  readonly ipamDriver: string
  readonly ipamOptions: Readonly<Record<string, string>> | null
  /** Allocated pools, IPv4 first, in the order of the request. */
  readonly pools: readonly IpamPool[]
  /** User's options, unknown ones kept. */
  readonly options: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  /** bridge, host, none: cannot be removed. */
  readonly predefined: boolean
  /** The pools are the authority's: our own address space knows nothing of them. */
  readonly grantedPools?: true
  /** What the network's authority (a cluster, a plugin) wants to find again. */
  readonly data?: Readonly<Record<string, unknown>>
}

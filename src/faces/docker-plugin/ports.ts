/** What the plugin face needs of the engine's parts that it may not import: made by the daemon. */
import type { Cidr, Family, Ip } from '../../base/address.ts'

/** The engine's address space, as far as Docker's pools are kept in it (ipam/address-space.ts). */
export interface SubnetSpace {
  requestPool(request: {
    readonly family: Family
    readonly subnet?: string
    readonly ipRange?: string
    readonly holder: string
    readonly shared: boolean
    readonly reserved?: readonly Cidr[]
    readonly avoid?: readonly Cidr[]
  }): { readonly key: string; readonly subnet: Cidr; readonly ipRange?: Cidr }
  restorePool(stored: {
    readonly subnet: Cidr
    readonly ipRange?: Cidr
    readonly holder: string
    readonly shared: boolean
    readonly aux: readonly Ip[]
  }): string
  releasePool(key: string): void
  requestAddress(key: string, request: { readonly ip?: Ip; readonly holder: string }): Ip
  releaseAddress(key: string, ip: Ip): void
  requestGateway(key: string, ip: Ip | undefined, holder?: string): Ip
}

/** A network of Docker's in a pool of the cluster; see cluster/pools. */
export interface PoolRequested {
  /** Made up for the network: Docker has not said its id. */
  readonly user: string
  readonly for: 'docker'
  readonly name: string
  readonly family: Family
  readonly subnet?: string | undefined
  readonly ipRange?: string | undefined
}

/** What a host has of the cluster's pools, as stored here. */
export interface PoolHeld {
  readonly subnet: Cidr
  readonly id: string
  readonly for: 'engine' | 'docker'
  readonly state: 'asked' | 'held' | 'releasing'
  /** Milliseconds since the epoch. */
  readonly at: number
}

/** Pools of the cluster: the same subnet is the same pool on every host. What is not confirmed is given back by the next engine. */
export interface ClusterPools {
  /** Throws Docker's texts, `unavailable` while the cluster's store is away. */
  join(ask: PoolRequested): Promise<{ readonly subnet: Cidr; readonly ipRange?: Cidr }>
  /** The gateway: the given one, else that of the pool's other networks, else the lowest free address. */
  reserve(subnet: Cidr, user: string, ip: Ip | undefined): Promise<Ip>
  take(ask: { readonly subnet: Cidr; readonly user: string; readonly ip?: Ip | undefined; readonly name: string }): Promise<Ip>
  /** The Docker Engine is about to have the answer. */
  confirm(subnet: Cidr, user: string, ip?: Ip): void
  /** Idempotent; never throws. */
  free(subnet: Cidr, user: string, ip: Ip): Promise<void>
  /** Idempotent; never throws. */
  leave(subnet: Cidr, user: string): Promise<void>
  usesSubnet(subnet: Cidr): boolean
  readonly claims: {
    user(subnet: Cidr, id: string): PoolHeld | undefined
    users(): readonly PoolHeld[]
    addressesOf(subnet: Cidr, user: string): readonly { readonly ip: Ip; readonly at: number; readonly state: PoolHeld['state'] }[]
  }
}

/** The engine's store. */
export interface Records {
  get<T>(key: string): T | undefined
  put(key: string, value: unknown): void
  remove(key: string): void
  list<T>(prefix: string): [string, T][]
}

export interface HostView {
  /** Subnets that the host itself uses: not chosen by themselves. */
  subnetsInUse(): { readonly reserved: readonly Cidr[]; readonly avoid: readonly Cidr[] }
  hasLink(name: string): boolean
  /** The interface that has exactly this subnet on its link. */
  linkOnSubnet(subnet: Cidr): string | undefined
}

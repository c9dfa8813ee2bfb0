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

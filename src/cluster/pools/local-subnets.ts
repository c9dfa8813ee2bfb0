/** Subnets of the cluster's pools that networks of this host use, held in its own address space too: no other network is laid over them. */
import { type Cidr, type Family, familyOf, type Ip } from '../../base/address.ts'
import type { PoolClaims } from './claims.ts'

/** The engine's address space (ipam/address-space.ts), as far as it is used here. */
export interface LocalSpace {
  requestPool(request: { readonly family: Family; readonly subnet: string; readonly holder: string; readonly shared: boolean }): {
    readonly key: string
  }
  restorePool(stored: { readonly subnet: Cidr; readonly holder: string; readonly shared: boolean; readonly aux: readonly Ip[] }): string
  releasePool(key: string): void
}

export class LocalSubnets {
  readonly #space: LocalSpace
  readonly #claims: PoolClaims
  readonly #inUse: () => readonly Cidr[]
  readonly #keys = new Map<Cidr, string>()
  /** Networks that are just asking, by subnet. */
  readonly #entering = new Map<Cidr, number>()

  /** `inUse`: what the host itself uses. Takes up at once what an earlier engine has held. */
  constructor(space: LocalSpace, claims: PoolClaims, inUse: () => readonly Cidr[]) {
    this.#space = space
    this.#claims = claims
    this.#inUse = inUse
    for (const { subnet, name } of claims.users())
      if (claims.usesSubnet(subnet) && !this.#keys.has(subnet))
        this.#keys.set(subnet, space.restorePool({ subnet, holder: holderOf(name), shared: false, aux: [] }))
  }

  inUse(): readonly Cidr[] {
    return this.#inUse()
  }

  /** Before a network asks for the subnet; {@link entered} follows. Throws `denied` with Docker's text when another one is in the way. */
  enter(subnet: Cidr, name: string): void {
    if (!this.#keys.has(subnet)) {
      const got = this.#space.requestPool({ family: familyOf(subnet), subnet, holder: holderOf(name), shared: false })
      this.#keys.set(subnet, got.key)
    }
    this.#entering.set(subnet, (this.#entering.get(subnet) ?? 0) + 1)
  }

  /** It has got it, or not. */
  entered(subnet: Cidr): void {
    const left = (this.#entering.get(subnet) ?? 1) - 1
    if (left > 0) this.#entering.set(subnet, left)
    else this.#entering.delete(subnet)
    this.settle(subnet)
  }

  /** Lets go of a subnet that no network of this host uses any more. */
  settle(subnet: Cidr): void {
    const key = this.#keys.get(subnet)
    if (key === undefined || this.#entering.has(subnet) || this.#claims.usesSubnet(subnet)) return
    this.#keys.delete(subnet)
    this.#space.releasePool(key)
  }
}

const holderOf = (name: string): string => `network "${name}"`

/**
 * What this host has of the cluster's pools, kept in the engine's own store: written before the first request and removed after the last,
 * so that nothing that was claimed is forgotten, whatever happens in between.
 */
import type { Cidr, Ip } from '../../base/address.ts'
import type { Store } from '../../store/types.ts'
import { POOL_CLAIM } from './keys.ts'

/** Whose records tell what lives: the engine's own, or a Docker Engine's. */
export type ClaimedFor = 'engine' | 'docker'

/**
 * `asked`: a request may be on its way. `held`: ours, and claimed again when the store does not have it. `releasing`: to be freed as soon
 * as the store can be reached.
 */
export type ClaimState = 'asked' | 'held' | 'releasing'

export interface UserClaim {
  readonly subnet: Cidr
  readonly id: string
  readonly for: ClaimedFor
  readonly name: string
  readonly state: ClaimState
  readonly ipRange?: Cidr
  readonly reserved: readonly Ip[]
  readonly hasGateway: boolean
  /** Milliseconds since the epoch. */
  readonly at: number
}

export interface AddressClaim {
  readonly subnet: Cidr
  readonly ip: Ip
  readonly user: string
  readonly for: ClaimedFor
  /** The endpoint's id; '' when only the address is known (Docker). */
  readonly endpointId: string
  readonly name: string
  readonly state: ClaimState
  readonly at: number
}

export class PoolClaims {
  readonly #store: Store
  readonly #users = new Map<string, UserClaim>()
  readonly #addresses = new Map<string, AddressClaim>()

  constructor(store: Store) {
    this.#store = store
    // whoever asked is gone with the engine that ran then
    const later = <T extends { readonly state: ClaimState }>(claim: T): T =>
      claim.state === 'asked' ? { ...claim, state: 'releasing' } : claim
    for (const [key, claim] of store.list<UserClaim>(POOL_CLAIM.users)) this.#users.set(key, later(claim))
    for (const [key, claim] of store.list<AddressClaim>(POOL_CLAIM.addresses)) this.#addresses.set(key, later(claim))
  }

  users(): readonly UserClaim[] {
    return [...this.#users.values()]
  }

  user(subnet: Cidr, id: string): UserClaim | undefined {
    return this.#users.get(POOL_CLAIM.user(subnet, id))
  }

  /** A network of this host uses the subnet. */
  usesSubnet(subnet: Cidr): boolean {
    return this.users().some((user) => user.subnet === subnet && user.state !== 'releasing')
  }

  putUser(claim: UserClaim): void {
    const key = POOL_CLAIM.user(claim.subnet, claim.id)
    this.#store.put(key, claim)
    this.#users.set(key, claim)
  }

  removeUser({ subnet, id }: Pick<UserClaim, 'subnet' | 'id'>): void {
    const key = POOL_CLAIM.user(subnet, id)
    this.#store.remove(key)
    this.#users.delete(key)
  }

  addresses(): readonly AddressClaim[] {
    return [...this.#addresses.values()]
  }

  addressesOf(subnet: Cidr, user: string): readonly AddressClaim[] {
    return this.addresses().filter((claim) => claim.subnet === subnet && claim.user === user)
  }

  address(subnet: Cidr, ip: Ip): AddressClaim | undefined {
    return this.#addresses.get(POOL_CLAIM.address(subnet, ip))
  }

  putAddress(claim: AddressClaim): void {
    const key = POOL_CLAIM.address(claim.subnet, claim.ip)
    this.#store.put(key, claim)
    this.#addresses.set(key, claim)
  }

  removeAddress({ subnet, ip }: Pick<AddressClaim, 'subnet' | 'ip'>): void {
    const key = POOL_CLAIM.address(subnet, ip)
    this.#store.remove(key)
    this.#addresses.delete(key)
  }
}

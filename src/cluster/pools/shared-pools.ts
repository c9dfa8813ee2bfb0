/**
 * Pools and addresses of the IPAM driver `causeway`, for networks of any kind on any host of the cluster. What a host has taken it keeps,
 * whether it is up or down, until it gives it back or is evicted. Docker's plugin and the engine itself ask here.
 */
import type { Cidr, Ip } from '../../base/address.ts'
import type { Store } from '../../store/types.ts'
import type { Conflict } from '../endpoint-claims.ts'
import { PoolClaims } from './claims.ts'
import type { PoolContext } from './context.ts'
import { FreeAddresses } from './free-addresses.ts'
import { type LocalSpace, LocalSubnets } from './local-subnets.ts'
import { type AddressAsk, PoolAddresses } from './pool-addresses.ts'
import { type PoolAsk, PoolMembers, type PoolTaken } from './pool-members.ts'
import type { WriteStep } from './pool-store.ts'
import { gatewayOfPool } from './record.ts'
import { PoolSettler } from './settle-pools.ts'

export interface SharedPoolsOptions extends Omit<PoolContext, 'claims' | 'onUnsettled'> {
  /** The engine's own store. */
  readonly cache: Store
  readonly space: LocalSpace
  /** Subnets that the host itself uses: never chosen. */
  readonly inUse: () => readonly Cidr[]
  readonly onConflict: (conflict: Conflict) => void
}

/** A pool as `causeway ipam ls` shows it. */
export interface PoolView {
  readonly subnet: Cidr
  readonly gateway: Ip | ''
  readonly networks: readonly { readonly id: string; readonly name: string; readonly host: string; readonly reserved: readonly Ip[] }[]
  readonly addresses: readonly { readonly ip: Ip; readonly name: string; readonly host: string; readonly network: string }[]
}

/** An address that a host has. */
export interface HostAddress {
  readonly subnet: Cidr
  readonly ip: Ip
  readonly name: string
  readonly network: string
}

export class SharedPools {
  readonly claims: PoolClaims
  readonly #o: SharedPoolsOptions
  readonly #members: PoolMembers
  readonly #addresses: PoolAddresses
  readonly #settler: PoolSettler

  constructor(options: SharedPoolsOptions) {
    this.#o = options
    this.claims = new PoolClaims(options.cache)
    const context: PoolContext = { ...options, claims: this.claims, onUnsettled: () => this.#settler.kick() }
    const free = new FreeAddresses(context)
    const members = new PoolMembers({ ...context, free, local: new LocalSubnets(options.space, this.claims, options.inUse) })
    const addresses = new PoolAddresses({ ...context, free, members })
    this.#members = members
    this.#addresses = addresses
    this.#settler = new PoolSettler({ ...context, members, addresses, onConflict: options.onConflict })
  }

  join(ask: PoolAsk): Promise<PoolTaken> {
    return this.#members.join(ask)
  }

  reserve(subnet: Cidr, user: string, ip?: Ip): Promise<Ip> {
    return this.#members.reserve(subnet, user, ip)
  }

  leave(subnet: Cidr, user: string): Promise<void> {
    return this.#members.leave(subnet, user)
  }

  take(ask: AddressAsk): Promise<Ip> {
    return this.#addresses.take(ask)
  }

  free(subnet: Cidr, user: string, ip: Ip): Promise<void> {
    return this.#addresses.free(subnet, user, ip)
  }

  /** The asker has the answer: from now on it is kept over a restart. What is never confirmed the next engine gives back. */
  confirm(subnet: Cidr, user: string, ip?: Ip): void {
    const { claims } = this
    const own = ip === undefined ? claims.user(subnet, user) : undefined
    if (own?.state === 'asked') claims.putUser({ ...own, state: 'held' })
    const address = ip === undefined ? undefined : claims.address(subnet, ip)
    if (address?.user === user && address.state === 'asked') claims.putAddress({ ...address, state: 'held' })
  }

  /** Networks of this host have their addresses from this subnet. */
  usesSubnet(subnet: Cidr): boolean {
    return this.claims.usesSubnet(subnet)
  }

  /** Throws `unavailable`. */
  async list(): Promise<PoolView[]> {
    const { records, mirror } = this.#o
    const [{ pools }, addresses] = await Promise.all([records.all(), records.allAddresses()])
    const nameOf = (hostId: string) => mirror.host(hostId)?.name ?? hostId
    return [...pools.values()].map(({ value }) => {
      const networkName = (hostId: string, user: string) => value.users.find((one) => one.hostId === hostId && one.id === user)?.name ?? ''
      return {
        subnet: value.subnet,
        gateway: gatewayOfPool(value) ?? '',
        networks: value.users.map(({ id, name, hostId, reserved }) => ({ id, name, host: nameOf(hostId), reserved })),
        addresses: (addresses.get(value.subnet) ?? []).flatMap(({ ip, value: of }) =>
          of === undefined ? [] : [{ ip, name: of.name, host: nameOf(of.hostId), network: networkName(of.hostId, of.user) }],
        ),
      }
    })
  }

  /** Throws `unavailable`. */
  async addressesOf(hostId: string): Promise<HostAddress[]> {
    const { records } = this.#o
    const [{ pools }, addresses] = await Promise.all([records.all(), records.allAddresses()])
    return [...addresses].flatMap(([subnet, list]) =>
      list.flatMap(({ ip, value }) =>
        value?.hostId === hostId
          ? [{ subnet, ip, name: value.name, network: pools.get(subnet)?.value.users.find(({ id }) => id === value.user)?.name ?? '' }]
          : [],
      ),
    )
  }

  /** Frees what a host has. `write` does one transaction under the eviction's mark. Returns the addresses freed. */
  async evict(hostId: string, write: WriteStep): Promise<number> {
    const { records } = this.#o
    const { pools } = await records.all()
    let freed = 0
    for (const [subnet, { value }] of pools)
      if (value.users.some((user) => user.hostId === hostId)) freed += await records.drop(subnet, (owner) => owner.hostId === hostId, write)
    return freed
  }

  /** The host has joined (again): what it has is compared with the store. */
  joined(): void {
    this.#settler.joined()
  }

  kick(): void {
    this.#settler.kick()
  }

  close(): Promise<void> {
    return this.#settler.close()
  }
}

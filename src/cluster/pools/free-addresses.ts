/** The lowest address of a pool that nobody has: as the store says, less what this host is just taking. */
import { type Cidr, familyOf, type Ip } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { lowestAddress } from '../choose.ts'
import type { Mirror } from '../mirror.ts'
import type { PoolClaims } from './claims.ts'
import type { KnownPool, PoolStore } from './pool-store.ts'
import { isReservedInPool } from './record.ts'

export class FreeAddresses {
  readonly #records: PoolStore
  readonly #claims: PoolClaims
  readonly #mirror: Mirror
  /** `<subnet> <ip>` */
  readonly #pending = new Set<string>()

  constructor(options: { readonly records: PoolStore; readonly claims: PoolClaims; readonly mirror: Mirror }) {
    this.#records = options.records
    this.#claims = options.claims
    this.#mirror = options.mirror
  }

  /** This host is taking the address. Returns how to say that it has, or has not. */
  reserve(subnet: Cidr, ip: Ip): () => void {
    const mark = `${subnet} ${ip}`
    this.#pending.add(mark)
    return () => this.#pending.delete(mark)
  }

  /** Passes over `skip` free addresses: hosts that race spread out. Throws `unavailable` when the range is full. */
  async lowest(
    subnet: Cidr,
    ipRange: Cidr | undefined,
    pool: KnownPool | undefined,
    lost: ReadonlySet<Ip> = new Set(),
    skip = 0,
  ): Promise<Ip> {
    const taken = new Set((await this.#records.addresses(subnet)).map(({ ip }) => ip))
    const hosts = new Set(this.#mirror.hosts().map(({ address }) => address))
    const isTaken = (ip: Ip) =>
      taken.has(ip) ||
      lost.has(ip) ||
      hosts.has(ip) ||
      this.#pending.has(`${subnet} ${ip}`) ||
      this.#claims.address(subnet, ip) !== undefined ||
      (pool !== undefined && isReservedInPool(pool.value, ip))
    const range = { subnet, ...(ipRange ? { ipRange } : {}) }
    const found = lowestAddress(range, isTaken, skip) ?? lowestAddress(range, isTaken)
    if (found !== undefined) return found
    const family = familyOf(subnet)
    throw new NetError(
      'unavailable',
      `no available IPv${family} addresses on this network's address pools: ${ipRange ?? subnet} of the cluster`,
    )
  }
}

/** Addresses of the cluster's pools: each taken by one transaction that wins it or changes nothing, and kept until it is given back. */
import { type Cidr, cidrContains, type Ip } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { isReservedAddress } from '../choose.ts'
import { addressTaken, outOfRange } from './choose.ts'
import type { AddressClaim } from './claims.ts'
import { holderText, type PoolContext, promptly, rejoinIfLost } from './context.ts'
import type { FreeAddresses } from './free-addresses.ts'
import { POOL_KEY } from './keys.ts'
import type { PoolMembers } from './pool-members.ts'
import type { KnownPool } from './pool-store.ts'
import { isReservedInPool, type PoolAddress } from './record.ts'

const MAX_ATTEMPTS = 64

export interface AddressAsk {
  readonly subnet: Cidr
  readonly user: string
  /** Any when absent. */
  readonly ip?: Ip | undefined
  readonly endpointId?: string
  /** Container, as far as it is known. */
  readonly name: string
}

export interface PoolAddressesOptions extends PoolContext {
  readonly members: PoolMembers
  readonly free: FreeAddresses
}

export class PoolAddresses {
  readonly #o: PoolAddressesOptions

  constructor(options: PoolAddressesOptions) {
    this.#o = options
  }

  /** An address, until {@link free}. Throws Docker's texts; call {@link confirm} when the asker has the answer. */
  async take(ask: AddressAsk): Promise<Ip> {
    const { subnet, ip } = ask
    const { claims, records, membership, mirror } = this.#o
    const user = this.#o.members.claimOf(subnet, ask.user)
    if (ip !== undefined && !cidrContains(subnet, ip)) throw outOfRange(ip, subnet)
    const left = ip === undefined ? undefined : claims.address(subnet, ip)
    if (left?.state === 'releasing') await this.giveBack(left)
    const lost = new Set<Ip>()
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      // what is about to be refused is looked at anew: a gateway may have gone with its network
      const isAtOdds = ip !== undefined && this.#o.members.isReserved(subnet, ip)
      const pool = await this.#o.members.joined(user, isAtOdds || (attempt > 0 && lost.size === 0))
      const skip = attempt === 0 ? 0 : (this.#o.rng.bytes(1)[0] as number) % 2 ** Math.min(attempt, 6)
      const chosen = ip ?? (await this.#o.free.lowest(subnet, user.ipRange, pool, lost, skip))
      if (ip !== undefined) this.#refuseTaken(ip, subnet, pool)
      const own = membership.check()
      const claim: AddressClaim = {
        ...{ subnet, ip: chosen, user: user.id, for: user.for, endpointId: ask.endpointId ?? '', name: ask.name },
        ...{ state: 'asked', at: this.#o.clock.now() },
      }
      const value: PoolAddress = { ip: chosen, hostId: mirror.hostId, user: user.id, name: ask.name.slice(0, 255) }
      const key = POOL_KEY.address(subnet, chosen)
      const poolKey = POOL_KEY.pool(subnet)
      const done = this.#o.free.reserve(subnet, chosen)
      claims.putAddress(claim)
      try {
        const result = await records.store.txn({
          checks: [{ key: poolKey, version: pool.version }, own, { key, absent: true }],
          puts: [{ key, value: JSON.stringify(value) }],
        })
        if (result.ok) return chosen
        claims.removeAddress(claim)
        const there = result.current.get(key)
        if (there !== undefined && ip !== undefined) throw addressTaken(ip, subnet, holderText(this.#o.mirror, records.address(there)))
        if (there !== undefined) lost.add(chosen)
        if (result.current.get(poolKey)?.version !== pool.version) this.#o.members.forget(subnet)
        await rejoinIfLost(this.#o.membership, own, result.current)
      } catch (error) {
        // unknown outcome: it may have happened after all
        if (claims.address(subnet, chosen) !== undefined) {
          claims.putAddress({ ...claim, state: 'releasing' })
          this.#o.onUnsettled()
        }
        throw error
      } finally {
        done()
      }
    }
    throw new NetError('busy', `pool ${subnet} is being changed by too many hosts at once; try again`)
  }

  /** Gives an address back: at once, or as soon as the store answers. Idempotent, never throws. */
  async free(subnet: Cidr, user: string, ip: Ip): Promise<void> {
    const claim = this.#o.claims.address(subnet, ip)
    if (claim === undefined || claim.user !== user) return
    const released: AddressClaim = { ...claim, state: 'releasing' }
    this.#o.claims.putAddress(released)
    await promptly(this.#o, () => this.giveBack(released))
  }

  /** Throws `unavailable`. */
  async giveBack(claim: AddressClaim): Promise<void> {
    const { claims, records, mirror } = this.#o
    const key = POOL_KEY.address(claim.subnet, claim.ip)
    for (let attempt = 0; attempt < 8; attempt++) {
      const entry = await records.store.get(key)
      // taken anew meanwhile: what stands there now is not what was given back
      if (claims.address(claim.subnet, claim.ip)?.state !== 'releasing') return
      const owner = entry && records.address(entry)?.value
      const isOurs = owner?.hostId === mirror.hostId && owner.user === claim.user
      if (entry === undefined || !isOurs || (await records.store.txn({ checks: [{ key, version: entry.version }], deletes: [key] })).ok) {
        if (claims.address(claim.subnet, claim.ip)?.state === 'releasing') claims.removeAddress(claim)
        return
      }
    }
    throw new NetError('unavailable', `address ${claim.ip} of ${claim.subnet} is being changed by others`)
  }

  #refuseTaken(ip: Ip, subnet: Cidr, pool: KnownPool): void {
    const claim = this.#o.claims.address(subnet, ip)
    if (claim !== undefined) throw addressTaken(ip, subnet, `${claim.name || 'a container'} on this host`)
    if (isReservedInPool(pool.value, ip)) throw addressTaken(ip, subnet, 'the networks themselves: it is a gateway or an auxiliary address')
    if (isReservedAddress(subnet, ip)) throw addressTaken(ip, subnet, 'the subnet itself')
  }
}

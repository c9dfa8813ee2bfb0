/**
 * Brings the shared store in line with what this host has of its pools, in the background and for as long as it takes: gives back what was
 * given back here, writes again what the store has lost, and says what somebody else has got meanwhile.
 */
import type { Cidr } from '../../base/address.ts'
import { hasCode, messageOf } from '../../base/errors.ts'
import type { Conflict } from '../endpoint-claims.ts'
import { Pauses } from '../pauses.ts'
import type { AddressClaim, UserClaim } from './claims.ts'
import { holderText, type PoolContext } from './context.ts'
import { POOL_KEY } from './keys.ts'
import type { PoolAddresses } from './pool-addresses.ts'
import type { PoolMembers } from './pool-members.ts'
import type { KnownAddress } from './pool-store.ts'
import type { PoolAddress } from './record.ts'

export interface PoolSettlerOptions extends Omit<PoolContext, 'onUnsettled'> {
  readonly members: PoolMembers
  readonly addresses: PoolAddresses
  readonly onConflict: (conflict: Conflict) => void
}

export class PoolSettler {
  readonly #o: PoolSettlerOptions
  readonly #pauses: Pauses
  readonly #stopping = new AbortController()
  #running: Promise<void> | undefined
  #isWanted = false
  /** What the store says that this host has is compared too. */
  #compares = false

  constructor(options: PoolSettlerOptions) {
    this.#o = options
    this.#pauses = new Pauses({ clock: options.clock, rng: options.rng, hosts: () => options.mirror.hosts().length })
  }

  /** The host has joined: everything is compared. */
  joined(): void {
    this.#compares = true
    this.#pauses.end()
    this.kick()
  }

  /** Something is left to be given back. */
  kick(): void {
    this.#isWanted = true
    if (this.#stopping.signal.aborted) return
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  async close(): Promise<void> {
    this.#stopping.abort(new Error('closed'))
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    await Promise.resolve() // whoever kicks is in the middle of a change
    this.#pauses.reset()
    while (this.#isWanted && !signal.aborted) {
      this.#isWanted = false
      if (!this.#o.membership.isJoined) return // joining kicks again
      try {
        await this.#settle()
      } catch (error) {
        if (signal.aborted) return
        this.#o.log.warn('what this host has of the pools is not settled with the cluster store yet', { error: messageOf(error) })
        this.#isWanted = true
        await this.#pauses.wait(signal)
      }
    }
  }

  async #settle(): Promise<void> {
    const { claims, members, addresses } = this.#o
    for (const user of claims.users()) if (user.state === 'releasing') await members.giveBackUser(user)
    for (const address of claims.addresses()) if (address.state === 'releasing') await addresses.giveBack(address)
    if (!this.#compares) return
    for (const user of claims.users()) if (user.state === 'held') await this.#restore(user)
    await this.#compareAddresses()
    await this.#dropForgotten()
    this.#compares = false
  }

  async #restore(user: UserClaim): Promise<void> {
    try {
      await this.#o.members.restoreUser(user)
    } catch (error) {
      if (!hasCode(error, 'denied')) throw error
      this.#o.onConflict({ endpointId: user.id, networkId: user.id, name: user.name, why: messageOf(error) })
    }
  }

  /** Each address that is held here, as the store has it; and what the store says is ours and nobody here knows of. */
  async #compareAddresses(): Promise<void> {
    const { claims, records, mirror } = this.#o
    const all = await records.allAddresses()
    for (const claim of claims.addresses()) {
      if (claim.state !== 'held') continue
      const there = all.get(claim.subnet)?.find(({ ip }) => ip === claim.ip)
      if (there === undefined) await this.#claimAgain(claim)
      else if (there.value?.hostId !== mirror.hostId) this.#conflict(claim, there)
    }
    for (const [subnet, addresses] of all)
      for (const { ip, key, value, version } of addresses)
        if (value?.hostId === mirror.hostId && claims.address(subnet, ip) === undefined)
          await records.store.txn({ checks: [{ key, version }], deletes: [key] })
  }

  async #claimAgain(claim: AddressClaim): Promise<void> {
    const { records, membership, mirror, log } = this.#o
    const { subnet, ip, user, name } = claim
    const pool = await records.get(subnet)
    if (pool === undefined) return // its place is another pool's: said already
    const key = POOL_KEY.address(subnet, ip)
    const value: PoolAddress = { ip, hostId: mirror.hostId, user, name: name.slice(0, 255) }
    const result = await records.store.txn({
      checks: [{ key: POOL_KEY.pool(subnet), version: pool.version }, membership.check(), { key, absent: true }],
      puts: [{ key, value: JSON.stringify(value) }],
    })
    if (result.ok) return log.info('an address that the store did not have is claimed again', { ip, subnet, name })
    const entry = result.current.get(key)
    if (entry !== undefined) return this.#conflict(claim, records.address(entry))
    this.#compares = true // the pool has changed meanwhile
    this.kick()
  }

  #conflict(claim: AddressClaim, there: KnownAddress | undefined): void {
    const { claims, mirror, onConflict } = this.#o
    claims.removeAddress(claim)
    onConflict({
      endpointId: claim.endpointId || `${claim.subnet} ${claim.ip}`,
      networkId: claim.user,
      name: claim.name || `a container with ${claim.ip}`,
      why: `${claim.ip} of ${claim.subnet} belongs to ${holderText(mirror, there)} now`,
    })
  }

  /** Places that an earlier life of this host has left in pools. */
  async #dropForgotten(): Promise<void> {
    const { claims, records, mirror } = this.#o
    const { pools } = await records.all()
    const isForgotten = (subnet: Cidr, hostId: string, id: string) => hostId === mirror.hostId && claims.user(subnet, id) === undefined
    for (const [subnet, { value }] of pools)
      if (value.users.some(({ hostId, id }) => isForgotten(subnet, hostId, id)))
        await records.drop(subnet, ({ hostId, user }) => isForgotten(subnet, hostId, user))
  }
}

/**
 * Networks in the cluster's pools: each has a place in the pool of its subnet, and the pool goes with its last one. Networks that name the
 * same subnet share one pool, wherever they are; others get pools of their own. All places are in one value: whoever has seen its version
 * unchanged knows which gateways there are, and that the pool is there.
 */
import { type Cidr, cidrContains, cidrOverlaps, type Family, type Ip } from '../../base/address.ts'
import { hasCode, NetError } from '../../base/errors.ts'
import { hex } from '../../base/ids.ts'
import type { Check } from '../store/types.ts'
import { addressTaken, choosePoolSubnet, outOfRange, parseSubnetAsked, poolOverlaps, type SubnetWanted } from './choose.ts'
import type { ClaimedFor, UserClaim } from './claims.ts'
import { holderText, type PoolContext, pause, promptly, rejoinIfLost, usersText } from './context.ts'
import type { FreeAddresses } from './free-addresses.ts'
import { POOL_KEY } from './keys.ts'
import type { LocalSubnets } from './local-subnets.ts'
import { guardPut, type KnownPool } from './pool-store.ts'
import { gatewayOfPool, isReservedInPool, type PoolUser } from './record.ts'

const MAX_ATTEMPTS = 64
const MOST_RESERVED = 48

export interface PoolAsk {
  /** Id of the network: 8 to 64 hex digits. */
  readonly user: string
  readonly for: ClaimedFor
  /** The network as people call it. */
  readonly name: string
  readonly family: Family
  readonly subnet?: string | undefined
  readonly ipRange?: string | undefined
  readonly gateway?: Ip | undefined
  /** A gateway is to be chosen when none is given: that of the others, or the lowest free address. */
  readonly wantsGateway?: boolean
  readonly aux?: readonly Ip[]
}

export interface PoolTaken {
  readonly subnet: Cidr
  readonly ipRange?: Cidr
  readonly gateway?: Ip
}

export interface PoolMembersOptions extends PoolContext {
  readonly local: LocalSubnets
  readonly free: FreeAddresses
}

interface GuardStep {
  readonly check: Check
  readonly put: { readonly key: string; readonly value: string }
}

export class PoolMembers {
  readonly #o: PoolMembersOptions
  /** As last read: a transaction that finds it changed reads it again. */
  readonly #known = new Map<Cidr, KnownPool>()
  /** Places that are just being given back: `<subnet> <user>`. */
  readonly #leaving = new Map<string, Promise<void>>()

  constructor(options: PoolMembersOptions) {
    this.#o = options
  }

  /** A place in a pool, until {@link leave}. Throws Docker's texts; call {@link confirm} when the asker has the answer. */
  async join(ask: PoolAsk): Promise<PoolTaken> {
    const wanted = parseSubnetAsked(ask)
    const walls: Cidr[] = []
    if (wanted.subnet !== undefined) await this.#leaving.get(`${wanted.subnet} ${ask.user}`)
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      this.#o.membership.check() // throws when the store is away
      const { pools, guard } = await this.#o.records.all()
      const cluster = guard.value.cluster || hex(this.#o.rng.bytes(8))
      const subnet = wanted.subnet ?? choosePoolSubnet(ask.family, wanted.size, [...pools.keys(), ...this.#notChosen(), ...walls], cluster)
      const there = pools.get(subnet)
      const other = there === undefined ? [...pools.keys()].find((one) => cidrOverlaps(one, subnet)) : undefined
      if (other !== undefined) throw poolOverlaps(subnet, other, usersText(this.#o.mirror, pools.get(other)))
      try {
        this.#o.local.enter(subnet, ask.name)
      } catch (error) {
        if (wanted.subnet !== undefined || !hasCode(error, 'denied')) throw error
        walls.push(subnet) // a network of this host is in the way
        continue
      }
      try {
        const taken = await this.#enter(ask, wanted, subnet, there, { check: guard.check, put: guardPut({ ...guard.value, cluster }) })
        if (taken !== undefined) return taken
      } finally {
        this.#o.local.entered(subnet)
      }
      await pause(this.#o, attempt)
    }
    throw new NetError('busy', 'pools are being changed by too many hosts at once; try again')
  }

  /** The pool's gateway for a network that has joined: the given one, that of the others, or the lowest free address. Throws `Address already in use`. */
  async reserve(subnet: Cidr, user: string, ip: Ip | undefined): Promise<Ip> {
    if (ip !== undefined && !cidrContains(subnet, ip)) throw outOfRange(ip, subnet)
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const claim = this.claimOf(subnet, user)
      const pool = await this.joined(claim, attempt > 0)
      const gateway = ip ?? gatewayOfPool(pool.value) ?? (await this.#o.free.lowest(subnet, claim.ipRange, pool))
      if (claim.hasGateway && claim.reserved[0] === gateway) return gateway
      const next: UserClaim = { ...claim, reserved: [gateway, ...claim.reserved.filter((one) => one !== gateway)], hasGateway: true }
      this.#o.claims.putUser(next) // a gateway that only we know of hurts nobody
      if (await this.#putUser(pool, next, [gateway])) return gateway
      this.#o.claims.putUser(claim)
    }
    throw new NetError('busy', `pool ${subnet} is being changed by too many hosts at once; try again`)
  }

  /** A network has gone: its place in the pool with all its addresses, and the pool with the last network. Idempotent, never throws. */
  async leave(subnet: Cidr, user: string): Promise<void> {
    const claim = this.#o.claims.user(subnet, user)
    if (claim === undefined) return
    const released: UserClaim = { ...claim, state: 'releasing' }
    this.#o.claims.putUser(released)
    await promptly(this.#o, () => this.giveBackUser(released))
  }

  /** Throws `unavailable`. Two at a time are one. */
  giveBackUser({ subnet, id }: UserClaim): Promise<void> {
    const key = `${subnet} ${id}`
    const there = this.#leaving.get(key)
    if (there !== undefined) return there
    const mine = this.#giveBackUser(subnet, id).finally(() => this.#leaving.delete(key))
    this.#leaving.set(key, mine)
    return mine
  }

  async #giveBackUser(subnet: Cidr, id: string): Promise<void> {
    const { claims, records, mirror, local } = this.#o
    if (claims.user(subnet, id)?.state !== 'releasing') return
    await records.drop(subnet, ({ hostId, user }) => hostId === mirror.hostId && user === id)
    this.#known.delete(subnet)
    for (const address of claims.addressesOf(subnet, id)) claims.removeAddress(address)
    claims.removeUser({ subnet, id })
    local.settle(subnet)
  }

  /** Writes a network's place in a pool again that the store does not have. Throws `denied` when somebody else's pool is in its place. */
  async restoreUser(claim: UserClaim): Promise<void> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const { pools, guard } = await this.#o.records.all()
      const { subnet } = claim
      const there = pools.get(subnet)
      const other = there === undefined ? [...pools.keys()].find((one) => cidrOverlaps(one, subnet)) : undefined
      if (other !== undefined) throw poolOverlaps(subnet, other, usersText(this.#o.mirror, pools.get(other)))
      if (there?.value.users.some(({ hostId, id }) => hostId === this.#o.mirror.hostId && id === claim.id)) return
      const cluster = guard.value.cluster || hex(this.#o.rng.bytes(8))
      // a gateway that has become a container's meanwhile is told by that container's answers, not here
      if (await this.#write(claim, there, { check: guard.check, put: guardPut({ ...guard.value, cluster }) }, [])) return
      await pause(this.#o, attempt)
    }
    throw new NetError('busy', `pool ${claim.subnet} is being changed by too many hosts at once; try again`)
  }

  /** The pool with our place in it, written again when the store has lost it or this host was evicted. */
  async joined(claim: UserClaim, fresh: boolean): Promise<KnownPool> {
    const { subnet, id } = claim
    const isIn = (pool: KnownPool | undefined): pool is KnownPool =>
      pool?.value.users.some((user) => user.hostId === this.#o.mirror.hostId && user.id === id) ?? false
    const known = this.#known.get(subnet)
    if (!fresh && isIn(known)) return known
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      this.#o.membership.check()
      const pool = await this.#o.records.get(subnet)
      if (isIn(pool)) {
        this.#known.set(subnet, pool)
        return pool
      }
      await this.restoreUser(claim)
    }
    throw new NetError('busy', `pool ${subnet} is being changed by too many hosts at once; try again`)
  }

  /** As last read. */
  isReserved(subnet: Cidr, ip: Ip): boolean {
    const known = this.#known.get(subnet)
    return known !== undefined && isReservedInPool(known.value, ip)
  }

  /** It has turned out to be another one. */
  forget(subnet: Cidr): void {
    this.#known.delete(subnet)
  }

  /** Throws `not-found`. */
  claimOf(subnet: Cidr, user: string): UserClaim {
    const claim = this.#o.claims.user(subnet, user)
    if (claim === undefined || claim.state === 'releasing')
      throw new NetError('not-found', `there is no address pool of ${subnet} for this network`)
    return claim
  }

  /** Undefined: somebody was quicker. */
  async #enter(
    ask: PoolAsk,
    wanted: SubnetWanted,
    subnet: Cidr,
    there: KnownPool | undefined,
    guard: GuardStep,
  ): Promise<PoolTaken | undefined> {
    const { claims, clock } = this.#o
    const { ipRange } = wanted
    const aux = ask.aux ?? []
    for (const ip of [...(ask.gateway ? [ask.gateway] : []), ...aux]) if (!cidrContains(subnet, ip)) throw outOfRange(ip, subnet)
    const old = ask.wantsGateway && there !== undefined ? gatewayOfPool(there.value) : undefined
    const gateway = ask.gateway ?? old ?? (ask.wantsGateway ? await this.#o.free.lowest(subnet, ipRange, there, new Set(aux)) : undefined)
    const reserved = [...new Set([...(gateway ? [gateway] : []), ...aux])]
    if (reserved.length > MOST_RESERVED)
      throw new NetError('invalid', `a network of a shared pool can have ${MOST_RESERVED} auxiliary addresses at most`)
    const claim: UserClaim = {
      ...{ subnet, id: ask.user, for: ask.for, name: ask.name.slice(0, 255), state: 'asked', ...(ipRange ? { ipRange } : {}) },
      ...{ reserved, hasGateway: gateway !== undefined, at: clock.now() },
    }
    claims.putUser(claim)
    try {
      if (await this.#write(claim, there, guard, reserved))
        return { subnet, ...(ipRange ? { ipRange } : {}), ...(gateway ? { gateway } : {}) }
      claims.removeUser(claim)
      return undefined
    } catch (error) {
      if (hasCode(error, 'unavailable')) {
        claims.putUser({ ...claim, state: 'releasing' }) // unknown outcome: it may have happened after all
        this.#o.onUnsettled()
      } else claims.removeUser(claim)
      throw error
    }
  }

  async #write(claim: UserClaim, there: KnownPool | undefined, guard: GuardStep, free: readonly Ip[]): Promise<boolean> {
    if (there !== undefined) return this.#putUser(there, claim, free)
    const { membership, records } = this.#o
    const { subnet } = claim
    const key = POOL_KEY.pool(subnet)
    const own = membership.check()
    const result = await records.store.txn({
      checks: [guard.check, own, { key, absent: true }, ...this.#absent(subnet, free)],
      puts: [guard.put, { key, value: JSON.stringify({ subnet, users: [this.#userOf(claim)] }) }],
    })
    if (result.ok) this.#known.delete(subnet)
    else await rejoinIfLost(this.#o.membership, own, result.current)
    return result.ok
  }

  /** The pool with this user, new or changed. False: somebody has changed it meanwhile. Throws `Address already in use` for one of `free`. */
  async #putUser({ value, version }: KnownPool, claim: UserClaim, free: readonly Ip[]): Promise<boolean> {
    const { membership, records, mirror } = this.#o
    const { subnet } = claim
    const key = POOL_KEY.pool(subnet)
    const own = membership.check()
    const others = value.users.filter(({ hostId, id }) => hostId !== mirror.hostId || id !== claim.id)
    const result = await records.store.txn({
      checks: [{ key, version }, own, ...this.#absent(subnet, free)],
      puts: [{ key, value: JSON.stringify({ ...value, users: [...others, this.#userOf(claim)] }) }],
    })
    this.#known.delete(subnet)
    if (result.ok) return true
    for (const ip of free) {
      const entry = result.current.get(POOL_KEY.address(subnet, ip))
      if (entry !== undefined) throw addressTaken(ip, subnet, holderText(this.#o.mirror, records.address(entry)))
    }
    await rejoinIfLost(this.#o.membership, own, result.current)
    return false
  }

  #absent(subnet: Cidr, ips: readonly Ip[]): Check[] {
    return ips.map((ip) => ({ key: POOL_KEY.address(subnet, ip), absent: true }))
  }

  #userOf({ id, name, reserved, hasGateway }: UserClaim): PoolUser {
    return { hostId: this.#o.mirror.hostId, id, name, reserved, hasGateway }
  }

  /** Subnets that are free to be asked for, never chosen. */
  #notChosen(): Cidr[] {
    const { mirror, local } = this.#o
    return [
      ...mirror.networks().flatMap(({ subnets }) => subnets.map(({ subnet }) => subnet)),
      ...mirror.hosts().flatMap(({ routes }) => routes),
      ...local.inUse(),
    ]
  }
}

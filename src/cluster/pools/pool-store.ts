/** Pools in the shared store: read and checked, and taken apart again. Everything is read when it is needed; nobody watches pools. */
import type { Cidr, Ip } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { BadValues } from '../bad-values.ts'
import { type Check, type ClusterStore, MAX_TXN_OPERATIONS, type StoreEntry, type Txn, type Version } from '../store/types.ts'
import { POOL_KEY } from './keys.ts'
import {
  decodePool,
  decodePoolAddress,
  decodePoolGuard,
  type PoolAddress,
  type PoolGuard,
  type PoolUser,
  partsOfAddressKey,
  type SharedPool,
} from './record.ts'

const MAX_ATTEMPTS = 50

/** Through whom something was asked for. */
export type PoolOwner = Pick<PoolAddress, 'hostId' | 'user'>

export type WriteStep = (txn: Txn) => Promise<boolean>

export interface KnownPool {
  readonly value: SharedPool
  readonly version: Version
}

export interface KnownAddress {
  readonly key: string
  readonly ip: Ip
  readonly version: Version
  /** Undefined: what stands there is not what Causeway writes. The address is somebody's all the same. */
  readonly value: PoolAddress | undefined
}

export interface AllPools {
  readonly pools: ReadonlyMap<Cidr, KnownPool>
  readonly guard: { readonly value: PoolGuard; readonly check: Check }
}

export class PoolStore {
  readonly store: ClusterStore
  readonly #bad: BadValues

  constructor(store: ClusterStore, bad: BadValues) {
    this.store = store
    this.#bad = bad
  }

  /** All pools at one moment, and the guard that tells whether that moment has passed. */
  async all(): Promise<AllPools> {
    const { entries } = await this.store.list(POOL_KEY.pools)
    const pools = new Map<Cidr, KnownPool>()
    let guard: AllPools['guard'] = { value: { cluster: '', count: 0 }, check: { key: POOL_KEY.guard, absent: true } }
    for (const entry of entries) {
      if (entry.key === POOL_KEY.guard) {
        const decoded = decodePoolGuard(entry.value)
        if (!decoded.ok) this.#bad.note(entry.key, decoded.why)
        // a guard that says nothing still guards
        guard = { value: decoded.ok ? decoded.value : guard.value, check: { key: entry.key, version: entry.version } }
        continue
      }
      const known = this.#pool(entry)
      if (known !== undefined) pools.set(known.value.subnet, known)
    }
    return { pools, guard }
  }

  async get(subnet: Cidr): Promise<KnownPool | undefined> {
    const entry = await this.store.get(POOL_KEY.pool(subnet))
    return entry && this.#pool(entry)
  }

  async addresses(subnet: Cidr): Promise<KnownAddress[]> {
    const { entries } = await this.store.list(POOL_KEY.addresses(subnet))
    return entries.flatMap((entry) => this.address(entry) ?? [])
  }

  /** Every address of every pool, by subnet. */
  async allAddresses(): Promise<ReadonlyMap<Cidr, readonly KnownAddress[]>> {
    const { entries } = await this.store.list(POOL_KEY.allAddresses)
    const found = new Map<Cidr, KnownAddress[]>()
    for (const entry of entries) {
      const parts = partsOfAddressKey(entry.key)
      const address = this.address(entry)
      if (parts === undefined || address === undefined) continue
      const there = found.get(parts.subnet) ?? []
      there.push(address)
      found.set(parts.subnet, there)
    }
    return found
  }

  address(entry: StoreEntry): KnownAddress | undefined {
    const parts = partsOfAddressKey(entry.key)
    const decoded = decodePoolAddress(entry.value, entry.key)
    if (!decoded.ok) this.#bad.note(entry.key, decoded.why)
    if (parts === undefined) return undefined
    return { key: entry.key, ip: parts.ip, version: entry.version, value: decoded.ok ? decoded.value : undefined }
  }

  /**
   * Takes users away with all their addresses, and the pool itself with its last user. Returns how many addresses were freed. Idempotent.
   * `write` does one transaction, with a check of its own perhaps, and says whether it happened.
   */
  async drop(subnet: Cidr, isGone: (owner: PoolOwner) => boolean, write = this.#txn): Promise<number> {
    const isGoneUser = ({ hostId, id }: PoolUser) => isGone({ hostId, user: id })
    let freed = 0
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const known = await this.get(subnet)
      const left = (known?.value.users ?? []).filter((user) => !isGoneUser(user))
      const theirs = (await this.addresses(subnet)).filter(({ value }) => left.length === 0 || (value !== undefined && isGone(value)))
      freed += await this.#delete(theirs, known, subnet, write)
      if (known === undefined) return freed
      if (left.length === known.value.users.length) return freed
      if (await this.#write(known, left, write)) return freed
    }
    throw new NetError('busy', `pool ${subnet} is being changed by too many hosts at once; try again`)
  }

  /** What has changed meanwhile stays, and is looked at again by whoever calls. */
  async #delete(addresses: readonly KnownAddress[], pool: KnownPool | undefined, subnet: Cidr, write: WriteStep): Promise<number> {
    const key = POOL_KEY.pool(subnet)
    const guard: Check = pool === undefined ? { key, absent: true } : { key, version: pool.version }
    const size = Math.floor((MAX_TXN_OPERATIONS - 2) / 2)
    let freed = 0
    for (let at = 0; at < addresses.length; at += size) {
      const batch = addresses.slice(at, at + size)
      const txn = {
        checks: [guard, ...batch.map((address) => ({ key: address.key, version: address.version }))],
        deletes: batch.map((address) => address.key),
      }
      if (!(await write(txn))) return freed
      freed += batch.length
    }
    return freed
  }

  async #write({ value, version }: KnownPool, users: readonly PoolUser[], write: WriteStep): Promise<boolean> {
    const key = POOL_KEY.pool(value.subnet)
    const own: Check = { key, version }
    if (users.length > 0) return write({ checks: [own], puts: [{ key, value: JSON.stringify({ ...value, users }) }] })
    const { guard } = await this.all()
    return write({ checks: [own, guard.check], puts: [guardPut(guard.value)], deletes: [key] })
  }

  readonly #txn: WriteStep = async (txn) => (await this.store.txn(txn)).ok

  #pool(entry: StoreEntry): KnownPool | undefined {
    const decoded = decodePool(entry.value, entry.key)
    if (decoded.ok) return { value: decoded.value, version: entry.version }
    this.#bad.note(entry.key, decoded.why)
    return undefined
  }
}

/** The guard once more, changed. */
export function guardPut({ cluster, count }: PoolGuard): { key: string; value: string } {
  return { key: POOL_KEY.guard, value: JSON.stringify({ cluster, count: count + 1 } satisfies PoolGuard) }
}

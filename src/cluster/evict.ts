/**
 * Eviction: frees what a host owned, for good. The host's record is marked first and every following transaction checks the mark, so a host
 * that comes back meanwhile stops its own eviction: it writes its record anew and claims again what is still free.
 */
import { NetError } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import { decodeEndpoint, decodeHost, decodeOwned, type OwnedEndpoint } from './decode.ts'
import { addressesOf } from './endpoint-claims.ts'
import { CLUSTER_KEY, ownedIds } from './keys.ts'
import type { Mirror } from './mirror.ts'
import type { ClusterHost } from './model.ts'
import type { NetworkClaims } from './network-claims.ts'
import type { SharedPools } from './pools/shared-pools.ts'
import { type ClusterStore, MAX_TXN_OPERATIONS, type StoreEntry, type Txn, txnSize } from './store/types.ts'

export interface EvictOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly networks: NetworkClaims
  readonly pools: SharedPools
  readonly clock: Clock
  readonly log: Logger
}

export interface Evicted {
  readonly host: string
  /** Endpoints freed. */
  readonly endpoints: number
  /** Addresses freed that networks of other kinds had from the IPAM driver `causeway`. */
  readonly addresses: number
}

/** A host by id, name or unique id prefix. Throws `not-found` or `invalid` (ambiguous). */
export function findHost(hosts: readonly ClusterHost[], ref: string): ClusterHost {
  const exact = hosts.find(({ id }) => id === ref)
  if (exact !== undefined) return exact
  const named = hosts.filter(({ name }) => name === ref)
  const found = named.length > 0 ? named : /^[0-9a-f]+$/.test(ref) ? hosts.filter(({ id }) => id.startsWith(ref)) : []
  if (found.length > 1)
    throw new NetError(
      'invalid',
      `host ${ref} is ambiguous: ${found.map(({ id, name }) => `${id.slice(0, 12)} (${name})`).join(', ')}; give the id`,
    )
  if (found[0] === undefined)
    throw new NetError(
      'not-found',
      `host ${ref} not found in the cluster: "causeway cluster ls" lists the hosts, a name or the beginning of an id is enough`,
    )
  return found[0]
}

/**
 * Evicts a host. Throws `conflict` when it is up and not `force`, or when it comes back before all is freed. May be repeated: what is
 * freed stays freed.
 */
export async function evictHost(options: EvictOptions, ref: string, force: boolean): Promise<Evicted> {
  const { store, mirror, clock } = options
  const host = findHost(mirror.hosts(), ref)
  if (host.id === mirror.hostId)
    throw new NetError(
      'conflict',
      `host ${host.name} is the one that this engine runs on: stop the engine and evict the host from another one`,
    )
  const mark = await markEvicted(options, host, force)
  const { entries } = await store.list(CLUSTER_KEY.owned(host.id))
  const freed = await freeOwned(options, host, mark, entries)
  for (const { value } of mirror.networkTable.list())
    if (value.createdBy === host.id && value.network === undefined) await options.networks.remove(value) // begun and never finished
  const addresses = await options.pools.evict(host.id, (txn) => tryStep(store, host, mark, txn))
  await step(store, host, mark, { deletes: [CLUSTER_KEY.host(host.id), CLUSTER_KEY.lease(host.id), CLUSTER_KEY.kernel(host.id)] })
  if (mirror.host(host.id) !== undefined) await mirror.hostTable.arrived.of(CLUSTER_KEY.host(host.id), undefined, clock.after)
  options.log.info('host evicted from the cluster', { host: host.name, endpoints: freed, addresses })
  return { host: host.name, endpoints: freed, addresses }
}

/** The version of the mark. */
async function markEvicted({ store }: EvictOptions, host: ClusterHost, force: boolean): Promise<string> {
  const key = CLUSTER_KEY.host(host.id)
  const leaseKey = CLUSTER_KEY.lease(host.id)
  for (let attempt = 0; attempt < 5; attempt++) {
    const entry = await store.get(key)
    if (entry === undefined) throw new NetError('not-found', `host ${host.name} not found in the cluster`)
    const decoded = decodeHost(entry.value, host.id)
    const record = decoded.ok ? decoded.value : host
    const result = await store.txn({
      checks: [{ key, version: entry.version }, ...(force ? [] : [{ key: leaseKey, absent: true } as const])],
      puts: [{ key, value: JSON.stringify({ ...record, evicted: true }) }],
      deletes: force ? [leaseKey] : [],
    })
    if (result.ok) return result.versions.get(key) as string
    if (!force && result.current.get(leaseKey) !== undefined)
      throw new NetError(
        'conflict',
        `host ${host.name} is up: stop its engine first, or evict it with --force when it cannot be reached any more`,
      )
  }
  throw new NetError('busy', `the record of host ${host.name} is changed by others all the time; try again`)
}

async function freeOwned({ store }: EvictOptions, host: ClusterHost, mark: string, owned: readonly StoreEntry[]): Promise<number> {
  const byNetwork = new Map<string, { endpointId: string; entry: StoreEntry }[]>()
  for (const entry of owned) {
    const ids = ownedIds(entry.key, host.id)
    if (ids === undefined) continue
    const { networkId, endpointId } = ids
    byNetwork.set(networkId, [...(byNetwork.get(networkId) ?? []), { endpointId, entry }])
  }
  let freed = 0
  for (const [networkId, list] of byNetwork) {
    const there = new Map((await store.list(CLUSTER_KEY.endpoints(networkId))).entries.map((entry) => [entry.key, entry]))
    let batch: Required<Txn> = { checks: [], puts: [], deletes: [] }
    for (const { endpointId, entry } of list) {
      const one = freeOne(host, networkId, endpointId, entry, there.get(CLUSTER_KEY.endpoint(networkId, endpointId)))
      if (txnSize(batch) + txnSize(one) + 1 > MAX_TXN_OPERATIONS) {
        await step(store, host, mark, batch)
        batch = { checks: [], puts: [], deletes: [] }
      }
      batch = { checks: [...batch.checks, ...(one.checks ?? [])], puts: [], deletes: [...batch.deletes, ...(one.deletes ?? [])] }
      freed++
    }
    if (batch.deletes.length > 0) await step(store, host, mark, batch)
  }
  return freed
}

/** Everything of one endpoint, if it is still as it was seen and still this host's. */
function freeOne(host: ClusterHost, networkId: string, endpointId: string, owned: StoreEntry, endpoint: StoreEntry | undefined): Txn {
  const key = CLUSTER_KEY.endpoint(networkId, endpointId)
  if (endpoint === undefined) return { checks: [{ key, absent: true }], deletes: [owned.key] }
  const decoded = decodeEndpoint(endpoint.value, networkId, endpointId)
  if (decoded.ok && decoded.value.hostId !== host.id) return { deletes: [owned.key] }
  const says = decodeOwned(owned.value, networkId, endpointId)
  const has: OwnedEndpoint = decoded.ok
    ? { networkId, endpointId, name: decoded.value.name, addresses: addressesOf(decoded.value) }
    : says.ok
      ? says.value
      : { networkId, endpointId, name: '', addresses: [] }
  return {
    checks: [{ key, version: endpoint.version }],
    deletes: [
      key,
      owned.key,
      ...has.addresses.map((ip) => CLUSTER_KEY.address(networkId, ip)),
      ...(has.name === '' ? [] : [CLUSTER_KEY.endpointName(networkId, has.name)]),
    ],
  }
}

async function step(store: ClusterStore, host: ClusterHost, mark: string, txn: Txn): Promise<void> {
  if (!(await tryStep(store, host, mark, txn)))
    throw new NetError('busy', `endpoints of host ${host.name} were changed while it was being evicted; evict it again`)
}

/** False: what was to be changed has changed meanwhile. Throws `conflict` when the host has come back. */
async function tryStep(store: ClusterStore, host: ClusterHost, mark: string, txn: Txn): Promise<boolean> {
  const key = CLUSTER_KEY.host(host.id)
  const result = await store.txn({ ...txn, checks: [{ key, version: mark }, ...(txn.checks ?? [])] })
  if (!result.ok && result.current.get(key)?.version !== mark)
    throw new NetError('conflict', `host ${host.name} has come back while it was being evicted: it keeps what was not freed yet`)
  return result.ok
}

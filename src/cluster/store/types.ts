/**
 * The port to the store that the hosts of a cluster share: an ordered map from text keys to text values with versions, atomic
 * compare-and-swap over several keys, leases, and watches. `etcd/` and `consul/` are the real ones, `memory.ts` the one for tests;
 * `test/cluster/store-conformance.ts` is the suite that all of them pass.
 *
 * Keys are relative: the store puts them below `<path of the URL>/causeway/` and never looks at anything beside it.
 * Whatever stands in the store may have been written by anybody: values are given as they are, and the reader checks them. Bytes
 * that are not UTF-8 come as U+FFFD; a value of more than {@link MAX_VALUE_BYTES} comes as '' (its version is right, so it can be
 * replaced); a key that is not UTF-8 does not come at all.
 *
 * Errors are NetErrors: `invalid` for what the port does not allow, `unavailable` when the store does not answer or refuses us, with
 * a sentence that names the store and what to do. No call waits longer than {@link ClusterStoreOptions.patienceMs} plus one attempt.
 */

/** Checks, puts (a leased one counts twice) and deletes of one transaction, all together: Consul's limit. {@link txnSize} counts. */
export const MAX_TXN_OPERATIONS = 64
/** Bytes of all values of one transaction: Consul refuses requests of more than 512 KiB, in base64. */
export const MAX_TXN_BYTES = 256 * 1024
/** Bytes of one value. */
export const MAX_VALUE_BYTES = 256 * 1024
/** Seconds: Consul's shortest lease. A lease can outlive its host by its own length twice over (Consul) or once (etcd). */
export const MIN_LEASE_SECONDS = 10
export const MAX_LEASE_SECONDS = 86_400

/**
 * Which state of a key was read. Opaque, only good for comparing and for {@link Check}; of this client and this run, never to be
 * stored: after a store was restored from a backup, versions read before it no longer match anything.
 */
export type Version = string

export interface StoreEntry {
  readonly key: string
  readonly value: string
  readonly version: Version
}

/** Everything below a prefix at one moment, in key order, and that moment: a watch can go on from it. */
export interface Listing {
  readonly entries: readonly StoreEntry[]
  readonly revision: string
}

/** What must hold for a transaction to happen: the key is still in this state, or is not there. */
export type Check = { readonly key: string; readonly version: Version } | { readonly key: string; readonly absent: true }

export interface Put {
  readonly key: string
  /** A value that stands there already may keep its version, and watches may not be told (Consul). */
  readonly value: string
  /** The key goes when the lease ends. A key that is put with a lease is always put with one. */
  readonly lease?: Lease
}

export interface Txn {
  readonly checks?: readonly Check[]
  readonly puts?: readonly Put[]
  /** Keys; deleting what is not there is fine. A key is put or deleted, once. */
  readonly deletes?: readonly string[]
}

export type TxnResult =
  /** `versions`: of the keys that were put. */
  | { readonly ok: true; readonly versions: ReadonlyMap<string, Version> }
  /** Nothing was changed. `current`: every checked key as it is now, undefined when it is not there. */
  | { readonly ok: false; readonly current: ReadonlyMap<string, StoreEntry | undefined> }

/** A promise to be alive: renewed on its own until it is revoked or lost. */
export interface Lease {
  readonly id: string
  readonly seconds: number
  /** True once `onLost` was called or the lease was revoked. */
  ended(): boolean
  /** Ends it: its keys go. Never throws; when the store is away they go by themselves. */
  revoke(): Promise<void>
}

export type StoreEvent =
  | { readonly kind: 'put'; readonly key: string; readonly value: string; readonly version: Version }
  | { readonly kind: 'delete'; readonly key: string }

/** Called one after the other, in the store's order. What they throw is logged and changes nothing. */
export interface WatchHandlers {
  /** What changed since the last call; several changes of one key may come as the last one only. */
  onChange(events: readonly StoreEvent[], revision: string): void
  /** Changes may have been missed (compaction, restored data, first call of a watch without `from`): all there is now. */
  onResync(snapshot: Listing): void
}

export interface Watch {
  /** No handler is called any more when it returns. Idempotent. */
  close(): void
}

export type StoreState = 'connecting' | 'up' | 'down'

export interface StoreStatus {
  readonly kind: 'etcd' | 'consul' | 'memory'
  /** As the user wrote it. */
  readonly url: string
  /** `up`: the last attempt was answered. */
  readonly state: StoreState
  /** Milliseconds since the epoch at which `state` began. */
  readonly since: number
  /** `host:port` of the member that is asked now. */
  readonly endpoint: string
  /** Why it is down, as a sentence; '' when it is not. */
  readonly error: string
}

/** How often the store was asked since it was opened. One transaction is one write however many keys it has. */
export interface StoreCounters {
  readonly reads: number
  readonly writes: number
  /** Renewals of leases, liveness checks, authentication, watches and what they read again: not caused by any call. */
  readonly background: number
  /** Attempts that failed and were repeated, at the same member or another one. */
  readonly retries: number
  /** Changes that watches have told of, and the bytes of all that came over them. */
  readonly watchEvents: number
  readonly watchBytes: number
}

export interface ClusterStore {
  /** The key as all members agree on it now. */
  get(key: string): Promise<StoreEntry | undefined>
  /** Everything whose key begins with `prefix` ('' = all). */
  list(prefix: string): Promise<Listing>
  /**
   * Does all of it or nothing. When an attempt's answer was lost, the outcome is found out by looking: if every put key has our value and
   * every deleted one is gone, it counts as done. So values that claim something name their owner. Of a key that others may overwrite at
   * once, a conflict does not say that it was never done: whoever counts on such a key keeps in the value who wrote before.
   * Throws `unavailable` when the outcome is unknown: it may still have happened.
   */
  txn(txn: Txn): Promise<TxnResult>
  /** A new lease of at least {@link MIN_LEASE_SECONDS}. `onLost`: the store ended it, or it could not be renewed in time; once. */
  lease(seconds: number, onLost: (why: string) => void): Promise<Lease>
  /** Goes on from `from` (a listing of the same prefix), else begins with onResync. Survives everything until it is closed. */
  watch(prefix: string, handlers: WatchHandlers, from?: Listing): Watch
  status(): StoreStatus
  /** `listener` is called after each change of `status().state`. Returns how to stop it. */
  onStatus(listener: (status: StoreStatus) => void): () => void
  counters(): StoreCounters
  /** Closes watches, stops renewing leases (they end by themselves; revoke them for at once), closes connections. Idempotent. */
  close(): Promise<void>
}

/** Operations of a transaction as {@link MAX_TXN_OPERATIONS} counts them. */
export function txnSize(txn: Txn): number {
  const puts = (txn.puts ?? []).reduce((sum, put) => sum + (put.lease === undefined ? 1 : 2), 0)
  return (txn.checks?.length ?? 0) + puts + (txn.deletes?.length ?? 0)
}

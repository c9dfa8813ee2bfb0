/** The members as this host knows them: records and leases from the watch of `hosts/`, from the last known state until that speaks. */
import type { Store } from '../store/types.ts'
import { Arrival } from './arrival.ts'
import type { BadValues } from './bad-values.ts'
import { decodeHost, type StoredHost } from './decode.ts'
import { CACHE_KEY, CLUSTER_KEY } from './keys.ts'
import type { ClusterHost } from './model.ts'
import type { ClusterStore, Listing, StoreEvent, Version, Watch } from './store/types.ts'

const LEASE = '/lease'

export interface HostTableOptions {
  readonly store: ClusterStore
  readonly cache: Store
  readonly bad: BadValues
  readonly onChange: (hostId: string) => void
}

export class HostTable {
  readonly #o: HostTableOptions
  readonly #records = new Map<string, { readonly host: StoredHost; readonly version?: Version }>()
  /** Instance that holds the lease, by host. */
  readonly #leases = new Map<string, string>()
  readonly arrived = new Arrival((key) => this.#records.get(key.slice(CLUSTER_KEY.hosts.length))?.version)
  #watch: Watch | undefined
  #isSynced = false

  constructor(options: HostTableOptions) {
    this.#o = options
    for (const [key, value] of options.cache.list<string>(CACHE_KEY.hosts)) {
      const id = key.slice(CACHE_KEY.hosts.length)
      const decoded = decodeHost(value, id)
      if (decoded.ok) this.#records.set(id, { host: decoded.value })
    }
  }

  start(): void {
    this.#watch ??= this.#o.store.watch(CLUSTER_KEY.hosts, {
      onResync: (snapshot) => this.#resync(snapshot),
      onChange: (events) => {
        for (const event of events) this.#apply(event)
      },
    })
  }

  close(): void {
    this.#watch?.close()
    this.#watch = undefined
  }

  get isSynced(): boolean {
    return this.#isSynced
  }

  list(): readonly ClusterHost[] {
    return [...this.#records.keys()].map((id) => this.get(id) as ClusterHost)
  }

  get(id: string): ClusterHost | undefined {
    const record = this.#records.get(id)
    if (record === undefined) return undefined
    const { evicted, ...host } = record.host
    return { ...host, state: evicted ? 'evicted' : this.#leases.has(id) || !this.#isSynced ? 'up' : 'down' }
  }

  /** Instance of the engine that holds a host's lease. */
  leaseOf(id: string): string | undefined {
    return this.#leases.get(id)
  }

  versionOf(id: string): Version | undefined {
    return this.#records.get(id)?.version
  }

  #resync(snapshot: Listing): void {
    this.#isSynced = true
    const there = new Set(snapshot.entries.map(({ key }) => key))
    for (const id of [...this.#leases.keys()]) if (!there.has(CLUSTER_KEY.lease(id))) this.#leases.delete(id)
    for (const id of [...this.#records.keys()]) {
      if (!there.has(CLUSTER_KEY.host(id))) this.#remove(id)
      else this.#o.onChange(id)
    }
    for (const entry of snapshot.entries) this.#apply({ kind: 'put', ...entry })
    this.arrived.note()
  }

  #apply(event: StoreEvent): void {
    const rest = event.key.slice(CLUSTER_KEY.hosts.length)
    if (rest.endsWith(LEASE)) this.#applyLease(rest.slice(0, -LEASE.length), event)
    else if (event.kind === 'delete') this.#remove(rest)
    else {
      const decoded = decodeHost(event.value, rest)
      if (!decoded.ok) this.#o.bad.note(event.key, decoded.why)
      else {
        this.#o.bad.forget(event.key)
        const before = this.#records.get(rest)
        this.#records.set(rest, { host: decoded.value, version: event.version })
        this.#o.cache.put(CACHE_KEY.host(rest), event.value)
        if (before?.version !== event.version) this.#o.onChange(rest)
      }
    }
    this.arrived.note()
  }

  #applyLease(id: string, event: StoreEvent): void {
    const before = this.#leases.get(id)
    if (event.kind === 'delete') this.#leases.delete(id)
    else this.#leases.set(id, event.value.slice(0, 64))
    if (before !== this.#leases.get(id)) this.#o.onChange(id)
  }

  #remove(id: string): void {
    if (!this.#records.delete(id)) return
    this.#o.cache.remove(CACHE_KEY.host(id))
    this.#o.onChange(id)
  }
}

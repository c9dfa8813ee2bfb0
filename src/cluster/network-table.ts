/** The cluster's networks as this host knows them: from the watch of `networks/`, from the last known state until that speaks. */
import type { Logger } from '../base/ports.ts'
import type { Store } from '../store/types.ts'
import { Arrival } from './arrival.ts'
import type { BadValues } from './bad-values.ts'
import { decodeGuard, decodeNetwork, type Guard, type StoredNetwork } from './decode.ts'
import { CACHE_KEY, CLUSTER_KEY } from './keys.ts'
import { decodeQuestion, type Question } from './published.ts'
import type { ClusterStore, Listing, StoreEntry, StoreEvent, Version, Watch } from './store/types.ts'

export interface KnownNetwork extends StoredNetwork {
  /** Absent: from the last known state, or the store has lost it. */
  readonly version?: Version
}

export interface NetworkTableOptions {
  readonly store: ClusterStore
  readonly cache: Store
  readonly bad: BadValues
  readonly log: Logger
  /** Has endpoints of this host: kept even when the store has lost it. */
  readonly isHeld: (networkId: string) => boolean
  readonly onChange: (networkId: string) => void
  /** The store does not have these any more, although nobody can have removed them. */
  readonly onLost: (networkIds: readonly string[]) => void
  readonly onVerification: (question: Question) => void
}

export class NetworkTable {
  readonly #o: NetworkTableOptions
  readonly #networks = new Map<string, KnownNetwork>()
  readonly #arrived = new Arrival((key) =>
    key === CLUSTER_KEY.guard ? this.#guard?.version : this.#networks.get(key.slice(CLUSTER_KEY.networks.length))?.version,
  )
  #guard: { readonly value: Guard; readonly version: Version } | undefined
  #verification: Version | undefined
  #watch: Watch | undefined
  #isSynced = false

  constructor(options: NetworkTableOptions) {
    this.#o = options
    for (const [key, value] of options.cache.list<string>(CACHE_KEY.networks)) {
      const id = key.slice(CACHE_KEY.networks.length)
      const decoded = decodeNetwork(value, id)
      if (decoded.ok) this.#networks.set(id, decoded.value)
    }
  }

  start(): void {
    this.#watch ??= this.#o.store.watch(CLUSTER_KEY.networks, {
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

  /** The store has spoken at least once. */
  get isSynced(): boolean {
    return this.#isSynced
  }

  get arrived(): Arrival {
    return this.#arrived
  }

  list(): readonly KnownNetwork[] {
    return [...this.#networks.values()]
  }

  get(id: string): KnownNetwork | undefined {
    return this.#networks.get(id)
  }

  /** Undefined: nobody has created a network yet. */
  get guard(): { readonly value: Guard; readonly version: Version } | undefined {
    return this.#guard
  }

  /** Gives up a network that the store has lost. */
  drop(id: string): void {
    if (this.#networks.get(id)?.version !== undefined || !this.#networks.delete(id)) return
    this.#o.cache.remove(CACHE_KEY.network(id))
    this.#o.onChange(id)
  }

  #resync(snapshot: Listing): void {
    const seen = this.#o.cache.get<Guard>(CACHE_KEY.revision)
    const guard = snapshot.entries.find(({ key }) => key === CLUSTER_KEY.guard)
    const decoded = guard === undefined ? undefined : decodeGuard(guard.value)
    const hasForgotten =
      seen !== undefined &&
      (decoded === undefined || (decoded.ok && (decoded.value.cluster !== seen.cluster || decoded.value.count < seen.count)))
    const there = new Set(snapshot.entries.map(({ key }) => key))
    if (guard === undefined) this.#guard = undefined
    const lost: string[] = []
    for (const id of [...this.#networks.keys()]) {
      if (there.has(CLUSTER_KEY.network(id))) continue
      if (hasForgotten || this.#o.isHeld(id)) {
        const { version: _, ...known } = this.#networks.get(id) as KnownNetwork
        this.#networks.set(id, known)
        lost.push(id)
      } else this.#remove(id)
    }
    for (const entry of snapshot.entries) this.#apply({ kind: 'put', ...entry })
    if (hasForgotten)
      this.#o.log.warn('the cluster store has lost what it knew; what this host knows is written again', { networks: lost.length })
    this.#isSynced = true
    this.#arrived.note()
    if (lost.length > 0) this.#o.onLost(lost)
  }

  #apply(event: StoreEvent): void {
    const { key } = event
    if (key === CLUSTER_KEY.guard) this.#applyGuard(event)
    else if (key === CLUSTER_KEY.verification) this.#applyVerification(event)
    else if (event.kind === 'delete') this.#applyDelete(key.slice(CLUSTER_KEY.networks.length))
    else this.#applyPut(event)
    this.#arrived.note()
  }

  #applyPut(entry: StoreEntry): void {
    const id = entry.key.slice(CLUSTER_KEY.networks.length)
    const before = this.#networks.get(id)
    if (before?.version === entry.version) return
    const decoded = decodeNetwork(entry.value, id)
    if (!decoded.ok) {
      this.#o.bad.note(entry.key, decoded.why)
      if (before !== undefined) this.#lose(id, before) // what was known of it stays, and is put back
      return
    }
    this.#o.bad.forget(entry.key)
    this.#networks.set(id, { ...decoded.value, version: entry.version })
    this.#o.cache.put(CACHE_KEY.network(id), entry.value)
    if (before !== undefined && before.version === undefined) this.#o.onLost([]) // its endpoints may have waited for it
    if (before === undefined || JSON.stringify(before.value) !== JSON.stringify(decoded.value.value)) this.#o.onChange(id)
  }

  #applyDelete(id: string): void {
    const known = this.#networks.get(id)
    if (known === undefined) return
    if (!this.#o.isHeld(id)) {
      this.#remove(id)
      return
    }
    this.#lose(id, known)
  }

  #lose(id: string, { version: _, ...known }: KnownNetwork): void {
    this.#networks.set(id, known)
    this.#o.onLost([id])
  }

  #remove(id: string): void {
    this.#networks.delete(id)
    this.#o.cache.remove(CACHE_KEY.network(id))
    this.#o.onChange(id)
  }

  #applyGuard(event: StoreEvent): void {
    if (event.kind === 'delete') {
      this.#guard = undefined
      return
    }
    const decoded = decodeGuard(event.value)
    if (!decoded.ok) this.#o.bad.note(event.key, decoded.why)
    // a guard that says nothing still guards: its version is what counts
    const value = decoded.ok
      ? decoded.value
      : (this.#guard?.value ?? this.#o.cache.get<Guard>(CACHE_KEY.revision) ?? { cluster: '', count: 0 })
    this.#guard = { value, version: event.version }
    if (decoded.ok) this.#o.cache.put(CACHE_KEY.revision, decoded.value)
  }

  #applyVerification(event: StoreEvent): void {
    if (event.kind === 'delete' || event.version === this.#verification) return
    const isFirst = this.#verification === undefined && !this.#isSynced
    this.#verification = event.version
    const decoded = decodeQuestion(event.value)
    if (!decoded.ok) this.#o.bad.note(event.key, decoded.why)
    else if (!isFirst) this.#o.onVerification(decoded.value)
  }
}

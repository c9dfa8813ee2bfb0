/**
 * The cluster store in memory, for tests: one {@link MemoryStoreServer} stands for the servers, `open()` gives each host its client.
 * It can be stopped, lose its history (compaction), and go back to an earlier state, as the real ones do.
 */
import type { Clock, Logger } from '../../base/ports.ts'
import { MemoryClusterStore } from './memory-client.ts'
import type { ClusterStore } from './types.ts'

interface Row {
  readonly value: string
  readonly revision: number
  readonly lease: string
}

interface Change {
  readonly revision: number
  readonly key: string
  /** Absent: deleted. */
  readonly row?: Row
}

/** A copy of the data at one moment. */
export interface MemorySnapshot {
  readonly rows: ReadonlyMap<string, Row>
  readonly revision: number
}

export class MemoryStoreServer {
  readonly #clock: Clock
  readonly #leases = new Map<string, { seconds: number; cancel: () => void }>()
  readonly #listeners = new Set<() => void>()
  #rows = new Map<string, Row>()
  #changes: Change[] = []
  #revision = 1
  #compacted = 1
  #cluster = 1
  #lastLease = 0
  #running = true

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get running(): boolean {
    return this.#running
  }

  /** What the real ones say with every answer. */
  header() {
    return { cluster_id: String(this.#cluster), revision: String(this.#revision) }
  }

  stop(): void {
    this.#running = false
    this.#tell()
  }

  start(): void {
    this.#running = true
    // etcd and Consul give every lease its full time again when a leader begins
    for (const id of this.#leases.keys()) this.renew(id)
    this.#tell()
  }

  /** Forgets all history: watches that are behind have to read everything. */
  compact(): void {
    this.#changes = []
    this.#compacted = this.#revision
  }

  snapshot(): MemorySnapshot {
    return { rows: new Map(this.#rows), revision: this.#revision }
  }

  /** Goes back to that data, as a new cluster. */
  restore(snapshot: MemorySnapshot): void {
    this.#rows = new Map(snapshot.rows)
    this.#revision = snapshot.revision
    this.#cluster++
    this.compact()
    this.#tell()
  }

  row(key: string): Row | undefined {
    return this.#rows.get(key)
  }

  rows(prefix: string): [string, Row][] {
    return [...this.#rows].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  }

  /** Undefined when they were forgotten. */
  changesAfter(revision: number): Change[] | undefined {
    return revision < this.#compacted ? undefined : this.#changes.filter((change) => change.revision > revision)
  }

  /** Everything in one revision, unchecked: also what a foreign tool would write. */
  write(puts: readonly { readonly key: string; readonly value: string; readonly lease?: string }[], deletes: readonly string[]): void {
    const revision = ++this.#revision
    for (const { key, value, lease = '' } of puts) {
      const row = { value, revision, lease }
      this.#rows.set(key, row)
      this.#changes.push({ revision, key, row })
    }
    for (const key of deletes) if (this.#rows.delete(key)) this.#changes.push({ revision, key })
    this.#tell()
  }

  grant(seconds: number): string {
    const id = String(++this.#lastLease)
    this.#leases.set(id, { seconds, cancel: () => {} })
    this.renew(id)
    return id
  }

  renew(id: string): boolean {
    const lease = this.#leases.get(id)
    if (lease === undefined) return false
    lease.cancel()
    lease.cancel = this.#clock.after(lease.seconds * 1000, () => {
      if (this.#running) this.endLease(id)
    })
    return true
  }

  hasLease(id: string): boolean {
    return this.#leases.has(id)
  }

  endLease(id: string): void {
    this.#leases.get(id)?.cancel()
    this.#leases.delete(id)
    const keys = [...this.#rows].filter(([, row]) => row.lease === id).map(([key]) => key)
    if (keys.length > 0) this.write([], keys)
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** A client of its own, as another host has. Folder as in a URL's path. */
  open(ports: { readonly clock: Clock; readonly logger: Logger }, path = ''): ClusterStore {
    return new MemoryClusterStore(this, ports, path === '' ? 'causeway/' : `${path}/causeway/`)
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}

/** The records of live sandboxes: durable in the store, indexed by container and by network. */
import type { Clock } from '../base/ports.ts'
import type { Store } from '../store/types.ts'
import { type EndpointRecord, KEY, type SandboxRecord } from './records.ts'

export class SandboxRegistry {
  readonly #store: Store
  readonly #live = new Map<string, SandboxRecord>()
  /** networkId -> endpointId -> record, for inspect and for refusing removal. */
  readonly #byNetwork = new Map<string, Map<string, EndpointRecord>>()
  /** Host-side interface -> container. */
  readonly #byHostIf = new Map<string, string>()

  constructor(store: Store) {
    this.#store = store
  }

  get(containerId: string): SandboxRecord | undefined {
    return this.#live.get(containerId)
  }

  has(containerId: string): boolean {
    return this.#live.has(containerId)
  }

  all(): readonly SandboxRecord[] {
    return [...this.#live.values()]
  }

  endpointsOf(networkId: string): readonly EndpointRecord[] {
    return [...(this.#byNetwork.get(networkId)?.values() ?? [])]
  }

  ownerOf(hostIfname: string): SandboxRecord | undefined {
    const containerId = this.#byHostIf.get(hostIfname)
    return containerId === undefined ? undefined : this.#live.get(containerId)
  }

  /** Stores a record; it is durable when this returns. */
  save(record: SandboxRecord): void {
    this.#store.put(KEY.sandbox(record.containerId), record)
    this.index(record)
  }

  /**
   * Like {@link save} for a record that is stored already but for its `unfinished` mark. The mark goes from the store a moment later:
   * an engine that ends before then finds the work complete when it looks.
   */
  settle(record: SandboxRecord, clock: Clock): void {
    this.index(record)
    clock.after(0, () => {
      if (this.#live.get(record.containerId) !== record) return
      try {
        this.#store.put(KEY.sandbox(record.containerId), record)
      } catch {
        // the engine ends and the store is closed: the mark stays
      }
    })
  }

  /** Takes up a stored record without writing it again. */
  index(record: SandboxRecord): void {
    const before = this.#live.get(record.containerId)
    if (before) this.#unindex(before)
    this.#live.set(record.containerId, record)
    for (const e of record.endpoints) {
      let endpoints = this.#byNetwork.get(e.networkId)
      if (endpoints === undefined) {
        endpoints = new Map()
        this.#byNetwork.set(e.networkId, endpoints)
      }
      endpoints.set(e.id, e)
      if (e.hostIfname !== '' && e.place === undefined) this.#byHostIf.set(e.hostIfname, record.containerId)
    }
  }

  forget(containerId: string): void {
    const record = this.#live.get(containerId)
    this.#store.remove(KEY.sandbox(containerId))
    if (record === undefined) return
    this.#unindex(record)
    this.#live.delete(containerId)
  }

  #unindex(record: SandboxRecord): void {
    for (const e of record.endpoints) {
      const endpoints = this.#byNetwork.get(e.networkId)
      endpoints?.delete(e.id)
      if (endpoints?.size === 0) this.#byNetwork.delete(e.networkId)
      this.#byHostIf.delete(e.hostIfname)
    }
  }
}

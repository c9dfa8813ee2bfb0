/** All containers in memory and in the store: lookup by reference, names, one change at a time per container, who waits for what. */
import { NetError } from '../base/errors.ts'
import type { Store } from '../store/types.ts'
import { type ContainerRecord, isRunning } from './record.ts'
import type { StreamHub } from './stream-hub.ts'
import type { WaitCondition } from './types.ts'

const PREFIX = 'container/'

/** `stopped`: not running, and no policy is going to start it again. */
type Condition = WaitCondition | 'stopped'

interface Waiter {
  readonly condition: Condition
  readonly resolve: (result: { exitCode: number; error?: string }) => void
}

/** One container: its record, and what is only true while this engine runs. */
export class Entry {
  record: ContainerRecord
  readonly hub: StreamHub
  readonly execIds = new Set<string>()
  readonly waiters = new Set<Waiter>()
  /** Waiting time before the last automatic restart, 0 = none yet. */
  restartDelayMs = 0
  cancelRestart: (() => void) | undefined
  stopHealth: (() => void) | undefined
  #tail: Promise<unknown> = Promise.resolve()

  constructor(record: ContainerRecord, hub: StreamHub) {
    this.record = record
    this.hub = hub
  }

  /** Runs `fn` when all earlier ones have ended. */
  exclusive<T>(fn: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(fn, fn)
    this.#tail = result.catch(() => {})
    return result
  }

  /** Resolves at the next end of its process, also when a policy starts it again after that (as Docker's does), or removal. */
  wait(condition: Condition, signal?: AbortSignal): Promise<{ exitCode: number; error?: string }> {
    if ((condition === 'not-running' || condition === 'stopped') && !isRunning(this.record.state)) return Promise.resolve(this.#result())
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.waiters.delete(waiter)
        reject(signal?.reason)
      }
      const waiter: Waiter = {
        condition,
        resolve: (result) => {
          signal?.removeEventListener('abort', onAbort)
          this.waiters.delete(waiter)
          resolve(result)
        },
      }
      if (signal?.aborted) return reject(signal.reason)
      signal?.addEventListener('abort', onAbort, { once: true })
      this.waiters.add(waiter)
    })
  }

  /** Tells those who wait for it. A removal has its own error, not that of the last run. */
  notify(event: 'stopped' | 'restarting' | 'removed', removalError = ''): void {
    const result = event === 'removed' ? resultOf(this.record.state.exitCode, removalError) : this.#result()
    for (const waiter of [...this.waiters]) {
      if (waiter.condition === 'removed' ? event === 'removed' : waiter.condition !== 'stopped' || event !== 'restarting')
        waiter.resolve(result)
    }
  }

  #result(): { exitCode: number; error?: string } {
    return resultOf(this.record.state.exitCode, this.record.state.error)
  }
}

function resultOf(exitCode: number, error: string): { exitCode: number; error?: string } {
  return error === '' ? { exitCode } : { exitCode, error }
}

export class Registry {
  readonly #store: Store
  readonly #onEndpoints: (id: string, endpoints: ContainerRecord['endpoints']) => void
  readonly #byId = new Map<string, Entry>()
  readonly #byName = new Map<string, string>()

  /** `onEndpoints` hears of every container's endpoints as they come, change and go (then with none). */
  constructor(store: Store, onEndpoints: (id: string, endpoints: ContainerRecord['endpoints']) => void = () => {}) {
    this.#store = store
    this.#onEndpoints = onEndpoints
  }

  /** What was stored by an earlier run. */
  stored(): ContainerRecord[] {
    return this.#store.list<ContainerRecord>(PREFIX).map(([, record]) => record)
  }

  all(): Entry[] {
    return [...this.#byId.values()]
  }

  /** Puts an entry in; the record is durable when this returns, unless it came from the store. */
  add(entry: Entry, isStored = false): void {
    if (!isStored) this.#store.put(PREFIX + entry.record.id, entry.record)
    this.#byId.set(entry.record.id, entry)
    this.#byName.set(entry.record.name, entry.record.id)
    this.#onEndpoints(entry.record.id, entry.record.endpoints)
  }

  /** Changes a record, durably. */
  update(entry: Entry, change: Partial<ContainerRecord>): void {
    const before = entry.record
    entry.record = { ...before, ...change }
    if (entry.record.name !== before.name) {
      this.#byName.delete(before.name)
      this.#byName.set(entry.record.name, before.id)
    }
    if (!this.#byId.has(before.id)) return
    this.#store.put(PREFIX + before.id, entry.record)
    if (entry.record.endpoints !== before.endpoints) this.#onEndpoints(before.id, entry.record.endpoints)
  }

  drop(entry: Entry): void {
    this.#store.remove(PREFIX + entry.record.id)
    this.#byId.delete(entry.record.id)
    if (this.#byName.get(entry.record.name) === entry.record.id) this.#byName.delete(entry.record.name)
    this.#onEndpoints(entry.record.id, {})
  }

  /** Takes a name. The name is free again when it is given back with {@link release} or its container goes. Throws `conflict`. */
  reserve(name: string, id: string): void {
    const holder = this.#byName.get(name)
    if (holder !== undefined) {
      throw new NetError(
        'conflict',
        `Conflict. The container name "/${name}" is already in use by container "${holder}". You have to remove (or rename) that container to be able to reuse that name.`,
      )
    }
    this.#byName.set(name, id)
  }

  release(name: string, id: string): void {
    if (this.#byName.get(name) === id && this.#byId.get(id)?.record.name !== name) this.#byName.delete(name)
  }

  isTaken(name: string): boolean {
    return this.#byName.has(name)
  }

  nameOf(id: string): string | undefined {
    return this.#byId.get(id)?.record.name
  }

  /** Full id, then name, then unique id prefix. Throws `invalid` when a prefix is not unique. */
  find(ref: string): Entry | undefined {
    const bare = ref.replace(/^\//, '')
    const exact = this.#byId.get(bare) ?? this.#byId.get(this.#byName.get(bare) ?? '')
    if (exact !== undefined || bare === '') return exact
    if (!/^[0-9a-f]+$/.test(bare)) return undefined
    const matches = [...this.#byId.keys()].filter((id) => id.startsWith(bare))
    if (matches.length > 1) throw new NetError('invalid', `multiple IDs found with provided prefix: ${bare}`)
    return matches[0] === undefined ? undefined : this.#byId.get(matches[0])
  }

  get(ref: string): Entry {
    const entry = this.find(ref)
    if (entry === undefined) throw new NetError('not-found', `No such container: ${ref.replace(/^\//, '')}`, { subject: ref })
    return entry
  }
}

/** A client of {@link MemoryStoreServer}: what a host has in its hand. */
import { NetError } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import { checkKey, checkLease, checkLeaseSeconds, checkPrefix, checkTxn } from './keys.ts'
import { LeaseKeeper } from './lease-keeper.ts'
import type { MemoryStoreServer } from './memory.ts'
import { Timeline, versionText } from './timeline.ts'
import type {
  ClusterStore,
  Lease,
  Listing,
  StoreCounters,
  StoreEntry,
  StoreState,
  StoreStatus,
  Txn,
  TxnResult,
  Watch,
  WatchHandlers,
} from './types.ts'

export class MemoryClusterStore implements ClusterStore {
  readonly #server: MemoryStoreServer
  readonly #ports: { readonly clock: Clock; readonly logger: Logger }
  readonly #root: string
  readonly #leases: LeaseKeeper
  readonly #timeline: Timeline = new Timeline(() => this.#leases.pokeAll())
  readonly #watches = new Set<() => void>()
  readonly #statusListeners = new Set<(status: StoreStatus) => void>()
  readonly #counters = { reads: 0, writes: 0, background: 0, retries: 0, watchEvents: 0, watchBytes: 0 }
  readonly #offChange: () => void
  #state: StoreState = 'connecting'
  #since: number
  #closed = false

  constructor(server: MemoryStoreServer, ports: { readonly clock: Clock; readonly logger: Logger }, root: string) {
    this.#server = server
    this.#ports = ports
    this.#root = root
    this.#since = ports.clock.now()
    this.#leases = new LeaseKeeper(ports.clock, ports.logger)
    this.#offChange = server.onChange(() => this.#follow())
    queueMicrotask(() => this.#follow())
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    checkKey(key)
    const generation = await this.#ask('reads')
    return this.#entry(key, generation)
  }

  async list(prefix: string): Promise<Listing> {
    checkPrefix(prefix)
    return this.#listing(prefix, await this.#ask('reads'))
  }

  async txn(txn: Txn): Promise<TxnResult> {
    checkTxn(txn)
    for (const put of txn.puts ?? []) if (put.lease !== undefined) checkLease(put.lease)
    const generation = await this.#ask('writes')
    for (const { lease } of txn.puts ?? [])
      if (lease !== undefined && !this.#server.hasLease(lease.id)) {
        this.#leases.pokeAll()
        throw new NetError('conflict', `the lease ${lease.id} has ended: expected a new one`, { subject: lease.id })
      }
    const checks = txn.checks ?? []
    const holds = checks.every((check) => {
      const row = this.#server.row(this.#root + check.key)
      return 'absent' in check ? row === undefined : row !== undefined && this.#timeline.revisionOf(check.version) === String(row.revision)
    })
    if (!holds) return { ok: false, current: new Map(checks.map(({ key }) => [key, this.#entry(key, generation)])) }
    this.#server.write(
      (txn.puts ?? []).map(({ key, value, lease }) => ({
        key: this.#root + key,
        value,
        ...(lease === undefined ? {} : { lease: lease.id }),
      })),
      (txn.deletes ?? []).map((key) => this.#root + key),
    )
    const version = versionText(generation, this.#server.header().revision)
    return { ok: true, versions: new Map((txn.puts ?? []).map(({ key }) => [key, version])) }
  }

  async lease(seconds: number, onLost: (why: string) => void): Promise<Lease> {
    checkLeaseSeconds(seconds)
    const asked = this.#ports.clock.now()
    await this.#ask('writes')
    const id = this.#server.grant(seconds)
    const renew = async () => {
      await this.#ask('background')
      return this.#server.renew(id)
    }
    const revoke = async () => {
      await this.#ask('writes')
      this.#server.endLease(id)
    }
    return this.#leases.keep({ id, seconds, renew, revoke }, asked, onLost)
  }

  watch(prefix: string, handlers: WatchHandlers, from?: Listing): Watch {
    checkPrefix(prefix)
    const start = from === undefined ? undefined : this.#timeline.revisionOf(from.revision)
    let position = start === undefined ? undefined : Number(start)
    let generation = this.#timeline.mark().generation
    let queued = false
    const tell = (fn: () => void) => {
      try {
        fn()
      } catch (cause) {
        this.#ports.logger.error('a watcher of the cluster store failed', { cause })
      }
    }
    const step = () => {
      queued = false
      if (!this.#watches.has(queue) || !this.#server.running) return
      this.#observe()
      const now = this.#timeline.mark().generation
      const changes = position === undefined || now !== generation ? undefined : this.#server.changesAfter(position)
      generation = now
      position = Number(this.#server.header().revision)
      if (changes === undefined) return tell(() => handlers.onResync(this.#listing(prefix, now)))
      const events = changes
        .filter(({ key }) => key.startsWith(this.#root + prefix))
        .map(({ key, row, revision }) => {
          const own = key.slice(this.#root.length)
          if (row === undefined) return { kind: 'delete', key: own } as const
          return { kind: 'put', key: own, value: row.value, version: versionText(now, String(revision)) } as const
        })
      this.#counters.watchEvents += events.length
      for (const event of events) this.#counters.watchBytes += event.key.length + (event.kind === 'put' ? event.value.length : 0)
      if (events.length > 0) tell(() => handlers.onChange(events, versionText(now, String(position))))
    }
    // later, as from the network: never inside of the call that changed something
    const queue = () => {
      if (queued) return
      queued = true
      queueMicrotask(step)
    }
    this.#watches.add(queue)
    queue()
    return { close: () => void this.#watches.delete(queue) }
  }

  status(): StoreStatus {
    const error = this.#state === 'down' ? this.#unavailable().message : ''
    return { kind: 'memory', url: 'memory', state: this.#state, since: this.#since, endpoint: 'memory', error }
  }

  onStatus(listener: (status: StoreStatus) => void): () => void {
    this.#statusListeners.add(listener)
    return () => this.#statusListeners.delete(listener)
  }

  counters(): StoreCounters {
    return { ...this.#counters }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#offChange()
    this.#watches.clear()
    this.#statusListeners.clear()
    this.#leases.close()
  }

  /** A round trip: the generation of what is read next, before anything else runs. */
  async #ask(counter: 'reads' | 'writes' | 'background'): Promise<number> {
    this.#counters[counter]++
    await Promise.resolve()
    if (this.#closed) throw new NetError('unavailable', 'The cluster store memory was closed', { subject: 'memory' })
    this.#follow()
    if (!this.#server.running) throw this.#unavailable()
    return this.#observe()
  }

  #observe(): number {
    this.#timeline.observe(this.#server.header(), this.#timeline.mark())
    return this.#timeline.mark().generation
  }

  #follow(): void {
    if (this.#closed) return
    const state = this.#server.running ? 'up' : 'down'
    if (state !== this.#state) {
      this.#state = state
      this.#since = this.#ports.clock.now()
      if (state === 'down') this.#timeline.cut()
      else this.#leases.pokeAll()
      for (const listener of [...this.#statusListeners]) listener(this.status())
    }
    for (const queue of this.#watches) queue()
  }

  #unavailable(): NetError {
    return new NetError('unavailable', 'The cluster store memory does not answer: start it', { subject: 'memory' })
  }

  #entry(key: string, generation: number): StoreEntry | undefined {
    const row = this.#server.row(this.#root + key)
    return row === undefined ? undefined : { key, value: row.value, version: versionText(generation, String(row.revision)) }
  }

  #listing(prefix: string, generation: number): Listing {
    const entries = this.#server.rows(this.#root + prefix).map(([key, row]): StoreEntry => {
      return { key: key.slice(this.#root.length), value: row.value, version: versionText(generation, String(row.revision)) }
    })
    return { entries, revision: versionText(generation, this.#server.header().revision) }
  }
}

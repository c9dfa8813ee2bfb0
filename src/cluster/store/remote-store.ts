/** What stores behind a network have in common: members, leases, watches, and reading everything again after an outage. */
import type { StoreHttp } from './http.ts'
import { checkPrefix } from './keys.ts'
import { LeaseKeeper } from './lease-keeper.ts'
import { type Attempt, type Ports, StoreMembers } from './members.ts'
import { Timeline } from './timeline.ts'
import type { ClusterStore, Lease, Listing, StoreCounters, StoreEntry, StoreStatus, Txn, TxnResult, Watch, WatchHandlers } from './types.ts'
import type { StoreConfig } from './url.ts'
import { type RunningWatch, runWatch, type WatchSteps } from './watch-loop.ts'

export abstract class RemoteStore implements ClusterStore {
  protected readonly ports: Ports
  protected readonly members: StoreMembers
  protected readonly http: StoreHttp
  protected readonly leases: LeaseKeeper
  protected readonly timeline: Timeline
  readonly #watches = new Set<RunningWatch>()

  /** Owns `http` from now on. */
  constructor(config: StoreConfig, http: StoreHttp, ports: Ports) {
    this.ports = ports
    this.http = http
    this.members = new StoreMembers(config, ports)
    this.leases = new LeaseKeeper(ports.clock, ports.logger)
    this.timeline = new Timeline(() => this.dataIsAnother())
    let isLost = false
    this.members.onLost(() => {
      // while nobody is there the data may be replaced by an older copy: nothing that was read before is relied on after
      this.timeline.cut()
      isLost = true
    })
    this.members.onStatus(({ state }) => {
      // after mere silence nobody reads again: what made a store slow would be made worse by all of its hosts at once
      if (state !== 'up' || !isLost) return
      isLost = false
      this.#readAgain()
    })
  }

  abstract get(key: string): Promise<StoreEntry | undefined>
  abstract list(prefix: string): Promise<Listing>
  abstract txn(txn: Txn): Promise<TxnResult>
  abstract lease(seconds: number, onLost: (why: string) => void): Promise<Lease>
  abstract watch(prefix: string, handlers: WatchHandlers, from?: Listing): Watch

  status(): StoreStatus {
    return this.members.status()
  }

  onStatus(listener: (status: StoreStatus) => void): () => void {
    return this.members.onStatus(listener)
  }

  counters(): StoreCounters {
    return this.members.counters()
  }

  async close(): Promise<void> {
    this.members.close()
    for (const watch of [...this.#watches]) watch.close()
    this.leases.close()
    this.http.close()
  }

  /** Begins to look whether the store answers. `probe` needs a quorum. */
  protected startHeartbeat(probe: Attempt<unknown>): void {
    void this.members.heartbeat(probe)
  }

  protected startWatch<Position>(prefix: string, steps: WatchSteps<Position>, handlers: WatchHandlers, from: Listing | undefined): Watch {
    checkPrefix(prefix)
    const watch = runWatch(this.members, this.ports, steps, handlers, from, () => this.#watches.delete(watch))
    this.#watches.add(watch)
    return watch
  }

  /** The store's data was replaced: called once per time that this is noticed, after versions were cut. */
  protected dataIsAnother(): void {
    this.ports.logger.warn('the data of the cluster store is another than before (restored or wiped): everything is read again')
    this.#readAgain()
  }

  #readAgain(): void {
    for (const watch of this.#watches) watch.resync()
    this.leases.pokeAll()
  }
}

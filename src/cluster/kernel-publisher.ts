/**
 * Tells the cluster what this host's kernel holds of each network that it has endpoints on: a hash with the store's revision that it follows
 * from, all networks in one value, rewritten some time after changes and only when something differs. Nobody watches it; `cluster verify` and
 * `cluster inspect` read it. Looks at all networks once in a while too, in case a notice of the kernel was lost.
 */
import { messageOf } from '../base/errors.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import { CLUSTER_KEY } from './keys.ts'
import type { Membership } from './membership.ts'
import type { Mirror } from './mirror.ts'
import type { KernelEntry, ReadKernelEntries } from './model.ts'
import { encodePublication, hashOf, type KernelState, kernelLines } from './published.ts'
import type { ClusterStore } from './store/types.ts'

/** From the first change to the writing of all that has changed until then. */
const QUIET_MS = 2_000
/** In large clusters longer, so that all hosts together write about 25 times a second at most. */
const QUIET_PER_HOST_MS = 40
/** From one look at all networks to the next, however few they are. */
const LOOK_MS = 60_000
const LOOK_PER_NETWORK_MS = 100
/** What a repair may take until the kernel is looked at again. */
const REPAIR_MS = 200
/** Kernels are read that many at a time before others have their turn. */
const READ_AT_ONCE = 16

export interface KernelPublisherOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly membership: Membership
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly readKernel: ReadKernelEntries
  /** Brings a network's kernel state in line with the view, soon. Absent: nobody can. */
  readonly repair?: (networkId: string) => void
}

/** What a network's kernel state is, and what it is a hash of. */
export interface KernelReading {
  readonly state: KernelState
  readonly lines: readonly string[]
}

export class KernelPublisher {
  readonly #o: KernelPublisherOptions
  /** As last read, by network. */
  readonly #states = new Map<string, KernelState>()
  readonly #changed = new Set<string>()
  readonly #repairs = new Map<string, number>()
  /** What the store has of ours, without times and revisions; undefined: not known. */
  #told: string | undefined
  #stopTimer: (() => void) | undefined
  #stopLooking: (() => void) | undefined
  #running: Promise<void> = Promise.resolve()
  #closed = false

  constructor(options: KernelPublisherOptions) {
    this.#o = options
  }

  /** A network's endpoints have changed, or its entries. */
  changed(networkId: string): void {
    this.#changed.add(networkId)
    this.#publishSoon()
  }

  /** Something of a network that somebody else had changed was put right. */
  repaired(networkId: string): void {
    this.#repairs.set(networkId, (this.#repairs.get(networkId) ?? 0) + 1)
    this.changed(networkId)
  }

  /** This host has joined (again): what it had published has gone with its lease. */
  joined(): void {
    this.#told = undefined
    this.#markAll()
    this.#publishSoon()
    this.#lookLater()
  }

  /** Looks at all networks now; resolves when what differs from what is published is published. Never throws. */
  check(): Promise<void> {
    this.#markAll()
    return this.#publish()
  }

  /** What the kernel holds of a network now. */
  async read(networkId: string): Promise<KernelReading> {
    const { mirror, readKernel } = this.#o
    const revision = mirror.endpointTable.revisionOf(networkId)
    const wanted = mirror
      .endpointsOf(networkId)
      .flatMap(({ ipv4, ipv6, mac, hostAddress: host }) =>
        [ipv4, ipv6].flatMap((ip): KernelEntry[] => (ip === '' ? [] : [{ ip, mac, host }])),
      )
    const lines = kernelLines(await readKernel(networkId))
    const repairs = this.#repairs.get(networkId) ?? 0
    return { lines, state: { revision, hash: hashOf(lines), wanted: hashOf(kernelLines(wanted)), entries: lines.length, repairs } }
  }

  /** Networks that this host has endpoints on. */
  networkIds(): string[] {
    const { mirror } = this.#o
    return mirror.used().filter((id) => mirror.endpointTable.list(id).some(({ hostId }) => hostId === mirror.hostId))
  }

  close(): Promise<void> {
    this.#closed = true
    this.#stopTimer?.()
    this.#stopLooking?.()
    return this.#running
  }

  #markAll(): void {
    for (const id of [...this.#states.keys(), ...this.networkIds()]) this.#changed.add(id)
  }

  #publishSoon(): void {
    if (this.#closed) return
    const { clock, rng, mirror } = this.#o
    const spread = 0.75 + (rng.bytes(1)[0] as number) / 510
    this.#stopTimer ??= clock.after(Math.max(QUIET_MS, mirror.hosts().length * QUIET_PER_HOST_MS) * spread, () => void this.#publish())
  }

  #lookLater(): void {
    if (this.#closed || this.#stopLooking !== undefined) return
    const { clock } = this.#o
    this.#stopLooking = clock.after(Math.max(LOOK_MS, this.#states.size * LOOK_PER_NETWORK_MS), () => {
      this.#stopLooking = undefined
      void this.check().then(() => this.#lookLater())
    })
  }

  /** One after the other; never rejects. */
  #publish(): Promise<void> {
    this.#stopTimer?.()
    this.#stopTimer = undefined
    this.#running = this.#running.then(async () => {
      try {
        await this.#readChanged()
        await this.#write()
      } catch (error) {
        if (this.#closed) return
        this.#o.log.debug('what the kernel holds is not published yet', { error: messageOf(error) })
        if (this.#o.membership.isJoined) this.#publishSoon()
      }
    })
    return this.#running
  }

  async #readChanged(): Promise<void> {
    const { clock, repair } = this.#o
    const wrong = await this.#readEach([...this.#changed])
    if (wrong.length === 0 || repair === undefined || this.#closed) return
    for (const id of wrong) repair(id)
    await clock.sleep(REPAIR_MS)
    await this.#readEach(wrong)
  }

  /** Reads networks anew; returns those whose kernel state is not what it should be. */
  async #readEach(networkIds: readonly string[]): Promise<string[]> {
    const here = new Set(this.networkIds())
    const wrong: string[] = []
    let read = 0
    for (const id of networkIds) {
      this.#changed.delete(id)
      if (!here.has(id)) {
        this.#states.delete(id)
        this.#repairs.delete(id)
        continue
      }
      const { state } = await this.read(id)
      this.#states.set(id, state)
      if (state.hash !== state.wanted) wrong.push(id)
      if (++read % READ_AT_ONCE === 0) await this.#o.clock.sleep(1)
    }
    return wrong
  }

  async #write(): Promise<void> {
    const { store, membership, mirror, clock } = this.#o
    const { lease } = membership
    if (lease === undefined || this.#closed) return // joining begins anew
    const networks = new Map([...this.#states].sort(([a], [b]) => (a < b ? -1 : 1)))
    const says = encodePublication({ at: 0, networks: new Map([...networks].map(([id, state]) => [id, { ...state, revision: 0 }])) })
    if (says === this.#told || (networks.size === 0 && this.#told === undefined)) return
    const key = CLUSTER_KEY.kernel(mirror.hostId)
    const value = encodePublication({ at: clock.now(), networks })
    await store.txn(networks.size === 0 ? { deletes: [key] } : { puts: [{ key, value, lease }] })
    this.#told = networks.size === 0 ? undefined : says
  }
}

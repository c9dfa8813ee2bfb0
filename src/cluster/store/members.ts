/**
 * Which member of the store is asked, and what happens when it does not answer: the next one, with growing pauses, until patience ends.
 * Owns the store's state (`up`, `down`) and its counters; a heartbeat finds out when nothing else does, and watches follow it.
 */
import { setMaxListeners } from 'node:events'
import { NetError } from '../../base/errors.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import { StoreFault } from './http.ts'
import type { StoreCounters, StoreState, StoreStatus, Txn } from './types.ts'
import { memberText, type StoreConfig, type StoreMember } from './url.ts'

export type CallKind = 'read' | 'write' | 'background'

/** One attempt at one member. `unsure`: an attempt of the same call may have been carried out already. */
export type Attempt<T> = (member: StoreMember, timeoutMs: number, unsure: boolean) => Promise<T>

export interface Ports {
  readonly clock: Clock
  readonly rng: Rng
  readonly logger: Logger
}

/** How long one attempt may take. Elections of both stores take less. */
const ATTEMPT_MS = 2500
/** The same while the store is known to be down: a change is refused soon. */
const DOWN_ATTEMPT_MS = 1000
const HEARTBEAT_MS = 5000
/**
 * A store that does not answer in time may be slow under its load. It counts as down when it stays silent for so long after a first
 * attempt was given up, or when somebody has waited in vain for as long as the user wants.
 */
const SILENCE_MS = 2500
const LONGEST_PAUSE_MS = 2000

export class StoreMembers {
  readonly #config: StoreConfig
  readonly #ports: Ports
  readonly #abort = new AbortController()
  readonly #statusListeners = new Set<(status: StoreStatus) => void>()
  readonly #moveListeners = new Set<() => void>()
  readonly #lostListeners = new Set<() => void>()
  readonly #counters = { reads: 0, writes: 0, background: 0, retries: 0, watchEvents: 0, watchBytes: 0 }
  #index: number
  #state: StoreState = 'connecting'
  #since: number
  #error = ''
  /** When the first of the attempts that were given up since the last answer was; undefined: none was. */
  #silentSince: number | undefined
  /** Since the last answer nothing worse than silence has happened. */
  #isOnlySilent = true
  #returned = Number.NEGATIVE_INFINITY

  constructor(config: StoreConfig, ports: Ports) {
    this.#config = config
    this.#ports = ports
    // hosts begin at different members, so that the first of the list does not serve them all
    this.#index = (ports.rng.bytes(1)[0] as number) % config.members.length
    this.#since = ports.clock.now()
    setMaxListeners(0, this.#abort.signal)
  }

  get closed(): boolean {
    return this.#abort.signal.aborted
  }

  /** Aborted when the store is closed. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  current(): StoreMember {
    return this.#config.members[this.#index] as StoreMember
  }

  /**
   * Repeats `attempt` while it throws {@link StoreFault}: at once at the next member, after a round of all with a pause. Anything else it
   * throws is passed on. Throws `unavailable` when patience ends; background calls have none.
   */
  async call<T>(kind: CallKind, attempt: Attempt<T>): Promise<T> {
    if (kind === 'read') this.#counters.reads++
    else if (kind === 'write') this.#counters.writes++
    else this.#counters.background++
    const { clock } = this.#ports
    const patience = kind === 'background' || this.#state === 'down' ? 0 : this.#config.patienceMs
    const until = clock.now() + patience
    let unsure = false
    for (let tried = 1; ; tried++) {
      if (this.closed) throw this.closedError()
      const member = this.current()
      try {
        const result = await attempt(member, this.#state === 'down' && kind !== 'background' ? DOWN_ATTEMPT_MS : ATTEMPT_MS, unsure)
        this.answered()
        return result
      } catch (error) {
        if (!(error instanceof StoreFault)) throw error
        if (this.closed) throw this.closedError()
        if (error.tooLarge) throw error
        unsure ||= error.sent
        this.failed(member, error)
        const round = Math.ceil(tried / this.#config.members.length)
        const roundEnds = tried % this.#config.members.length === 0
        if (roundEnds && (error.final || clock.now() >= until)) throw this.#giveUp(kind, member, error)
        this.#counters.retries++
        if (roundEnds) await clock.sleep(Math.min(50 * 2 ** round, 500, Math.max(until - clock.now(), 1)), this.signal).catch(() => {})
      }
    }
  }

  /** A member did not answer, or said that it cannot: later calls go to the next one. */
  failed(member: StoreMember, fault: StoreFault): void {
    this.#ports.logger.debug('the cluster store did not answer', { member: memberText(member), why: fault.message })
    if (fault.silent) this.#silentSince ??= this.#ports.clock.now()
    else if (this.#isOnlySilent) {
      this.#isOnlySilent = false
      if (this.#state === 'down') this.#tellLost()
    }
    if (member !== this.current() || this.#config.members.length === 1) return
    this.#index = (this.#index + 1) % this.#config.members.length
    for (const listener of this.#moveListeners) listener()
  }

  answered(): void {
    this.#silentSince = undefined
    this.#isOnlySilent = true
    if (this.#state === 'up') return
    this.#returned = this.#ports.clock.now()
    this.#change('up', '')
  }

  /** When the store last came back, in the clock's milliseconds: connections from before may be dead without knowing it. */
  get returnedAt(): number {
    return this.#returned
  }

  /** Asks `probe` every few seconds, sooner while the store is down, until the store is closed. */
  async heartbeat(probe: Attempt<unknown>): Promise<void> {
    let failures = 0
    while (!this.closed) {
      await this.call('background', probe).then(
        () => {
          failures = 0
        },
        () => {
          failures++
        },
      )
      await this.pause(failures === 0 ? HEARTBEAT_MS : Math.min(125 * 2 ** failures, LONGEST_PAUSE_MS))
    }
  }

  /** A pause of about `ms`, so that hosts do not all come back at the same moment. Ends early, without throwing, when the store is closed. */
  async pause(ms: number): Promise<void> {
    const spread = 0.75 + (this.#ports.rng.bytes(1)[0] as number) / 512
    await this.#ports.clock.sleep(ms * spread, this.signal).catch(() => {})
  }

  /** `listener` is called when another member is asked from now on. */
  onMove(listener: () => void): () => void {
    this.#moveListeners.add(listener)
    return () => this.#moveListeners.delete(listener)
  }

  /**
   * `listener` is called, once per outage, when the store was away: its processes or the way to them may have ended, and its data may have
   * been replaced meanwhile. One that was silent for a while and then answers again, with connections that have held, was not.
   */
  onLost(listener: () => void): void {
    this.#lostListeners.add(listener)
  }

  onStatus(listener: (status: StoreStatus) => void): () => void {
    this.#statusListeners.add(listener)
    return () => this.#statusListeners.delete(listener)
  }

  status(): StoreStatus {
    return {
      kind: this.#config.kind,
      url: this.#config.url,
      state: this.#state,
      since: this.#since,
      endpoint: memberText(this.current()),
      error: this.#error,
    }
  }

  counters(): StoreCounters {
    return { ...this.#counters }
  }

  countBackground(): void {
    this.#counters.background++
  }

  countWatched(bytes: number, events: number): void {
    this.#counters.watchBytes += bytes
    this.#counters.watchEvents += events
  }

  close(): void {
    this.#abort.abort()
    this.#statusListeners.clear()
    this.#moveListeners.clear()
    this.#lostListeners.clear()
  }

  closedError(): NetError {
    return new NetError('unavailable', `The cluster store ${this.#config.url} was closed`, { subject: this.#config.url })
  }

  /** For answers that no repetition makes usable. */
  unusable(cause: Error): NetError {
    const { url } = this.#config
    return new NetError('unavailable', `The cluster store ${url} cannot be used: ${cause.message}`, { subject: url }, cause)
  }

  /** A put named a lease that the store ended meanwhile. */
  leaseGone(txn: Txn): NetError {
    const lease = txn.puts?.find((put) => put.lease !== undefined)?.lease?.id ?? ''
    return new NetError('conflict', `the lease ${lease} has ended: expected a new one`, { subject: lease })
  }

  #giveUp(kind: CallKind, member: StoreMember, fault: StoreFault): NetError {
    const error = new NetError('unavailable', this.#sentence(member, fault), { subject: this.#config.url }, fault)
    const { clock } = this.#ports
    const mayBeSlow = this.#isOnlySilent && kind === 'background' && clock.now() - (this.#silentSince ?? 0) < SILENCE_MS
    if (mayBeSlow) return error
    const wasDown = this.#state === 'down'
    this.#change('down', error.message)
    if (!wasDown && !this.#isOnlySilent) this.#tellLost()
    return error
  }

  #tellLost(): void {
    for (const listener of this.#lostListeners) listener()
  }

  #sentence(member: StoreMember, fault: StoreFault): string {
    const { url, members } = this.#config
    const what = fault.final ? 'cannot be used' : 'does not answer'
    const help = fault.final
      ? 'check --cluster-store-opt'
      : members.length === 1
        ? 'check that it runs and can be reached from this host'
        : 'check that most of its members run and can be reached from this host'
    return `The cluster store ${url} ${what} (${memberText(member)}: ${fault.message}): ${help}`
  }

  #change(state: StoreState, error: string): void {
    const changed = state !== this.#state
    this.#error = error
    if (!changed) return
    const before = this.#state
    this.#state = state
    this.#since = this.#ports.clock.now()
    const { logger } = this.#ports
    if (state === 'down') logger.warn(`${error}; what runs goes on, changes to cluster networks are refused until it is back`)
    else logger.info(before === 'down' ? 'the cluster store is back' : 'the cluster store answers', { member: memberText(this.current()) })
    const status = this.status()
    for (const listener of [...this.#statusListeners]) {
      try {
        listener(status)
      } catch (cause) {
        logger.error('a listener to the cluster store failed', { cause })
      }
    }
  }
}

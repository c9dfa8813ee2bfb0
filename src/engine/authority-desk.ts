/**
 * The engine's dealings with authorities (drivers/authority.ts): who is asked for which network, what was asked and is not settled
 * yet (an intent in the store, so that a crash leaves a trail), and removals that are repeated until the authority has heard them.
 */
import { hasCode, messageOf } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { Authority, AuthorityData } from '../drivers/authority.ts'
import type { Network } from '../model/network.ts'
import type { Store } from '../store/types.ts'
import { KEY } from './records.ts'

/** First and longest pause before a removal is tried again. */
const RETRY_MS = 1000
const LONGEST_RETRY_MS = 60_000

type Intent =
  | { readonly kind: 'network'; readonly network: Network }
  | { readonly kind: 'endpoint'; readonly network: Network; readonly endpointId: string; readonly data: AuthorityData }

export type FindAuthority = (driver: string, ipamDriver: string) => Authority | undefined

export class AuthorityDesk {
  readonly #store: Store
  readonly #clock: Clock
  readonly #log: Logger
  readonly #find: FindAuthority
  /** Networks in whose name somebody is being asked now, counted: they cannot be removed meanwhile. */
  readonly #pins = new Map<string, number>()
  readonly #retries = new Map<string, () => void>()
  #closed = false

  constructor(options: { store: Store; clock: Clock; log: Logger; find: FindAuthority }) {
    this.#store = options.store
    this.#clock = options.clock
    this.#log = options.log
    this.#find = options.find
  }

  find(driver: string, ipamDriver: string): Authority | undefined {
    return this.#find(driver, ipamDriver)
  }

  of(network: Network): Authority | undefined {
    return network.configOnly || network.predefined ? undefined : this.#find(network.driver, network.ipamDriver)
  }

  pin(networkIds: readonly string[]): () => void {
    for (const id of networkIds) this.#pins.set(id, (this.#pins.get(id) ?? 0) + 1)
    return () => {
      for (const id of networkIds) {
        const left = (this.#pins.get(id) ?? 1) - 1
        if (left === 0) this.#pins.delete(id)
        else this.#pins.set(id, left)
      }
    }
  }

  isPinned(networkId: string): boolean {
    return this.#pins.has(networkId)
  }

  /** From now on a crash makes the next engine take back what the authority has been asked for. */
  begin(intent: Intent): void {
    this.#store.put(KEY.intent(idOf(intent)), intent)
  }

  /** It is in a record of its own now, or nothing of it is left. */
  settle(id: string): void {
    this.#store.remove(KEY.intent(id))
  }

  /** Tells the authority that an endpoint has gone; an authority that is away is told later. Never throws. */
  removeEndpoint(network: Network, endpointId: string, data: AuthorityData): Promise<void> {
    const intent: Intent = { kind: 'endpoint', network, endpointId, data }
    this.begin(intent)
    return this.#carryOut(intent)
  }

  /** Takes back a network whose creation failed. Never throws. */
  withdrawNetwork(network: Network): Promise<void> {
    return this.#carryOut({ kind: 'network', network })
  }

  async #carryOut(intent: Intent, pause = RETRY_MS): Promise<void> {
    const id = idOf(intent)
    try {
      const authority = this.of(intent.network)
      if (intent.kind === 'endpoint') await authority?.removeEndpoint?.(intent.network, intent.endpointId, intent.data)
      else await authority?.removeNetwork?.(intent.network, true)
      this.settle(id)
    } catch (error) {
      const what = `${intent.kind} ${id.slice(0, 12)} of network ${intent.network.name}`
      if (!hasCode(error, 'unavailable')) {
        this.#log.error(`cannot give back ${what}`, { error: messageOf(error) })
        this.settle(id)
        return
      }
      if (this.#closed) return // the intent is stored: the next engine goes on
      this.#log.warn(`cannot give back ${what} now; it is tried again`, { error: messageOf(error), inMs: pause })
      const cancel = this.#clock.after(pause, () => {
        this.#retries.delete(id)
        void this.#carryOut(intent, Math.min(pause * 2, LONGEST_RETRY_MS))
      })
      this.#retries.set(id, cancel)
    }
  }

  /** After a restart: what was begun and is in no record is taken back, in the background. */
  resume(isLive: (id: string) => boolean): void {
    for (const [, intent] of this.#store.list<Intent>(KEY.intents)) {
      if (isLive(idOf(intent))) this.settle(idOf(intent))
      else void this.#carryOut(intent)
    }
  }

  close(): void {
    this.#closed = true
    for (const cancel of this.#retries.values()) cancel()
    this.#retries.clear()
  }
}

const idOf = (intent: Intent): string => (intent.kind === 'network' ? intent.network.id : intent.endpointId)

/**
 * Open vSwitch's database: one connection that is opened when it is needed and again after it broke, and a replica of what matters here.
 * Whoever waits for the switch waits for a change of the replica.
 */
import { messageOf, NetError } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import { MONITORED, Replica } from './replica.ts'
import { errorText, Rpc } from './rpc.ts'
import type { Operation } from './values.ts'

const DATABASE = 'Open_vSwitch'
const CONNECT_MS = 3_000
const ANSWER_MS = 10_000
/** First and longest pause before a lost connection is opened again. */
const RETRY_MS = 500
const LONGEST_RETRY_MS = 15_000

export interface OvsDatabaseParts {
  /** Path of the database's socket. */
  readonly path: string
  readonly clock: Clock
  readonly log: Logger
  /** The replica has changed, or has been read anew. */
  readonly onChange: () => void
}

export class OvsDatabase {
  readonly #parts: OvsDatabaseParts
  #rpc: Rpc | undefined
  #replica: Replica | undefined
  #opening: Promise<Replica> | undefined
  #keeps = false
  #closed = false
  #cancelRetry: (() => void) | undefined
  readonly #watchers = new Set<() => void>()

  constructor(parts: OvsDatabaseParts) {
    this.#parts = parts
  }

  /** The database as it is now. Throws `unavailable` with what to start. */
  read(): Promise<Replica> {
    if (this.#replica !== undefined) return Promise.resolve(this.#replica)
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined
    })
    return this.#opening
  }

  /** From now on a lost connection is opened again in the background, so that changes are seen. */
  keep(): void {
    this.#keeps = true
    if (this.#rpc === undefined) this.#retry(0)
  }

  /** Carries operations out, all or none. Throws `busy` when what they build on has changed meanwhile, `unavailable`, or what the database says. */
  async transact(operations: readonly Operation[]): Promise<void> {
    await this.read()
    const rpc = this.#rpc
    if (rpc === undefined) throw this.#away('the connection broke')
    const answer = await this.#call(rpc, 'transact', [DATABASE, ...operations])
    // one result for each operation, null for those that were not tried, and one more for an error of the whole (RFC 7047 4.1.3)
    for (const result of Array.isArray(answer) ? answer : [{ error: 'no list of results' }]) {
      const { error } = (result ?? {}) as { error?: unknown }
      if (error === undefined || error === null) continue
      const code = error === 'timed out' || error === 'constraint violation' ? 'busy' : 'internal'
      throw new NetError(code, `Open vSwitch's database: ${errorText(result)}`)
    }
  }

  /** Waits until `done` says something other than undefined of the replica. Throws `unavailable` with `what` did not happen in time. */
  async until<T>(done: (replica: Replica) => T | undefined, withinMs: number, what: string): Promise<T> {
    await this.read()
    return new Promise((resolve, reject) => {
      const end = (finish: () => void) => {
        cancel()
        this.#watchers.delete(look)
        finish()
      }
      const look = () => {
        if (this.#closed) return end(() => reject(this.#away('this engine is ending')))
        try {
          const found = this.#replica === undefined ? undefined : done(this.#replica)
          if (found !== undefined) end(() => resolve(found))
        } catch (error) {
          end(() => reject(error))
        }
      }
      const cancel = this.#parts.clock.after(withinMs, () =>
        end(() => reject(new NetError('unavailable', `${what} within ${withinMs / 1000} s: is ovs-vswitchd running?`))),
      )
      this.#watchers.add(look)
      look()
    })
  }

  close(): void {
    this.#closed = true
    this.#keeps = false
    this.#cancelRetry?.()
    this.#rpc?.close()
    this.#changed()
  }

  async #open(): Promise<Replica> {
    if (this.#closed) throw this.#away('this engine is ending')
    const replica = new Replica()
    let rpc: Rpc | undefined
    try {
      rpc = await Rpc.open(this.#parts.path, this.#parts.clock, CONNECT_MS, {
        onNotification: (method, params) => {
          if (method !== 'update') return
          replica.update(params[1])
          if (this.#replica === replica) this.#changed()
        },
        onEnd: (why) => this.#lost(replica, why),
      })
      this.#rpc = rpc
      replica.update(await this.#call(rpc, 'monitor', [DATABASE, 'causeway', MONITORED]))
    } catch (error) {
      rpc?.close()
      this.#rpc = undefined
      throw this.#away(messageOf(error))
    }
    this.#replica = replica
    this.#changed()
    return replica
  }

  async #call(rpc: Rpc, method: string, params: readonly unknown[]): Promise<unknown> {
    try {
      return await rpc.call(method, params, ANSWER_MS)
    } catch (error) {
      if (error instanceof NetError && error.code === 'unavailable') throw this.#away(error.message)
      throw error
    }
  }

  #lost(replica: Replica, why: string): void {
    if (this.#replica !== replica) return
    this.#replica = undefined
    this.#rpc = undefined
    if (this.#closed) return
    this.#parts.log.warn(`the connection to Open vSwitch's database broke: ${why}`, { socket: this.#parts.path })
    if (this.#keeps) this.#retry(RETRY_MS)
  }

  #retry(pause: number): void {
    this.#cancelRetry?.()
    this.#cancelRetry = this.#parts.clock.after(pause, () => {
      if (this.#closed || this.#replica !== undefined) return
      this.read().catch((error) => {
        this.#parts.log.debug(messageOf(error))
        this.#retry(Math.min(Math.max(pause * 2, RETRY_MS), LONGEST_RETRY_MS))
      })
    })
  }

  #changed(): void {
    for (const look of [...this.#watchers]) look()
    if (!this.#closed) this.#parts.onChange()
  }

  #away(why: string): NetError {
    const { path } = this.#parts
    return new NetError(
      'unavailable',
      `Open vSwitch does not answer at ${path} (${why}): start ovsdb-server and ovs-vswitchd ("systemctl start openvswitch-switch"), or start Causeway with CAUSEWAY_OVSDB=SOCKET`,
      { subject: path },
    )
  }
}

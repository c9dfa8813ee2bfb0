/**
 * The cluster store on Consul (1.8 and newer): KV, transactions, sessions, blocking queries over HTTP.
 * Reads are consistent ones, checked by the leader with the others; any agent of the cluster may be asked.
 */
import { StoreFault, type StoreHttp } from '../http.ts'
import { checkKey, checkLease, checkLeaseSeconds, checkPrefix, checkTxn } from '../keys.ts'
import { renewalMs } from '../lease-keeper.ts'
import type { CallKind, Ports } from '../members.ts'
import { RemoteStore } from '../remote-store.ts'
import { versionText } from '../timeline.ts'
import type { Lease, Listing, StoreEntry, Txn, TxnResult, Watch, WatchHandlers } from '../types.ts'
import { appliedAnyway } from '../unsure.ts'
import type { StoreConfig, StoreMember } from '../url.ts'
import type { WatchSteps } from '../watch-loop.ts'
import { ConsulAgent, entriesOf, type KvEntry, parseAnswer } from './agent.ts'
import { difference, type Position, WAIT_SECONDS, WAIT_TIMEOUT_MS } from './watch.ts'

/** Single keys that are read at once when a listing is too large for one answer. */
const READS_AT_ONCE = 8

const RIGHTS_MS = 2500
const DENIED = /permission denied|ACL not found/i

interface TxnAnswer {
  readonly Results?: readonly { readonly KV?: KvEntry }[] | null
  readonly Errors?: readonly { readonly OpIndex?: number; readonly What?: string }[] | null
}

export class ConsulStore extends RemoteStore {
  readonly #agent: ConsulAgent
  /** `path/causeway/` */
  readonly #root: string

  /** Owns `http` from now on. `token`: '' for none. */
  constructor(config: StoreConfig, token: string, http: StoreHttp, ports: Ports) {
    super(config, http, ports)
    this.#root = `${config.root}/`
    this.#agent = new ConsulAgent(http, token)
    this.startHeartbeat((member, timeoutMs) => this.#checkRights(member, timeoutMs, ''))
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    checkKey(key)
    return this.members.call('read', (member, timeoutMs) => this.#read(member, timeoutMs, key))
  }

  async list(prefix: string): Promise<Listing> {
    return this.#list(prefix, 'read')
  }

  async txn(txn: Txn): Promise<TxnResult> {
    checkTxn(txn)
    for (const put of txn.puts ?? []) if (put.lease !== undefined) checkLease(put.lease)
    const checks = txn.checks ?? []
    return this.members.call('write', async (member, timeoutMs, unsure) => {
      const { generation } = this.timeline.mark()
      const operations = this.#operations(txn)
      // a version from before a break matches nothing: no need to ask
      const answer = operations === undefined ? undefined : await this.#agent.ask(member, 'PUT', '/v1/txn', timeoutMs, operations)
      if (answer?.status === 200) {
        const versions = new Map<string, string>()
        const { Results } = parseAnswer<TxnAnswer>(answer.text)
        if (!Array.isArray(Results))
          throw new StoreFault('it does not answer as Consul does: a transaction without results', { sent: true })
        for (const { KV } of Results as NonNullable<TxnAnswer['Results']>) {
          const key = String(KV?.Key ?? '').slice(this.#root.length)
          versions.set(key, versionText(generation, String(KV?.ModifyIndex ?? 0)))
        }
        return { ok: true, versions: new Map((txn.puts ?? []).map(({ key }) => [key, versions.get(key) ?? ''])) }
      }
      if (answer?.status === 404) throw new StoreFault('it does not answer as Consul does: no transactions')
      const errors = answer === undefined ? [] : (parseAnswer<TxnAnswer>(answer.text).Errors ?? [])
      // only a check that does not hold is a conflict; the first of them ends the transaction
      const refused = errors.find(({ OpIndex, What }) => (OpIndex ?? 0) >= checks.length || DENIED.test(What ?? ''))
      if (refused !== undefined) {
        const what = refused.What ?? ''
        if (DENIED.test(what)) throw this.#agent.denied(what)
        if (!/session/i.test(what)) throw new StoreFault(`it refuses a transaction: ${what}`, { final: true })
        this.leases.pokeAll()
        throw this.members.leaseGone(txn)
      }
      const read = (key: string) => this.#read(member, timeoutMs, key)
      if (unsure) {
        const applied = await appliedAnyway(txn, read)
        if (applied !== undefined) return applied
      }
      const current = await Promise.all(checks.map(({ key }) => read(key)))
      return { ok: false, current: new Map(checks.map(({ key }, i) => [key, current[i]])) }
    })
  }

  async lease(seconds: number, onLost: (why: string) => void): Promise<Lease> {
    checkLeaseSeconds(seconds)
    const asked = this.ports.clock.now()
    // no checks of the node: the agent that is asked may go, its lease stays with the others. No lock delay: a new life takes over at once
    const session = { Name: 'causeway', TTL: `${seconds}s`, LockDelay: '0s', Behavior: 'delete', NodeChecks: [] }
    const id = await this.members.call('write', async (member, timeoutMs) => {
      const created = await this.#agent.ask(member, 'PUT', '/v1/session/create', timeoutMs, session)
      const { ID } = parseAnswer<{ ID?: unknown }>(created.text)
      if (created.status !== 200 || typeof ID !== 'string') throw new StoreFault('it does not answer as Consul does: no session')
      return ID
    })
    const put = (kind: CallKind, verb: string, msOf = (timeoutMs: number) => timeoutMs) =>
      this.members.call(kind, (member, timeoutMs) => this.#agent.ask(member, 'PUT', `/v1/session/${verb}/${id}`, msOf(timeoutMs)))
    const renew = async () => (await put('background', 'renew', (timeoutMs) => renewalMs(seconds, timeoutMs))).status === 200
    const revoke = async () => void (await put('write', 'destroy'))
    return this.leases.keep({ id, seconds, renew, revoke }, asked, onLost)
  }

  watch(prefix: string, handlers: WatchHandlers, from?: Listing): Watch {
    const steps: WatchSteps<Position> = {
      list: (patienceMs) => this.#list(prefix, 'background', patienceMs),
      positionOf: (listing) => {
        const index = this.timeline.revisionOf(listing.revision)
        if (index === undefined) return undefined
        return {
          generation: this.timeline.mark().generation,
          index,
          atOnce: false,
          known: new Map(listing.entries.map(({ key, version }) => [key, version])),
        }
      },
      follow: (member, position, emit, signal) => this.#follow(member, prefix, position, emit, signal),
    }
    return this.startWatch(prefix, steps, handlers, from)
  }

  /** The request's body; undefined when a version is of an earlier generation. */
  #operations(txn: Txn): object[] | undefined {
    const operations: object[] = []
    const add = (Verb: string, key: string, more: object = {}) => operations.push({ KV: { Verb, Key: this.#root + key, ...more } })
    for (const check of txn.checks ?? []) {
      if ('absent' in check) add('check-not-exists', check.key)
      else {
        const index = this.timeline.revisionOf(check.version)
        if (index === undefined) return undefined
        add('check-index', check.key, { Index: Number(index) })
      }
    }
    for (const { key, value, lease } of txn.puts ?? []) {
      const Value = Buffer.from(value, 'utf8').toString('base64')
      if (lease === undefined) add('set', key, { Value })
      else {
        // who may put the key is decided by the checks, not by an earlier session that still holds it
        add('delete', key)
        add('lock', key, { Value, Session: lease.id })
      }
    }
    for (const key of txn.deletes ?? []) add('delete', key)
    return operations
  }

  async #follow(
    member: StoreMember,
    prefix: string,
    position: Position,
    emit: Parameters<WatchSteps<Position>['follow']>[2],
    signal: AbortSignal,
  ): Promise<boolean> {
    const versionOf = (index: string) => versionText(position.generation, index)
    while (!signal.aborted) {
      this.members.countBackground()
      const path = this.#path(prefix, `recurse&index=${position.atOnce ? '0' : position.index}&wait=${WAIT_SECONDS}s`)
      const asked = this.ports.clock.now()
      const answer = await this.#agent.wait(member, path, WAIT_TIMEOUT_MS, signal).catch((error: unknown) => {
        // what answers next may hold other data with a lower index, and would wait in vain too
        position.atOnce = true
        throw error
      })
      if (answer === undefined || signal.aborted) return true
      const wentBack = BigInt(answer.index) < BigInt(position.index)
      const entries = answer.status === 200 ? entriesOf(answer.text, this.#root, versionOf) : []
      if (entries.length === 0 && position.known.size > 0) await this.#checkRights(member, RIGHTS_MS, prefix)
      const changes = difference(position.known, entries, wentBack)
      if (changes.broken) {
        this.timeline.cut()
        this.dataIsAnother()
        return false
      }
      position.known = changes.known
      this.members.countWatched(Buffer.byteLength(answer.text), changes.events.length)
      // Woken up too early and with nothing new, the agent's data was replaced under the query, which saw the old one
      // (agent/consul/rpc.go, AbandonCh); asked with the old index it would now wait in vain. After a step back the rules say the same.
      const early = this.ports.clock.now() - asked < WAIT_SECONDS * 1000
      position.atOnce = !position.atOnce && (wentBack || (early && answer.index === position.index))
      position.index = answer.index
      emit(changes.events, versionOf(position.index))
    }
    return true
  }

  async #list(prefix: string, kind: CallKind, patienceMs = 0): Promise<Listing> {
    checkPrefix(prefix)
    const { generation } = this.timeline.mark()
    const versionOf = (index: string) => versionText(generation, index)
    const ask = <T>(query: string, parse: (text: string) => T[]) =>
      this.members.call(kind, async (member, timeoutMs) => {
        const answer = await this.#agent.ask(member, 'GET', this.#path(prefix, query), Math.max(timeoutMs, patienceMs))
        if (answer.status === 200) return { index: answer.index, found: parse(answer.text) }
        await this.#checkRights(member, timeoutMs, prefix)
        return { index: answer.index, found: [] }
      })
    try {
      const { index, found } = await ask('recurse&consistent', (text) => entriesOf(text, this.#root, versionOf))
      return { entries: found, revision: versionOf(index) }
    } catch (error) {
      if (!(error instanceof StoreFault) || !error.tooLarge) throw error
    }
    const keys = await ask('keys&consistent', (text) => parseAnswer<unknown[]>(text).map(String)).catch((error: Error) => {
      throw error instanceof StoreFault ? this.members.unusable(error) : error
    })
    return { entries: await this.#readEach(keys.found), revision: versionOf(keys.index) }
  }

  /** Somebody put more below our folder than one answer may have. A watch from the keys' revision repeats what was put after it. */
  async #readEach(named: readonly string[]): Promise<StoreEntry[]> {
    const own = named
      .filter((key) => key.startsWith(this.#root) && key.length > this.#root.length)
      .map((key) => key.slice(this.#root.length))
    const entries: StoreEntry[] = []
    for (let i = 0; i < own.length; i += READS_AT_ONCE) {
      const reads = own.slice(i, i + READS_AT_ONCE).map((key) => this.members.call('background', (m, ms) => this.#read(m, ms, key)))
      for (const entry of await Promise.all(reads)) if (entry !== undefined) entries.push(entry)
    }
    return entries
  }

  /** Consul leaves out of listings what the token may not read, so that "nothing" may mean "denied"; a single key it refuses. */
  async #checkRights(member: StoreMember, timeoutMs: number, prefix: string): Promise<void> {
    await this.#agent.ask(member, 'GET', this.#path(`${prefix}.rights`, 'consistent'), timeoutMs)
  }

  async #read(member: StoreMember, timeoutMs: number, key: string): Promise<StoreEntry | undefined> {
    const { generation } = this.timeline.mark()
    const answer = await this.#agent.ask(member, 'GET', this.#path(key, 'consistent'), timeoutMs)
    if (answer.status !== 200) return undefined
    return entriesOf(answer.text, this.#root, (index) => versionText(generation, index))[0]
  }

  #path(key: string, query: string): string {
    return `/v1/kv/${encodeURI(this.#root + key).replace(/[?#]/g, encodeURIComponent)}?${query}`
  }
}

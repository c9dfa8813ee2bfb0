/**
 * The cluster store on etcd v3 (3.4 and newer) through its JSON gateway, which every member serves beside gRPC.
 * Reads and transactions are linearizable: a member without a quorum does not answer them, and the next one is asked.
 */
import { StoreFault, type StoreHttp } from '../http.ts'
import { checkKey, checkLease, checkLeaseSeconds, checkPrefix, checkTxn } from '../keys.ts'
import { renewalMs } from '../lease-keeper.ts'
import type { Attempt, CallKind, Ports } from '../members.ts'
import { RemoteStore } from '../remote-store.ts'
import { versionText } from '../timeline.ts'
import type { Lease, Listing, StoreEntry, Txn, TxnResult, Watch, WatchHandlers } from '../types.ts'
import { appliedAnyway } from '../unsure.ts'
import type { StoreConfig } from '../url.ts'
import type { WatchSteps } from '../watch-loop.ts'
import { EtcdGateway, RevisionGone, type User } from './gateway.ts'
import { base64, endOfPrefix, entryOf, type RangeAnswer, successor, type TxnAnswer } from './messages.ts'
import { followWatch, type Position } from './watch.ts'

/** Keys per answer of a listing; halved when answers become too large. */
const PAGE = 500

export class EtcdStore extends RemoteStore {
  readonly #gateway: EtcdGateway
  readonly #root: string

  /** Owns `http` from now on. */
  constructor(config: StoreConfig, user: User | undefined, http: StoreHttp, ports: Ports) {
    super(config, http, ports)
    this.#root = `/${config.root}/`
    this.#gateway = new EtcdGateway(http, user, () => this.members.countBackground())
    this.startHeartbeat(this.#range({ key: base64(this.#root), count_only: true }))
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    checkKey(key)
    const { answer, generation } = await this.#call('read', this.#range({ key: base64(this.#root + key) }))
    const kv = answer.kvs?.[0]
    return kv === undefined ? undefined : entryOf(kv, this.#root, (revision) => versionText(generation, revision))
  }

  async list(prefix: string): Promise<Listing> {
    return this.#list(prefix, 'read')
  }

  async txn(txn: Txn): Promise<TxnResult> {
    checkTxn(txn)
    for (const put of txn.puts ?? []) if (put.lease !== undefined) checkLease(put.lease)
    const checks = txn.checks ?? []
    const compare = checks.map((check) => {
      const revision = 'absent' in check ? '0' : this.timeline.revisionOf(check.version)
      return { key: base64(this.#root + check.key), target: 'MOD', result: 'EQUAL', mod_revision: revision ?? '-1' }
    })
    const success = [
      ...(txn.puts ?? []).map((put) => ({
        request_put: {
          key: base64(this.#root + put.key),
          value: base64(put.value),
          ...(put.lease === undefined ? {} : { lease: put.lease.id }),
        },
      })),
      ...(txn.deletes ?? []).map((key) => ({ request_delete_range: { key: base64(this.#root + key) } })),
    ]
    const failure = checks.map((check) => ({ request_range: { key: base64(this.#root + check.key) } }))
    return this.#call('write', async (member, timeoutMs, unsure) => {
      const mark = this.timeline.mark()
      const answer = await this.#gateway.ask<TxnAnswer>(member, '/v3/kv/txn', { compare, success, failure }, timeoutMs)
      if (answer === 'not-found') throw this.#leaseGone(txn)
      if (answer.header?.revision === undefined) throw new StoreFault('it does not answer as etcd does: no transaction', { sent: true })
      const generation = this.timeline.observe(answer.header, mark)
      const versionOf = (revision: string) => versionText(generation, revision)
      if (answer.succeeded === true) {
        const version = versionOf(answer.header?.revision ?? '0')
        return { ok: true, versions: new Map((txn.puts ?? []).map((put) => [put.key, version])) }
      }
      if (unsure) {
        const applied = await appliedAnyway(txn, async (key) => {
          const { answer, generation } = await this.#range({ key: base64(this.#root + key) })(member, timeoutMs, false)
          const kv = answer.kvs?.[0]
          return kv === undefined ? undefined : entryOf(kv, this.#root, (revision) => versionText(generation, revision))
        })
        if (applied !== undefined) return applied
      }
      const current = new Map<string, StoreEntry | undefined>()
      checks.forEach((check, i) => {
        const kv = answer.responses?.[i]?.response_range?.kvs?.[0]
        current.set(check.key, kv === undefined ? undefined : entryOf(kv, this.#root, versionOf))
      })
      return { ok: false, current }
    })
  }

  async lease(seconds: number, onLost: (why: string) => void): Promise<Lease> {
    checkLeaseSeconds(seconds)
    const asked = this.ports.clock.now()
    const id = await this.#call('write', async (member, timeoutMs) => {
      const granted = await this.#gateway.ask<{ ID?: unknown }>(member, '/v3/lease/grant', { TTL: String(seconds), ID: '0' }, timeoutMs)
      if (granted === 'not-found' || typeof granted.ID !== 'string') throw new StoreFault('it does not answer as etcd does: no lease')
      return granted.ID
    })
    const renew = async () => {
      const answer = await this.#call('background', (member, timeoutMs) =>
        this.#gateway.ask<{ result?: { TTL?: string } }>(member, '/v3/lease/keepalive', { ID: id }, renewalMs(seconds, timeoutMs)),
      )
      return answer !== 'not-found' && Number(answer.result?.TTL ?? 0) > 0
    }
    const revoke = async () => void (await this.#ask('write', '/v3/lease/revoke', { ID: id }))
    return this.leases.keep({ id, seconds, renew, revoke }, asked, onLost)
  }

  watch(prefix: string, handlers: WatchHandlers, from?: Listing): Watch {
    const steps: WatchSteps<Position> = {
      list: (patienceMs) => this.#list(prefix, 'background', patienceMs),
      positionOf: (listing) => {
        const revision = this.timeline.revisionOf(listing.revision)
        return revision === undefined ? undefined : { generation: this.timeline.mark().generation, revision: BigInt(revision) }
      },
      follow: (member, position, emit, signal) => {
        this.members.countBackground()
        const versionOf = (revision: string) => versionText(position.generation, revision)
        const count = (bytes: number, events: number) => this.members.countWatched(bytes, events)
        return followWatch(this.http, this.#gateway, member, { root: this.#root, prefix, position, versionOf, emit, count }, signal)
      },
    }
    return this.startWatch(prefix, steps, handlers, from)
  }

  /** All pages at one revision; when that is compacted meanwhile, from the beginning. */
  async #list(prefix: string, kind: CallKind, patienceMs = 0): Promise<Listing> {
    checkPrefix(prefix)
    const full = this.#root + prefix
    const wanted = { range_end: endOfPrefix(full) }
    let limit = PAGE
    let restarts = 0
    for (;;) {
      const entries: StoreEntry[] = []
      let key = base64(full)
      let pinned: { readonly revision: string; readonly generation: number } | undefined
      try {
        for (;;) {
          const at: object = pinned === undefined ? {} : { revision: pinned.revision }
          const page = this.#range({ ...wanted, ...at, key, limit: String(limit) })
          const { answer, generation } = await this.#call(kind, (member, ms, unsure) => page(member, Math.max(ms, patienceMs), unsure))
          if (pinned !== undefined && pinned.generation !== generation) throw new RevisionGone('the data is another')
          pinned ??= { revision: answer.header?.revision ?? '0', generation }
          const { revision } = pinned
          for (const kv of answer.kvs ?? []) {
            const entry = entryOf(kv, this.#root, (modRevision) => versionText(generation, modRevision))
            if (entry !== undefined) entries.push(entry)
          }
          const last = answer.kvs?.at(-1)?.key
          if (answer.more !== true || last === undefined) return { entries, revision: versionText(generation, revision) }
          key = successor(last)
        }
      } catch (error) {
        const tooLarge = error instanceof StoreFault && error.tooLarge
        if (tooLarge && limit > 1) limit = Math.max(1, limit >> 2)
        else if (!(error instanceof RevisionGone) || ++restarts > 5)
          throw tooLarge || error instanceof RevisionGone ? this.members.unusable(error) : error
      }
    }
  }

  /** A range request as an attempt. */
  #range(request: object): Attempt<{ readonly answer: RangeAnswer; readonly generation: number }> {
    return async (member, timeoutMs) => {
      const mark = this.timeline.mark()
      const answer = await this.#gateway.ask<RangeAnswer>(member, '/v3/kv/range', request, timeoutMs)
      if (answer === 'not-found' || answer.header?.revision === undefined || !Array.isArray(answer.kvs ?? []))
        throw new StoreFault('it does not answer as etcd does: no range')
      return { answer, generation: this.timeline.observe(answer.header, mark) }
    }
  }

  #ask<T extends object>(kind: CallKind, path: string, body: object): Promise<T | 'not-found'> {
    return this.#call(kind, (member, timeoutMs) => this.#gateway.ask<T>(member, path, body, timeoutMs))
  }

  #call<T>(kind: CallKind, attempt: Attempt<T>): Promise<T> {
    return this.members.call(kind, attempt)
  }

  #leaseGone(txn: Txn): Error {
    this.leases.pokeAll()
    return this.members.leaseGone(txn)
  }
}

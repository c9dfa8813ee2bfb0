/**
 * Encryption between the hosts of encrypted overlay networks. The secret and each host's nonces stand in the cluster's store; the kernel's
 * associations and policies are derived from them and compared with what is there. The secret is made anew every twelve hours; the one
 * before is accepted until the next change. While the store is away nothing changes, and what is in the kernel goes on.
 */
import type { Ip } from '../../base/address.ts'
import { messageOf, NetError } from '../../base/errors.ts'
import { hex } from '../../base/ids.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import type { Xfrm } from '../../kernel/xfrm.ts'
import type { IpsecState } from '../../wire/xfrm.ts'
import type { ClusterStore, StoreEntry, Watch } from '../store/types.ts'
import {
  ENCRYPTED_VXLAN_PORT,
  type IpsecFacts,
  inboundStates,
  ipsecPolicies,
  outboundCandidates,
  policyKey,
  REQID,
  stateKey,
} from './ipsec-plan.ts'

const PREFIX = 'encryption/'
const SECRET_KEY = `${PREFIX}secret`
const hostKey = (hostId: string): string => `${PREFIX}hosts/${hostId}`
const SECRET_BYTES = 32
const NONCE_BYTES = 16
/** Others need this long to learn a new secret or nonce before it is sent under. */
const SETTLE_MS = 10_000
const ROTATE_MS = 12 * 3600 * 1000
const LOOK_MS = 60_000

export interface EncryptionOptions {
  readonly store: ClusterStore
  readonly xfrm: Xfrm
  readonly hostId: string
  readonly vtep: Ip
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly settleMs?: number
  readonly rotateMs?: number
}

export class Encryption {
  readonly #o: EncryptionOptions
  readonly #settleMs: number
  #secrets: string[] = []
  #secretVersion: string | undefined
  #secretSince = 0
  readonly #nonces = new Map<string, string[]>()
  #own: string[] = []
  /** When a secret or nonce was first seen here: hosts' clocks are not compared. */
  readonly #seen = new Map<string, number>()
  /** Associations to others that were made here: one that is missing later was lost and must not come back under its key. */
  readonly #made = new Set<string>()
  #peers: ReadonlyMap<string, Ip> = new Map()
  /** An encrypted network is used here: also without peers nothing comes in or leaves in clear. */
  #isActive = false
  #watch: Watch | undefined
  #joining: Promise<void> | undefined
  #renewing: Promise<void> | undefined
  #timer: (() => void) | undefined
  #closed = false

  constructor(options: EncryptionOptions) {
    this.#o = options
    this.#settleMs = options.settleMs ?? SETTLE_MS
  }

  /** Takes part: the secret is known and this host's nonce is told. Idempotent. Throws `unavailable` without the store and without a secret in it. */
  join(): Promise<void> {
    this.#joining ??= this.#join().catch((error: unknown) => {
      this.#joining = undefined
      throw error
    })
    return this.#joining
  }

  /** Hosts to talk to, by id; the kernel is brought in line. */
  setPeers(peers: ReadonlyMap<string, Ip>): void {
    this.#peers = peers
    this.#isActive = true
    this.look()
  }

  /** Takes everything of ours out of the kernel: no encrypted network is left here. */
  removeAll(): void {
    const { xfrm } = this.#o
    this.#peers = new Map()
    this.#isActive = false
    for (const policy of xfrm.policies()) if (policy.port === ENCRYPTED_VXLAN_PORT) xfrm.deletePolicy(policy)
    for (const state of xfrm.states()) if (state.reqid === REQID) xfrm.deleteState(state)
  }

  /** Leaves the kernel as it is. */
  close(): void {
    this.#closed = true
    this.#timer?.()
    this.#watch?.close()
  }

  /** Compares the kernel with what is wanted. Never throws. */
  look(): void {
    if (this.#closed || !this.#isActive) return
    try {
      // policies come first, also while no secret is known: nothing leaves in clear while associations are made
      this.#ensurePolicies()
      if (this.#secrets.length > 0) this.#ensureStates()
    } catch (error) {
      this.#o.log.error('cannot set up encryption between hosts', { error: messageOf(error) })
    }
    this.#timer?.()
    this.#timer = this.#o.clock.after(Math.min(this.#settleMs, LOOK_MS), () => this.look())
  }

  #ensurePolicies(): void {
    const { xfrm, vtep } = this.#o
    const policies = new Map(ipsecPolicies(vtep, [...this.#peers.values()]).map((p) => [policyKey(p), p]))
    for (const p of xfrm.policies()) if (p.port === ENCRYPTED_VXLAN_PORT && !policies.delete(policyKey(p))) xfrm.deletePolicy(p)
    for (const p of policies.values()) xfrm.ensurePolicy(p)
  }

  #ensureStates(): void {
    const { xfrm, vtep, clock } = this.#o
    const facts: IpsecFacts = {
      vtep,
      secrets: this.#secrets,
      nonces: this.#own,
      peers: [...this.#peers].map(([id, address]) => ({ address, nonces: this.#nonces.get(id) ?? [] })),
    }
    const there = new Map(xfrm.states().flatMap((s) => (s.reqid === REQID ? [[stateKey(s), s] as const] : [])))
    const wanted = new Map(inboundStates(facts).map((s) => [stateKey(s), s]))
    let lost = false
    for (const { address } of facts.peers) {
      const choice = this.#choose(outboundCandidates(facts, address), there)
      if (choice === undefined) lost = true
      else wanted.set(stateKey(choice), choice)
    }
    for (const [key, state] of wanted) {
      if (there.has(key)) continue
      xfrm.ensureState(state)
      if (state.src === vtep) this.#made.add(key)
    }
    for (const [key, state] of there) if (!wanted.has(key)) xfrm.deleteState(state)
    if (lost) void this.#renewNonce()
    if (clock.now() - this.#secretSince > (this.#o.rotateMs ?? ROTATE_MS)) void this.#rotate()
  }

  /** Own candidates by age: the newest that the others know by now, else one that is in use; undefined when all are spent. */
  #choose(candidates: readonly IpsecState[], there: ReadonlyMap<string, IpsecState>): IpsecState | undefined {
    const isSpent = (s: IpsecState) => this.#made.has(stateKey(s)) && !there.has(stateKey(s))
    const [newest] = candidates
    const isSettled = [this.#secrets[0], this.#own[0]].every(
      (word) => this.#o.clock.now() - (this.#seen.get(word ?? '') ?? 0) >= this.#settleMs,
    )
    const usable = candidates.filter((s) => !isSpent(s))
    if (newest !== undefined && isSettled && usable.includes(newest)) return newest
    return usable.find((s) => there.has(stateKey(s))) ?? (newest !== undefined && usable.includes(newest) ? newest : undefined)
  }

  async #join(): Promise<void> {
    const { store, hostId, rng } = this.#o
    const secret = hex(rng.bytes(SECRET_BYTES))
    // whoever comes first makes it
    await store.txn({
      checks: [{ key: SECRET_KEY, absent: true }],
      puts: [{ key: SECRET_KEY, value: JSON.stringify({ secrets: [secret] }) }],
    })
    const before = parseWords((await store.get(hostKey(hostId)))?.value, 'nonces')
    this.#own = [hex(rng.bytes(NONCE_BYTES)), ...before.slice(0, 1)]
    await store.txn({ puts: [{ key: hostKey(hostId), value: JSON.stringify({ nonces: this.#own }) }] })
    this.#note(this.#own)
    const all = await store.list(PREFIX)
    this.#take(all.entries)
    if (this.#secrets.length === 0)
      throw new NetError(
        'unavailable',
        `the secret of encrypted networks in the cluster store (key ${SECRET_KEY}) is not what Causeway writes there: put it back, or delete it to have a new one made`,
        { subject: SECRET_KEY },
      )
    this.#watch = store.watch(
      PREFIX,
      {
        onChange: (events) => {
          for (const event of events) if (event.kind === 'put') this.#take([event])
          this.look()
        },
        onResync: ({ entries }) => {
          this.#take(entries)
          this.look()
        },
      },
      all,
    )
    this.look()
  }

  #take(entries: readonly Pick<StoreEntry, 'key' | 'value' | 'version'>[]): void {
    for (const { key, value, version } of entries)
      if (key === SECRET_KEY) {
        const secrets = parseWords(value, 'secrets')
        if (secrets.length === 0) {
          // spoiled: what is known goes on, and is put back
          if (this.#secrets.length > 0) void this.#putBack(version)
          continue
        }
        if (secrets[0] !== this.#secrets[0]) this.#secretSince = this.#o.clock.now()
        this.#secrets = secrets
        this.#secretVersion = version
        this.#note(secrets)
      } else if (key.startsWith(hostKey(''))) {
        const id = key.slice(hostKey('').length)
        const nonces = parseWords(value, 'nonces')
        if (id !== this.#o.hostId && nonces.length > 0) this.#nonces.set(id, nonces)
      }
  }

  #note(words: readonly string[]): void {
    for (const word of words) if (!this.#seen.has(word)) this.#seen.set(word, this.#o.clock.now())
  }

  /** The secrets known here in the place of what somebody has written over them; another host may be quicker. */
  async #putBack(version: string): Promise<void> {
    const { store, log } = this.#o
    try {
      const puts = [{ key: SECRET_KEY, value: JSON.stringify({ secrets: this.#secrets }) }]
      await store.txn({ checks: [{ key: SECRET_KEY, version }], puts })
    } catch (error) {
      log.warn('cannot put the secret between hosts back', { error: messageOf(error) })
    }
  }

  /** A new nonce makes new keys to all peers. */
  #renewNonce(): Promise<void> {
    const { store, hostId, rng, log } = this.#o
    this.#renewing ??= (async () => {
      const nonces = [hex(rng.bytes(NONCE_BYTES)), ...this.#own.slice(0, 1)]
      await store.txn({ puts: [{ key: hostKey(hostId), value: JSON.stringify({ nonces }) }] })
      this.#own = nonces
      this.#note(nonces)
    })()
      .then(() => this.look())
      .catch((error: unknown) => log.warn('cannot renew the keys between hosts', { error: messageOf(error) }))
      .finally(() => {
        this.#renewing = undefined
      })
    return this.#renewing
  }

  /** Whoever notices first makes the next secret; the others find their version gone. */
  async #rotate(): Promise<void> {
    const { store, rng, log } = this.#o
    const version = this.#secretVersion
    const [current] = this.#secrets
    if (version === undefined || current === undefined) return
    this.#secretSince = this.#o.clock.now()
    const value = JSON.stringify({ secrets: [hex(rng.bytes(SECRET_BYTES)), current] })
    try {
      await store.txn({ checks: [{ key: SECRET_KEY, version }], puts: [{ key: SECRET_KEY, value }] })
    } catch (error) {
      log.warn('cannot make the next secret between hosts', { error: messageOf(error) })
    }
  }
}

/** The first words of a list in hex, from a value that anybody may have written. */
function parseWords(text: string | undefined, field: string): string[] {
  try {
    const words: unknown = (JSON.parse(text ?? '{}') as Record<string, unknown>)[field]
    return Array.isArray(words)
      ? words.filter((w): w is string => typeof w === 'string' && /^(?:[0-9a-f]{32}|[0-9a-f]{64})$/.test(w)).slice(0, 2)
      : []
  } catch {
    return []
  }
}

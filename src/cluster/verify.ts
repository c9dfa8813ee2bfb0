/**
 * `causeway cluster verify`: proves that the kernels of all hosts hold what the store says, or prints the difference. Hosts publish hashes of
 * what they hold (`kernel-publisher.ts`). A question, put by rewriting one key that all members watch, makes every host look whether its hash
 * is still true; those whose hash is not the store's are asked for all entries. A host's report about its paths comes after its look, so it
 * is also the proof that the look has happened; where no paths are probed, every host is asked.
 */
import { messageOf } from '../base/errors.ts'
import { hex } from '../base/ids.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import { decodeEndpoint } from './decode.ts'
import type { KernelPublisher } from './kernel-publisher.ts'
import { isAgreed, judgeHost, type NetworkVerdict, type Said, type WantedState } from './kernel-verdict.ts'
import { CLUSTER_KEY } from './keys.ts'
import type { Membership } from './membership.ts'
import type { Mirror } from './mirror.ts'
import type { KernelEntry } from './model.ts'
import type { PathVerdict, PathVerifier } from './paths/verify.ts'
import { decodePublication, decodeState, hashOf, kernelLines, type Publication, type PublishedState, type Question } from './published.ts'
import { revisionNumber } from './store/timeline.ts'
import type { ClusterStore, Version } from './store/types.ts'

const POLL_MS = 100
const MAX_LINES_BYTES = 200_000
const MAX_ROUNDS = 3
/** A question that names more is put to everybody. */
const MAX_NAMED = 1000

export interface VerifierOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly membership: Membership
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly publisher: KernelPublisher
  /** Absent: paths are not probed. */
  readonly paths?: PathVerifier
}

export interface Verdict {
  /** All hosts that are up agree with the store on all networks, and reach each other. */
  readonly ok: boolean
  readonly networks: readonly NetworkVerdict[]
  /** Paths between hosts that are up, each direction for itself. */
  readonly paths: readonly PathVerdict[]
}

/** One network while it is being verified. */
interface Looked {
  readonly id: string
  readonly name: string
  wanted: WantedState
  /** Hosts that were asked for all entries. */
  readonly asked: ReadonlySet<string>
  answers: ReadonlyMap<string, PublishedState>
}

export class Verifier {
  readonly #o: VerifierOptions

  constructor(options: VerifierOptions) {
    this.#o = options
  }

  /** Somebody asks: looks at this host's kernel and publishes what was not published, and all entries when asked for them. Never throws. */
  async answer(question: Question): Promise<void> {
    const { mirror, publisher, paths } = this.#o
    const looked = publisher.check()
    const reported = paths?.answer(question.nonce, looked)
    await looked
    const isAsked = question.hosts?.includes(mirror.hostId) ?? true
    if (isAsked) await this.#tell(question)
    // who cannot say anything of its paths has no other way to say that it has looked
    else if (!(await reported)) await this.#tell({ nonce: question.nonce })
  }

  async #tell({ nonce, networks }: Question): Promise<void> {
    const { store, mirror, membership, log, publisher } = this.#o
    for (const networkId of publisher.networkIds()) {
      if (networks?.includes(networkId) === false) continue
      try {
        const { lease } = membership
        if (lease === undefined) return
        const { state, lines } = await publisher.read(networkId)
        const tooLong = lines.reduce((sum, line) => sum + line.length + 3, 0) > MAX_LINES_BYTES
        const said: PublishedState = { nonce, ...state, lines: tooLong ? undefined : lines }
        await store.txn({ puts: [{ key: CLUSTER_KEY.state(networkId, mirror.hostId), value: JSON.stringify(said), lease }] })
      } catch (error) {
        log.warn('cannot publish the kernel state of a network', { networkId, error: messageOf(error) })
      }
    }
  }

  /**
   * Compares all hosts with the store; again when something changed meanwhile. `everyEntry`: asks every host for all of its entries instead of
   * comparing hashes. Throws `unavailable` when the store is away.
   */
  async verify(timeoutMs: number, everyEntry = false): Promise<Verdict> {
    const done = await this.#turn(timeoutMs)
    try {
      return await this.#verify(timeoutMs, everyEntry)
    } finally {
      await done()
    }
  }

  /**
   * Members answer one question at a time: whoever asks while another one is being answered waits, at most `timeoutMs` (a host may have died
   * over its question). Returns what ends the turn.
   */
  async #turn(timeoutMs: number): Promise<() => Promise<void>> {
    const { store, membership, clock, log } = this.#o
    const key = CLUSTER_KEY.verifying
    for (const until = clock.now() + timeoutMs; clock.now() < until; await clock.sleep(POLL_MS)) {
      const { lease } = membership
      const result = await store.txn({
        checks: [{ key, absent: true }],
        puts: [{ key, value: membership.address, ...(lease === undefined ? {} : { lease }) }],
      })
      if (!result.ok) continue
      const version = result.versions.get(key) as Version
      return async () => {
        await store.txn({ checks: [{ key, version }], deletes: [key] }).catch((error: unknown) => {
          log.warn('cannot end a verification in the store: the next one waits', { error: messageOf(error) })
        })
      }
    }
    return async () => {}
  }

  async #verify(timeoutMs: number, everyEntry: boolean): Promise<Verdict> {
    const { paths: prober, clock, rng } = this.#o
    let networks: readonly NetworkVerdict[] = []
    let paths: readonly PathVerdict[] = []
    let alive: ReadonlySet<string> = new Set()
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const until = clock.now() + timeoutMs
      const nonce = hex(rng.bytes(8))
      const looked = await this.#ask(nonce, everyEntry || prober === undefined)
      for (const network of looked) await this.#collect(network, nonce, until)
      if (round === 0 && prober !== undefined) {
        const members = looked.map(({ name, wanted }) => ({ network: name, hosts: wanted.members.map((hostId) => ({ hostId })) }))
        const report = await prober.verdicts(nonce, until, members)
        paths = report.verdicts
        alive = report.answered
      }
      networks = this.#judge(looked, await this.#publications(), alive)
      if (isAgreed(networks)) break
    }
    return { ok: isAgreed(networks) && paths.every(({ state }) => state === 'ok'), networks, paths }
  }

  /** Puts the question: to those whose published hash is not the store's, or to all. */
  async #ask(nonce: string, everyone: boolean): Promise<Looked[]> {
    const { store, mirror } = this.#o
    const published = await this.#publications()
    const looked: Looked[] = []
    for (const { id, name } of mirror.networks()) {
      const wanted = await this.#wanted(id)
      const isProven = (hostId: string) => published.get(hostId)?.networks.get(id)?.hash === wanted.hash
      const asked = new Set(wanted.members.filter((hostId) => this.#isUp(hostId) && (everyone || !isProven(hostId))))
      looked.push({ id, name, wanted, asked, answers: new Map() })
    }
    const hosts = [...new Set(looked.flatMap(({ asked }) => [...asked]))]
    const networks = looked.filter(({ asked }) => asked.size > 0).map(({ id }) => id)
    const isNamed = !everyone && hosts.length <= MAX_NAMED && networks.length <= MAX_NAMED
    const question: Question = { nonce, ...(isNamed ? { hosts, networks } : {}) }
    await store.txn({ puts: [{ key: CLUSTER_KEY.verification, value: JSON.stringify(question) }] })
    return looked
  }

  /** Waits for those that were asked. What the store wants is read again each time: both change while containers start and stop. */
  async #collect(network: Looked, nonce: string, until: number): Promise<void> {
    if (network.asked.size === 0) return
    const { clock } = this.#o
    for (;;) {
      network.wanted = await this.#wanted(network.id)
      network.answers = await this.#answers(network.id, nonce)
      const isComplete = network.wanted.members.every((id) => !network.asked.has(id) || !this.#isUp(id) || network.answers.has(id))
      if (isComplete || clock.now() >= until) return
      await clock.sleep(POLL_MS)
    }
  }

  #judge(looked: readonly Looked[], published: ReadonlyMap<string, Publication>, alive: ReadonlySet<string>): NetworkVerdict[] {
    return looked.map(({ id, name, wanted, answers }) => {
      const hosts = wanted.members.map((hostId) => {
        const host = { id: hostId, name: this.#o.mirror.host(hostId)?.name ?? hostId, isUp: this.#isUp(hostId) }
        const said: Said | undefined = answers.get(hostId) ?? (alive.has(hostId) ? published.get(hostId)?.networks.get(id) : undefined)
        return judgeHost(host, wanted, said)
      })
      return { networkId: id, network: name, endpoints: wanted.lines.length, revision: wanted.revision, hash: wanted.hash, hosts }
    })
  }

  #isUp(hostId: string): boolean {
    return this.#o.mirror.host(hostId)?.state === 'up'
  }

  async #wanted(networkId: string): Promise<WantedState> {
    const { store, mirror } = this.#o
    const prefix = CLUSTER_KEY.endpoints(networkId)
    const listing = await store.list(prefix)
    const found = listing.entries.flatMap(({ key, value }) => {
      const decoded = decodeEndpoint(value, networkId, key.slice(prefix.length))
      return decoded.ok ? [mirror.located(decoded.value)] : []
    })
    const entries = found.flatMap(({ ipv4, ipv6, mac, hostAddress }) =>
      [ipv4, ipv6].flatMap((ip): KernelEntry[] => (ip === '' ? [] : [{ ip, mac, host: hostAddress }])),
    )
    const lines = kernelLines(entries)
    const members = [...new Set(found.map(({ hostId }) => hostId))].toSorted()
    return { lines, hash: hashOf(lines), revision: revisionNumber(listing.revision), members }
  }

  async #publications(): Promise<Map<string, Publication>> {
    const out = new Map<string, Publication>()
    for (const { key, value } of (await this.#o.store.list(CLUSTER_KEY.kernels)).entries) {
      const decoded = decodePublication(value)
      if (decoded.ok) out.set(key.slice(CLUSTER_KEY.kernels.length), decoded.value)
      else this.#o.mirror.bad.note(key, decoded.why)
    }
    return out
  }

  async #answers(networkId: string, nonce: string): Promise<Map<string, PublishedState>> {
    const prefix = CLUSTER_KEY.states(networkId)
    const out = new Map<string, PublishedState>()
    for (const { key, value } of (await this.#o.store.list(prefix)).entries) {
      const decoded = decodeState(value)
      if (!decoded.ok) this.#o.mirror.bad.note(key, decoded.why)
      else if (decoded.value.nonce === nonce) out.set(key.slice(prefix.length), decoded.value)
    }
    return out
  }
}

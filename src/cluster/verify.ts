/**
 * `causeway cluster verify`: every host that has endpoints on a network publishes what its kernel really holds, and all of it is compared
 * with the store. Asked for by rewriting one key that all members watch; nothing is published when nobody asks.
 */
import { createHash } from 'node:crypto'
import { messageOf } from '../base/errors.ts'
import { hex } from '../base/ids.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import { decodeEndpoint, decodeState, kernelLines, type PublishedState } from './decode.ts'
import { CLUSTER_KEY } from './keys.ts'
import type { Membership } from './membership.ts'
import type { Mirror } from './mirror.ts'
import type { KernelEntry, ReadKernelEntries } from './model.ts'
import type { PathVerdict, PathVerifier } from './paths/verify.ts'
import type { ClusterStore, Version } from './store/types.ts'

const POLL_MS = 100
const MAX_LINES_BYTES = 200_000
const MAX_ROUNDS = 3
const DIFFERENCES_SHOWN = 100

export interface VerifierOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly membership: Membership
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly readKernel: ReadKernelEntries
  /** Absent: paths are not probed. */
  readonly paths?: PathVerifier
}

export interface HostVerdict {
  readonly hostId: string
  readonly host: string
  /** `silent`: up, and did not answer in time. `down`: not asked. */
  readonly state: 'agrees' | 'differs' | 'silent' | 'down'
  /** Lines `<ip> <mac> <host address>` that its kernel lacks, and that it has beyond the store. At most 100 each. */
  readonly missing: readonly string[]
  readonly extra: readonly string[]
}

export interface NetworkVerdict {
  readonly networkId: string
  readonly network: string
  readonly endpoints: number
  /** Of the set that the store says. */
  readonly hash: string
  readonly hosts: readonly HostVerdict[]
}

export interface Verdict {
  /** All hosts that are up agree with the store on all networks, and reach each other. */
  readonly ok: boolean
  readonly networks: readonly NetworkVerdict[]
  /** Paths between hosts that are up, each direction for itself. */
  readonly paths: readonly PathVerdict[]
}

export function hashOf(lines: readonly string[]): string {
  return createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16)
}

const isAgreed = (networks: readonly NetworkVerdict[]): boolean =>
  networks.every(({ hosts }) => hosts.every(({ state }) => state === 'agrees' || state === 'down'))

export class Verifier {
  readonly #o: VerifierOptions

  constructor(options: VerifierOptions) {
    this.#o = options
  }

  /** Somebody asks: publishes this host's kernel state of each network that it has endpoints on. Never throws. */
  async answer(nonce: string): Promise<void> {
    const { store, mirror, membership, log, readKernel, paths } = this.#o
    void paths?.answer(nonce)
    for (const networkId of mirror.used()) {
      if (!mirror.endpointTable.list(networkId).some(({ hostId }) => hostId === mirror.hostId)) continue
      try {
        const lease = membership.lease
        if (lease === undefined) return
        const lines = kernelLines(await readKernel(networkId))
        const tooLong = lines.reduce((sum, line) => sum + line.length + 3, 0) > MAX_LINES_BYTES
        const state: PublishedState = { nonce, hash: hashOf(lines), entries: lines.length, lines: tooLong ? undefined : lines }
        await store.txn({ puts: [{ key: CLUSTER_KEY.state(networkId, mirror.hostId), value: JSON.stringify(state), lease }] })
      } catch (error) {
        log.warn('cannot publish the kernel state of a network', { networkId, error: messageOf(error) })
      }
    }
  }

  /** Asks all members and compares; again when something changed meanwhile. Throws `unavailable` when the store is away. */
  async verify(timeoutMs: number): Promise<Verdict> {
    const done = await this.#turn(timeoutMs)
    try {
      return await this.#verify(timeoutMs)
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

  async #verify(timeoutMs: number): Promise<Verdict> {
    let networks: readonly NetworkVerdict[] = []
    let paths: readonly PathVerdict[] | undefined
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const nonce = hex(this.#o.rng.bytes(8))
      const until = this.#o.clock.now() + timeoutMs
      networks = await this.#round(nonce, until)
      paths ??= (await this.#o.paths?.verdicts(nonce, until, networks)) ?? []
      if (isAgreed(networks)) break
    }
    return { ok: isAgreed(networks) && (paths ?? []).every(({ state }) => state === 'ok'), networks, paths: paths ?? [] }
  }

  async #round(nonce: string, until: number): Promise<readonly NetworkVerdict[]> {
    const { store, mirror } = this.#o
    await store.txn({ puts: [{ key: CLUSTER_KEY.verification, value: JSON.stringify({ nonce }) }] })
    const networks: NetworkVerdict[] = []
    for (const { id, name } of mirror.networks()) networks.push(await this.#network(id, name, nonce, until))
    return networks
  }

  async #network(networkId: string, network: string, nonce: string, until: number): Promise<NetworkVerdict> {
    const { mirror, clock } = this.#o
    for (;;) {
      const { lines, members } = await this.#wanted(networkId)
      const published = await this.#published(networkId, nonce)
      const up = members.filter((id) => mirror.host(id)?.state === 'up')
      if (up.some((id) => !published.has(id)) && clock.now() < until) {
        await clock.sleep(POLL_MS)
        continue
      }
      const hosts = members.map((hostId): HostVerdict => {
        const base = { hostId, host: mirror.host(hostId)?.name ?? hostId, missing: [], extra: [] }
        if (!up.includes(hostId)) return { ...base, state: 'down' }
        const said = published.get(hostId)
        if (said === undefined) return { ...base, state: 'silent' }
        if (said.hash === hashOf(lines)) return { ...base, state: 'agrees' }
        const has = new Set(said.lines ?? [])
        const wants = new Set(lines)
        const missing = said.lines === undefined ? [] : lines.filter((line) => !has.has(line))
        const extra = [...has].filter((line) => !wants.has(line))
        return { ...base, state: 'differs', missing: missing.slice(0, DIFFERENCES_SHOWN), extra: extra.slice(0, DIFFERENCES_SHOWN) }
      })
      return { networkId, network, endpoints: lines.length, hash: hashOf(lines), hosts }
    }
  }

  /** What the store says that every member's kernel should hold. */
  async #wanted(networkId: string): Promise<{ lines: string[]; members: string[] }> {
    const { store, mirror } = this.#o
    const prefix = CLUSTER_KEY.endpoints(networkId)
    const found = (await store.list(prefix)).entries.flatMap(({ key, value }) => {
      const decoded = decodeEndpoint(value, networkId, key.slice(prefix.length))
      return decoded.ok ? [mirror.located(decoded.value)] : []
    })
    const entries = found.flatMap(({ ipv4, ipv6, mac, hostAddress }) =>
      [ipv4, ipv6].flatMap((ip): KernelEntry[] => (ip === '' ? [] : [{ ip, mac, host: hostAddress }])),
    )
    return { lines: kernelLines(entries), members: [...new Set(found.map(({ hostId }) => hostId))].toSorted() }
  }

  async #published(networkId: string, nonce: string): Promise<Map<string, PublishedState>> {
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

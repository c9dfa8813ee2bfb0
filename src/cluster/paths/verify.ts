/** The part of `cluster verify` about paths: every host publishes what it has found, and both ends' findings make the verdict of a direction. */
import { messageOf } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import { CLUSTER_KEY } from '../keys.ts'
import type { Membership } from '../membership.ts'
import type { Mirror } from '../mirror.ts'
import type { ClusterHost } from '../model.ts'
import { decodePaths, type PublishedPaths } from '../published.ts'
import type { ClusterStore } from '../store/types.ts'
import { agreedMtu, type PathReport } from './paths.ts'

const POLL_MS = 100
/** In clusters with more members only what is bad is published. */
const WHOLE_UP_TO = 100

/** One direction. */
export interface PathVerdict {
  readonly fromId: string
  readonly from: string
  readonly toId: string
  readonly to: string
  /** `mtu`: packets that containers make do not pass whole. `blocked`: nothing arrives. `silent`: one of the hosts did not tell in time. */
  readonly state: 'ok' | 'mtu' | 'blocked' | 'silent'
  /** Largest IP packet that passes, in bytes; at least this when no answer comes back. */
  readonly mtu: number
  /** Largest that is wanted. */
  readonly need: number
}

export interface PathVerifierOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly membership: Membership
  readonly clock: Clock
  readonly log: Logger
  readonly survey: (survey: number) => Promise<PathReport | undefined>
}

interface Members {
  readonly network: string
  readonly hosts: readonly { readonly hostId: string }[]
}

export class PathVerifier {
  readonly #o: PathVerifierOptions

  constructor(options: PathVerifierOptions) {
    this.#o = options
  }

  /** Somebody asks: looks at the paths from here and publishes what is found, after `after`. False: it could not. Never throws. */
  async answer(nonce: string, after: Promise<void> = Promise.resolve()): Promise<boolean> {
    const { store, mirror, membership, log, survey } = this.#o
    try {
      const report = await survey(Number.parseInt(nonce.slice(0, 8), 16) || 1)
      await after
      const { lease } = membership
      if (report === undefined || lease === undefined) return false
      const published: PublishedPaths = { nonce, ...(mirror.hosts().length > WHOLE_UP_TO ? onlyBad(report) : report) }
      await store.txn({ puts: [{ key: CLUSTER_KEY.path(mirror.hostId), value: JSON.stringify(published), lease }] })
      return true
    } catch (error) {
      log.warn('cannot publish the paths to other hosts', { error: messageOf(error) })
      return false
    }
  }

  /** Waits for all members that are up, at most until `until`, and judges; also who has answered. Throws `unavailable` when the store is away. */
  async verdicts(
    nonce: string,
    until: number,
    networks: readonly Members[],
  ): Promise<{ readonly verdicts: readonly PathVerdict[]; readonly answered: ReadonlySet<string> }> {
    const { mirror, clock } = this.#o
    for (;;) {
      const up = mirror.hosts().filter(({ state }) => state === 'up')
      const reports = await this.#reports(nonce)
      if (up.some(({ id }) => !reports.has(id)) && clock.now() < until) {
        await clock.sleep(POLL_MS)
        continue
      }
      return { verdicts: judgePaths(up, reports, networks, agreedMtu(mirror.hosts(), 0)), answered: new Set(reports.keys()) }
    }
  }

  async #reports(nonce: string): Promise<Map<string, PublishedPaths>> {
    const out = new Map<string, PublishedPaths>()
    for (const { key, value } of (await this.#o.store.list(CLUSTER_KEY.paths)).entries) {
      const decoded = decodePaths(value)
      if (!decoded.ok) this.#o.mirror.bad.note(key, decoded.why)
      else if (decoded.value.nonce === nonce) out.set(key.slice(CLUSTER_KEY.paths.length), decoded.value)
    }
    return out
  }
}

function onlyBad(report: PathReport): PathReport {
  const most = Math.max(0, ...Object.values(report.sent))
  const bad = Object.entries(report.sent).filter(([, size]) => size < most || size < report.need)
  return { ...report, sent: Object.fromEntries(bad) }
}

/** `agreed`: what a container that starts now would need (0 = unknown). */
export function judgePaths(
  up: readonly Pick<ClusterHost, 'id' | 'name' | 'address'>[],
  reports: ReadonlyMap<string, PathReport>,
  networks: readonly Members[],
  agreed: number,
): PathVerdict[] {
  const isLarge = up.length > WHOLE_UP_TO
  const share = (a: string, b: string) =>
    networks.some(({ hosts }) => hosts.some(({ hostId }) => hostId === a) && hosts.some(({ hostId }) => hostId === b))
  const family = (host: { readonly address: string }) => host.address.includes(':')
  const out: PathVerdict[] = []
  const sorted = up.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  for (const from of sorted)
    for (const to of sorted) {
      if (from.id === to.id || family(from) !== family(to)) continue
      const here = reports.get(from.id)
      const there = reports.get(to.id)
      const answered = here?.sent[to.id]
      if (isLarge && here !== undefined && answered === undefined) continue // good: not told
      const mtu = answered || there?.heard[from.id] || 0
      const need = Math.max(agreed, here !== undefined && share(from.id, to.id) ? here.need : 0)
      const isKnown = mtu > 0 || (here !== undefined && there !== undefined)
      const state = !isKnown ? 'silent' : mtu === 0 ? 'blocked' : mtu < need ? 'mtu' : 'ok'
      out.push({ fromId: from.id, from: from.name, toId: to.id, to: to.name, state, mtu, need })
    }
  return out
}

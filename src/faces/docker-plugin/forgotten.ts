/**
 * Pools and addresses of a cluster that a Docker Engine has forgotten: it was wiped, or died with the plugin at one moment, or could not
 * reach it when something was given back. The engine itself is asked what it has; what it has not, twice in a row, is given back. Pools that
 * it was never seen to have are left alone: there may be another engine that is not asked.
 */
import type { Cidr } from '../../base/address.ts'
import { messageOf } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import type { DockerView } from './docker-api.ts'
import type { ClusterPools, Records } from './ports.ts'

/** Pools that the engine was seen to have, by the network's id in the pool. */
const SEEN = 'docker-seen/'
const PAUSE_MS = 150_000
/** Docker makes the endpoint within milliseconds, and a network's first calls follow each other at once. */
const YOUNGEST_MS = 300_000

export interface ForgottenParts {
  readonly pools: () => ClusterPools | undefined
  readonly docker: DockerView
  readonly records: Records
  readonly clock: Clock
  readonly log: Logger
}

export class Forgotten {
  readonly #o: ForgottenParts
  readonly #stopping = new AbortController()
  /** What the engine did not have at the last look. */
  #suspects = new Set<string>()

  constructor(parts: ForgottenParts) {
    this.#o = parts
  }

  begin(): void {
    void this.#repeat()
  }

  close(): void {
    this.#stopping.abort(new Error('closed'))
  }

  /** Looks once. Never throws: an engine that does not answer has forgotten nothing. */
  async look(): Promise<void> {
    const { pools: find, docker, records, clock, log } = this.#o
    const pools = find()
    const isOld = ({ at, state }: { readonly at: number; readonly state: string }) => state === 'held' && clock.now() - at > YOUNGEST_MS
    const users = () => (pools?.claims.users() ?? []).filter((user) => user.for === 'docker' && isOld(user))
    if (pools === undefined || users().length === 0) return
    let seen: { readonly subnets: ReadonlySet<string>; readonly addresses: ReadonlySet<string> }
    try {
      seen = await docker.inUse()
    } catch (error) {
      log.debug('cannot ask the Docker Engine which addresses it has', { error: messageOf(error) })
      return
    }
    const suspects = new Set<string>()
    const isForgotten = (key: string): boolean => {
      suspects.add(key)
      return this.#suspects.has(key)
    }
    for (const { subnet, id, at } of users()) {
      if (!seen.subnets.has(subnet)) {
        if (records.get(SEEN + id) !== undefined && isForgotten(`${subnet} ${id} ${at}`)) await this.#leave(pools, subnet, id)
        continue
      }
      if (records.get(SEEN + id) === undefined) records.put(SEEN + id, { at: clock.now() })
      for (const { ip, at: since, state } of pools.claims.addressesOf(subnet, id)) {
        if (seen.addresses.has(ip) || !isOld({ at: since, state }) || !isForgotten(`${subnet} ${ip} ${since}`)) continue
        const now = pools.claims.addressesOf(subnet, id).find((claim) => claim.ip === ip)
        if (now?.at !== since) continue // given out anew meanwhile
        log.info('an address that the Docker Engine has forgotten is given back', { subnet, ip })
        await pools.free(subnet, id, ip)
      }
    }
    this.#suspects = suspects
    for (const [key] of records.list(SEEN)) if (!pools.claims.users().some(({ id }) => SEEN + id === key)) records.remove(key)
  }

  async #leave(pools: ClusterPools, subnet: Cidr, id: string): Promise<void> {
    this.#o.log.info('a pool that the Docker Engine has forgotten is given back', { subnet })
    await pools.leave(subnet, id)
  }

  async #repeat(): Promise<void> {
    const { clock, log } = this.#o
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await clock.sleep(PAUSE_MS, signal).catch(() => {})
      if (!signal.aborted)
        await this.look().catch((error: unknown) => log.warn('cannot give back what Docker has forgotten', { error: messageOf(error) }))
    }
  }
}

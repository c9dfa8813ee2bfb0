/**
 * Brings the store in line with what this host really has, in the background and for as long as it takes: frees what died here, writes
 * again what the store has lost, and says what somebody else has got meanwhile. Safe to run at any time and as often as anybody asks.
 */
import { messageOf } from '../base/errors.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import type { Claims } from './claims.ts'
import type { Conflict, EndpointClaims } from './endpoint-claims.ts'
import { CLUSTER_KEY, ownedIds } from './keys.ts'
import type { Membership } from './membership.ts'
import type { Mirror } from './mirror.ts'
import type { NetworkClaims } from './network-claims.ts'
import { Pauses } from './pauses.ts'
import type { ClusterStore } from './store/types.ts'

/** Networks that the store has lost and that another host created are waited for so long. */
const GRACE_MS = 60_000

export interface SettlerOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly claims: Claims
  readonly membership: Membership
  readonly endpoints: EndpointClaims
  readonly networks: NetworkClaims
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly onConflict: (conflict: Conflict) => void
}

export class Settler {
  readonly #o: SettlerOptions
  readonly #stopping = new AbortController()
  readonly #pauses: Pauses
  #running: Promise<void> | undefined
  #isWanted = false
  #checkOwned = true
  #stopGrace: (() => void) | undefined

  constructor(options: SettlerOptions) {
    this.#o = options
    const { clock, rng, mirror } = options
    this.#pauses = new Pauses({ clock, rng, hosts: () => mirror.hosts().length })
  }

  /** Something may not be as it should be. */
  kick(): void {
    this.#isWanted = true
    if (this.#stopping.signal.aborted) return
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** The host has joined: what the store says that it owns is compared too. */
  joined(): void {
    this.#checkOwned = true
    this.#pauses.end()
    this.kick()
  }

  async close(): Promise<void> {
    this.#stopping.abort(new Error('closed'))
    this.#stopGrace?.()
    await this.#running
  }

  async #run(): Promise<void> {
    const { log } = this.#o
    const { signal } = this.#stopping
    await Promise.resolve() // whoever kicks is in the middle of a change
    this.#pauses.reset()
    while (this.#isWanted && !signal.aborted) {
      this.#isWanted = false
      if (!this.#o.membership.isJoined) return // joining kicks again
      try {
        await this.#settle()
        this.#pauses.reset()
      } catch (error) {
        if (signal.aborted) return
        log.warn('what this host holds is not settled with the cluster store yet', { error: messageOf(error) })
        this.#isWanted = true
        await this.#pauses.wait(signal)
      }
    }
  }

  async #settle(): Promise<void> {
    if (this.#checkOwned) await this.#releaseForgotten()
    for (const claim of this.#o.claims.list())
      if (claim.state === 'releasing') await this.#o.endpoints.release(claim.networkId, claim.endpointId)
    await this.#restoreNetworks()
    for (const networkId of this.#o.mirror.used()) await this.#settleNetwork(networkId)
  }

  /** What an earlier life of this host has left in the store. */
  async #releaseForgotten(): Promise<void> {
    const { hostId } = this.#o.mirror
    const { entries } = await this.#o.store.list(CLUSTER_KEY.owned(hostId))
    for (const { key } of entries) {
      const ids = ownedIds(key, hostId)
      if (ids === undefined) {
        this.#o.mirror.bad.note(key, 'it is not a key of an endpoint')
        continue
      }
      const { networkId, endpointId } = ids
      if (this.#o.claims.get(endpointId) !== undefined) continue
      this.#o.log.info('an endpoint that died with an earlier engine is freed', { endpointId, networkId })
      await this.#o.endpoints.release(networkId, endpointId)
      await this.#o.store.txn({ deletes: [key] }) // also when it was all that was left
    }
    this.#checkOwned = false
  }

  async #restoreNetworks(): Promise<void> {
    const { mirror, claims, networks, log, clock } = this.#o
    if (!mirror.networkTable.isSynced) return
    for (const { value, version } of mirror.networkTable.list()) {
      if (version !== undefined) continue
      const isMine = claims.holdsOn(value.id) || value.createdBy === mirror.hostId
      if (!isMine) {
        this.#stopGrace ??= clock.after(GRACE_MS, () => this.#endGrace())
        continue
      }
      const why = await networks.restore(value)
      if (why === undefined) log.info('a network that the store had lost is written again', { network: value.name })
      else {
        log.error('a network that the store had lost cannot be written again', { network: value.name, why })
        if (!claims.holdsOn(value.id)) mirror.networkTable.drop(value.id)
      }
    }
  }

  #endGrace(): void {
    const { mirror, claims } = this.#o
    this.#stopGrace = undefined
    for (const { value, version } of mirror.networkTable.list())
      if (version === undefined && !claims.holdsOn(value.id)) mirror.networkTable.drop(value.id)
  }

  async #settleNetwork(networkId: string): Promise<void> {
    const { mirror, claims, endpoints, log } = this.#o
    const table = mirror.endpointTable
    if (!table.isSynced(networkId) || mirror.networkTable.get(networkId)?.version === undefined) return
    for (const claim of claims.list()) {
      if (claim.networkId !== networkId || claim.state !== 'held' || claim.endpoint === undefined) continue
      if (table.versionOf(networkId, claim.endpointId) !== undefined) {
        // an engine that ended between plugging it in and telling its names
        if (claim.endpoint.active && table.get(networkId, claim.endpointId)?.active === false) await endpoints.tell(claim.endpoint)
        continue
      }
      const conflict = await endpoints.reclaim(claim.endpoint)
      if (conflict === undefined) log.info('an endpoint that the store did not have is claimed again', { endpoint: claim.name, networkId })
      else {
        claims.remove(claim.endpointId)
        this.#o.onConflict(conflict)
      }
    }
    for (const { id, hostId } of table.list(networkId)) {
      if (hostId !== mirror.hostId || claims.get(id) !== undefined || table.versionOf(networkId, id) === undefined) continue
      await endpoints.release(networkId, id)
    }
  }
}

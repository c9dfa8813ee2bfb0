/**
 * This host's own membership: a record that stays until the host is evicted, and a lease that says that its engine lives. A lease that ends
 * frees nothing. Losing it, the record, or the store is answered by joining again, for as long as the engine runs.
 */
import type { Cidr, Ip } from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import type { HostTable } from './host-table.ts'
import { CLUSTER_KEY } from './keys.ts'
import { Pauses } from './pauses.ts'
import type { Check, ClusterStore, Lease, Version } from './store/types.ts'

/** Somebody waits for the answer meanwhile. */
const REJOIN_MS = 5_000

/** Where other hosts reach this one: tunnels end at the address. */
export interface Advertise {
  readonly address: Ip
  readonly port: number
}

export interface MembershipOptions {
  readonly store: ClusterStore
  readonly hosts: HostTable
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly hostId: string
  readonly hostName: string
  readonly advertise: Advertise
  readonly version: string
  readonly instance: string
  readonly leaseSeconds: number
  /** See {@link ClusterHost.mtu}. */
  readonly mtu: () => number
  /** Subnets that this host routes to. */
  readonly routes: () => readonly Cidr[]
  /** The host has joined (again): what it holds is to be compared with the store. */
  readonly onJoined: () => void
}

export class Membership {
  readonly #o: MembershipOptions
  readonly #started: number
  readonly #stopping = new AbortController()
  readonly #pauses: Pauses
  readonly #offStatus: () => void
  #lease: Lease | undefined
  #version: Version | undefined
  #joining: Promise<void> | undefined
  #hasWarned = false
  #isSeen = false
  #isLeaseSeen = false
  #updating = false
  #problem = ''

  constructor(options: MembershipOptions) {
    this.#o = options
    this.#started = options.clock.now()
    const { clock, rng, hosts, store } = options
    this.#pauses = new Pauses({ clock, rng, hosts: () => hosts.list().length })
    // a pause that has grown while the store was away does not keep this host out when it is back
    this.#offStatus = store.onStatus(({ state }) => {
      if (state === 'up') this.#pauses.end()
    })
  }

  /** Part of each transaction that claims something: fails once this host was evicted, so that what was freed is not used again unseen. */
  check(): Check {
    if (this.#version === undefined) throw new NetError('unavailable', this.#awayText())
    return { key: CLUSTER_KEY.host(this.#o.hostId), version: this.#version }
  }

  /** The advertised address. */
  get address(): Ip {
    return this.#o.advertise.address
  }

  get isJoined(): boolean {
    return this.#version !== undefined && this.#lease !== undefined && !this.#lease.ended()
  }

  /** Why the last attempt to join failed; '' when none has since this host was a member. */
  get problem(): string {
    return this.#problem
  }

  /** The lease that this host's short-lived keys hang on. */
  get lease(): Lease | undefined {
    return this.#lease?.ended() ? undefined : this.#lease
  }

  /** Joins and stays: tries again, with growing pauses, until it works or {@link close} is called. Resolves when joined. Never rejects. */
  join(): Promise<void> {
    if (this.isJoined) return Promise.resolve()
    this.#joining ??= this.#joinUntilDone().finally(() => {
      this.#joining = undefined
    })
    return this.#joining
  }

  /** Somebody has changed or deleted this host's record. */
  recordChanged(): void {
    if (this.#stopping.signal.aborted || this.#joining !== undefined || this.#version === undefined || this.#updating) return
    const now = this.#o.hosts.versionOf(this.#o.hostId)
    // until the watch has shown our own write, what it shows is older
    if (now === this.#version) this.#isSeen = true
    if (!this.#isSeen || now === this.#version) return
    this.#version = undefined
    this.#o.log.warn('the record of this host in the cluster was changed or removed by another member; joining again')
    void this.join()
  }

  /** What the record says of this host has changed: tells the others. Never throws; a host that is not a member tells them when it joins. */
  async update(): Promise<void> {
    const version = this.#version
    if (version === undefined || this.#joining !== undefined || this.#updating || this.#stopping.signal.aborted) return
    this.#updating = true // the watch may show the new record before the answer comes
    const key = CLUSTER_KEY.host(this.#o.hostId)
    try {
      const result = await this.#o.store.txn({ checks: [{ key, version }], puts: [{ key, value: this.#record() }] })
      if (!result.ok || this.#version !== version) return // joining again writes it too
      this.#version = result.versions.get(key)
      this.#isSeen = this.#o.hosts.versionOf(this.#o.hostId) === this.#version
    } catch (error) {
      this.#o.log.warn('cannot tell the cluster what has changed on this host', { error: messageOf(error) })
    } finally {
      this.#updating = false
      this.recordChanged()
    }
  }

  /** A transaction has shown that the record is not ours any more. Waits a while for the store; throws `unavailable` when it does not answer. */
  async rejoin(): Promise<void> {
    this.#version = undefined
    let cancel = () => {}
    const late = new Promise<void>((resolve) => {
      cancel = this.#o.clock.after(REJOIN_MS, resolve)
    })
    await Promise.race([this.join(), late])
    cancel()
    this.check()
  }

  /** Another engine holds the lease under this host's identity. */
  noteLease(instance: string | undefined): void {
    if (instance === this.#o.instance) this.#isLeaseSeen = true
    // until the watch has shown our own lease, what it shows is that of the engine before us
    if (instance === undefined || instance === this.#o.instance || !this.#isLeaseSeen || !this.isJoined || this.#hasWarned) return
    this.#hasWarned = true
    this.#o.log.error('another engine runs under the identity of this host: were its files copied from here?', { hostId: this.#o.hostId })
  }

  /** Leaves: the host is down at once instead of when the lease would have ended. What it holds stays its own. */
  async close(): Promise<void> {
    this.#stopping.abort(new NetError('unavailable', 'the engine is stopping'))
    this.#offStatus()
    await this.#joining?.catch(() => {})
    await this.#lease?.revoke()
  }

  async #joinUntilDone(): Promise<void> {
    const { signal } = this.#stopping
    this.#pauses.reset()
    while (!signal.aborted) {
      try {
        await this.#joinOnce()
        if (signal.aborted) return
        this.#problem = ''
        this.#o.log.info('member of the cluster', { name: this.#o.hostName, address: this.#o.advertise.address })
        this.#o.onJoined()
        return
      } catch (error) {
        this.#problem = messageOf(error)
        this.#o.log.warn('cannot join the cluster yet', { error: this.#problem })
      }
      await this.#pauses.wait(signal)
    }
  }

  async #joinOnce(): Promise<void> {
    const { store, hostId, instance } = this.#o
    if (this.#lease === undefined || this.#lease.ended()) {
      const lease = await store.lease(this.#o.leaseSeconds, (why) => this.#leaseLost(lease, why))
      this.#lease = lease
    }
    const { lease } = this
    if (lease === undefined) throw new NetError('unavailable', 'the lease of this host ended while it joined')
    const key = CLUSTER_KEY.host(hostId)
    for (let attempt = 0; attempt < 5; attempt++) {
      const before = await store.get(key)
      const result = await store.txn({
        checks: [before === undefined ? { key, absent: true } : { key, version: before.version }],
        puts: [
          { key, value: this.#record() },
          { key: CLUSTER_KEY.lease(hostId), value: instance, lease },
        ],
      })
      if (!result.ok) continue
      this.#version = result.versions.get(key)
      this.#isSeen = this.#o.hosts.versionOf(hostId) === this.#version
      return
    }
    throw new NetError('busy', `the record of host ${hostId} is changed by others all the time`)
  }

  #record(): string {
    const { hostId, hostName, advertise, version, instance } = this.#o
    return JSON.stringify({
      id: hostId,
      name: hostName.slice(0, 255),
      address: advertise.address,
      port: advertise.port,
      version,
      started: this.#started,
      instance,
      mtu: Math.min(this.#o.mtu(), 65535),
      routes: this.#o.routes().slice(0, 256),
    })
  }

  #leaseLost(lease: Lease, why: string): void {
    if (this.#stopping.signal.aborted || (this.#lease !== undefined && this.#lease !== lease)) return
    this.#lease = undefined
    this.#o.log.warn('the lease of this host in the cluster has ended: others see it as down; joining again', { why })
    void this.join()
  }

  #awayText(): string {
    const { url, error, state } = this.#o.store.status()
    if (state === 'up' && this.#problem !== '')
      return `this host has not joined the cluster yet (${this.#problem}): containers and networks go on, changes have to wait until it has`
    return `the cluster store ${url} cannot be reached${error === '' ? '' : ` (${error})`}: containers and networks go on, changes have to wait until it answers`
  }
}

/**
 * Endpoints of the networks that this host uses. A network is followed from the first use until a while after the last, so that a
 * container that is replaced does not read everything again; networks that nobody here uses cost nothing.
 */
import type { Ip } from '../base/address.ts'
import type { Clock } from '../base/ports.ts'
import type { Store } from '../store/types.ts'
import { Arrival } from './arrival.ts'
import type { BadValues } from './bad-values.ts'
import { decodeEndpoint, misplaced } from './decode.ts'
import { CACHE_KEY, CLUSTER_KEY } from './keys.ts'
import type { ClusterEndpoint, ClusterNetwork } from './model.ts'
import { revisionNumber } from './store/timeline.ts'
import type { ClusterStore, Listing, StoreEntry, StoreEvent, Version, Watch } from './store/types.ts'

/** A network stays followed for so long after its last user here has gone. */
const LINGER_MS = 5_000
/**
 * Others' endpoints that a store may have lost are kept until their hosts have written them again, which those that are up do within this
 * time; when it was not the store that has lost them but this host that was away (evicted, meanwhile they were removed), they go then.
 */
const GRACE_STEP_MS = 10_000
const GRACE_STEPS = 6

export interface EndpointTableOptions {
  readonly store: ClusterStore
  readonly cache: Store
  readonly bad: BadValues
  readonly clock: Clock
  readonly hostId: string
  readonly network: (id: string) => ClusterNetwork | undefined
  /** This host holds the endpoint, whatever the store says. */
  readonly isHeld: (endpointId: string) => boolean
  readonly isUp: (hostId: string) => boolean
  /** `endpointId` undefined: many. */
  readonly onChange: (networkId: string, endpointId: string | undefined) => void
  /** The store has none, or another one, of an endpoint that this host holds. */
  readonly onLost: (networkId: string) => void
}

interface Known {
  readonly endpoint: ClusterEndpoint
  readonly version?: Version
}

interface Followed {
  readonly networkId: string
  readonly endpoints: Map<string, Known>
  readonly addresses: Map<Ip, string>
  watch: Watch | undefined
  users: number
  isSynced: boolean
  /** The store's, of the last that the watch has told. */
  revision: string
  stopLinger: (() => void) | undefined
  stopGrace: (() => void) | undefined
}

export class EndpointTable {
  readonly #o: EndpointTableOptions
  readonly #followed = new Map<string, Followed>()
  readonly arrived = new Arrival((key) => {
    const [, networkId = '', endpointId = ''] = key.split('/')
    return this.versionOf(networkId, endpointId)
  })

  constructor(options: EndpointTableOptions) {
    this.#o = options
  }

  /** Begins to follow a network; call {@link unuse} as often. */
  use(networkId: string): void {
    const there = this.#followed.get(networkId)
    if (there !== undefined) {
      there.users++
      there.stopLinger?.()
      there.stopLinger = undefined
      return
    }
    const followed: Followed = {
      networkId,
      endpoints: new Map(),
      addresses: new Map(),
      watch: undefined,
      users: 1,
      isSynced: false,
      revision: '',
      stopLinger: undefined,
      stopGrace: undefined,
    }
    this.#followed.set(networkId, followed)
    for (const [key, value] of this.#o.cache.list<string>(CACHE_KEY.endpoints(networkId))) {
      const id = key.slice(CACHE_KEY.endpoints(networkId).length)
      const decoded = decodeEndpoint(value, networkId, id)
      if (decoded.ok) this.#set(followed, { endpoint: decoded.value })
    }
    if (followed.endpoints.size > 0) this.#o.onChange(networkId, undefined)
    followed.watch = this.#o.store.watch(CLUSTER_KEY.endpoints(networkId), {
      onResync: (snapshot) => this.#resync(followed, snapshot),
      onChange: (events, revision) => {
        followed.revision = revision
        for (const event of events) this.#apply(followed, event)
      },
    })
  }

  unuse(networkId: string): void {
    const followed = this.#followed.get(networkId)
    if (followed === undefined || --followed.users > 0) return
    followed.stopLinger = this.#o.clock.after(LINGER_MS, () => this.#stop(followed))
  }

  close(): void {
    for (const followed of this.#followed.values()) {
      followed.stopLinger?.()
      followed.stopGrace?.()
      followed.watch?.close()
    }
    this.#followed.clear()
  }

  /** Networks that are followed. */
  used(): readonly string[] {
    return [...this.#followed.keys()]
  }

  isSynced(networkId: string): boolean {
    return this.#followed.get(networkId)?.isSynced ?? false
  }

  /** The store's own number of the last revision that the watch has told of the network; 0 = it has told nothing. */
  revisionOf(networkId: string): number {
    return revisionNumber(this.#followed.get(networkId)?.revision ?? '')
  }

  list(networkId: string): readonly ClusterEndpoint[] {
    return [...(this.#followed.get(networkId)?.endpoints.values() ?? [])].map(({ endpoint }) => endpoint)
  }

  get(networkId: string, endpointId: string): ClusterEndpoint | undefined {
    return this.#followed.get(networkId)?.endpoints.get(endpointId)?.endpoint
  }

  versionOf(networkId: string, endpointId: string): Version | undefined {
    return this.#followed.get(networkId)?.endpoints.get(endpointId)?.version
  }

  isTaken(networkId: string, ip: Ip): boolean {
    return this.#followed.get(networkId)?.addresses.has(ip) ?? false
  }

  /** An endpoint that the store does not have, and that its host does not hold any more. */
  forget(networkId: string, endpointId: string): void {
    const followed = this.#followed.get(networkId)
    const known = followed?.endpoints.get(endpointId)
    if (followed === undefined || known === undefined || known.version !== undefined) return
    this.#delete(followed, endpointId)
    this.#o.onChange(networkId, endpointId)
  }

  #stop(followed: Followed): void {
    followed.watch?.close()
    followed.stopGrace?.()
    this.#followed.delete(followed.networkId)
    for (const id of followed.endpoints.keys()) this.#o.cache.remove(CACHE_KEY.endpoint(followed.networkId, id))
    this.#o.onChange(followed.networkId, undefined)
  }

  #resync(followed: Followed, snapshot: Listing): void {
    followed.revision = snapshot.revision
    const there = new Set(snapshot.entries.map(({ key }) => key))
    const missing = [...followed.endpoints.keys()].filter((id) => !there.has(CLUSTER_KEY.endpoint(followed.networkId, id)))
    const lostOwn = missing.some((id) => this.#o.isHeld(id))
    for (const id of missing) {
      const known = followed.endpoints.get(id) as Known
      if (lostOwn) followed.endpoints.set(id, { endpoint: known.endpoint })
      else this.#delete(followed, id)
    }
    if (lostOwn) {
      this.#keepLost(followed, GRACE_STEPS)
    }
    for (const entry of snapshot.entries) this.#put(followed, entry, true)
    followed.isSynced = true
    this.arrived.note()
    this.#o.onChange(followed.networkId, undefined)
    this.#o.onLost(followed.networkId)
  }

  #keepLost(followed: Followed, steps: number): void {
    const lost = [...followed.endpoints].filter(([id, { version }]) => version === undefined && !this.#o.isHeld(id))
    const wereUp = new Set(lost.map(([, { endpoint }]) => endpoint.hostId).filter(this.#o.isUp))
    followed.stopGrace?.()
    followed.stopGrace = undefined
    if (lost.length > 0) followed.stopGrace = this.#o.clock.after(GRACE_STEP_MS, () => this.#dropLost(followed, steps - 1, wereUp))
  }

  #dropLost(followed: Followed, steps: number, wereUp: ReadonlySet<string>): void {
    for (const [id, { endpoint, version }] of [...followed.endpoints]) {
      if (version !== undefined || this.#o.isHeld(id)) continue
      if (steps > 0 && !(wereUp.has(endpoint.hostId) && this.#o.isUp(endpoint.hostId))) continue
      this.#delete(followed, id)
      this.#o.onChange(followed.networkId, id)
    }
    this.#keepLost(followed, steps)
  }

  #apply(followed: Followed, event: StoreEvent): void {
    if (event.kind === 'put') this.#put(followed, event, false)
    else {
      const id = event.key.slice(CLUSTER_KEY.endpoints(followed.networkId).length)
      const known = followed.endpoints.get(id)
      // what lives here keeps its address until it is known whether it can be claimed again: nothing else here may take it
      if (known !== undefined && this.#o.isHeld(id)) {
        followed.endpoints.set(id, { endpoint: known.endpoint })
        this.#o.onLost(followed.networkId)
      } else if (known !== undefined) {
        this.#delete(followed, id)
        this.#o.onChange(followed.networkId, id)
      }
      this.#o.bad.forget(event.key)
    }
    this.arrived.note()
  }

  #put(followed: Followed, entry: StoreEntry, quiet: boolean): void {
    const { networkId } = followed
    const id = entry.key.slice(CLUSTER_KEY.endpoints(networkId).length)
    if (followed.endpoints.get(id)?.version === entry.version) return
    const decoded = decodeEndpoint(entry.value, networkId, id)
    const network = this.#o.network(networkId)
    const why = decoded.ok ? (network === undefined ? undefined : misplaced(decoded.value, network)) : decoded.why
    if (!decoded.ok || why !== undefined) {
      this.#o.bad.note(entry.key, why ?? '')
      const known = followed.endpoints.get(id)
      if (known === undefined || !this.#o.isHeld(id)) return // of others what was known stays
      followed.endpoints.set(id, { endpoint: known.endpoint })
      if (!quiet) this.#o.onLost(networkId)
      return
    }
    this.#o.bad.forget(entry.key)
    // whoever has the address now has it alone: what the store had lost and somebody else was given is gone
    for (const ip of [decoded.value.ipv4, decoded.value.ipv6]) {
      const other = ip === '' ? undefined : followed.addresses.get(ip)
      if (other === undefined || other === id || followed.endpoints.get(other)?.version !== undefined) continue
      this.#delete(followed, other)
      if (!quiet) this.#o.onChange(networkId, other)
    }
    this.#set(followed, { endpoint: decoded.value, version: entry.version })
    this.#o.cache.put(CACHE_KEY.endpoint(networkId, id), entry.value)
    if (!quiet) this.#o.onChange(networkId, id)
  }

  #set(followed: Followed, known: Known): void {
    this.#unindex(followed, known.endpoint.id)
    followed.endpoints.set(known.endpoint.id, known)
    for (const ip of [known.endpoint.ipv4, known.endpoint.ipv6]) if (ip !== '') followed.addresses.set(ip, known.endpoint.id)
  }

  #delete(followed: Followed, id: string): void {
    this.#unindex(followed, id)
    followed.endpoints.delete(id)
    this.#o.cache.remove(CACHE_KEY.endpoint(followed.networkId, id))
  }

  #unindex(followed: Followed, id: string): void {
    const old = followed.endpoints.get(id)?.endpoint
    for (const ip of [old?.ipv4, old?.ipv6])
      if (ip !== undefined && ip !== '' && followed.addresses.get(ip) === id) followed.addresses.delete(ip)
  }
}

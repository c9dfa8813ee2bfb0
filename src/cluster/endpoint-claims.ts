/**
 * Endpoints of this host in the shared store: granted, made known, renamed and freed, each by one transaction that either wins everything
 * or changes nothing. Two hosts that want the same name or address at one moment: one of them gets Docker's error.
 */
import { type Ip, tryParseMac } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { Clock, Rng } from '../base/ports.ts'
import type { EndpointAsk, EndpointFinal } from '../drivers/authority.ts'
import { blockOwners } from '../drivers/overlay/blocks.ts'
import { parseOverlayConfig } from '../drivers/overlay/config.ts'
import type { Network } from '../model/network.ts'
import { macOf } from './choose.ts'
import type { Claims } from './claims.ts'
import { decodeEndpoint, decodeOwner, type OwnedEndpoint } from './decode.ts'
import { type AddressChoice, addressInUse, checkAskedAddresses, chooseAddresses } from './endpoint-addresses.ts'
import { CLUSTER_KEY } from './keys.ts'
import type { Membership } from './membership.ts'
import type { Mirror } from './mirror.ts'
import type { ClusterEndpoint } from './model.ts'
import type { KnownNetwork } from './network-table.ts'
import type { Check, ClusterStore, Put, StoreEntry, Txn } from './store/types.ts'

/** Racing hosts spread further with each lost race, so even a crowd is served long before. */
const MAX_ATTEMPTS = 32
const WAIT_FOR_TABLE_MS = 5_000

export interface EndpointClaimsOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly claims: Claims
  readonly membership: Membership
  readonly clock: Clock
  readonly rng: Rng
  readonly address: Ip
  /** The network as it may be used now; waits for or stops a removal that is under way. Throws `not-found`. */
  readonly usable: (networkId: string, name: string) => Promise<KnownNetwork>
}

type Seen = ReadonlyMap<string, StoreEntry | undefined>
type NetworkRef = Pick<Network, 'id' | 'name'>
type NamesRef = Pick<EndpointFinal, 'endpointId' | 'containerName' | 'dnsNames'>

/** An endpoint that the cluster has given to somebody else meanwhile. */
export interface Conflict {
  readonly endpointId: string
  readonly networkId: string
  readonly name: string
  readonly isNameTaken?: boolean
  /** Of the endpoint's addresses those that somebody else has; absent: all. */
  readonly addresses?: readonly Ip[]
  readonly why: string
}

export class EndpointClaims {
  readonly #o: EndpointClaimsOptions
  /** Addresses and names that transactions of this host are about to take: `<network> <what>`. */
  readonly #pending = new Set<string>()

  constructor(options: EndpointClaimsOptions) {
    this.#o = options
  }

  /** Takes addresses and the name. Throws Docker's texts; what it throws after has been taken back, at the latest when the store answers again. */
  async grant(network: Network, ask: EndpointAsk): Promise<ClusterEndpoint> {
    const { claims } = this.#o
    const claim = { endpointId: ask.endpointId, networkId: network.id, name: ask.containerName }
    claims.put({ ...claim, state: 'asked' })
    try {
      const endpoint = await this.#grant(network, ask)
      claims.put({ ...claim, state: 'held', endpoint })
      return endpoint
    } catch (error) {
      // unknown outcome: it may have happened after all
      if (error instanceof NetError && error.code === 'unavailable') claims.put({ ...claim, state: 'releasing' })
      else claims.remove(ask.endpointId)
      throw error
    }
  }

  async #grant(network: Network, ask: EndpointAsk): Promise<ClusterEndpoint> {
    const { store, mirror, membership } = this.#o
    checkAskedAddresses(network, ask.settings)
    await this.#synced(network.id)
    const lost = new Set<Ip>()
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const known = await this.#o.usable(network.id, network.name)
      const choice = chooseAddresses({
        network,
        subnets: known.value.subnets,
        settings: ask.settings,
        isTaken: (ip) => lost.has(ip) || mirror.endpointTable.isTaken(network.id, ip),
        isPending: (ip) => this.#pending.has(CLUSTER_KEY.address(network.id, ip)),
        ...this.#blocks(network, lost),
        skip: attempt === 0 ? 0 : (this.#o.rng.bytes(1)[0] as number) % 2 ** Math.min(attempt, 6),
      })
      const endpoint: ClusterEndpoint = {
        id: ask.endpointId,
        networkId: network.id,
        containerId: ask.containerId,
        name: ask.containerName,
        dnsNames: ask.dnsNames.slice(0, 64),
        ...choice,
        mac: tryParseMac(ask.settings.mac ?? '') ?? macOf((choice.ipv4 || choice.ipv6) as Ip),
        hostId: mirror.hostId,
        hostAddress: this.#o.address,
        active: false,
      }
      const keys = this.#keysOf(endpoint)
      const mine = [...keys.addresses, keys.name]
      for (const key of mine) this.#pending.add(key)
      try {
        const result = await store.txn({ checks: this.#claimChecks(endpoint, known), puts: putsOf(endpoint) })
        if (result.ok) {
          await mirror.endpointTable.arrived.of(keys.endpoint, result.versions.get(keys.endpoint), this.#o.clock.after)
          return endpoint
        }
        await this.#afterLostRace(result.current, endpoint, known, ask, lost, membership)
      } finally {
        for (const key of mine) this.#pending.delete(key)
      }
    }
    throw new NetError('busy', `network ${network.name} is being changed by too many hosts at once; try again`)
  }

  /** Of routed networks: who has which block; addresses that were just lost are somebody else's. */
  #blocks(network: Network, lost: ReadonlySet<Ip>): Pick<AddressChoice, 'blocks'> {
    if (parseOverlayConfig(network.options).mode !== 'host-gw') return {}
    const { mirror } = this.#o
    const losers = [...lost].map((ipv4) => ({ ipv4, hostId: '' }))
    const subnets = network.pools.map((pool) => pool.subnet)
    return { blocks: { hostId: mirror.hostId, owners: blockOwners(subnets, [...mirror.endpointTable.list(network.id), ...losers]) } }
  }

  /** Says which of the checks failed: what cannot be had is thrown, what can be tried again is noted. */
  async #afterLostRace(
    current: ReadonlyMap<string, StoreEntry | undefined>,
    endpoint: ClusterEndpoint,
    known: KnownNetwork,
    ask: EndpointAsk,
    lost: Set<Ip>,
    membership: Membership,
  ): Promise<void> {
    const keys = this.#keysOf(endpoint)
    if (current.get(keys.name) !== undefined)
      throw new NetError('denied', `endpoint with name ${endpoint.name} already exists in network ${known.value.name}`)
    for (const ip of addressesOf(endpoint)) {
      if (current.get(CLUSTER_KEY.address(endpoint.networkId, ip)) === undefined) continue
      if (ip === ask.settings.ipv4 || ip === ask.settings.ipv6) throw addressInUse()
      lost.add(ip)
    }
    const networkKey = CLUSTER_KEY.network(endpoint.networkId)
    if (current.get(networkKey)?.version !== known.version)
      await this.#o.mirror.networkTable.arrived.past(networkKey, known.version, this.#o.clock.after)
    const own = membership.check()
    if ('version' in own && current.get(own.key)?.version !== own.version) await membership.rejoin()
  }

  #claimChecks(endpoint: ClusterEndpoint, known: KnownNetwork): Check[] {
    const keys = this.#keysOf(endpoint)
    return [
      { key: CLUSTER_KEY.network(endpoint.networkId), version: known.version as string },
      this.#o.membership.check(),
      ...[...keys.addresses, keys.name, keys.endpoint].map((key) => ({ key, absent: true }) as const),
    ]
  }

  /** The interface is in place: the names may be told. Also after a rename. Throws `conflict` when the cluster has freed the endpoint meanwhile. */
  async activate(network: NetworkRef, final: NamesRef): Promise<void> {
    const { store, claims } = this.#o
    for (let attempt = 0; attempt < 5; attempt++) {
      const entry = await this.#entry(network.id, final.endpointId, attempt > 0)
      if (entry === undefined)
        throw new NetError(
          'conflict',
          `endpoint of container ${final.containerName} on network ${network.name} was freed: its host was evicted`,
        )
      const { endpoint: before } = entry
      const after: ClusterEndpoint = {
        ...before,
        name: final.containerName,
        dnsNames: final.dnsNames.slice(0, 64),
        hostAddress: this.#o.address,
        active: true,
      }
      if (JSON.stringify(after) === JSON.stringify(before)) return
      const renamed = after.name !== before.name
      const nameKey = CLUSTER_KEY.endpointName(network.id, after.name)
      const result = await store.txn({
        checks: [{ key: entry.key, version: entry.version }, ...(renamed ? [{ key: nameKey, absent: true } as const] : [])],
        puts: renamed ? putsOf(after) : putsOf(after).slice(0, 1),
        deletes: renamed ? [CLUSTER_KEY.endpointName(network.id, before.name)] : [],
      })
      if (result.ok) {
        claims.put({ endpointId: after.id, networkId: network.id, name: after.name, state: 'held', endpoint: after })
        return
      }
      if (renamed && result.current.get(nameKey) !== undefined)
        throw new NetError('denied', `endpoint with name ${after.name} already exists in network ${network.name}`)
    }
    throw new NetError(
      'busy',
      `endpoint of container ${final.containerName} on network ${network.name} is being changed by others; try again`,
    )
  }

  /** The names of an endpoint that lives here, once more. */
  tell({ id, networkId, name, dnsNames }: ClusterEndpoint): Promise<void> {
    return this.activate({ id: networkId, name: networkId }, { endpointId: id, containerName: name, dnsNames })
  }

  /** Frees an endpoint of this host. Idempotent; fine with what never was. */
  async release(networkId: string, endpointId: string): Promise<void> {
    const { claims, mirror } = this.#o
    const claim = claims.get(endpointId)
    if (claim?.state === 'held') claims.put({ ...claim, state: 'releasing' })
    const freed = await this.#free(networkId, endpointId)
    if (freed !== undefined && mirror.endpointTable.get(networkId, endpointId) !== undefined)
      await mirror.endpointTable.arrived.of(freed, undefined, this.#o.clock.after)
    claims.remove(endpointId)
    if (freed === undefined) mirror.endpointTable.forget(networkId, endpointId)
  }

  async #free(networkId: string, endpointId: string): Promise<string | undefined> {
    const { store, mirror } = this.#o
    for (let attempt = 0; attempt < 8; attempt++) {
      const entry = await this.#entry(networkId, endpointId, attempt > 0)
      if (entry === undefined) return undefined
      // somebody took it over by hand: it is not ours to free
      if (entry.endpoint.hostId !== mirror.hostId) return undefined
      const keys = this.#keysOf(entry.endpoint)
      const result = await store.txn({
        checks: [{ key: entry.key, version: entry.version }],
        deletes: [keys.endpoint, ...keys.addresses, keys.name, keys.owned],
      })
      if (result.ok) return keys.endpoint
    }
    throw new NetError('busy', `endpoint ${endpointId.slice(0, 12)} is being changed by others; try again`)
  }

  /**
   * Claims again what this host holds and the store does not have: it was wiped, restored from a backup, or this host was evicted and is
   * back. Returns the conflict when somebody else has got the name or an address meanwhile, undefined when the endpoint is ours (again).
   */
  async reclaim(endpoint: ClusterEndpoint): Promise<Conflict | undefined> {
    const { store } = this.#o
    const keys = this.#keysOf(endpoint)
    const mine = { ...endpoint, hostId: this.#o.mirror.hostId, hostAddress: this.#o.address }
    for (let attempt = 0; attempt < 8; attempt++) {
      const known = await this.#o.usable(endpoint.networkId, endpoint.networkId)
      const result = await store.txn({ checks: this.#claimChecks(mine, known), puts: putsOf(mine) })
      if (result.ok) return undefined
      const there = result.current.get(keys.endpoint)
      const decoded = there === undefined ? undefined : decodeEndpoint(there.value, endpoint.networkId, endpoint.id)
      if (decoded?.ok && decoded.value.hostId === mine.hostId) return undefined
      if (decoded?.ok === false && !this.#hasOthers(mine, result.current)) {
        const put = await store.txn(this.#putBack(mine, known, result.current))
        if (put.ok) return undefined
        await this.#catchUp(known, put.current)
        continue
      }
      const taken = [keys.name, ...keys.addresses].filter((key) => result.current.get(key) !== undefined)
      const conflict = {
        endpointId: endpoint.id,
        networkId: endpoint.networkId,
        name: endpoint.name,
        isNameTaken: taken.includes(keys.name),
        addresses: addressesOf(endpoint).filter((ip) => taken.includes(CLUSTER_KEY.address(endpoint.networkId, ip))),
      }
      if (taken.length > 0)
        return {
          ...conflict,
          why: `${taken.map((key) => decodeURIComponent(key.slice(key.lastIndexOf('/') + 1))).join(' and ')} of network ${known.value.name} belongs to another container now`,
        }
      if (there !== undefined) return { ...conflict, why: 'its key in the store holds something else' }
      await this.#catchUp(known, result.current)
    }
    throw new NetError('busy', `endpoint ${endpoint.name} cannot be claimed again: the store changes all the time`)
  }

  /** The network's record or this host's has changed under a transaction. */
  async #catchUp(known: KnownNetwork, current: Seen): Promise<void> {
    const { membership, mirror, clock } = this.#o
    const key = CLUSTER_KEY.network(known.value.id)
    if (current.get(key)?.version !== known.version) await mirror.networkTable.arrived.past(key, known.version, clock.after)
    const own = membership.check()
    if ('version' in own && current.get(own.key)?.version !== own.version) await membership.rejoin()
  }

  /** The name or an address is another endpoint's. */
  #hasOthers(mine: ClusterEndpoint, seen: Seen): boolean {
    const { name, addresses } = this.#keysOf(mine)
    return [name, ...addresses].some((key) => ![undefined, mine.id].includes(decodeOwner(seen.get(key)?.value ?? '')))
  }

  /** Everything of an endpoint, over what was seen in its place. */
  #putBack(mine: ClusterEndpoint, known: KnownNetwork, seen: Seen): Txn {
    const keys = this.#keysOf(mine)
    const checks = [keys.endpoint, keys.name, ...keys.addresses].map((key): Check => {
      const entry = seen.get(key)
      return entry === undefined ? { key, absent: true } : { key, version: entry.version }
    })
    const network = { key: CLUSTER_KEY.network(mine.networkId), version: known.version as string }
    return { checks: [network, this.#o.membership.check(), ...checks], puts: putsOf(mine) }
  }

  /** The endpoint's key with its version: as followed, or read when that is not known or `fresh`. */
  async #entry(
    networkId: string,
    endpointId: string,
    fresh: boolean,
  ): Promise<{ key: string; version: string; endpoint: ClusterEndpoint } | undefined> {
    const key = CLUSTER_KEY.endpoint(networkId, endpointId)
    const table = this.#o.mirror.endpointTable
    const version = table.versionOf(networkId, endpointId)
    const known = table.get(networkId, endpointId)
    if (!fresh && version !== undefined && known !== undefined) return { key, version, endpoint: known }
    const entry = await this.#o.store.get(key)
    if (entry === undefined) return undefined
    const decoded = decodeEndpoint(entry.value, networkId, endpointId)
    if (decoded.ok) return { key, version: entry.version, endpoint: decoded.value }
    // spoiled by somebody: what we know of it is what has to go
    const claimed = this.#o.claims.get(endpointId)?.endpoint
    return claimed && { key, version: entry.version, endpoint: claimed }
  }

  async #synced(networkId: string): Promise<void> {
    const { endpointTable } = this.#o.mirror
    await endpointTable.arrived.until(() => endpointTable.isSynced(networkId), this.#o.clock.after, WAIT_FOR_TABLE_MS)
    if (endpointTable.isSynced(networkId)) return
    this.#o.membership.check() // throws when the store is away
    throw new NetError('unavailable', 'the cluster store does not answer: the members of the network are not known yet')
  }

  #keysOf(e: ClusterEndpoint): { endpoint: string; addresses: string[]; name: string; owned: string } {
    return {
      endpoint: CLUSTER_KEY.endpoint(e.networkId, e.id),
      addresses: addressesOf(e).map((ip) => CLUSTER_KEY.address(e.networkId, ip)),
      name: CLUSTER_KEY.endpointName(e.networkId, e.name),
      owned: CLUSTER_KEY.ownedEndpoint(e.hostId, e.networkId, e.id),
    }
  }
}

export function addressesOf(e: { readonly ipv4: Ip | ''; readonly ipv6: Ip | '' }): Ip[] {
  return [e.ipv4, e.ipv6].filter((ip): ip is Ip => ip !== '')
}

/** Every key of an endpoint, the endpoint's own first. Values name their owner. */
function putsOf(e: ClusterEndpoint): Put[] {
  const owner = JSON.stringify({ endpoint: e.id, host: e.hostId })
  const owned: OwnedEndpoint = { networkId: e.networkId, endpointId: e.id, name: e.name, addresses: addressesOf(e) }
  return [
    { key: CLUSTER_KEY.endpoint(e.networkId, e.id), value: JSON.stringify(e) },
    ...addressesOf(e).map((ip) => ({ key: CLUSTER_KEY.address(e.networkId, ip), value: owner })),
    { key: CLUSTER_KEY.endpointName(e.networkId, e.name), value: owner },
    { key: CLUSTER_KEY.ownedEndpoint(e.hostId, e.networkId, e.id), value: JSON.stringify(owned) },
  ]
}

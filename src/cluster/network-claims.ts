/**
 * Networks in the shared store: subnets, VXLAN ids and names granted, created, removed, and written again after the store has lost them.
 *
 * Whoever takes subnets rewrites the guard. Its version and the networks come to this host by one watch, so a transaction that finds the
 * guard as the table has it also finds all networks as the table has them: one write decides, without reading first.
 *
 * Removing marks the network first. Endpoints check the network's version, so from the mark on none can come unseen; who wants one takes
 * the mark away again, and the removal notices.
 */
import { cidrOverlaps } from '../base/address.ts'
import { hasCode, NetError } from '../base/errors.ts'
import { hex } from '../base/ids.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import { type ActiveEndpoint, activeEndpointsError } from '../drivers/active-endpoints.ts'
import type { AuthorityData, NetworkGrant } from '../drivers/authority.ts'
import type { NetworkDraft } from '../drivers/types.ts'
import type { IpamPool, IpamPoolRequest, Network } from '../model/network.ts'
import { choosePools, chooseVnis } from './choose.ts'
import { decodeEndpoint, decodeNetwork } from './decode.ts'
import { CLUSTER_KEY } from './keys.ts'
import type { Membership } from './membership.ts'
import type { Mirror } from './mirror.ts'
import type { ClusterNetwork, ClusterSubnet } from './model.ts'
import type { KnownNetwork } from './network-table.ts'
import type { Check, ClusterStore, Put, Version } from './store/types.ts'

const MAX_ATTEMPTS = 200
const LONGEST_PAUSE_MS = 100
/** A removal takes two round trips; who finds its mark after that takes it away. */
const REMOVAL_MS = 1_500
const WAIT_FOR_TABLE_MS = 5_000

export interface NetworkClaimsOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly membership: Membership
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
}

interface GuardWrite {
  readonly version: Version | undefined
  readonly check: Check
  readonly put: Put
}

interface Allocated {
  readonly value: ClusterNetwork
  readonly pools: readonly IpamPool[]
  readonly data: AuthorityData
}

export class NetworkClaims {
  readonly #o: NetworkClaimsOptions

  constructor(options: NetworkClaimsOptions) {
    this.#o = options
  }

  /** Takes name, subnets and VXLAN ids. Throws Docker's texts (`conflict` for the name, `denied` for an overlap). */
  async grant(draft: NetworkDraft, requests: readonly IpamPoolRequest[]): Promise<NetworkGrant> {
    await this.#synced()
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      let network: Allocated
      try {
        network = this.#allocate(draft, requests)
      } catch (error) {
        // what is in the way may have just gone
        if (attempt > 0 || !(error instanceof NetError) || !(await this.#catchUp())) throw error
        continue
      }
      const guard = this.#guardWrite()
      if (await this.#write(network.value, guard)) return { pools: network.pools, data: network.data }
      await this.#moveOn(guard, attempt)
    }
    throw new NetError('busy', `cannot create network ${draft.name}: too many networks are being created at once; try again`)
  }

  /** The whole record: from now on the others have the network too. Throws `conflict` when the grant is gone. */
  async create(network: Network): Promise<undefined> {
    const { store, mirror } = this.#o
    const key = CLUSTER_KEY.network(network.id)
    for (let attempt = 0; attempt < 5; attempt++) {
      const known = mirror.networkTable.get(network.id)
      if (known?.version === undefined) throw new NetError('conflict', `network ${network.name} was removed while it was being created`)
      const result = await store.txn({
        checks: [{ key, version: known.version }],
        puts: [{ key, value: storedText({ ...known.value, network }) }],
      })
      if (result.ok) {
        await mirror.networkTable.arrived.of(key, result.versions.get(key), this.#o.clock.after)
        return undefined
      }
      await mirror.networkTable.arrived.past(key, known.version, this.#o.clock.after)
    }
    throw new NetError('busy', `network ${network.name} is being changed by others; try again`)
  }

  /** Throws `denied` with Docker's words while any host has endpoints on it. Idempotent; fine with what never was. */
  async remove(network: { readonly id: string; readonly name: string }): Promise<void> {
    const { store, mirror } = this.#o
    const key = CLUSTER_KEY.network(network.id)
    await this.#refuseActive(network)
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const known = await this.#current(network.id)
      if (known?.version === undefined) return
      const marked = await store.txn({
        checks: [{ key, version: known.version }],
        puts: [{ key, value: storedText(known.value, true) }],
      })
      if (!marked.ok) {
        await mirror.networkTable.arrived.past(key, known.version, this.#o.clock.after)
        continue
      }
      const version = marked.versions.get(key) as string
      try {
        await this.#refuseActive(network)
      } catch (error) {
        await store.txn({ checks: [{ key, version }], puts: [{ key, value: storedText(known.value) }] })
        throw error
      }
      if (await this.#delete(known.value, version)) return
    }
    throw new NetError('busy', `network ${network.name} is being changed by others; try again`)
  }

  async #delete(network: ClusterNetwork, version: string): Promise<boolean> {
    const { store, mirror } = this.#o
    const key = CLUSTER_KEY.network(network.id)
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const guard = this.#guardWrite()
      const result = await store.txn({
        checks: [{ key, version }, guard.check],
        puts: [guard.put],
        deletes: [key, CLUSTER_KEY.networkName(network.name)],
      })
      if (result.ok) {
        if (mirror.network(network.id) !== undefined) await mirror.networkTable.arrived.of(key, undefined, this.#o.clock.after)
        return true
      }
      if (result.current.get(key)?.version !== version) {
        await mirror.networkTable.arrived.past(key, version, this.#o.clock.after)
        return false
      }
      await this.#moveOn(guard, attempt)
    }
    return false
  }

  /** The network as endpoints may come to it now: without a mark of removal. Throws `not-found`. */
  async usable(networkId: string, name: string): Promise<KnownNetwork> {
    const { store, mirror, clock } = this.#o
    const key = CLUSTER_KEY.network(networkId)
    for (let attempt = 0; attempt < 5; attempt++) {
      const known = await this.#current(networkId)
      if (known?.version === undefined) throw new NetError('not-found', `network ${name} not found`)
      if (!known.removing) return known
      await mirror.networkTable.arrived.past(key, known.version, clock.after, REMOVAL_MS)
      const later = mirror.networkTable.get(networkId)
      if (later?.version !== known.version) continue
      const result = await store.txn({
        checks: [{ key, version: known.version }],
        puts: [{ key, value: storedText(known.value) }],
      })
      if (result.ok) return { value: known.value, removing: false, version: result.versions.get(key) as string }
      await mirror.networkTable.arrived.past(key, known.version, clock.after)
    }
    throw new NetError('busy', `network ${name} is being removed and used at once; try again`)
  }

  /** Puts a record back in the place of one that is none; nothing else of the network was lost. */
  async #replaceSpoiled(network: ClusterNetwork): Promise<void> {
    const { store, mirror, membership, clock } = this.#o
    const key = CLUSTER_KEY.network(network.id)
    const there = await store.get(key)
    if (there === undefined || decodeNetwork(there.value, network.id).ok) return
    const checks = [{ key, version: there.version }, membership.check()]
    const result = await store.txn({ checks, puts: [{ key, value: storedText(network) }] })
    if (result.ok) await mirror.networkTable.arrived.of(key, result.versions.get(key), clock.after)
  }

  /**
   * Writes a network again that the store has lost: the same id, name, subnets and VXLAN ids. Returns why it cannot be, when somebody has
   * taken one of them meanwhile; undefined when the store has it (again).
   */
  async restore(network: ClusterNetwork): Promise<string | undefined> {
    const { mirror } = this.#o
    await this.#replaceSpoiled(network)
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const others = mirror.networkTable.list().filter(({ value, version }) => value.id !== network.id && version !== undefined)
      if (mirror.networkTable.get(network.id)?.version !== undefined) return undefined
      const taken = takenBy(others.map(({ value }) => value))
      for (const { subnet, vni } of network.subnets) {
        const other = taken.subnets.find((one) => cidrOverlaps(one.subnet, subnet))
        if (other !== undefined) return `${subnet} overlaps ${other.subnet} of network "${other.network}" now`
        const owner = taken.vnis.get(vni)
        if (owner !== undefined) return `VXLAN id ${vni} belongs to network "${owner}" now`
      }
      const guard = this.#guardWrite()
      try {
        if (await this.#write(network, guard)) return undefined
      } catch (error) {
        if (hasCode(error, 'conflict')) return (error as Error).message
        throw error
      }
      await this.#moveOn(guard, attempt)
    }
    throw new NetError('busy', `network ${network.name} cannot be written again: the store changes all the time`)
  }

  #allocate(draft: NetworkDraft, requests: readonly IpamPoolRequest[]): Allocated {
    const { mirror } = this.#o
    const taken = takenBy(mirror.networks())
    // names of networks that the store has are the transaction's matter; those it has lost are about to come back
    if (mirror.networkTable.list().some(({ value, version }) => version === undefined && value.name === draft.name))
      throw new NetError('conflict', `network with name ${draft.name} already exists`)
    const pools = choosePools(
      {
        name: draft.name,
        enableIpv4: draft.enableIpv4,
        enableIpv6: draft.enableIpv6,
        skipGateway: { ipv4: false, ipv6: false },
        requests,
      },
      { subnets: taken.subnets, routes: mirror.hosts().flatMap(({ routes }) => routes), clusterId: this.#clusterId() },
    )
    const vnis = chooseVnis(pools, draft.options, taken.vnis)
    const subnets = pools.map(
      ({ subnet, gateway }, i): ClusterSubnet => ({ subnet, ...(gateway === undefined ? {} : { gateway }), vni: vnis[i] as number }),
    )
    const value = { id: draft.id, name: draft.name, internal: draft.internal, subnets, options: draft.options, createdBy: mirror.hostId }
    return { value, pools, data: { vni: vnis, userSubnets: requests.some(({ subnet }) => Boolean(subnet)) } }
  }

  /** False: somebody else has taken subnets meanwhile. Throws `conflict` when the name is taken. */
  async #write(network: ClusterNetwork, guard: GuardWrite): Promise<boolean> {
    const { store, mirror, membership } = this.#o
    const key = CLUSTER_KEY.network(network.id)
    const nameKey = CLUSTER_KEY.networkName(network.name)
    const own = membership.check()
    const result = await store.txn({
      checks: [guard.check, { key: nameKey, absent: true }, { key, absent: true }, own],
      puts: [
        guard.put,
        { key, value: storedText(network) },
        { key: nameKey, value: JSON.stringify({ network: network.id, host: mirror.hostId }) },
      ],
    })
    if (result.ok) {
      await mirror.networkTable.arrived.of(key, result.versions.get(key), this.#o.clock.after)
      return true
    }
    if (result.current.get(key) !== undefined) return true // a grant whose answer was lost, or another host that writes it again
    if (result.current.get(nameKey) !== undefined) throw new NetError('conflict', `network with name ${network.name} already exists`)
    if ('version' in own && result.current.get(own.key)?.version !== own.version) await membership.rejoin()
    return false
  }

  #guardWrite(): GuardWrite {
    const { guard } = this.#o.mirror.networkTable
    const value = JSON.stringify({ cluster: this.#clusterId(), count: (guard?.value.count ?? 0) + 1 })
    const check: Check = guard === undefined ? { key: CLUSTER_KEY.guard, absent: true } : { key: CLUSTER_KEY.guard, version: guard.version }
    return { version: guard?.version, check, put: { key: CLUSTER_KEY.guard, value } }
  }

  /** Named by whoever creates the first network. */
  #clusterId(): string {
    this.#newCluster ??= hex(this.#o.rng.bytes(8))
    return this.#o.mirror.networkTable.guard?.value.cluster || this.#newCluster
  }
  #newCluster: string | undefined

  async #refuseActive(network: { readonly id: string; readonly name: string }): Promise<void> {
    const prefix = CLUSTER_KEY.endpoints(network.id)
    const { entries } = await this.#o.store.list(prefix)
    if (entries.length === 0) return
    const holders = entries.map(({ key, value }): ActiveEndpoint => {
      const endpointId = key.slice(prefix.length)
      const decoded = decodeEndpoint(value, network.id, endpointId)
      if (!decoded.ok) return { name: '', id: endpointId }
      const { id, name, hostId } = decoded.value
      const host = this.#o.mirror.host(hostId)
      return { id, name, host: host?.name ?? hostId, isHostDown: host?.state === 'down' }
    })
    throw activeEndpointsError(network, holders)
  }

  /** As the table has it; read from the store when the table has nothing certain. */
  async #current(networkId: string): Promise<KnownNetwork | undefined> {
    const { networkTable } = this.#o.mirror
    const known = networkTable.get(networkId)
    if (known?.version !== undefined) return known
    const entry = await this.#o.store.get(CLUSTER_KEY.network(networkId))
    const decoded = entry && decodeNetwork(entry.value, networkId)
    return entry && decoded?.ok ? { ...decoded.value, version: entry.version } : undefined
  }

  /** A race for the guard was lost: the networks that the winner made come with its new version. */
  async #moveOn(lost: GuardWrite, attempt: number): Promise<void> {
    const { mirror, clock, rng } = this.#o
    await mirror.networkTable.arrived.past(CLUSTER_KEY.guard, lost.version, clock.after)
    if (attempt > 3) await clock.sleep(((rng.bytes(1)[0] as number) / 255) * Math.min(2 ** attempt, LONGEST_PAUSE_MS))
  }

  /** True: the table was behind the store, and has moved on. */
  async #catchUp(): Promise<boolean> {
    const { store, mirror, clock } = this.#o
    const { networkTable } = mirror
    const before = networkTable.guard?.version
    if ((await store.get(CLUSTER_KEY.guard))?.version === before) return networkTable.guard?.version !== before
    await networkTable.arrived.past(CLUSTER_KEY.guard, before, clock.after)
    return true
  }

  async #synced(): Promise<void> {
    const { networkTable } = this.#o.mirror
    await networkTable.arrived.until(() => networkTable.isSynced, this.#o.clock.after, WAIT_FOR_TABLE_MS)
    this.#o.membership.check() // throws when the store is away
    if (!networkTable.isSynced)
      throw new NetError('unavailable', 'the cluster store does not answer: the networks of the cluster are not known yet')
  }
}

function takenBy(networks: readonly ClusterNetwork[]): {
  subnets: { subnet: ClusterSubnet['subnet']; network: string }[]
  vnis: Map<number, string>
} {
  return {
    subnets: networks.flatMap(({ name, subnets }) => subnets.map(({ subnet }) => ({ subnet, network: name }))),
    vnis: new Map(networks.flatMap(({ name, subnets }) => subnets.map(({ vni }): [number, string] => [vni, name]))),
  }
}

function storedText(network: ClusterNetwork, removing = false): string {
  return JSON.stringify(removing ? { ...network, removing: true } : network)
}

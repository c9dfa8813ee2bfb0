/**
 * The IPAM driver `causeway` for Docker Engines on hosts of a cluster: subnets and addresses out of the cluster's pools, so that no two
 * hosts give out the same one. A pool's id says all that is needed to go on with it, also when this host was evicted meanwhile or the
 * plugin died before Docker had the answer.
 */
import { type Cidr, cidrContains, parseIp, splitPrefix, tryParseCidr, tryParseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { newId } from '../../base/ids.ts'
import type { Rng } from '../../base/ports.ts'
import { type AddressRequest, type AddressResponse, LABEL, type PoolRequest, type PoolResponse } from '../../drivers/remote/protocol.ts'
import type { ClusterPools } from './ports.ts'

/** `cluster/<id>/<subnet>`, and the range if there is one. */
const POOL = /^cluster\/([0-9a-f]{64})\/([0-9a-f.:]+\/\d+)(?:-([0-9a-f.:]+\/\d+))?$/

/** How people see a network of which Docker has told no name. */
const NAME = 'of Docker'

interface PoolId {
  readonly user: string
  readonly subnet: Cidr
  readonly ipRange: Cidr | undefined
}

export class SharedIpam {
  readonly #pools: () => ClusterPools | undefined
  readonly #rng: Rng

  /** `pools` gives undefined while the engine is in no cluster. */
  constructor(pools: () => ClusterPools | undefined, rng: Rng) {
    this.#pools = pools
    this.#rng = rng
  }

  static isPool(id: unknown): id is string {
    return typeof id === 'string' && POOL.test(id)
  }

  /** Networks of Docker, or of this engine, have their addresses from the cluster's pool of this subnet. */
  holds(subnet: Cidr): boolean {
    return this.#pools()?.usesSubnet(subnet) ?? false
  }

  /** Undefined: the engine is in no cluster. */
  async requestPool({ Pool, SubPool, V6 }: Partial<PoolRequest>): Promise<PoolResponse | undefined> {
    const pools = this.#pools()
    if (pools === undefined) return undefined
    const user = newId(this.#rng)
    const { subnet, ipRange } = await pools.join({
      ...{ user, for: 'docker', name: NAME, family: V6 ? 6 : 4, subnet: Pool || undefined, ipRange: SubPool || undefined },
    })
    return { PoolID: `cluster/${user}/${subnet}${ipRange ? `-${ipRange}` : ''}`, Pool: subnet, Data: {} }
  }

  async releasePool(id: string): Promise<void> {
    const { subnet, user } = parsePoolId(id)
    await this.#pools()?.leave(subnet, user)
  }

  async requestAddress({ PoolID = '', Address, Options }: Partial<AddressRequest>): Promise<AddressResponse> {
    const id = parsePoolId(PoolID)
    const pools = this.#require()
    const { subnet, user } = id
    const wanted = Address ? parseIp(Address) : undefined
    await this.#enter(pools, id)
    const isGateway = Options?.[LABEL.requestAddressType] === LABEL.gateway
    const name = Options?.[LABEL.endpointName] ?? ''
    const ip = isGateway ? await pools.reserve(subnet, user, wanted) : await pools.take({ subnet, user, ip: wanted, name })
    return { Address: `${ip}/${splitPrefix(subnet).length}`, Data: {} }
  }

  /** A gateway goes with its network, by {@link releasePool}. */
  async releaseAddress(id: string, text: string): Promise<void> {
    const { subnet, user } = parsePoolId(id)
    const ip = tryParseIp(text)
    if (ip !== undefined) await this.#pools()?.free(subnet, user, ip)
  }

  /** The answer is on its way to Docker: from now on it is Docker's. */
  answered({ PoolID }: PoolResponse): void {
    const { subnet, user } = parsePoolId(PoolID ?? '')
    this.#pools()?.confirm(subnet, user)
  }

  answeredAddress(poolId: string, { Address = '' }: AddressResponse): void {
    const { subnet, user } = parsePoolId(poolId)
    const ip = tryParseIp(Address.replace(/\/.*/, ''))
    if (ip !== undefined && cidrContains(subnet, ip)) this.#pools()?.confirm(subnet, user, ip)
  }

  /** Docker knows a pool that is not known here: its answer was the last thing that an earlier run did, or this engine's store was lost. */
  async #enter(pools: ClusterPools, { user, subnet, ipRange }: PoolId): Promise<void> {
    const there = pools.claims.user(subnet, user)
    if (there !== undefined && there.state !== 'releasing') {
      pools.confirm(subnet, user)
      return
    }
    await pools.join({ user, for: 'docker', name: NAME, family: subnet.includes(':') ? 6 : 4, subnet, ipRange })
    pools.confirm(subnet, user)
  }

  #require(): ClusterPools {
    const pools = this.#pools()
    if (pools !== undefined) return pools
    throw new NetError(
      'unavailable',
      'the network has its addresses from a cluster: start this engine with --cluster-store and --cluster-advertise',
    )
  }
}

function parsePoolId(id: string): PoolId {
  const [, user, subnetText = '', rangeText] = POOL.exec(id) ?? []
  const subnet = tryParseCidr(subnetText)
  if (user === undefined || subnet === undefined) throw new NetError('not-found', `there is no address pool "${id}"`)
  return { user, subnet, ipRange: rangeText === undefined ? undefined : tryParseCidr(rangeText) }
}

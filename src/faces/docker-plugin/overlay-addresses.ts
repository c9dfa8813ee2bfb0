/**
 * Addresses of overlay networks for Docker's IPAM: claimed in the cluster, so that no two hosts give out the same one. Docker asks for
 * the address before it names the endpoint, so the claim is held under a name of its own and passes to the endpoint when that is made.
 * Claims are stored: they outlive a crash in between.
 */
import { type Cidr, type Ip, splitPrefix, tryParseIp } from '../../base/address.ts'
import { messageOf, NetError } from '../../base/errors.ts'
import { newId } from '../../base/ids.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import type { Authority, EndpointAsk, EndpointFinal } from '../../drivers/authority.ts'
import { OPTION } from '../../drivers/options.ts'
import { type AddressRequest, type AddressResponse, LABEL, type PoolRequest, type PoolResponse } from '../../drivers/remote/protocol.ts'
import type { NetworkController } from '../../engine/types.ts'
import type { Network } from '../../model/network.ts'
import { CLUSTER_NAME } from './cluster-name.ts'
import type { Records } from './ports.ts'

const POOL = /^overlay\/([0-9a-f]{64})\/(.+)$/
const PREFIX = 'docker-claim/'
/** Docker makes the endpoint within milliseconds; one that it has not made by then it has forgotten. */
const ABANDONED_AFTER_MS = 300_000

/** A claim that no endpoint has taken over yet; its key is the name under which the cluster holds it. */
interface ClaimRecord {
  readonly networkId: string
  readonly at: number
  /** Missing while the cluster is being asked. */
  readonly ip?: Ip
}

export interface OverlayAddressParts {
  readonly controller: () => NetworkController
  readonly cluster: () => Authority | undefined
  readonly records: Records
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
}

export class OverlayAddresses {
  readonly #o: OverlayAddressParts
  #wrapped: Authority | undefined

  constructor(parts: OverlayAddressParts) {
    this.#o = parts
  }

  static isPool(id: string): boolean {
    return POOL.test(id)
  }

  /** The cluster's authority, which is also told at the start what is claimed here and in no endpoint's hands yet. */
  authority(): Authority | undefined {
    const inner = this.#o.cluster()
    if (inner === undefined) return undefined
    this.#wrapped ??= {
      ...inner,
      restore: async (networks, endpoints) => {
        await inner.restore?.(networks, [...endpoints, ...this.#held(networks)])
      },
    }
    return this.#wrapped
  }

  /** The subnet of the network that the options name; the network is made when the cluster has none of that name. */
  async requestPool({ Pool, SubPool, Options, V6 }: Partial<PoolRequest>): Promise<PoolResponse | undefined> {
    const name = Options?.[CLUSTER_NAME]
    if (!name) return undefined
    const family = V6 ? 6 : 4
    const controller = this.#o.controller()
    const network =
      controller.listNetworks().find((n) => n.driver === 'overlay' && n.name === name) ??
      (
        await controller.createNetwork({
          name,
          driver: 'overlay',
          ...(Pool ? { ipam: { config: [{ subnet: Pool, ...(SubPool ? { ipRange: SubPool } : {}) }] } } : {}),
        })
      ).network
    const pool = network.pools.find(({ subnet }) => subnet.includes(':') === (family === 6) && (!Pool || subnet === Pool))
    if (pool === undefined)
      throw new NetError(
        'denied',
        `overlay network ${name} has no ${Pool || `IPv${family} subnet`}, only ${network.pools.map((p) => p.subnet).join(', ')}`,
      )
    const gateway = pool.gateway ? { [LABEL.gateway]: `${pool.gateway}/${splitPrefix(pool.subnet).length}` } : {}
    return { PoolID: `overlay/${network.id}/${pool.subnet}`, Pool: pool.subnet, Data: gateway }
  }

  async requestAddress({ PoolID = '', Address = '', Options }: Partial<AddressRequest>): Promise<AddressResponse> {
    const { network, subnet } = this.#pool(PoolID)
    const length = splitPrefix(subnet).length
    const gateway = network.pools.find((pool) => pool.subnet === subnet)?.gateway
    // the gateway is the network's, not an endpoint's
    if (Options?.[LABEL.requestAddressType] === LABEL.gateway || (gateway !== undefined && Address === gateway))
      return { Address: `${gateway ?? Address}/${length}`, Data: {} }
    const cluster = this.#o.cluster()
    if (cluster?.grantEndpoint === undefined)
      throw new NetError('unavailable', 'this engine is in no cluster: start it with --cluster-store')
    await this.forgetAbandoned()
    const { records, clock, rng } = this.#o
    const claimId = newId(rng)
    const record: ClaimRecord = { networkId: network.id, at: clock.now() }
    const family = subnet.includes(':') ? 'ipv6' : 'ipv4'
    records.put(PREFIX + claimId, record)
    try {
      const grant = await cluster.grantEndpoint(
        network,
        askOf(claimId, Address === '' ? {} : { [family]: Address, driverOpts: { [OPTION.addressGiven]: 'true' } }),
      )
      const ip = grant[family]
      if (ip === undefined) throw new NetError('unavailable', `overlay network ${network.name} gave no address of ${subnet}`)
      records.put(PREFIX + claimId, { ...record, ip } satisfies ClaimRecord)
      return { Address: `${ip}/${length}`, Data: {} }
    } catch (error) {
      records.remove(PREFIX + claimId)
      throw error
    }
  }

  async releaseAddress(poolId: string, address: string): Promise<void> {
    const id = POOL.exec(poolId)?.[1] ?? ''
    const ip = tryParseIp(address)
    if (ip !== undefined) await this.handOver(id, ip)
  }

  /** The endpoint claims the address in its own name now, or Docker does not want it any more. */
  async handOver(networkId: string, ip: Ip): Promise<void> {
    for (const [key, record] of this.#o.records.list<ClaimRecord>(PREFIX))
      if (record.networkId === networkId && record.ip === ip) await this.#release(key, record)
  }

  /** What was claimed and never taken, because Docker was killed in between, is given back. */
  async forgetAbandoned(): Promise<void> {
    const { records, clock, log } = this.#o
    for (const [key, record] of records.list<ClaimRecord>(PREFIX))
      if (clock.now() - record.at > ABANDONED_AFTER_MS)
        await this.#release(key, record).catch((error: unknown) =>
          log.warn('an address that Docker has forgotten cannot be given back now', { ip: record.ip, error: messageOf(error) }),
        )
  }

  async #release(key: string, { networkId }: ClaimRecord): Promise<void> {
    const network = this.#o
      .controller()
      .listNetworks()
      .find(({ id }) => id === networkId)
    if (network !== undefined) await this.#o.cluster()?.removeEndpoint?.(network, key.slice(PREFIX.length), {})
    this.#o.records.remove(key)
  }

  /** Of what was only being asked for, the cluster gives back what it got. */
  #held(networks: readonly Network[]): { network: Network; endpoint: EndpointFinal }[] {
    const { records } = this.#o
    return records.list<ClaimRecord>(PREFIX).flatMap(([key, { networkId, ip }]) => {
      const network = networks.find(({ id }) => id === networkId)
      if (network === undefined || ip === undefined) {
        records.remove(key)
        return []
      }
      const ask = askOf(key.slice(PREFIX.length), {})
      const is6 = ip.includes(':')
      return [{ network, endpoint: { ...ask, ipv4: is6 ? '' : ip, ipv6: is6 ? ip : '', mac: '', data: {} } }]
    })
  }

  #pool(id: string): { network: Network; subnet: Cidr } {
    const [, networkId, subnet] = POOL.exec(id) ?? []
    const network = this.#o
      .controller()
      .listNetworks()
      .find((n) => n.id === networkId)
    if (network === undefined || subnet === undefined)
      throw new NetError('not-found', `the overlay network of pool "${id}" is not there any more`)
    return { network, subnet: subnet as Cidr }
  }
}

function askOf(claimId: string, settings: EndpointAsk['settings']): EndpointAsk {
  return {
    endpointId: claimId,
    containerId: claimId,
    containerName: `docker-${claimId.slice(0, 12)}`,
    hostname: '',
    sandboxId: claimId,
    sandboxKey: '',
    settings,
    dnsNames: [],
    ports: [],
    exposed: [],
  }
}

/**
 * Addresses of overlay networks for Docker's IPAM: claimed in the cluster, so that no two hosts give out the same one. Docker asks for
 * the address before it names the endpoint, so the claim is held under a name of its own and passes to the endpoint when that is made.
 */
import { type Cidr, type Ip, splitPrefix, tryParseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { newId } from '../../base/ids.ts'
import type { Rng } from '../../base/ports.ts'
import type { Authority } from '../../drivers/authority.ts'
import { type AddressRequest, type AddressResponse, LABEL, type PoolRequest, type PoolResponse } from '../../drivers/remote/protocol.ts'
import type { NetworkController } from '../../engine/types.ts'
import type { Network } from '../../model/network.ts'
import { CLUSTER_NAME } from './overlay-networks.ts'

const POOL = /^overlay\/([0-9a-f]{64})\/(.+)$/

export class OverlayAddresses {
  readonly #controller: NetworkController
  readonly #authority: () => Authority | undefined
  readonly #rng: Rng
  /** Claims that no endpoint has taken over yet, by network and address. A restart of the engine gives them back. */
  readonly #waiting = new Map<string, { readonly network: Network; readonly claimId: string }>()

  constructor(controller: NetworkController, authority: () => Authority | undefined, rng: Rng) {
    this.#controller = controller
    this.#authority = authority
    this.#rng = rng
  }

  static isPool(id: string): boolean {
    return POOL.test(id)
  }

  /** The subnet of the network that the options name; the network is made when the cluster has none of that name. */
  async requestPool({ Pool, SubPool, Options, V6 }: Partial<PoolRequest>): Promise<PoolResponse | undefined> {
    const name = Options?.[CLUSTER_NAME]
    if (!name) return undefined
    const family = V6 ? 6 : 4
    const network =
      this.#controller.listNetworks().find((n) => n.driver === 'overlay' && n.name === name) ??
      (
        await this.#controller.createNetwork({
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
    const authority = this.#authority()
    if (authority?.grantEndpoint === undefined)
      throw new NetError('unavailable', 'this engine is in no cluster: start it with --cluster-store')
    const claimId = newId(this.#rng)
    const containerName = Options?.[LABEL.endpointName] ?? `docker-${claimId.slice(0, 12)}`
    const family = subnet.includes(':') ? 'ipv6' : 'ipv4'
    const grant = await authority.grantEndpoint(network, {
      endpointId: claimId,
      containerId: claimId,
      containerName,
      hostname: '',
      sandboxId: claimId,
      sandboxKey: '',
      settings: Address === '' ? {} : { [family]: Address },
      dnsNames: [],
      ports: [],
      exposed: [],
    })
    const ip = grant[family]
    if (ip === undefined) throw new NetError('unavailable', `overlay network ${network.name} gave no address of ${subnet}`)
    this.#waiting.set(`${network.id} ${ip}`, { network, claimId })
    return { Address: `${ip}/${length}`, Data: {} }
  }

  async releaseAddress(poolId: string, address: string): Promise<void> {
    const id = POOL.exec(poolId)?.[1] ?? ''
    const ip = tryParseIp(address)
    if (ip !== undefined) await this.handOver(id, ip)
  }

  /** The endpoint claims the address in its own name now, or Docker does not want it any more. */
  async handOver(networkId: string, ip: Ip): Promise<void> {
    const key = `${networkId} ${ip}`
    const waiting = this.#waiting.get(key)
    if (waiting === undefined) return
    this.#waiting.delete(key)
    await this.#authority()?.removeEndpoint?.(waiting.network, waiting.claimId, {})
  }

  #pool(id: string): { network: Network; subnet: Cidr } {
    const [, networkId, subnet] = POOL.exec(id) ?? []
    const network = this.#controller.listNetworks().find((n) => n.id === networkId)
    if (network === undefined || subnet === undefined)
      throw new NetError('not-found', `the overlay network of pool "${id}" is not there any more`)
    return { network, subnet: subnet as Cidr }
  }
}

/**
 * The IPAM driver `causeway-dhcp` for Docker Engines: addresses of the LAN's DHCP server, for networks of the drivers `causeway-macvlan` and
 * Docker's own `macvlan`. A lease is asked for with the MAC that Docker has chosen, kept alive here, and given back with the address. What
 * was asked for is stored first, so leases outlive a crash and none is forgotten.
 */
import { type Cidr, cidrOverlaps, type Ip, parseCidr, splitPrefix, tryParseIp, tryParseMac } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { newId } from '../../base/ids.ts'
import type { Rng } from '../../base/ports.ts'
import type { Authority, EndpointAsk, EndpointFinal } from '../../drivers/authority.ts'
import {
  type AddressRequest,
  type AddressResponse,
  type AddressSpaces,
  type IpamCapabilities,
  LABEL,
  type PoolRequest,
  type PoolResponse,
} from '../../drivers/remote/protocol.ts'
import type { NetworkDraft } from '../../drivers/types.ts'
import type { IpamPool, Network } from '../../model/network.ts'
import type { HostView, Records } from './ports.ts'

const POOL = /^dhcp\/([^/]+)\/(.+)$/
const POOLS = 'docker-dhcp-pool/'
const LEASES = 'docker-dhcp-lease/'
/** Option (`--ipam-opt`) with the interface of the LAN. */
const PARENT = 'parent'

interface PoolRecord {
  /** Networks of Docker that have it. */
  readonly users: number
}

/** Its key is the endpoint's id under which the DHCP server's answers are kept. */
interface LeaseRecord {
  readonly poolId: string
  readonly mac: string
  readonly name: string
  /** Missing while the server is being asked. */
  readonly ip?: Ip
}

export interface DhcpIpamParts {
  readonly records: Records
  readonly rng: Rng
  readonly host: HostView
  /** Leases of Docker's containers, apart from those of the engine's own. */
  readonly dhcp: Authority
}

export class DhcpIpam {
  readonly #o: DhcpIpamParts

  constructor(parts: DhcpIpamParts) {
    this.#o = parts
  }

  /** Leases of before are renewed; what was only being asked for is given back. */
  async restore(): Promise<void> {
    const { records, dhcp } = this.#o
    const held = records.list<LeaseRecord>(LEASES).flatMap(([key, { poolId, mac, name, ip }]) => {
      if (ip === undefined) {
        records.remove(key)
        return []
      }
      const ask = askOf(key.slice(LEASES.length), mac, name, {})
      const endpoint: EndpointFinal = { ...ask, ipv4: ip, ipv6: '', mac: tryParseMac(mac) ?? '', data: {} }
      return [{ network: networkOf(poolId), endpoint }]
    })
    await dhcp.restore?.([], held)
  }

  /** Docker chooses a MAC before it asks for the address: a DHCP server knows its clients by it. */
  capabilities(): IpamCapabilities {
    return { RequiresMACAddress: true, RequiresRequestReplay: false }
  }

  addressSpaces(): AddressSpaces {
    return { LocalDefaultAddressSpace: 'causeway-dhcp', GlobalDefaultAddressSpace: 'causeway-dhcp-global' }
  }

  async requestPool({ Pool = '', SubPool = '', Options, V6 = false }: Partial<PoolRequest>): Promise<PoolResponse> {
    if (V6) throw new NetError('invalid', 'IPAM driver causeway-dhcp gives IPv4 addresses only: make the network without IPv6')
    if (SubPool !== '') throw new NetError('invalid', 'IPAM driver causeway-dhcp takes no --ip-range: the server chooses the addresses')
    const asked = Pool === '' ? undefined : parseCidr(Pool)
    const parent = Options?.[PARENT] || (asked && this.#o.host.linkOnSubnet(asked))
    if (!parent)
      throw new NetError(
        'invalid',
        asked
          ? `no interface of this host is on ${asked}: name the LAN's with --ipam-opt ${PARENT}=NIC`
          : `IPAM driver causeway-dhcp needs an interface of the LAN: give --ipam-opt ${PARENT}=NIC`,
      )
    const known = asked ? { subnet: asked, aux: {} } : await this.#learn(parent)
    if (!asked) this.#checkTaken(known)
    const id = `dhcp/${parent}/${known.subnet}`
    this.#o.records.put(POOLS + id, { users: this.#users(id) + 1 } satisfies PoolRecord)
    const gateway = known.gateway ? { [LABEL.gateway]: `${known.gateway}/${splitPrefix(known.subnet).length}` } : {}
    return { PoolID: id, Pool: known.subnet, Data: gateway }
  }

  /** With the last network goes what its containers had. */
  async releasePool(id: string): Promise<void> {
    const { records } = this.#o
    const users = this.#users(id) - 1
    if (users > 0) {
      records.put(POOLS + id, { users } satisfies PoolRecord)
      return
    }
    for (const [key, { poolId }] of records.list<LeaseRecord>(LEASES)) if (poolId === id) await this.#giveBack(key, poolId)
    records.remove(POOLS + id)
  }

  async requestAddress({ PoolID = '', Address = '', Options }: Partial<AddressRequest>): Promise<AddressResponse> {
    const { records, rng, dhcp } = this.#o
    const network = networkOf(PoolID)
    const length = splitPrefix(subnetOf(PoolID)).length
    if (Options?.[LABEL.requestAddressType] === LABEL.gateway)
      return { Address: `${Address || (await this.#gateway(PoolID))}/${length}`, Data: {} }
    const mac = tryParseMac(Options?.[LABEL.endpointMac] ?? '')
    if (mac === undefined)
      throw new NetError('invalid', 'RequestAddress: the MAC of the endpoint is missing, and a DHCP server knows clients by it')
    const there = records.list<LeaseRecord>(LEASES).find(([, lease]) => lease.poolId === PoolID && lease.mac === mac)
    if (there?.[1].ip !== undefined) return { Address: `${there[1].ip}/${length}`, Data: {} } // asked again after a lost answer
    const id = newId(rng)
    const record: LeaseRecord = { poolId: PoolID, mac, name: Options?.[LABEL.endpointName] ?? '' }
    records.put(LEASES + id, record)
    try {
      const { ipv4 } = (await dhcp.grantEndpoint?.(network, askOf(id, mac, record.name, Address === '' ? {} : { ipv4: Address }))) ?? {}
      if (ipv4 === undefined) throw new NetError('unavailable', 'the DHCP server gave no address')
      records.put(LEASES + id, { ...record, ip: ipv4 } satisfies LeaseRecord)
      return { Address: `${ipv4}/${length}`, Data: {} }
    } catch (error) {
      records.remove(LEASES + id)
      throw error
    }
  }

  /** What is not held is released already: gateways are the LAN's. */
  async releaseAddress(id: string, text: string): Promise<void> {
    const ip = tryParseIp(text)
    for (const [key, lease] of this.#o.records.list<LeaseRecord>(LEASES))
      if (lease.poolId === id && lease.ip === ip) await this.#giveBack(key, id)
  }

  async #giveBack(key: string, poolId: string): Promise<void> {
    await this.#o.dhcp.removeEndpoint?.(networkOf(poolId), key.slice(LEASES.length), {})
    this.#o.records.remove(key)
  }

  /** Docker would ask for another subnet for ever: of what it has not been given by hand, it takes nothing that the host has a route to. */
  #checkTaken({ subnet, gateway }: IpamPool): void {
    const { reserved, avoid } = this.#o.host.subnetsInUse()
    if (![...reserved, ...avoid].some((used) => cidrOverlaps(used, subnet))) return
    const router = gateway === undefined ? '' : ` --gateway ${gateway}`
    throw new NetError(
      'invalid',
      `the host is on the LAN's subnet itself, which Docker wants to be told then: give --subnet ${subnet}${router}`,
    )
  }

  #users(id: string): number {
    return this.#o.records.get<PoolRecord>(POOLS + id)?.users ?? 0
  }

  /** What the server on an interface would give. */
  async #learn(parent: string): Promise<IpamPool> {
    const draft: NetworkDraft = {
      ...{ id: newId(this.#o.rng), name: 'of Docker', enableIpv4: true, enableIpv6: false, internal: false },
      options: { [PARENT]: parent },
      subnets: [],
    }
    const pool = (await this.#o.dhcp.grantNetwork?.(draft, [], {}))?.pools?.[0]
    if (pool === undefined) throw new NetError('unavailable', `no DHCP server on ${parent} says what its subnet is: give --subnet`)
    return pool
  }

  async #gateway(poolId: string): Promise<Ip> {
    const { gateway } = await this.#learn(parentOf(poolId))
    if (gateway === undefined) throw new NetError('invalid', 'the DHCP server names no router: give --gateway')
    return gateway
  }
}

function partsOf(poolId: string): { parent: string; subnet: Cidr } {
  const [, parent, subnet] = POOL.exec(poolId) ?? []
  if (parent === undefined || subnet === undefined) throw new NetError('not-found', `there is no address pool "${poolId}"`)
  return { parent, subnet: parseCidr(subnet) }
}

const parentOf = (poolId: string): string => partsOf(poolId).parent
const subnetOf = (poolId: string): Cidr => partsOf(poolId).subnet

/** The network in whose name the server is asked. */
function networkOf(poolId: string): Network {
  const { parent, subnet } = partsOf(poolId)
  return {
    ...{ id: poolId, name: 'of Docker', created: '', driver: 'macvlan', scope: 'local', ipamDriver: 'causeway-dhcp', ipamOptions: null },
    ...{ enableIpv4: true, enableIpv6: false, internal: false, attachable: false, ingress: false, configOnly: false, configFrom: '' },
    ...{ pools: [{ subnet, aux: {} }], options: { [PARENT]: parent }, labels: {}, predefined: false },
  }
}

function askOf(id: string, mac: string, name: string, settings: EndpointAsk['settings']): EndpointAsk {
  return {
    ...{ endpointId: id, containerId: id, containerName: name || `docker-${id.slice(0, 12)}`, hostname: name },
    ...{ sandboxId: id, sandboxKey: '', settings: { ...settings, mac }, dnsNames: [], ports: [], exposed: [] },
  }
}

/**
 * The IPAM driver `causeway` for Docker Engines: subnets and addresses out of the engine's own address space, so that no network of
 * Docker's and none of Causeway's overlap. What was given out is stored before it is answered.
 */
import { type Cidr, type Ip, parseIp, splitPrefix, tryParseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Clock } from '../../base/ports.ts'
import {
  type AddressRequest,
  type AddressResponse,
  type AddressSpaces,
  type IpamCapabilities,
  LABEL,
  type PoolRequest,
  type PoolResponse,
} from '../../drivers/remote/protocol.ts'
import type { HostView, Records, SubnetSpace } from './ports.ts'

/** By which Docker and the driver know that a network's addresses come from here. */
export const ADDRESS_SPACE = { local: 'causeway-local', global: 'causeway-global' } as const

const PREFIX = 'docker-pool/'
/** A pool that no network uses is taken to be lost after this long: its Docker Engine has forgotten it. */
const ABANDONED_AFTER_MS = 60_000

/** One pool as stored; its key is its id. */
interface PoolRecord {
  readonly subnet: Cidr
  readonly ipRange?: Cidr
  readonly addresses: readonly Ip[]
  readonly at: number
}

export class PluginIpam {
  readonly #space: SubnetSpace
  readonly #records: Records
  readonly #clock: Clock
  readonly #host: HostView
  /** Key in the address space of each pool, by the pool's id. */
  readonly #keys = new Map<string, string>()
  readonly #isUsed: (subnet: Cidr) => Promise<boolean>

  /** `isUsed` says whether a network has the subnet, of Docker's or of the engine. */
  constructor(parts: { space: SubnetSpace; records: Records; clock: Clock; host: HostView; isUsed: (subnet: Cidr) => Promise<boolean> }) {
    this.#space = parts.space
    this.#records = parts.records
    this.#clock = parts.clock
    this.#host = parts.host
    this.#isUsed = parts.isUsed
  }

  /** Takes up what was given out before the engine restarted. Call before networks are made. */
  restore(): void {
    for (const [path, { subnet, ipRange, addresses }] of this.#records.list<PoolRecord>(PREFIX)) {
      const id = path.slice(PREFIX.length)
      this.#keys.set(
        id,
        this.#space.restorePool({ subnet, ...(ipRange ? { ipRange } : {}), holder: HOLDER, shared: false, aux: addresses }),
      )
    }
  }

  /** True when the subnet was given to Docker by this IPAM. */
  holds(subnet: Cidr): boolean {
    return this.#records.list<PoolRecord>(PREFIX).some(([, pool]) => pool.subnet === subnet)
  }

  capabilities(): IpamCapabilities {
    return { RequiresMACAddress: false, RequiresRequestReplay: false }
  }

  addressSpaces(): AddressSpaces {
    return { LocalDefaultAddressSpace: ADDRESS_SPACE.local, GlobalDefaultAddressSpace: ADDRESS_SPACE.global }
  }

  async requestPool({ Pool, SubPool, V6 }: Partial<PoolRequest>): Promise<PoolResponse> {
    if (Pool) await this.#forgetAbandoned(Pool)
    const got = this.#space.requestPool({
      family: V6 ? 6 : 4,
      ...(Pool ? { subnet: Pool } : {}),
      ...(SubPool ? { ipRange: SubPool } : {}),
      holder: HOLDER,
      shared: false,
      ...(Pool ? {} : this.#host.subnetsInUse()),
    })
    const id = `${got.subnet}${got.ipRange ? `-${got.ipRange}` : ''}`
    try {
      this.#save(id, { subnet: got.subnet, ...(got.ipRange ? { ipRange: got.ipRange } : {}), addresses: [], at: this.#clock.now() })
    } catch (error) {
      this.#space.releasePool(got.key)
      throw error
    }
    this.#keys.set(id, got.key)
    return { PoolID: id, Pool: got.subnet, Data: {} }
  }

  releasePool(id: string): void {
    const key = this.#keys.get(id)
    this.#records.remove(PREFIX + id)
    this.#keys.delete(id)
    if (key !== undefined) this.#space.releasePool(key)
  }

  requestAddress({ PoolID = '', Address, Options }: Partial<AddressRequest>): AddressResponse {
    const { key, record } = this.#pool(PoolID)
    const wanted = Address ? parseIp(Address) : undefined
    const isGateway = Options?.[LABEL.requestAddressType] === LABEL.gateway
    const holder = isGateway ? `gateway of a network of Docker` : `container "${Options?.[LABEL.endpointName] ?? ''}" of Docker`
    const ip = isGateway
      ? this.#space.requestGateway(key, wanted, holder)
      : this.#space.requestAddress(key, { ...(wanted ? { ip: wanted } : {}), holder })
    try {
      this.#save(PoolID, { ...record, addresses: [...record.addresses, ip] })
    } catch (error) {
      this.#space.releaseAddress(key, ip)
      throw error
    }
    return { Address: `${ip}/${splitPrefix(record.subnet).length}`, Data: {} }
  }

  /** What is not held is released already. */
  releaseAddress(id: string, text: string): void {
    const key = this.#keys.get(id)
    const record = this.#records.get<PoolRecord>(PREFIX + id)
    const ip = tryParseIp(text)
    if (key === undefined || record === undefined || ip === undefined) return
    this.#save(id, { ...record, addresses: record.addresses.filter((held) => held !== ip) })
    this.#space.releaseAddress(key, ip)
  }

  /** A Docker Engine that lost its data asks for its subnets anew: what nobody uses is no obstacle. */
  async #forgetAbandoned(subnet: string): Promise<void> {
    for (const [path, pool] of this.#records.list<PoolRecord>(PREFIX))
      if (pool.subnet === subnet && this.#clock.now() - pool.at > ABANDONED_AFTER_MS && !(await this.#isUsed(pool.subnet)))
        this.releasePool(path.slice(PREFIX.length))
  }

  #pool(id: string): { key: string; record: PoolRecord } {
    const key = this.#keys.get(id)
    const record = this.#records.get<PoolRecord>(PREFIX + id)
    if (key === undefined || record === undefined) throw new NetError('not-found', `there is no address pool "${id}"`)
    return { key, record }
  }

  #save(id: string, record: PoolRecord): void {
    this.#records.put(PREFIX + id, record)
  }
}

const HOLDER = 'a network of Docker'

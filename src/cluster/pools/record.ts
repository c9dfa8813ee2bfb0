/** What stands in the shared store about pools of the IPAM driver `causeway`, and how it is read: anybody may have written it. */
import { type Cidr, cidrContains, type Ip, tryParseCidr, tryParseIp } from '../../base/address.ts'
import { bool, cidr, type Decoded, decode, fieldsOf, id, int, ip, items, text, Wrong } from '../fields.ts'

/** A network, on one host, whose addresses are of the pool. */
export interface PoolUser {
  readonly hostId: string
  /** The network's id, or one that was made for Docker's: unique in the pool. */
  readonly id: string
  /** As people call it. */
  readonly name: string
  /** Gateway and auxiliary addresses: nobody's endpoint has them as long as any user keeps them. */
  readonly reserved: readonly Ip[]
  /** The first of `reserved` is the gateway. */
  readonly hasGateway: boolean
}

/** `pools/<subnet>`: exists as long as it has a user. */
export interface SharedPool {
  readonly subnet: Cidr
  readonly users: readonly PoolUser[]
}

/** `pool-addr/<subnet>/<address>` */
export interface PoolAddress {
  readonly ip: Ip
  readonly hostId: string
  /** The {@link PoolUser} through which it was asked for. */
  readonly user: string
  /** Container, as far as it was told. */
  readonly name: string
}

/** `pools/guard` */
export interface PoolGuard {
  /** Chosen by whoever makes the first pool: its hash makes the IPv6 range. */
  readonly cluster: string
  readonly count: number
}

const MOST_USERS = 1024

export function decodePool(value: string, key: string): Decoded<SharedPool> {
  return decode(value, (f) => {
    const subnet = cidr(f, 'subnet')
    if (!key.endsWith(`/${subnet.replace('/', '_')}`)) throw new Wrong('the value belongs to another key')
    const users = items(f, 'users', MOST_USERS).map((entry): PoolUser => {
      const user = fieldsOf(entry, 'a user')
      const reserved = items(user, 'reserved', 256).map((address) => ip({ address }, 'address'))
      if (reserved.some((address) => !cidrContains(subnet, address))) throw new Wrong(`a reserved address is not in ${subnet}`)
      const hasGateway = bool(user, 'hasGateway')
      if (hasGateway && reserved.length === 0) throw new Wrong('the gateway is missing')
      return { hostId: id(user, 'hostId'), id: id(user, 'id'), name: text(user, 'name'), reserved, hasGateway }
    })
    return { subnet, users }
  })
}

export function decodePoolAddress(value: string, key: string): Decoded<PoolAddress> {
  return decode(value, (f) => {
    const address = ip(f, 'ip')
    if (!key.endsWith(`/${address}`)) throw new Wrong('the value belongs to another key')
    return { ip: address, hostId: id(f, 'hostId'), user: id(f, 'user'), name: text(f, 'name') }
  })
}

export function decodePoolGuard(value: string): Decoded<PoolGuard> {
  return decode(value, (f) => ({ cluster: text(f, 'cluster'), count: int(f, 'count', 0, Number.MAX_SAFE_INTEGER) }))
}

/** Subnet and address of a key below `pool-addr/`; undefined for what is neither. */
export function partsOfAddressKey(key: string): { readonly subnet: Cidr; readonly ip: Ip } | undefined {
  const [, subnetText = '', ipText = ''] = key.split('/')
  const subnet = tryParseCidr(subnetText.replace('_', '/'))
  const address = tryParseIp(ipText)
  return subnet === undefined || address === undefined ? undefined : { subnet, ip: address }
}

/** The gateway that the pool's networks have; the first one's, when they differ. */
export function gatewayOfPool({ users }: SharedPool): Ip | undefined {
  return users.find(({ hasGateway }) => hasGateway)?.reserved[0]
}

export function isReservedInPool({ users }: SharedPool, address: Ip): boolean {
  return users.some(({ reserved }) => reserved.includes(address))
}

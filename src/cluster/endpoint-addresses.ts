/** Which addresses a new endpoint tries for (pure but for chance). Whether it gets them, the transaction says. */
import { type Cidr, cidrContains, familyOf, type Ip, parseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { OPTION } from '../drivers/options.ts'
import { blocksToTry } from '../drivers/overlay/blocks.ts'
import { segmentsOf } from '../drivers/overlay/config.ts'
import { segmentIndexOf } from '../drivers/overlay/wanted.ts'
import type { EndpointSettings } from '../model/endpoint.ts'
import type { IpamPool, Network } from '../model/network.ts'
import { isReservedAddress, lowestAddress, poolWith } from './choose.ts'
import type { ClusterSubnet } from './model.ts'

/** Docker's checks of addresses that were asked for, and that both are on one link. Throws `invalid`. */
export function checkAskedAddresses(network: Network, settings: EndpointSettings): void {
  for (const text of [settings.ipv4, settings.ipv6]) {
    if (!text) continue
    if (network.data?.['userSubnets'] !== true && settings.driverOpts?.[OPTION.addressGiven] !== 'true')
      throw new NetError('invalid', 'user specified IP address is supported only when connecting to networks with user configured subnets')
    const ip = parseIp(text)
    if (poolWith(network.pools, ip) < 0)
      throw new NetError('invalid', `Invalid address ${ip}: It does not belong to any of this network's subnets`, { subject: ip })
  }
  if (!settings.ipv4 || !settings.ipv6) return
  const segments = segmentsOf(network.pools, [])
  const [ipv4, ipv6] = [parseIp(settings.ipv4), parseIp(settings.ipv6)]
  const beside = segments[segmentIndexOf(segments, ipv4)]?.subnets.flatMap(({ subnet }) => (familyOf(subnet) === 6 ? [subnet] : []))
  if (beside !== undefined && !beside.some((subnet) => cidrContains(subnet, ipv6)))
    throw new NetError('invalid', `Invalid address ${ipv6}: beside ${ipv4} stands ${beside.join(', ') || 'no IPv6 subnet'}`, {
      subject: ipv6,
    })
}

export interface AddressChoice {
  readonly network: Network
  readonly subnets: readonly ClusterSubnet[]
  readonly settings: EndpointSettings
  /** Known to be somebody's; only automatic choice goes by it, it may be out of date. */
  readonly isTaken: (ip: Ip) => boolean
  /** Another endpoint of this host is just taking it. */
  readonly isPending: (ip: Ip) => boolean
  /** Passes over so many free addresses, or blocks: hosts that race spread out. */
  readonly skip: number
  /** Routed networks: who has which block of addresses. */
  readonly blocks?: { readonly hostId: string; readonly owners: ReadonlyMap<Cidr, string> }
}

/** The lowest free address of each family, or the one asked for. Throws `denied` (in use) or `unavailable` (nothing left). */
export function chooseAddresses(choice: AddressChoice): { ipv4: Ip | ''; ipv6: Ip | '' } {
  const { network, subnets, settings } = choice
  const segmentOf = (ip: Ip | '') => (ip === '' ? undefined : subnets.find(({ subnet }) => cidrContains(subnet, ip))?.vni)
  const asked6 = network.enableIpv6 && settings.ipv6 ? parseIp(settings.ipv6) : ''
  const ipv4 = network.enableIpv4 ? chooseAddress(choice, 4, segmentOf(asked6)) : ''
  return { ipv4, ipv6: network.enableIpv6 ? chooseAddress(choice, 6, segmentOf(ipv4)) : '' }
}

/** `segment`: the address has to be on the same one as the other family's, where the network has a subnet there. */
function chooseAddress(choice: AddressChoice, family: 4 | 6, segment: number | undefined): Ip | '' {
  const { network, subnets, settings, skip } = choice
  const pools = network.pools.filter((pool) => familyOf(pool.subnet) === family)
  if (pools.length === 0) return ''
  const isOwn = (ip: Ip) => network.pools.some((pool) => pool.gateway === ip || Object.values(pool.aux).includes(ip))
  const asked = family === 4 ? settings.ipv4 : settings.ipv6
  if (asked) {
    const ip = parseIp(asked)
    const pool = pools[poolWith(pools, ip)]
    if (choice.isPending(ip) || isOwn(ip) || (pool !== undefined && isReservedAddress(pool.subnet, ip))) throw addressInUse()
    return ip
  }
  const beside = pools.filter((pool) => segment === subnets.find(({ subnet }) => subnet === pool.subnet)?.vni)
  const isTaken = (ip: Ip) => choice.isTaken(ip) || choice.isPending(ip) || isOwn(ip)
  if (family === 4 && choice.blocks !== undefined)
    for (const pool of pools) {
      const ip = addressInBlock(pool, choice.blocks, isTaken, skip)
      if (ip !== undefined) return ip
    }
  for (const back of [skip, 0])
    for (const pool of segment !== undefined && beside.length > 0 ? beside : pools) {
      const ip = lowestAddress(pool, isTaken, back)
      if (ip !== undefined) return ip
    }
  throw new NetError('unavailable', `no available IPv${family} addresses on this network's address pools: ${network.name} (${network.id})`)
}

/** The lowest free address of the host's own blocks, else of one that nobody has; undefined when all are full or others'. */
function addressInBlock(
  pool: IpamPool,
  blocks: NonNullable<AddressChoice['blocks']>,
  isTaken: (ip: Ip) => boolean,
  skip: number,
): Ip | undefined {
  let left = skip
  let passed: Ip | undefined
  for (const block of blocksToTry(pool.subnet, pool.ipRange ?? pool.subnet, blocks.hostId, blocks.owners)) {
    const ip = lowestAddress({ subnet: pool.subnet, ipRange: block }, isTaken)
    if (ip === undefined) continue
    if (left-- === 0) return ip
    passed ??= ip
  }
  return passed
}

export function addressInUse(): NetError {
  return new NetError('denied', 'Address already in use')
}

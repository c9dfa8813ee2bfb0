/** Which subnet a new pool has, and which address is taken next (pure). Whoever uses the answer still has to win the transaction. */
import { type Cidr, cidrOverlaps, type Family, familyOf, type Ip, parseCidr, splitPrefix, tryParseCidr } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { clusterUla, lowestFree } from '../choose.ts'

/** Chosen pools: by /24 from the half of 10.0.0.0/8 that overlay networks come to last. */
const POOL4 = { base: '10.128.0.0/9' as Cidr, size: 24 }
const SIZE6 = 64

export interface SubnetAsked {
  readonly family: Family
  readonly subnet?: string | undefined
  readonly ipRange?: string | undefined
}

export interface SubnetWanted {
  /** Absent: any. */
  readonly subnet?: Cidr
  readonly ipRange?: Cidr
  /** Of a subnet that may be any. */
  readonly size?: number
}

/** What was asked for, checked. Throws `invalid` with Docker's texts. */
export function parseSubnetAsked({ family, subnet = '', ipRange = '' }: SubnetAsked): SubnetWanted {
  const fail = (what: string) =>
    new NetError('invalid', `failed to parse pool request for address space "causeway" pool "${subnet}" subpool "${ipRange}": ${what}`)
  if (subnet === '') {
    if (ipRange !== '') throw fail('invalid address subpool')
    return {}
  }
  const wanted = tryParseCidr(subnet)
  if (wanted === undefined || familyOf(wanted) !== family) throw fail('invalid address pool')
  const { ip, length } = splitPrefix(wanted)
  const isAny = ip === '0.0.0.0' || ip === '::'
  if (ipRange === '') return isAny ? { size: length } : { subnet: wanted }
  const range = tryParseCidr(ipRange)
  if (isAny || range === undefined || !cidrOverlaps(range, wanted) || splitPrefix(range).length < length)
    throw fail('invalid address subpool')
  return { subnet: wanted, ipRange: range }
}

/** The lowest subnet that overlaps none of `walls`. `clusterId` makes the IPv6 range. Throws `invalid` when nothing is left. */
export function choosePoolSubnet(family: Family, size: number | undefined, walls: readonly Cidr[], clusterId: string): Cidr {
  const from = family === 4 ? POOL4 : { base: clusterUla(`${clusterId} pools`), size: SIZE6 }
  const length = size ?? from.size
  const found = lowestFree(
    from.base,
    length,
    walls.filter((cidr) => familyOf(cidr) === family && splitPrefix(cidr).length > 0),
  )
  if (found !== undefined) return parseCidr(found)
  throw new NetError(
    'invalid',
    `all predefined address pools have been fully subnetted: ${from.base} by /${length}; give a subnet, or remove unused networks`,
  )
}

export function poolOverlaps(subnet: Cidr, other: Cidr, whose: string): NetError {
  return new NetError(
    'denied',
    `invalid pool request: Pool overlaps with other one on this address space: ${subnet} overlaps ${other}${whose}`,
    { subject: subnet },
  )
}

/** Docker's text, and who has it. */
export function addressTaken(ip: Ip, subnet: Cidr, holder: string): NetError {
  return new NetError('denied', `Address already in use: ${ip} of ${subnet} belongs to ${holder}`, { subject: ip })
}

export function outOfRange(ip: Ip, subnet: Cidr): NetError {
  return new NetError('invalid', `requested address is out of range: ${ip} is not in ${subnet}`, { subject: ip })
}

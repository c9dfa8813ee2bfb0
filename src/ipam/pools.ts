/** The ranges from which subnets are cut when nobody asked for one. */
import { createHash } from 'node:crypto'
import { bitsOf, type Cidr, cidrOf, cidrRange, familyOf, ipFromBytes, splitPrefix } from '../base/address.ts'
import { NetError } from '../base/errors.ts'

/** A range and the prefix length of the subnets that are cut from it. */
export interface AddressPool {
  readonly base: Cidr
  readonly size: number
}

const pool = (base: string, size: number): AddressPool => ({ base: base as Cidr, size })

/** Docker's local pools, in its order: 31 networks. */
export const DEFAULT_POOLS: readonly AddressPool[] = [
  pool('172.17.0.0/16', 16),
  pool('172.18.0.0/16', 16),
  pool('172.19.0.0/16', 16),
  pool('172.20.0.0/14', 16),
  pool('172.24.0.0/14', 16),
  pool('172.28.0.0/14', 16),
  pool('192.168.0.0/16', 20),
]

/**
 * Where Causeway goes on when the classic pools are used up: 4,096 networks of 254 hosts. The range lies between what Kubernetes
 * (10.96.0.0/12) and OpenShift (10.128.0.0/14) use by default and apart from Docker's overlay pools, which start at 10.0.0.0.
 * Not used when default-address-pools are configured: whoever names ranges means these and no others.
 */
export const FALLBACK_POOLS: readonly AddressPool[] = [pool('10.112.0.0/12', 24)]

/** The host's own IPv6 range: fd00::/8 with 40 bits derived from an id that stays the host's (RFC 4193 asks for a random 40-bit global id). */
export function ulaPool(hostId: string): AddressPool {
  const bytes = new Uint8Array(16)
  bytes[0] = 0xfd
  bytes.set(createHash('sha256').update(hostId).digest().subarray(0, 5), 1)
  return { base: cidrOf(ipFromBytes(bytes), 48), size: 64 }
}

/** Throws `invalid` with Docker's words when subnets of that size cannot be cut from the base. */
export function checkPool({ base, size }: AddressPool): void {
  const { length } = splitPrefix(base)
  if (!Number.isInteger(size) || size <= 0 || size > bitsOf(familyOf(base)))
    throw new NetError('invalid', `invalid size value: ${size} for base ${base}`, { subject: base })
  if (length === 0 || size < length)
    throw new NetError('invalid', `invalid size value: base ${base} is smaller than a subnet of size ${size}`, { subject: base })
}

/** By family, then address: the order in which subnets are looked for. */
export function sortPools(pools: readonly AddressPool[]): AddressPool[] {
  const key = (p: AddressPool) => cidrRange(p.base)
  return [...pools].sort((a, b) => {
    const [x, y] = [key(a), key(b)]
    return x.family - y.family || (x.first < y.first ? -1 : x.first > y.first ? 1 : 0)
  })
}

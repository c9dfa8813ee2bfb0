/** Ranges of addresses as `host-local` writes them: from one address to another, not always a subnet. */
import {
  type Cidr,
  cidrRange,
  type Family,
  familyOf,
  type Ip,
  ipFromBigInt,
  ipToBigInt,
  parseCidr,
  splitPrefix,
} from '../../base/address.ts'

/** Addresses to choose from, all of one subnet. */
export interface Range {
  readonly subnet: Cidr
  readonly start?: Ip
  readonly end?: Ip
  readonly gateway?: Ip
}

/** First and last address of a range as numbers. Without ends of its own it is its subnet without network address and broadcast. */
function endsOf(range: Range): { first: bigint; last: bigint } {
  const { family, first, last } = cidrRange(range.subnet)
  const edges = family === 4 && last - first > 1n ? 1n : 0n
  return {
    first: range.start === undefined ? first + edges : ipToBigInt(range.start),
    last: range.end === undefined ? last - edges : ipToBigInt(range.end),
  }
}

/** The part of its subnet that a range is, when that part is a subnet too: then the engine itself can choose from it. */
function cidrOfRange(range: Range): Cidr | undefined {
  if (range.start === undefined && range.end === undefined) return range.subnet
  const { first, last } = endsOf(range)
  const family = familyOf(range.subnet)
  for (let length = splitPrefix(range.subnet).length; length <= (family === 4 ? 32 : 128); length++) {
    const cidr = parseCidr(`${ipFromBigInt(family, first)}/${length}`)
    const whole = cidrRange(cidr)
    if (whole.first === first && whole.last === last) return cidr
  }
  return undefined
}

/** The engine's range for a family: undefined when addresses have to be chosen here, by {@link chooseAddress}. */
export function poolRange(ranges: readonly Range[], family: Family): Cidr | undefined {
  const own = ranges.filter((range) => familyOf(range.subnet) === family)
  return own.length === 1 ? cidrOfRange(own[0] as Range) : undefined
}

/** How many addresses are looked at before the ranges count as full. */
const MOST_TRIES = 1 << 20

/**
 * The next free address after `last`, round robin through the ranges of a family, so that an address that was just given back
 * rests a while. Undefined when all are taken.
 */
export function chooseAddress(ranges: readonly Range[], family: Family, isTaken: (ip: Ip) => boolean, last?: Ip): Ip | undefined {
  const own = ranges.filter((range) => familyOf(range.subnet) === family).map(endsOf)
  const after = last === undefined ? undefined : ipToBigInt(last)
  const at = after === undefined ? -1 : own.findIndex(({ first, last: end }) => after >= first && after <= end)
  let tries = 0
  // the range of the last address from behind it, the other ranges, and that range again from its beginning
  for (let n = 0; n <= own.length; n++) {
    const range = own[(Math.max(at, 0) + n) % own.length]
    if (range === undefined) return undefined
    const from = n === 0 && at >= 0 ? (after as bigint) + 1n : range.first
    for (let ip = from; ip <= range.last; ip++) {
      if (++tries > MOST_TRIES) return undefined
      const candidate = ipFromBigInt(family, ip)
      if (!isTaken(candidate)) return candidate
    }
  }
  return undefined
}

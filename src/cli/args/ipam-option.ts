/** `--subnet`, `--ip-range`, `--gateway` and `--aux-address`, which come as separate lists, joined into address pools. */
import { cidrContains, cidrOverlaps, tryParseCidr, tryParseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'

export interface Pool {
  Subnet?: string
  IPRange?: string
  Gateway?: string
  AuxiliaryAddresses?: Record<string, string>
}

export interface PoolFlags {
  readonly subnets: readonly string[]
  readonly ranges: readonly string[]
  readonly gateways: readonly string[]
  readonly aux: Readonly<Record<string, string>>
  /** The engine finds out which subnet a parent interface is in: range and gateway need none given. */
  readonly learnsSubnet?: boolean
}

const bad = (message: string): NetError => new NetError('invalid', message)

/** Texts of Docker's client; whether a subnet is well-formed is left to the engine. */
export function buildPools(flags: PoolFlags): Pool[] {
  const { subnets, ranges, gateways, aux } = flags
  if (flags.learnsSubnet && subnets.length === 0 && ranges.length <= 1 && gateways.length <= 1 && ranges.length + gateways.length > 0)
    return [{ ...(ranges[0] ? { IPRange: ranges[0] } : {}), ...(gateways[0] ? { Gateway: gateways[0] } : {}), AuxiliaryAddresses: aux }]
  if (subnets.length < ranges.length || subnets.length < gateways.length)
    throw bad('every ip-range or gateway must have a corresponding subnet')
  const pools: Pool[] = []
  for (const subnet of subnets) {
    if (pools.some((pool) => overlaps(pool.Subnet ?? '', subnet))) throw bad('multiple overlapping subnet configuration is not supported')
    pools.push({ Subnet: subnet })
  }
  for (const range of ranges) {
    const pool = poolOf(pools, range)
    if (pool === undefined) throw bad(`no matching subnet for range ${range}`)
    if (pool.IPRange !== undefined)
      throw bad(`cannot configure multiple ranges (${range}, ${pool.IPRange}) on the same subnet (${pool.Subnet})`)
    pool.IPRange = range
  }
  for (const gateway of gateways) {
    const pool = poolOf(pools, gateway)
    if (pool === undefined) throw bad(`no matching subnet for gateway ${gateway}`)
    if (pool.Gateway !== undefined)
      throw bad(`cannot configure multiple gateways (${gateway}, ${pool.Gateway}) for the same subnet (${pool.Subnet})`)
    pool.Gateway = gateway
  }
  for (const [name, address] of Object.entries(aux)) {
    const pool = poolOf(pools, address)
    if (pool === undefined) throw bad(`no matching subnet for aux-address ${address}`)
    pool.AuxiliaryAddresses = { ...pool.AuxiliaryAddresses, [name]: address }
  }
  return pools
}

function overlaps(a: string, b: string): boolean {
  const [first, second] = [tryParseCidr(a), tryParseCidr(b)]
  return first !== undefined && second !== undefined && cidrOverlaps(first, second)
}

function poolOf(pools: readonly Pool[], addressOrRange: string): Pool | undefined {
  const ip = tryParseIp(addressOrRange.replace(/\/.*$/, ''))
  if (ip === undefined) return undefined
  return pools.find((pool) => {
    const cidr = tryParseCidr(pool.Subnet ?? '')
    if (cidr === undefined) throw bad(`invalid subnet ${pool.Subnet}: invalid CIDR address: ${pool.Subnet}`)
    return cidrContains(cidr, ip)
  })
}

/** Which subnets, identifiers and addresses are taken next (pure). Whoever uses the answer still has to win the transaction. */
import { createHash } from 'node:crypto'
import {
  bitsOf,
  type Cidr,
  cidrContains,
  cidrOf,
  cidrOverlaps,
  cidrRange,
  type Family,
  familyOf,
  type Ip,
  ipFromBigInt,
  ipFromBytes,
  ipToBigInt,
  ipToBytes,
  type Mac,
  macFromBytes,
  parseCidr,
  parseIp,
  splitPrefix,
} from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { IpamPool, IpamPoolRequest } from '../model/network.ts'

/** Docker's GlobalDefault pools: 10.0.0.0/24, 10.0.1.0/24, … */
const POOL4 = { base: '10.0.0.0/8' as Cidr, size: 24 }
const FIRST_VNI = 256
const LAST_VNI = 2 ** 24 - 1
/** `-o com.docker.network.driver.overlay.vxlanid_list=300,301` */
export const VXLANID_LIST = 'com.docker.network.driver.overlay.vxlanid_list'

export interface PoolsAsked {
  readonly name: string
  readonly enableIpv4: boolean
  readonly enableIpv6: boolean
  readonly skipGateway: { readonly ipv4: boolean; readonly ipv6: boolean }
  readonly requests: readonly IpamPoolRequest[]
}

export interface PoolsTaken {
  /** Subnets of the cluster's networks and whose they are. */
  readonly subnets: readonly { readonly subnet: Cidr; readonly network: string }[]
  /** What members route to: free to be asked for, never chosen. */
  readonly routes: readonly Cidr[]
  /** Stays the cluster's: its hash makes the IPv6 range. */
  readonly clusterId: string
}

/**
 * Subnets for a network, gateway and auxiliary addresses included. Each IPv4 subnet has an IPv6 one beside it when the network has both:
 * they are on one link, where containers have addresses of both. Throws `denied` on overlap with Docker's text, `invalid` when nothing is left.
 */
export function choosePools(asked: PoolsAsked, taken: PoolsTaken): IpamPool[] {
  const pools: IpamPool[] = []
  const used = [...taken.subnets]
  for (const family of [4, 6] as const) {
    if (family === 4 ? !asked.enableIpv4 : !asked.enableIpv6) continue
    const wanted = asked.requests.filter((r) => r.subnet && r.subnet.includes(':') === (family === 6))
    const least = family === 6 ? Math.max(pools.length, 1) : 1
    const unasked = Array.from({ length: Math.max(least - wanted.length, 0) }, (): IpamPoolRequest => ({}))
    for (const request of [...wanted, ...unasked]) {
      const subnet = chooseSubnet(family, request, used, taken)
      used.push({ subnet, network: asked.name })
      pools.push(fillPool(subnet, request, family === 4 ? asked.skipGateway.ipv4 : asked.skipGateway.ipv6))
    }
  }
  return pools
}

function chooseSubnet(family: Family, request: IpamPoolRequest, used: PoolsTaken['subnets'], taken: PoolsTaken): Cidr {
  const given = request.subnet ? parseCidr(request.subnet) : undefined
  const anyOfSize = given !== undefined && (splitPrefix(given).ip === '0.0.0.0' || splitPrefix(given).ip === '::')
  if (given !== undefined && !anyOfSize) {
    const other = used.find(({ subnet }) => cidrOverlaps(subnet, given))
    if (other === undefined) return given
    throw new NetError(
      'denied',
      `invalid pool request: Pool overlaps with other one on this address space: ${given} overlaps ${other.subnet} of network "${other.network}"`,
      { subject: given },
    )
  }
  const base = family === 4 ? POOL4 : { base: clusterUla(taken.clusterId), size: 64 }
  const size = given === undefined ? base.size : splitPrefix(given).length
  const walls = [...used.map(({ subnet }) => subnet), ...taken.routes].filter(
    (cidr) => familyOf(cidr) === family && splitPrefix(cidr).length > 0,
  )
  const found = lowestFree(base.base, size, walls)
  if (found === undefined)
    throw new NetError(
      'invalid',
      `all predefined address pools have been fully subnetted: ${base.base} by /${size}; give a subnet, or remove unused networks`,
    )
  return found
}

/** The cluster's own IPv6 range (RFC 4193: fd00::/8 and 40 bits of chance). */
export function clusterUla(clusterId: string): Cidr {
  const bytes = new Uint8Array(16)
  bytes[0] = 0xfd
  bytes.set(createHash('sha256').update(clusterId).digest().subarray(0, 5), 1)
  return cidrOf(ipFromBytes(bytes), 48)
}

export function lowestFree(base: Cidr, size: number, walls: readonly Cidr[]): Cidr | undefined {
  const { family, first, last } = cidrRange(base)
  if (size < splitPrefix(base).length) return undefined
  const step = 1n << BigInt(bitsOf(family) - size)
  const ranges = walls.map(cidrRange).toSorted((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))
  let at = first
  for (const wall of ranges) {
    if (wall.last < at) continue
    if (wall.first > at + step - 1n) break
    at = (wall.last / step + 1n) * step // first aligned start behind what is in the way
  }
  return at + step - 1n > last ? undefined : (`${ipFromBigInt(family, at)}/${size}` as Cidr)
}

function fillPool(subnet: Cidr, request: IpamPoolRequest, withoutGateway: boolean): IpamPool {
  const ipRange = request.ipRange ? parseCidr(request.ipRange) : undefined
  const aux: Record<string, Ip> = {}
  const gateway = request.gateway ? parseIp(request.gateway) : undefined
  const taken = new Set<Ip>(gateway === undefined ? [] : [gateway])
  for (const [name, text] of Object.entries(request.aux ?? {})) {
    const ip = parseIp(text)
    if (taken.has(ip)) throw new NetError('internal', `failed to allocate secondary ip address (${name}:${ip}): Address already in use`)
    taken.add(ip)
    aux[name] = ip
  }
  const pool = { subnet, ...(ipRange ? { ipRange } : {}), aux }
  if (gateway !== undefined) return { ...pool, gateway }
  if (withoutGateway) return pool
  const first = lowestAddress(pool, (ip) => taken.has(ip))
  if (first === undefined) throw new NetError('invalid', `subnet ${subnet} has no address left for a gateway`, { subject: subnet })
  return { ...pool, gateway: first }
}

/** The `skip`-th free address of the pool's range, lowest first; undefined when there are not so many. */
export function lowestAddress(pool: Pick<IpamPool, 'subnet' | 'ipRange'>, isTaken: (ip: Ip) => boolean, skip = 0): Ip | undefined {
  const whole = cidrRange(pool.subnet)
  const range = cidrRange(pool.ipRange ?? pool.subnet)
  let left = skip
  for (let n = range.first; n <= range.last; n++) {
    if (isReserved(whole, n)) continue
    const ip = ipFromBigInt(whole.family, n)
    if (isTaken(ip)) continue
    if (left-- === 0) return ip
  }
  return undefined
}

/** Network and broadcast address (IPv4), router anycast (IPv6, RFC 4291 2.6.1): nobody's. */
export function isReservedAddress(subnet: Cidr, ip: Ip): boolean {
  return isReserved(cidrRange(subnet), ipToBigInt(ip))
}

function isReserved({ family, first, last }: ReturnType<typeof cidrRange>, n: bigint): boolean {
  if (last - first < 2n) return false // point to point (RFC 3021, RFC 6164)
  return n === first || (family === 4 && n === last)
}

/** The pool that holds an address, by index; -1 when none does. */
export function poolWith(pools: readonly IpamPool[], ip: Ip): number {
  return pools.findIndex((pool) => cidrContains(pool.subnet, ip))
}

/**
 * One identifier for each pool: from `vxlanid_list` as far as it goes, then the lowest free ones from 256 up. An IPv6 pool shares that of
 * the IPv4 pool with the same number among its family. Throws `invalid`, or `conflict` when a listed one is taken.
 */
export function chooseVnis(
  pools: readonly IpamPool[],
  options: Readonly<Record<string, string>>,
  taken: ReadonlyMap<number, string>,
): number[] {
  const listed = parseVniList(options[VXLANID_LIST])
  const mine = new Set<number>()
  let next = FIRST_VNI
  const take = (): number => {
    const asked = listed.shift()
    if (asked !== undefined) {
      const owner = taken.get(asked)
      if (owner !== undefined) throw new NetError('conflict', `VXLAN id ${asked} is already used by network "${owner}"`)
      mine.add(asked)
      return asked
    }
    while (taken.has(next) || mine.has(next)) next++
    if (next > LAST_VNI) throw new NetError('unavailable', 'no VXLAN id is left: all of 256 to 16777215 are used')
    mine.add(next)
    return next
  }
  const segments: number[] = []
  const seen: Record<Family, number> = { 4: 0, 6: 0 }
  return pools.map((pool) => {
    const at = seen[familyOf(pool.subnet)]++
    segments[at] ??= take()
    return segments[at]
  })
}

function parseVniList(text: string | undefined): number[] {
  if (text === undefined || text === '') return []
  return text.split(',').map((part) => {
    const vni = Number(part.trim())
    if (!/^\d+$/.test(part.trim()) || vni < 1 || vni > LAST_VNI)
      throw new NetError('invalid', `invalid vxlan id value "${part}" passed: expected a number from 1 to ${LAST_VNI}`)
    return vni
  })
}

/** 02:42 and the last four bytes of the address: an address has one MAC wherever it is. */
export function macOf(ip: Ip): Mac {
  return macFromBytes(Uint8Array.from([0x02, 0x42, ...ipToBytes(ip).subarray(-4)]))
}

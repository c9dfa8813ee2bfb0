/**
 * The allocator of subnets and addresses of one host. Pure and in memory: at start the controller replays the stored networks
 * (restorePool) and endpoints (requestAddress), and the result is what it was before.
 *
 * All addresses in use live in one interval set per family, whichever pool they belong to, and pools are views of it. So two
 * networks over the same subnet (macvlan with ip-ranges) can never be given the same address.
 */
import {
  bitsOf,
  type Cidr,
  cidrContains,
  cidrRange,
  type Family,
  familyOf,
  type Ip,
  ipFromBigInt,
  ipToBigInt,
  splitPrefix,
  tryParseCidr,
  trySplitPrefix,
} from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { IntervalSet } from './interval-set.ts'
import { type AddressPool, checkPool, DEFAULT_POOLS, FALLBACK_POOLS, sortPools, ulaPool } from './pools.ts'

export interface AddressSpaceOptions {
  /** `default-address-pools`; a family without one keeps the defaults (IPv6: the host's ULA /48). */
  readonly pools?: readonly AddressPool[]
  /** Used after `pools`; by default /24s of 10.112.0.0/12, unless IPv4 pools are configured. */
  readonly fallback?: readonly AddressPool[]
  /** Anything that stays this host's; its hash makes the ULA range. */
  readonly hostId: string
}

export interface PoolRequest {
  readonly family: Family
  /** Absent: any. `0.0.0.0/24`, `::/120`: any of that size. */
  readonly subnet?: string
  /** Dynamic addresses come from here only. */
  readonly ipRange?: string
  /** The driver can live with networks that overlap (macvlan, ipvlan); takes effect together with an ip-range, as in Docker. */
  readonly shared?: boolean
  /** What the host uses: never chosen automatically, but free to be asked for. */
  readonly reserved?: readonly Cidr[]
  /** Not chosen automatically while something else is free. */
  readonly avoid?: readonly Cidr[]
  /** For error messages: `network "web"`. */
  readonly holder?: string
  /** Hand out addresses in turn instead of lowest first (`com.docker.network.ipam.serial`). */
  readonly serial?: boolean
}

export interface GrantedPool {
  readonly key: string
  readonly subnet: Cidr
  readonly ipRange?: Cidr
}

export interface RestoredPool {
  readonly subnet: Cidr
  readonly ipRange?: Cidr | undefined
  readonly holder?: string
  readonly shared?: boolean
  readonly serial?: boolean
  readonly gateway?: Ip | undefined
  readonly aux?: readonly Ip[]
}

export interface AddressRequest {
  /** Absent: the lowest free one of the ip-range. */
  readonly ip?: Ip
  /** For error messages: `container "c1"`. */
  readonly holder: string
  /** `name (id)` for the message when nothing is free. */
  readonly network?: string
}

export interface PoolUsage {
  /** Addresses of the subnet that cannot be given out any more, network and broadcast address included. */
  readonly ipsInUse: bigint
  /** Free addresses of the ip-range. */
  readonly dynamicAvailable: bigint
}

interface Pool {
  readonly key: string
  readonly subnet: Cidr
  readonly family: Family
  readonly first: bigint
  readonly last: bigint
  readonly ipRange: Cidr | undefined
  readonly rangeFirst: bigint
  readonly rangeLast: bigint
  readonly shared: boolean
  readonly holder: string
  readonly serial: boolean
  /** Addresses that this pool's requests took. */
  readonly taken: Map<bigint, string>
  /** Static addresses of stopped containers and who declared them. */
  readonly statics: Map<bigint, Set<string>>
  /** Last address given out, for serial order. */
  cursor: bigint
}

interface FamilyState {
  /** Every address in use. */
  readonly used: IntervalSet
  /** Every declared static address, in use or not. */
  readonly statics: IntervalSet
  /** Every allocated subnet. */
  readonly subnets: IntervalSet
  readonly pools: readonly AddressPool[]
}

const SPACE = 'LocalDefault'
/** Docker's counters are 64 bits and stick at the top. */
const COUNTER_MAX = 2n ** 64n - 1n
const HOLDERS_NAMED = 8

export class AddressSpace {
  readonly #families: Readonly<Record<Family, FamilyState>>
  readonly #pools = new Map<string, Pool>()
  /** Without any, no two pools overlap, and releasing one needs no look at the others. */
  #sharedPools = 0

  /** Throws `invalid` for a pool that no subnet of its size fits in. */
  constructor(options: AddressSpaceOptions) {
    const configured = options.pools ?? []
    const own4 = configured.some((p) => familyOf(p.base) === 4)
    const own6 = configured.some((p) => familyOf(p.base) === 6)
    const first = [...configured, ...(own4 ? [] : DEFAULT_POOLS), ...(own6 ? [] : [ulaPool(options.hostId)])]
    const after = options.fallback ?? (own4 ? [] : FALLBACK_POOLS)
    for (const pool of [...first, ...after]) checkPool(pool)
    const pools = [...sortPools(first), ...sortPools(after)]
    const state = (family: Family): FamilyState => ({
      used: new IntervalSet(),
      statics: new IntervalSet(),
      subnets: new IntervalSet(),
      pools: pools.filter((p) => familyOf(p.base) === family),
    })
    this.#families = { 4: state(4), 6: state(6) }
  }

  /**
   * Takes a subnet: the one asked for, or the lowest one of the pools that overlaps nothing allocated or reserved.
   * Throws `denied` on overlap, `invalid` when the text is wrong or the pools are used up.
   */
  requestPool(request: PoolRequest): GrantedPool {
    const wanted = parseRequest(request)
    const subnet = wanted.subnet ?? this.#chooseSubnet(request, wanted.size)
    if (wanted.subnet !== undefined && !(request.shared && wanted.ipRange !== undefined)) this.#refuseOverlap(subnet)
    const pool = this.#addPool({ ...request, subnet, ipRange: wanted.ipRange })
    return { key: pool.key, subnet, ...(wanted.ipRange === undefined ? {} : { ipRange: wanted.ipRange }) }
  }

  /** Takes up a stored network's pool again, whatever else is configured by now, with its gateway and auxiliary addresses. */
  restorePool(stored: RestoredPool): string {
    const pool = this.#addPool({ ...stored, ipRange: stored.ipRange })
    const take = (ip: Ip, holder: string) => {
      const n = ipToBigInt(ip)
      if (cidrContains(pool.subnet, ip) && !this.#families[pool.family].used.has(n)) this.#take(pool, n, holder)
    }
    if (stored.gateway !== undefined) take(stored.gateway, `gateway of ${pool.holder}`)
    for (const ip of stored.aux ?? []) take(ip, `auxiliary address of ${pool.holder}`)
    return pool.key
  }

  /** Gives back a subnet and every address and reservation in it. Idempotent. */
  releasePool(key: string): void {
    const pool = this.#pools.get(key)
    if (pool === undefined) return
    this.#pools.delete(key)
    const state = this.#families[pool.family]
    for (const n of pool.taken.keys()) state.used.remove(n)
    for (const n of pool.statics.keys()) this.#dropStatic(pool, n)
    state.subnets.remove(pool.first, pool.last)
    // what lies over the same addresses keeps them
    if (pool.shared) this.#sharedPools--
    if (pool.shared || this.#sharedPools > 0) for (const other of this.#overlapping(pool.subnet)) state.subnets.add(other.first, other.last)
  }

  /**
   * Takes an address. Asked for by name it may lie outside the ip-range and may be one that a stopped container declared.
   * Throws `denied` (`Address already in use`), `invalid` (outside the subnet) or `unavailable` (nothing free).
   */
  requestAddress(key: string, request: AddressRequest): Ip {
    const pool = this.#pool(key)
    if (request.ip !== undefined) return this.#takeGiven(pool, request.ip, request.holder)
    const n = this.#free(pool, true) ?? this.#free(pool, false)
    if (n === undefined) throw this.#exhausted(pool, request.network)
    pool.cursor = n
    this.#take(pool, n, request.holder)
    return ipFromBigInt(pool.family, n)
  }

  /** Gives back an address of this pool. Idempotent. */
  releaseAddress(key: string, ip: Ip): void {
    const pool = this.#pools.get(key)
    if (pool === undefined) return
    const n = ipToBigInt(ip)
    if (pool.taken.delete(n)) this.#families[pool.family].used.remove(n)
  }

  /** The gateway: the given one, or the first free of the ip-range. Throws `failed to allocate gateway (X): …`. */
  requestGateway(key: string, ip: Ip | undefined, holder?: string): Ip {
    const pool = this.#pool(key)
    const name = holder ?? `gateway of ${pool.holder}`
    if (ip === undefined) return this.requestAddress(key, { holder: name })
    try {
      return this.#takeGiven(pool, ip, name)
    } catch (cause) {
      if (!(cause instanceof NetError)) throw cause
      throw new NetError(cause.code, `failed to allocate gateway (${ip}): ${cause.message}`, cause.detail, cause)
    }
  }

  /**
   * Declares an address as somebody's static one while nobody uses it: automatic choice leaves it alone as long as anything else is
   * free. It does not keep others from asking for it by name (as in Docker, the first to start has it). Throws `invalid` outside the subnet.
   */
  reserve(key: string, ip: Ip, holder: string): void {
    const pool = this.#pool(key)
    if (!cidrContains(pool.subnet, ip)) throw outOfRange(ip)
    const n = ipToBigInt(ip)
    const holders = pool.statics.get(n) ?? new Set()
    pool.statics.set(n, holders.add(holder))
    this.#families[pool.family].statics.add(n)
  }

  /** Takes a declaration back. Idempotent. */
  unreserve(key: string, ip: Ip, holder: string): void {
    const pool = this.#pools.get(key)
    const n = ipToBigInt(ip)
    const holders = pool?.statics.get(n)
    if (pool === undefined || holders === undefined) return
    holders.delete(holder)
    if (holders.size === 0) this.#dropStatic(pool, n)
  }

  /** Counters as Docker's inspect shows them: saturating, addresses of overlapping networks included. */
  usage(key: string): PoolUsage {
    const pool = this.#pool(key)
    const { used } = this.#families[pool.family]
    const excluded = excludedOf(pool).filter((n) => !used.has(n))
    const inRange = excluded.filter((n) => n >= pool.rangeFirst && n <= pool.rangeLast)
    const ipsInUse = used.count(pool.first, pool.last) + BigInt(excluded.length)
    const takenOfRange = used.count(pool.rangeFirst, pool.rangeLast) + BigInt(inRange.length)
    return { ipsInUse: saturate(ipsInUse), dynamicAvailable: saturate(pool.rangeLast - pool.rangeFirst + 1n - takenOfRange) }
  }

  /** Who holds which address of the subnet, lowest first, from whichever pool. */
  holders(key: string): { readonly ip: Ip; readonly holder: string }[] {
    const pool = this.#pool(key)
    const found = this.#overlapping(pool.subnet).flatMap((other) => [...other.taken].filter(([n]) => n >= pool.first && n <= pool.last))
    found.sort(([a], [b]) => (a < b ? -1 : 1))
    return found.map(([n, holder]) => ({ ip: ipFromBigInt(pool.family, n), holder }))
  }

  #pool(key: string): Pool {
    const pool = this.#pools.get(key)
    if (pool === undefined) throw new NetError('internal', `address space does not contain pool ${key}`, { subject: key })
    return pool
  }

  #addPool(from: Omit<PoolRequest, 'family' | 'subnet' | 'ipRange'> & { readonly subnet: Cidr; readonly ipRange: Cidr | undefined }): Pool {
    const { family, first, last } = cidrRange(from.subnet)
    const range = cidrRange(from.ipRange ?? from.subnet)
    const name = `${SPACE}/${from.subnet}${from.ipRange === undefined ? '' : `/${from.ipRange}`}`
    let key = name
    for (let n = 2; this.#pools.has(key); n++) key = `${name}#${n}`
    const pool: Pool = {
      key,
      subnet: from.subnet,
      family,
      first,
      last,
      ipRange: from.ipRange,
      rangeFirst: range.first,
      rangeLast: range.last,
      shared: from.shared ?? false,
      holder: from.holder ?? `pool ${from.subnet}`,
      serial: from.serial ?? false,
      taken: new Map(),
      statics: new Map(),
      cursor: range.first - 1n,
    }
    this.#pools.set(key, pool)
    if (pool.shared) this.#sharedPools++
    this.#families[family].subnets.add(first, last)
    return pool
  }

  #chooseSubnet(request: PoolRequest, size: number | undefined): Cidr {
    const { avoid = [], reserved = [] } = request
    const found =
      this.#lowestSubnet(request.family, size, [...reserved, ...avoid]) ??
      (avoid.length > 0 ? this.#lowestSubnet(request.family, size, reserved) : undefined)
    if (found === undefined)
      throw new NetError('invalid', `all predefined address pools have been fully subnetted${this.#poolAdvice(request.family)}`)
    return found
  }

  #lowestSubnet(family: Family, size: number | undefined, blocked: readonly Cidr[]): Cidr | undefined {
    const { subnets, pools } = this.#families[family]
    const walls = new IntervalSet()
    for (const cidr of blocked) {
      const range = cidrRange(cidr)
      if (range.family === family) walls.add(range.first, range.last)
    }
    for (const { base, size: usual } of pools) {
      const length = size ?? usual
      if (length < splitPrefix(base).length) continue
      const range = cidrRange(base)
      const step = 1n << BigInt(bitsOf(family) - length)
      for (let at = range.first; at + step - 1n <= range.last; ) {
        const hit = subnets.overlapping(at, at + step - 1n) ?? walls.overlapping(at, at + step - 1n)
        if (hit === undefined) return `${ipFromBigInt(family, at)}/${length}` as Cidr
        at = (hit.last / step + 1n) * step // first aligned start behind what is in the way
      }
    }
    return undefined
  }

  #poolAdvice(family: Family): string {
    const pools = this.#families[family].pools.map((p) => `${p.base} by /${p.size}`).join(', ')
    return `: ${pools}; give a subnet, remove unused networks, or configure default-address-pools`
  }

  #refuseOverlap(subnet: Cidr): void {
    const { family, first, last } = cidrRange(subnet)
    if (this.#families[family].subnets.overlapping(first, last) === undefined) return
    const others = this.#overlapping(subnet).map((pool) => `${pool.subnet} of ${pool.holder}`)
    const which = others.length === 0 ? '' : `: ${subnet} overlaps ${others.slice(0, HOLDERS_NAMED).join(', ')}`
    throw new NetError('denied', `invalid pool request: Pool overlaps with other one on this address space${which}`, { subject: subnet })
  }

  #overlapping(subnet: Cidr): Pool[] {
    const { family, first, last } = cidrRange(subnet)
    return [...this.#pools.values()].filter((pool) => pool.family === family && pool.first <= last && pool.last >= first)
  }

  #takeGiven(pool: Pool, ip: Ip, holder: string): Ip {
    if (!cidrContains(pool.subnet, ip)) throw outOfRange(ip)
    const n = ipToBigInt(ip)
    if (this.#families[pool.family].used.has(n)) {
      const owner = this.#overlapping(pool.subnet).find((other) => other.taken.has(n))
      throw inUse(ip, owner?.taken.get(n) ?? 'another network')
    }
    if (excludedOf(pool).includes(n))
      throw inUse(ip, `the subnet itself: it is the ${n === pool.first ? 'network' : 'broadcast'} address of ${pool.subnet}`)
    this.#take(pool, n, holder)
    return ip
  }

  #take(pool: Pool, n: bigint, holder: string): void {
    pool.taken.set(n, holder)
    this.#families[pool.family].used.add(n)
  }

  #dropStatic(pool: Pool, n: bigint): void {
    pool.statics.delete(n)
    if (!this.#overlapping(pool.subnet).some((other) => other.statics.has(n))) this.#families[pool.family].statics.remove(n)
  }

  /** The address to give out next, or undefined when the range is full. */
  #free(pool: Pool, sparingStatics: boolean): bigint | undefined {
    const { rangeFirst, rangeLast } = pool
    if (!pool.serial || pool.cursor >= rangeLast) return this.#freeFrom(pool, rangeFirst, sparingStatics)
    return this.#freeFrom(pool, pool.cursor + 1n, sparingStatics) ?? this.#freeFrom(pool, rangeFirst, sparingStatics)
  }

  #freeFrom(pool: Pool, from: bigint, sparingStatics: boolean): bigint | undefined {
    const { used, statics } = this.#families[pool.family]
    const excluded = excludedOf(pool)
    for (let n = from; n <= pool.rangeLast; ) {
      let next = used.nextFree(n)
      if (sparingStatics) next = statics.nextFree(next)
      if (excluded.includes(next)) next++
      if (next === n) return n
      n = next
    }
    return undefined
  }

  #exhausted(pool: Pool, network: string | undefined): NetError {
    const all = this.holders(pool.key).filter(({ ip }) => ipToBigInt(ip) >= pool.rangeFirst && ipToBigInt(ip) <= pool.rangeLast)
    const named = all.slice(0, HOLDERS_NAMED).map(({ ip, holder }) => `${ip} ${holder}`)
    const more = all.length > HOLDERS_NAMED ? ` and ${all.length - HOLDERS_NAMED} more` : ''
    const who = named.length === 0 ? '' : ` (${pool.ipRange ?? pool.subnet} is held by ${named.join(', ')}${more})`
    const where = network ?? `${pool.holder}`
    return new NetError('unavailable', `no available IPv${pool.family} addresses on this network's address pools: ${where}${who}`, {
      subject: pool.subnet,
    })
  }
}

/** Network and broadcast address; in IPv6 the subnet-router anycast address only (RFC 4291 2.6.1), in /31 and /32 none (RFC 3021). */
function excludedOf(pool: Pool): readonly bigint[] {
  if (pool.family === 6) return [pool.first]
  return pool.last - pool.first < 2n ? [] : [pool.first, pool.last]
}

function parseRequest({ family, subnet, ipRange }: PoolRequest): { subnet?: Cidr; ipRange?: Cidr; size?: number } {
  const fail = (what: string) =>
    new NetError(
      'invalid',
      `failed to parse pool request for address space "${SPACE}" pool "${subnet ?? ''}" subpool "${ipRange ?? ''}": ${what}`,
    )
  if (subnet === undefined || subnet === '') {
    if (ipRange !== undefined && ipRange !== '') throw fail('invalid address subpool')
    return {}
  }
  const split = trySplitPrefix(subnet)
  const cidr = tryParseCidr(subnet)
  if (split === undefined || cidr === undefined || familyOf(cidr) !== family) throw fail('invalid address pool')
  if (split.ip === '0.0.0.0' || split.ip === '::') {
    if (ipRange !== undefined && ipRange !== '') throw fail('invalid address subpool')
    return { size: split.length }
  }
  if (ipRange === undefined || ipRange === '') return { subnet: cidr }
  const range = tryParseCidr(ipRange)
  if (range === undefined || familyOf(range) !== family) throw fail('invalid address subpool')
  const { ip, length } = splitPrefix(range)
  if (length < splitPrefix(cidr).length || !cidrContains(cidr, ip)) throw fail('invalid address subpool')
  return { subnet: cidr, ipRange: range }
}

function inUse(ip: Ip, holder: string): NetError {
  return new NetError('denied', `Address already in use: ${ip} belongs to ${holder}`, { subject: ip })
}

function outOfRange(ip: Ip): NetError {
  return new NetError('invalid', `requested address is out of range: ${ip}`, { subject: ip })
}

const saturate = (n: bigint) => (n > COUNTER_MAX ? COUNTER_MAX : n)

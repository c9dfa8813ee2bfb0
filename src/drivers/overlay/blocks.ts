/**
 * Blocks of a routed overlay network (pure): its subnets are cut into blocks, and a host gives its containers addresses of blocks that it has
 * for itself, so that the others need one route for all of them. Blocks are a habit, not a property: nobody claims them, whoever has most
 * of a block's members is routed the block, and members elsewhere have routes of their own. So any placement is reached.
 */
import { type Cidr, cidrContains, cidrOf, cidrRange, familyOf, type Ip, ipFromBigInt, splitPrefix } from '../../base/address.ts'

export interface BlockMember {
  readonly ipv4: Ip | ''
  readonly hostId: string
}

/** Prefix length of a subnet's blocks: 16 blocks of 16 in a /24, 256 of 256 in a /16. Below /28 every address is one. */
export function blockLength(subnet: Cidr): number {
  const { length } = splitPrefix(subnet)
  return length <= 16 ? 24 : length <= 20 ? 26 : length <= 27 ? 28 : 32
}

/** The block of an IPv4 address; undefined when it is in none of the subnets. */
export function blockOf(subnets: readonly Cidr[], ip: Ip): Cidr | undefined {
  const subnet = subnets.find((candidate) => familyOf(candidate) === 4 && cidrContains(candidate, ip))
  return subnet && cidrOf(ip, blockLength(subnet))
}

/** Who is routed each block that has members: the host with most of them, of several the one with the lowest id. */
export function blockOwners(subnets: readonly Cidr[], members: readonly BlockMember[]): Map<Cidr, string> {
  const counts = new Map<Cidr, Map<string, number>>()
  for (const { ipv4, hostId } of members) {
    const block = ipv4 === '' ? undefined : blockOf(subnets, ipv4)
    if (block === undefined) continue
    const ofBlock = counts.get(block) ?? new Map<string, number>()
    counts.set(block, ofBlock.set(hostId, (ofBlock.get(hostId) ?? 0) + 1))
  }
  const owners = new Map<Cidr, string>()
  for (const [block, ofBlock] of counts) {
    const [first] = [...ofBlock].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    if (first !== undefined) owners.set(block, first[0])
  }
  return owners
}

/** The parts of a range (of one subnet) to take an address from, best first: the host's own blocks, then those without members. */
export function* blocksToTry(subnet: Cidr, range: Cidr, hostId: string, owners: ReadonlyMap<Cidr, string>): Generator<Cidr> {
  const length = blockLength(subnet)
  const within = (block: Cidr): Cidr | undefined =>
    cidrContains(block, splitPrefix(range).ip) ? smaller(block, range) : cidrContains(range, splitPrefix(block).ip) ? block : undefined
  const own = [...owners].flatMap(([block, owner]) => (owner === hostId ? (within(block) ?? []) : []))
  yield* own.sort((a, b) => (cidrRange(a).first < cidrRange(b).first ? -1 : 1))
  const { first, last } = cidrRange(range)
  const step = 1n << BigInt(32 - length)
  for (let at = (first / step) * step; at <= last; at += step) {
    const block = `${ipFromBigInt(4, at)}/${length}` as Cidr
    if (!owners.has(block)) yield within(block) ?? block
  }
}

const smaller = (a: Cidr, b: Cidr): Cidr => (splitPrefix(a).length >= splitPrefix(b).length ? a : b)

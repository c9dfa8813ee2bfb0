/**
 * The routed mode of overlay networks (`-o mode=host-gw`, pure): no encapsulation. Each host has a route to every block of addresses by the
 * host that has it, and to its own by a link into the network's namespace; that namespace answers ARP for containers elsewhere. Containers
 * outside of their host's blocks have routes of their own. Hosts must share a link. IPv4 only.
 */
import { type Cidr, cidrOf, familyOf, type Ip, type Mac, parseIp, splitPrefix } from '../../base/address.ts'
import type { Link, Neighbour, Route, Step } from '../../model/kernel-state.ts'
import type { Finding } from '../../plan/links.ts'
import { ALIAS_PREFIX } from '../bridge/bridge.ts'
import { blockOf, blockOwners } from './blocks.ts'
import { bridgeName, type OverlayEndpoint, type OverlayFacts, segmentIndexOf, stableMac } from './wanted.ts'

/** Marks our routes on the host (RTA_PROTOCOL; numbers above 191 belong to nobody). */
export const ROUTE_PROTOCOL = '202'
/** Ends of the link between the host and the namespace; never seen outside of the two. */
const HOST_END = parseIp('169.254.77.1')
const INNER_END = parseIp('169.254.77.2')
export const INNER_LINK = 'up0'

export const hostLinkName = (networkId: string): string => `gw-${networkId.slice(0, 10)}`

export interface RoutedWanted {
  readonly hostLink: { readonly name: string; readonly mac: Mac; readonly innerMac: Mac; readonly mtu: number; readonly alias: string }
  /** In the host's namespace and in the network's. */
  readonly host: { readonly routes: readonly Route[]; readonly neighbours: readonly Neighbour[] }
  readonly inside: { readonly routes: readonly Route[]; readonly neighbours: readonly Neighbour[] }
  /** Bridges whose containers ask for addresses that are elsewhere. */
  readonly proxies: readonly string[]
  readonly problems: readonly string[]
}

/** `isOnLink`: the host reaches that address without a router. */
export function routedWanted(facts: OverlayFacts, endpoints: readonly OverlayEndpoint[], isOnLink: (ip: Ip) => boolean): RoutedWanted {
  const name = hostLinkName(facts.networkId)
  const mac = stableMac(`${facts.networkId} ${facts.hostId} host`)
  const innerMac = stableMac(`${facts.networkId} ${facts.hostId} inner`)
  const hostRoutes: Route[] = []
  const insideRoutes: Route[] = []
  const problems: string[] = []
  const own = new Set(endpoints.filter((e) => e.hostId === facts.hostId).map((e) => e.ipv4))
  const members = endpoints.filter((e) => e.ipv4 !== '' && (e.hostId === facts.hostId || !own.has(e.ipv4)))
  const vias = new Map<string, Ip | undefined>()
  const viaOf = ({ hostId, vteps }: OverlayEndpoint): Ip | undefined => {
    if (vias.has(hostId)) return vias.get(hostId)
    const via = vteps.find((vtep) => familyOf(vtep) === 4)
    const reached = via !== undefined && isOnLink(via) ? via : undefined
    vias.set(hostId, reached)
    if (reached === undefined)
      problems.push(`host ${hostId} (${vteps.join(', ')}) is behind a router: mode host-gw needs hosts on one link, use mode vxlan`)
    return reached
  }
  const ours = { family: 4, protocol: Number(ROUTE_PROTOCOL) } as const
  const inwards = (dst: Cidr) => hostRoutes.push({ ...ours, dst, onlink: true, gateway: INNER_END, dev: name })
  const outwards = (dst: Cidr, via: Ip) => {
    hostRoutes.push({ ...ours, dst, gateway: via })
    insideRoutes.push({ ...ours, dst, onlink: true, gateway: HOST_END, dev: INNER_LINK })
  }
  const subnets = facts.segments.flatMap((segment) => segment.subnets.map(({ subnet }) => subnet))
  const owners = blockOwners(subnets, members)
  const byHost = new Map(members.map((e) => [e.hostId, e]))
  for (const [block, owner] of [...owners].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const via = owner === facts.hostId ? undefined : viaOf(byHost.get(owner) as OverlayEndpoint)
    if (owner === facts.hostId) inwards(block)
    else if (via !== undefined) outwards(block, via)
  }
  for (const e of members.sort((a, b) => (a.id < b.id ? -1 : 1))) {
    const block = e.ipv4 === '' ? undefined : blockOf(subnets, e.ipv4)
    if (e.ipv4 === '' || (block !== undefined && owners.get(block) === e.hostId)) continue
    const dst = cidrOf(e.ipv4, 32)
    const via = e.hostId === facts.hostId ? undefined : viaOf(e)
    if (via !== undefined) outwards(dst, via)
    if (e.hostId !== facts.hostId) continue
    inwards(dst)
    // the block's route would take it out of the namespace
    insideRoutes.push({ ...ours, dst, dev: bridgeName(segmentIndexOf(facts.segments, e.ipv4)), scope: 'link' })
  }
  return {
    hostLink: { name, mac, innerMac, mtu: facts.mtu, alias: `${ALIAS_PREFIX}network:${facts.networkId}` },
    host: { routes: hostRoutes, neighbours: [{ dev: name, ip: INNER_END, mac: innerMac, state: 'permanent' }] },
    inside: { routes: insideRoutes, neighbours: [{ dev: INNER_LINK, ip: HOST_END, mac, state: 'permanent' }] },
    proxies: facts.segments.map((_, i) => bridgeName(i)),
    problems,
  }
}

/** One side's difference. `have`: routes and neighbours that are ours there. */
export function planRouted(
  want: RoutedWanted['host'],
  have: { readonly routes: readonly Route[]; readonly neighbours: readonly Neighbour[] },
): { readonly steps: Step[]; readonly findings: Finding[] } {
  const steps: Step[] = []
  const findings: Finding[] = []
  const key = (r: Route) => `${r.dst} ${r.gateway ?? ''}`
  const wanted = new Map(want.routes.map((route) => [key(route), route]))
  const dsts = new Set(want.routes.map((route) => route.dst))
  const stale = have.routes.filter((route) => !wanted.delete(key(route)))
  for (const neigh of want.neighbours) {
    if (have.neighbours.some((n) => n.ip === neigh.ip && n.mac === neigh.mac && n.state === 'permanent')) continue
    steps.push({ op: 'neigh.replace', neigh })
    findings.push({ subject: neigh.ip, wrong: `neighbour is missing on ${neigh.dev}` })
  }
  // routes of single containers before those of blocks that hold them, and nothing is taken away before something else leads there
  for (const route of [...wanted.values()].sort((a, b) => lengthOf(b) - lengthOf(a))) {
    steps.push({ op: 'route.replace', route })
    findings.push({ subject: route.dst, wrong: 'route is missing' })
  }
  for (const route of stale) {
    findings.push({ subject: route.dst, wrong: `route via ${route.gateway ?? route.dev ?? 'nothing'} is stale` })
    if (!dsts.has(route.dst)) steps.push({ op: 'route.delete', route }) // else the replacement has taken its place
  }
  return { steps, findings }
}

const lengthOf = ({ dst }: Route): number => (dst === 'default' ? 0 : splitPrefix(dst).length)

/** Whether the pair between host and namespace is as it should be. */
export function isHealthyPair(want: RoutedWanted['hostLink'], outer: Link | undefined, inner: Link | undefined): boolean {
  const fits = (link: Link | undefined, mac: Mac) => link?.kind === 'veth' && link.up && link.mac === mac && link.mtu === want.mtu
  return fits(outer, want.mac) && fits(inner, want.innerMac)
}

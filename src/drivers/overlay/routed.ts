/**
 * The routed mode of overlay networks (`-o mode=host-gw`, pure): no encapsulation. Each host has a route to every container of the others
 * by that host's address, and to its own by a link into the network's namespace; that namespace answers ARP for containers elsewhere.
 * Hosts must share a link. IPv4 only.
 */
import { familyOf, type Ip, type Mac, parseIp } from '../../base/address.ts'
import type { Link, Neighbour, Route, Step } from '../../model/kernel-state.ts'
import type { Finding } from '../../plan/links.ts'
import { ALIAS_PREFIX } from '../bridge/bridge.ts'
import { bridgeName, type OverlayEndpoint, type OverlayFacts, stableMac } from './wanted.ts'

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
  for (const e of [...endpoints].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    if (e.ipv4 === '') continue
    const route = { family: 4, dst: `${e.ipv4}/32` as Route['dst'], protocol: Number(ROUTE_PROTOCOL), onlink: true } as const
    if (e.hostId === facts.hostId) {
      hostRoutes.push({ ...route, gateway: INNER_END, dev: name })
      continue
    }
    const via = e.vteps.find((vtep) => familyOf(vtep) === 4)
    if (own.has(e.ipv4)) continue
    if (via === undefined || !isOnLink(via)) {
      problems.push(`host ${e.hostId} (${e.vteps.join(', ')}) is behind a router: mode host-gw needs hosts on one link, use mode vxlan`)
      continue
    }
    const { onlink: _onlink, ...direct } = route
    hostRoutes.push({ ...direct, gateway: via })
    insideRoutes.push({ ...route, gateway: HOST_END, dev: INNER_LINK })
  }
  return {
    hostLink: { name, mac, innerMac, mtu: facts.mtu, alias: `${ALIAS_PREFIX}network:${facts.networkId}` },
    host: { routes: hostRoutes, neighbours: [{ dev: name, ip: INNER_END, mac: innerMac, state: 'permanent' }] },
    inside: { routes: insideRoutes, neighbours: [{ dev: INNER_LINK, ip: HOST_END, mac, state: 'permanent' }] },
    proxies: facts.segments.map((_, i) => bridgeName(i)),
    problems: [...new Set(problems)],
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
  for (const route of have.routes) {
    if (wanted.delete(key(route))) continue
    findings.push({ subject: route.dst, wrong: `route via ${route.gateway ?? 'nothing'} is stale` })
    if (!dsts.has(route.dst)) steps.push({ op: 'route.delete', route }) // else the replacement takes its place
  }
  for (const neigh of want.neighbours) {
    if (have.neighbours.some((n) => n.ip === neigh.ip && n.mac === neigh.mac && n.state === 'permanent')) continue
    steps.push({ op: 'neigh.replace', neigh })
    findings.push({ subject: neigh.ip, wrong: `neighbour is missing on ${neigh.dev}` })
  }
  for (const route of wanted.values()) {
    steps.push({ op: 'route.replace', route })
    findings.push({ subject: route.dst, wrong: 'route is missing' })
  }
  return { steps, findings }
}

/** Whether the pair between host and namespace is as it should be. */
export function isHealthyPair(want: RoutedWanted['hostLink'], outer: Link | undefined, inner: Link | undefined): boolean {
  const fits = (link: Link | undefined, mac: Mac) => link?.kind === 'veth' && link.up && link.mac === mac && link.mtu === want.mtu
  return fits(outer, want.mac) && fits(inner, want.innerMac)
}

/** Overlay networks in routed mode, in the kernel: the link between host and namespace, routes on both sides. */
import { cidrContains, cidrOf, type Ip, splitPrefix } from '../../base/address.ts'
import { hasCode } from '../../base/errors.ts'
import type { OverlayKernelEntry } from '../../drivers/overlay/kernel-entries.ts'
import { hostLinkName, INNER_LINK, isHealthyPair, planRouted, ROUTE_PROTOCOL, routedWanted } from '../../drivers/overlay/routed.ts'
import { type OverlayEndpoint, type OverlayFacts, portAlias } from '../../drivers/overlay/wanted.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { Neighbour, Route, Step } from '../../model/kernel-state.ts'
import type { Finding } from '../../plan/links.ts'
import type { Netns } from '../../sys/netns.ts'
import { writeSysctl } from '../../sys/sysctl.ts'
import type { OverlayNamespace } from './namespace.ts'

/** Brings both sides in line; returns what differed, and hosts that cannot be reached this way. */
export function repairRouted(
  host: Rtnl,
  namespace: OverlayNamespace,
  facts: OverlayFacts,
  endpoints: readonly OverlayEndpoint[],
  hostNetns?: Netns,
): { readonly findings: readonly Finding[]; readonly problems: readonly string[] } {
  const want = routedWanted(facts, endpoints, (ip) => isOnLink(host, ip))
  const { name, mac, innerMac, mtu, alias } = want.hostLink
  const findings: Finding[] = []
  const outer = host.link(name)
  const inner = namespace.rtnl.link(INNER_LINK)
  if (!isHealthyPair(want.hostLink, outer, inner)) {
    if (outer !== undefined) host.apply([{ op: 'link.delete', dev: name }])
    if (inner !== undefined) quietly(() => namespace.rtnl.apply([{ op: 'link.delete', dev: INNER_LINK }]))
    const peer = { name: INNER_LINK, netnsFd: namespace.ns.fd, mac: innerMac, mtu, up: true, addrGenMode: 'none' as const }
    host.apply([{ op: 'link.add', link: { name, kind: 'veth', mac, mtu, alias, up: true, addrGenMode: 'none', peer } }])
    findings.push({ subject: name, wrong: outer === undefined ? 'link is missing' : 'link is not as wanted' })
  }
  setSwitches(namespace, want.proxies, name, hostNetns)
  for (const [rtnl, side, dev, isOurs] of [
    [host, want.host, name, (r: Route) => isOfNetwork(facts, r)],
    [namespace.rtnl, want.inside, INNER_LINK, () => true],
  ] as const) {
    const plan = planRouted(side, { routes: ourRoutes(rtnl).filter(isOurs), neighbours: permanentOn(rtnl, dev) })
    applyEach(rtnl, plan.steps)
    findings.push(...plan.findings)
  }
  return { findings, problems: want.problems }
}

/** Members as the routes have them. MACs are not in routes: the wanted ones are given for routes that are right. */
export function routedEntries(
  host: Rtnl,
  namespace: OverlayNamespace,
  facts: OverlayFacts,
  endpoints: readonly OverlayEndpoint[],
): OverlayKernelEntry[] {
  const onHost = lookup(ourRoutes(host))
  const inside = lookup(ourRoutes(namespace.rtnl))
  const plugged = new Set(namespace.rtnl.links('veth').flatMap((link) => (link.up && link.master !== 0 ? [link.alias] : [])))
  return endpoints.flatMap((e) => {
    if (e.ipv4 === '' || e.mac === '') return []
    const entry = (hostAddress: Ip) => [{ ip: e.ipv4 as Ip, mac: e.mac as OverlayKernelEntry['mac'], host: hostAddress }]
    const route = onHost(e.ipv4)
    if (e.hostId === facts.hostId)
      return route?.dev === hostLinkName(facts.networkId) && plugged.has(portAlias(e.id)) ? entry(facts.vtep) : []
    return route?.gateway !== undefined && inside(e.ipv4)?.dev === INNER_LINK ? entry(route.gateway) : []
  })
}

/** The longest of these routes that holds an address. */
function lookup(routes: readonly Route[]): (ip: Ip) => Route | undefined {
  const byDst = new Map(routes.map((route) => [route.dst, route]))
  return (ip) => {
    for (let length = 32; length > 0; length--) {
      const route = byDst.get(cidrOf(ip, length))
      if (route !== undefined) return route
    }
    return undefined
  }
}

/** What a network has on the host. Idempotent. */
export function removeRouted(host: Rtnl, facts: OverlayFacts): void {
  for (const route of ourRoutes(host)) if (isOfNetwork(facts, route)) quietly(() => host.apply([{ op: 'route.delete', route }]))
  quietly(() => host.apply([{ op: 'link.delete', dev: hostLinkName(facts.networkId) }]))
}

/** Links and routes of networks that are not in `keep`: leftovers of a crash. Routes of networks that stay are compared later anyway. */
export function removeRoutedStrangers(host: Rtnl, keep: ReadonlySet<string>): void {
  const known = new Set([...keep].map(hostLinkName))
  for (const { name, alias } of host.links('veth'))
    if (/^gw-[0-9a-f]{10}$/.test(name) && alias.startsWith('causeway:network:') && !known.has(name))
      quietly(() => host.apply([{ op: 'link.delete', dev: name }]))
  if (keep.size === 0) for (const route of ourRoutes(host)) quietly(() => host.apply([{ op: 'route.delete', route }]))
}

/**
 * The bridges answer ARP for containers elsewhere, at once instead of after a random pause. Forwarding on the host's own interfaces is the
 * engine's matter: every such container is on docker_gwbridge too, which has it opened, and guarded against strangers.
 */
function setSwitches(namespace: OverlayNamespace, bridges: readonly string[], link: string, netns?: Netns): void {
  writeSysctl(`net/ipv4/conf/${link}/forwarding`, '1', netns)
  for (const dev of bridges) {
    writeSysctl(`net/ipv4/conf/${dev}/proxy_arp`, '1', namespace.ns)
    writeSysctl(`net/ipv4/neigh/${dev}/proxy_delay`, '0', namespace.ns)
  }
}

function isOnLink(host: Rtnl, ip: Ip): boolean {
  try {
    return host.routeTo(ip).gateway === undefined
  } catch {
    return false // no route at all
  }
}

function isOfNetwork(facts: OverlayFacts, route: Route): boolean {
  if (route.dst === 'default') return false
  const { ip } = splitPrefix(route.dst)
  return facts.segments.some(({ subnets }) => subnets.some(({ subnet }) => !subnet.includes(':') && cidrContains(subnet, ip)))
}

const ourRoutes = (rtnl: Rtnl): Route[] => rtnl.routes({ family: 4 }).filter((route) => String(route.protocol) === ROUTE_PROTOCOL)

function permanentOn(rtnl: Rtnl, dev: string): Neighbour[] {
  return rtnl.neighbours({ dev, family: 4 }).filter((n) => n.state === 'permanent')
}

function applyEach(rtnl: Rtnl, steps: readonly Step[]): void {
  for (const step of steps)
    if (step.op === 'route.delete') quietly(() => rtnl.apply([step]))
    else rtnl.apply([step])
}

/** What has gone by itself is as gone as what is deleted. */
function quietly(fn: () => void): void {
  try {
    fn()
  } catch (error) {
    if (!hasCode(error, 'not-found')) throw error
  }
}

/**
 * Compares wanted links with observed ones (pure). From an empty observation the plan is creation; from a healthy one it is
 * empty; in between it is repair, and each step comes with a sentence that says what was wrong.
 */
import { cidrOf, splitPrefix } from '../base/address.ts'
import type { Address, Link, LinkSettings, Neighbour, Route, Step } from '../model/kernel-state.ts'
import type { WantedLink } from './wanted.ts'

export interface Observed {
  link(name: string): Link | undefined
  /** Name of the link with this index. */
  nameOf(index: number): string | undefined
  addressesOf(name: string): readonly Address[]
  /** Routes over a link, main table. Absent: not looked at. */
  routesOf?(name: string): readonly Route[]
  /** Neighbours of a link. Absent: not looked at. */
  neighboursOf?(name: string): readonly Neighbour[]
}

export interface Finding {
  readonly subject: string
  readonly wrong: string
}

export interface LinkPlan {
  readonly steps: Step[]
  readonly findings: Finding[]
  /** Links that the plan makes anew: what hangs on them (peer, sysctls, routes) must be made too. */
  readonly created: string[]
}

/** An observation in which nothing exists. */
export const nothingObserved: Observed = { link: () => undefined, nameOf: () => undefined, addressesOf: () => [] }

/** Plans the host side of one wanted link; adds to `plan` when one is given. */
export function planLink(want: WantedLink, have: Observed, plan: LinkPlan = { steps: [], findings: [], created: [] }): LinkPlan {
  const { spec } = want
  const link = have.link(spec.name)
  if (link !== undefined && want.madeWhenMissing && !isOurs(link)) return plan
  if (link === undefined || (link.kind !== spec.kind && !want.adopted)) {
    planCreation(want, link, plan)
    return plan
  }
  const differs = (wrong: string) => plan.findings.push({ subject: spec.name, wrong })
  planSettings(want, link, have, plan, differs)
  planAddresses(want, have, plan, differs)
  if (link.up) planConnectedRoutes(want, have, plan, differs)
  planRoutes(want, have, plan, differs)
  planNeighbours(want, have, plan, differs)
  return plan
}

/** The link is not there, or a link of another kind has its name. */
function planCreation({ spec, addresses, routes = [], neighbours = [] }: WantedLink, other: Link | undefined, plan: LinkPlan): void {
  if (other !== undefined) {
    plan.findings.push({ subject: spec.name, wrong: `is a ${other.kind || 'physical'} link, not a ${spec.kind}` })
    plan.steps.push({ op: 'link.delete', dev: spec.name })
  } else plan.findings.push({ subject: spec.name, wrong: 'link is missing' })
  const { up, ...rest } = spec
  plan.steps.push({ op: 'link.add', link: rest as typeof spec })
  plan.created.push(spec.name)
  for (const addr of addresses) plan.steps.push({ op: 'addr.replace', addr })
  // up comes last: addresses are announced when a link comes up, and a port must be isolated before it forwards
  if (up) plan.steps.push({ op: 'link.set', dev: spec.name, set: { up: true } })
  for (const route of routes) plan.steps.push({ op: 'route.replace', route })
  for (const neigh of neighbours) plan.steps.push({ op: 'neigh.replace', neigh })
}

/** MTU, MAC, master, port attributes, owner mark, up: of an adopted link, MTU and mark are its owner's. */
function planSettings({ spec, adopted }: WantedLink, link: Link, have: Observed, plan: LinkPlan, differs: (text: string) => void): void {
  const set: { -readonly [K in keyof LinkSettings]: LinkSettings[K] } = {}
  if (spec.mtu !== undefined && link.mtu !== spec.mtu && !adopted) {
    set.mtu = spec.mtu
    differs(`mtu is ${link.mtu}, wanted ${spec.mtu}`)
  }
  if (spec.mac !== undefined && link.mac !== spec.mac) {
    set.mac = spec.mac
    differs(`mac is ${link.mac}, wanted ${spec.mac}`)
  }
  const master = link.master === 0 ? '' : (have.nameOf(link.master) ?? '')
  if (spec.master !== undefined && master !== spec.master) {
    set.master = spec.master
    differs(`master is ${master === '' ? 'none' : master}, wanted ${spec.master}`)
  }
  if (spec.port?.isolated !== undefined && (link.port?.isolated ?? false) !== spec.port.isolated) {
    set.port = { isolated: spec.port.isolated }
    differs(`port isolation is ${link.port?.isolated ?? false}, wanted ${spec.port.isolated}`)
  }
  if (spec.alias !== undefined && link.alias !== spec.alias && !adopted) {
    set.alias = spec.alias
    differs(`owner mark is "${link.alias}"`)
  }
  if (spec.up && !link.up) {
    set.up = true
    differs('link is down')
  }
  // a master must be set before its port attributes, and attributes need the port: two messages
  const { port, ...first } = set
  if (Object.keys(first).length > 0) plan.steps.push({ op: 'link.set', dev: spec.name, set: first })
  if (port !== undefined) plan.steps.push({ op: 'link.set', dev: spec.name, set: { port } })
}

/** Missing addresses are set; others leave a bridge of ours. */
function planAddresses({ spec, addresses, adopted }: WantedLink, have: Observed, plan: LinkPlan, differs: (text: string) => void): void {
  const present = have.addressesOf(spec.name)
  for (const addr of addresses) {
    if (present.some(({ address }) => address === addr.address)) continue
    plan.steps.push({ op: 'addr.replace', addr })
    differs(`address ${addr.address} is missing`)
  }
  if (adopted || spec.kind !== 'bridge') return
  for (const addr of present) {
    if (addr.scope === 'link' || addresses.some(({ address }) => address === addr.address)) continue
    plan.steps.push({ op: 'addr.delete', addr })
    differs(`address ${addr.address} is not ours`)
  }
}

/** The kernel makes these routes itself, but only once: with the address, and when the link comes up. */
function planConnectedRoutes({ spec, addresses }: WantedLink, have: Observed, plan: LinkPlan, differs: (text: string) => void): void {
  const routes = have.routesOf?.(spec.name)
  if (routes === undefined) return
  const present = have.addressesOf(spec.name)
  for (const addr of addresses) {
    const route = connectedRoute(addr)
    if (routes.some((r) => r.dst === route.dst) || !present.some(({ address }) => address === addr.address)) continue
    plan.steps.push({ op: 'route.replace', route })
    differs(`route to ${route.dst} is missing`)
  }
}

/** The link carries our mark. */
export function isOurs(link: Link): boolean {
  return link.alias.startsWith('causeway:')
}

/** Routes that a link wants by name: missing ones are set, others that a program or person set on our link are taken away. */
function planRoutes(want: WantedLink, have: Observed, plan: LinkPlan, differs: (text: string) => void): void {
  const present = have.routesOf?.(want.spec.name)
  if (want.routes === undefined || present === undefined) return
  const same = (a: Route, b: Route) => a.dst === b.dst && a.src === b.src && a.gateway === b.gateway
  for (const route of want.routes) {
    if (present.some((r) => same(r, route))) continue
    plan.steps.push({ op: 'route.replace', route })
    differs(`route to ${route.dst} is missing`)
  }
  for (const route of present) {
    if (route.protocol === 'kernel' || route.protocol === 'ra' || want.routes.some((r) => r.dst === route.dst)) continue
    plan.steps.push({ op: 'route.delete', route })
    differs(`route to ${route.dst} is not wanted`)
  }
}

function planNeighbours(want: WantedLink, have: Observed, plan: LinkPlan, differs: (text: string) => void): void {
  const present = have.neighboursOf?.(want.spec.name)
  if (want.neighbours === undefined || present === undefined) return
  for (const neigh of want.neighbours) {
    if (present.some((n) => n.ip === neigh.ip && n.mac === neigh.mac && n.state === neigh.state)) continue
    plan.steps.push({ op: 'neigh.replace', neigh })
    differs(`neighbour ${neigh.ip} is missing`)
  }
  for (const neigh of present) {
    if (neigh.state !== 'permanent' || want.neighbours.some((n) => n.ip === neigh.ip)) continue
    plan.steps.push({ op: 'neigh.delete', neigh })
    differs(`neighbour ${neigh.ip} is not wanted`)
  }
}

/** The route that the kernel makes for an address (net/ipv4/fib_frontend.c fib_add_ifaddr, net/ipv6/addrconf.c addrconf_prefix_route). */
export function connectedRoute(addr: Address): Route {
  const { ip, length } = splitPrefix(addr.address)
  const common = { dst: cidrOf(ip, length), dev: addr.dev, protocol: 'kernel' } as const
  return ip.includes(':') ? { ...common, family: 6, metric: 256 } : { ...common, family: 4, src: ip, scope: 'link' }
}

/**
 * Compares an overlay network's namespace with what is wanted there (pure): the difference in the order in which it can be applied.
 * From an empty namespace it is creation, in a healthy one nothing, in between repair.
 */
import { familyOf, type Ip, type Mac } from '../../base/address.ts'
import type { FdbEntry, Link, LinkSpec, Neighbour, Step } from '../../model/kernel-state.ts'
import { type Finding, type LinkPlan, type Observed, planLink } from '../../plan/links.ts'
import { EVERYONE, type OverlayWanted } from './wanted.ts'

/** A reading of one network's namespace. */
export interface OverlayObserved extends Observed {
  links(): readonly Link[]
  neighboursOf(dev: string): readonly Neighbour[]
  /** The link's own table (`self`) and its entries in the table of its bridge. */
  fdbOf(dev: string): readonly FdbEntry[]
}

export interface OverlayPlan {
  /** Inside, before the tunnels are made. */
  readonly before: Step[]
  /** Tunnels to be made from the host's namespace, with the namespace's descriptor added. */
  readonly births: LinkSpec[]
  /** Inside, afterwards. */
  readonly after: Step[]
  readonly findings: Finding[]
}

/** The kernel is as it should be. */
export function isEmptyPlan(plan: OverlayPlan): boolean {
  return plan.before.length + plan.births.length + plan.after.length === 0
}

/** What to do so that the namespace holds what is wanted (pure). Order: `before`, then births, then `after`. */
export function planOverlay(want: OverlayWanted, have: OverlayObserved): OverlayPlan {
  const plan: OverlayPlan = { before: [], births: [], after: [], findings: [] }
  const bridges: LinkPlan = { steps: plan.before, findings: plan.findings, created: [] }
  planStrangers(want, have, plan)
  for (const bridge of want.bridges) planLink(bridge, have, bridges)
  const madeAnew = new Set([...bridges.created, ...planTunnels(want, have, plan)])
  planPorts(want, have, madeAnew, plan)
  planNeighbours(want, have, madeAnew, plan)
  planFdb(want, have, madeAnew, plan)
  return plan
}

/** Bridges and tunnels of segments that are no longer there. */
function planStrangers(want: OverlayWanted, have: OverlayObserved, plan: OverlayPlan): void {
  const known = new Set([...want.bridges, ...want.tunnels].map(({ spec }) => spec.name))
  for (const { name, kind } of have.links()) {
    if ((kind !== 'bridge' && kind !== 'vxlan') || known.has(name)) continue
    plan.before.push({ op: 'link.delete', dev: name })
    plan.findings.push({ subject: name, wrong: 'belongs to no subnet of the network' })
  }
}

/** Returns the names of tunnels that are made anew. */
function planTunnels(want: OverlayWanted, have: OverlayObserved, plan: OverlayPlan): string[] {
  const created: string[] = []
  for (const tunnel of want.tunnels) {
    const { spec } = tunnel
    const link = have.link(spec.name)
    const wrong = link === undefined ? 'link is missing' : identityDifference(spec, link)
    if (wrong === undefined) {
      planLink(tunnel, have, { steps: plan.after, findings: plan.findings, created })
      // a port that comes (back) to a bridge begins with learning on
      if (link !== undefined && (link.port?.learning === true || have.nameOf(link.master) !== spec.master)) {
        plan.after.push({ op: 'link.set', dev: spec.name, set: { port: { learning: false } } })
        plan.findings.push({ subject: spec.name, wrong: 'the bridge learns from it' })
      }
      continue
    }
    if (link !== undefined) plan.before.push({ op: 'link.delete', dev: spec.name })
    // what needs the bridge, which lives inside, cannot be said by the birth, which comes from outside
    const { master, port, up, ...birth } = spec
    plan.births.push(birth as LinkSpec)
    if (master !== undefined) plan.after.push({ op: 'link.set', dev: spec.name, set: { master } })
    if (port !== undefined) plan.after.push({ op: 'link.set', dev: spec.name, set: { port } })
    if (up === true) plan.after.push({ op: 'link.set', dev: spec.name, set: { up } })
    plan.findings.push({ subject: spec.name, wrong })
    created.push(spec.name)
  }
  return created
}

/** What of a tunnel cannot be changed while it exists. */
function identityDifference(spec: LinkSpec, link: Link): string | undefined {
  if (spec.kind !== 'vxlan') return undefined
  if (link.kind !== 'vxlan' || link.vxlan === undefined) return `is a ${link.kind || 'physical'} link, not a vxlan`
  for (const key of ['vni', 'port', 'local', 'learning', 'proxy', 'l2miss', 'l3miss'] as const)
    if (link.vxlan[key] !== spec.vxlan[key]) return `${key} is ${String(link.vxlan[key])}, wanted ${String(spec.vxlan[key])}`
  return undefined
}

/** The engine makes these interfaces; a bridge that was made anew has lost them. */
function planPorts(want: OverlayWanted, have: OverlayObserved, madeAnew: ReadonlySet<string>, plan: OverlayPlan): void {
  const byAlias = new Map(have.links().map((link) => [link.alias, link]))
  for (const { alias, master } of want.ports) {
    const link = byAlias.get(alias)
    if (link === undefined) continue // not plugged in yet, or on its way out
    const now = link.master === 0 ? '' : (have.nameOf(link.master) ?? '')
    if (now === master && link.up && !madeAnew.has(master)) continue
    plan.after.push({ op: 'link.set', dev: link.name, set: { master, up: true } })
    plan.findings.push({ subject: link.name, wrong: link.up ? `master is ${now || 'none'}, wanted ${master}` : 'link is down' })
  }
}

/** States in which an entry says nothing: multicast mappings, and questions without an answer. */
const EMPTY_STATES: ReadonlySet<string> = new Set(['noarp', 'incomplete', 'failed', 'none'])

function planNeighbours(want: OverlayWanted, have: OverlayObserved, madeAnew: ReadonlySet<string>, plan: OverlayPlan): void {
  for (const { spec } of want.tunnels) {
    const wanted = new Map(want.neighbours.filter((n) => n.dev === spec.name).map((n) => [n.ip, n]))
    if (!madeAnew.has(spec.name))
      for (const n of have.neighboursOf(spec.name)) {
        const should = wanted.get(n.ip)
        if (should !== undefined && n.state === 'permanent' && n.mac === should.mac) wanted.delete(n.ip)
        else if (should === undefined && !EMPTY_STATES.has(n.state)) {
          plan.after.push({ op: 'neigh.delete', neigh: n })
          plan.findings.push({ subject: n.ip, wrong: `neighbour ${n.mac ?? ''} on ${spec.name} is stale` })
        }
      }
    for (const neigh of wanted.values()) {
      plan.after.push({ op: 'neigh.replace', neigh })
      plan.findings.push({ subject: neigh.ip, wrong: `neighbour is missing on ${spec.name}` })
    }
  }
  // the gateways' own entries, which come and go with routed traffic
  for (const [dev, members] of want.members) {
    if (madeAnew.has(dev)) continue
    for (const n of have.neighboursOf(dev)) {
      if (n.mac === undefined || EMPTY_STATES.has(n.state) || belongs(members, n.ip, n.mac)) continue
      plan.after.push({ op: 'neigh.delete', neigh: n })
      plan.findings.push({ subject: n.ip, wrong: `neighbour ${n.mac} on ${dev} is stale` })
    }
  }
}

function belongs(members: ReadonlyMap<Ip, Mac>, ip: Ip, mac: Mac): boolean {
  const linkLocal = familyOf(ip) === 6 && /^fe[89ab]/.test(ip)
  return linkLocal ? [...members.values()].includes(mac) : members.get(ip) === mac
}

function planFdb(want: OverlayWanted, have: OverlayObserved, madeAnew: ReadonlySet<string>, plan: OverlayPlan): void {
  for (const { spec } of want.tunnels) {
    const wanted = new Map(want.fdb.filter((f) => f.dev === spec.name).map((f) => [fdbKey(f), f]))
    const single = new Set<Mac>() // MACs with one end each
    for (const f of wanted.values()) if (f.mac !== EVERYONE && f.dst !== undefined) single.add(f.mac)
    const seen = madeAnew.has(spec.name) ? [] : have.fdbOf(spec.name)
    const ends = new Map<Mac, number>()
    for (const f of seen) if (f.self === true) ends.set(f.mac, (ends.get(f.mac) ?? 0) + 1)
    for (const f of seen) {
      if (f.self !== true && f.permanent === true) continue // the port's own address
      if (wanted.delete(fdbKey(f))) continue
      plan.findings.push({ subject: f.mac, wrong: `${f.dst === undefined ? 'port' : `tunnel end ${f.dst}`} on ${spec.name} is stale` })
      // a replacement takes the place of the only end there is
      if (f.self === true && single.has(f.mac) && ends.get(f.mac) === 1) continue
      plan.after.push({ op: 'fdb.delete', fdb: f })
    }
    for (const fdb of wanted.values()) {
      plan.after.push({ op: fdb.mac === EVERYONE ? 'fdb.append' : 'fdb.replace', fdb })
      plan.findings.push({
        subject: fdb.mac,
        wrong: `${fdb.dst === undefined ? 'port' : `tunnel end ${fdb.dst}`} on ${spec.name} is missing`,
      })
    }
  }
}

const fdbKey = (f: FdbEntry): string => `${f.mac} ${f.self === true ? (f.dst ?? 'self') : 'bridge'}`

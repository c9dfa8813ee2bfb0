/**
 * What the kernel of one host says of an overlay network's members (pure), the same on every host that agrees: members of this host by
 * their interfaces, the others by the tables. A member counts only when everything that leads to it is there.
 */
import type { Ip, Mac } from '../../base/address.ts'
import type { OverlayObserved } from './plan.ts'
import { EVERYONE, type OverlayEndpoint, type OverlayFacts, portAlias, segmentIndexOf, tunnelName } from './wanted.ts'

export interface OverlayKernelEntry {
  readonly ip: Ip
  readonly mac: Mac
  /** Tunnel end of the host that has it. */
  readonly host: Ip
}

/** What the kernel really holds for the network, by address: own endpoints that are plugged in, others' with a whole path. */
export function overlayKernelEntries(
  facts: OverlayFacts,
  endpoints: readonly OverlayEndpoint[],
  have: OverlayObserved,
): OverlayKernelEntry[] {
  const out: OverlayKernelEntry[] = []
  const byAlias = new Map(have.links().map((link) => [link.alias, link]))
  const healthy = facts.segments.map((segment, i) => {
    const link = have.link(tunnelName(i))
    return link?.up === true && link.master !== 0 && link.vxlan?.vni === segment.vni
  })
  for (const e of endpoints) {
    if (e.hostId !== facts.hostId || e.mac === '') continue
    const link = byAlias.get(portAlias(e.id))
    const isPlugged = link?.up === true && link.master !== 0 && healthy[segmentIndexOf(facts.segments, e.ipv4, e.ipv6)]
    if (isPlugged) for (const ip of [e.ipv4, e.ipv6]) if (ip !== '') out.push({ ip, mac: e.mac, host: facts.vtep })
  }
  facts.segments.forEach((_, i) => {
    if (!healthy[i]) return
    const fdb = have.fdbOf(tunnelName(i))
    const ends = new Map(fdb.filter((f) => f.self === true && f.mac !== EVERYONE).map((f) => [f.mac, f.dst]))
    const flooded = new Set(fdb.filter((f) => f.mac === EVERYONE).map((f) => f.dst))
    const ports = new Set(fdb.filter((f) => f.self !== true).map((f) => f.mac))
    for (const n of have.neighboursOf(tunnelName(i))) {
      const host = n.mac === undefined ? undefined : ends.get(n.mac)
      if (n.state !== 'permanent' || n.mac === undefined || host === undefined) continue
      if (ports.has(n.mac) && flooded.has(host)) out.push({ ip: n.ip, mac: n.mac, host })
    }
  })
  return out.sort((a, b) => (a.ip < b.ip ? -1 : 1))
}

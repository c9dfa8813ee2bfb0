/**
 * What one host's kernel holds for an overlay network (pure): inside the network's namespace a bridge and a VXLAN device for each segment,
 * and for every endpoint on another host three permanent entries: its neighbour (the VXLAN device answers ARP and ND from it), the tunnel
 * end behind its MAC, and the bridge's port to it. Nothing is learnt, so nothing can be stale. Broadcast and multicast leave once for each
 * host that has a member (head-end replication: the VXLAN device's entries for the MAC 00:00:00:00:00:00).
 * Endpoints of this host never stand in these tables.
 */
import { cidrContains, cidrRange, familyOf, type Ip, ipFromBigInt, ipPrefixOf, type Mac, splitPrefix } from '../../base/address.ts'
import type { Address, FdbEntry, Neighbour } from '../../model/kernel-state.ts'
import type { WantedLink } from '../../plan/wanted.ts'
import { ALIAS_PREFIX } from '../bridge/bridge.ts'
import type { OverlaySegment } from './config.ts'

/** IANA's port for VXLAN. */
export const VXLAN_PORT = 4789
export const EVERYONE = '00:00:00:00:00:00' as Mac

/** What this host needs to know of a network. */
export interface OverlayFacts {
  readonly networkId: string
  readonly segments: readonly OverlaySegment[]
  /** MTU of the containers' interfaces. */
  readonly mtu: number
  /** This host's tunnel end; its family is the underlay's. */
  readonly vtep: Ip
  /** UDP port, {@link VXLAN_PORT} unless several clusters share a kernel. */
  readonly port: number
  /** Makes the gateways' MACs differ from host to host. */
  readonly hostId: string
  /** No tunnels: plain routes between the hosts (`routed.ts`). */
  readonly isRouted?: boolean
}

/** A member of the network, on any host. */
export interface OverlayEndpoint {
  readonly id: string
  readonly ipv4: Ip | ''
  readonly ipv6: Ip | ''
  readonly mac: Mac | ''
  readonly hostId: string
  /** Tunnel ends of its host, of one or both families. */
  readonly vteps: readonly Ip[]
}

export interface OverlayWanted {
  readonly bridges: readonly WantedLink[]
  /** Born from the host's namespace, in which their tunnels stay; masters are in `bridges`. */
  readonly tunnels: readonly WantedLink[]
  readonly neighbours: readonly Neighbour[]
  /** Of the tunnels' own tables (with `dst`) and of the bridges' (without). */
  readonly fdb: readonly FdbEntry[]
  /** Interfaces of local endpoints by the alias that the engine gives them: which bridge they belong to. */
  readonly ports: readonly { readonly alias: string; readonly master: string }[]
  /** Per bridge, whose MAC an address has: other entries in its neighbour table are stale. */
  readonly members: ReadonlyMap<string, ReadonlyMap<Ip, Mac>>
  /** Endpoints that cannot be reached, with the reason. */
  readonly problems: readonly string[]
}

export const bridgeName = (segment: number): string => `br${segment}`
export const tunnelName = (segment: number): string => `vxlan${segment}`
/** Alias of the interface in the network's namespace that leads to an endpoint. */
export const portAlias = (endpointId: string): string => `${ALIAS_PREFIX}endpoint:${endpointId}`

/** Index of the segment that holds an address, 0 when none does. */
export function segmentIndexOf(segments: readonly OverlaySegment[], ...ips: readonly (Ip | '')[]): number {
  for (const ip of ips) {
    if (ip === '') continue
    const at = segments.findIndex(({ subnets }) =>
      subnets.some(({ subnet }) => familyOf(subnet) === familyOf(ip) && cidrContains(subnet, ip)),
    )
    if (at >= 0) return at
  }
  return 0
}

/** MAC of a container's interface: 02:42 and its IPv4 address, as Docker has it. */
export function overlayMac(ipv4: Ip): Mac {
  return `02:42:${ipv4
    .split('.')
    .map((n) => Number(n).toString(16).padStart(2, '0'))
    .join(':')}` as Mac
}

/** The same for the same text: unicast, locally administered. FNV-1a, twice for 40 bits. */
export function stableMac(text: string): Mac {
  const hash = (seed: number) => {
    let h = seed
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
    return (h >>> 0).toString(16).padStart(8, '0')
  }
  const digits = `${hash(0x811c9dc5)}${hash(0x050c5d1f)}`
  return `06:${(digits.slice(0, 10).match(/../g) as string[]).join(':')}` as Mac
}

function gatewayAddress(dev: string, subnet: OverlaySegment['subnets'][number]['subnet'], ip: Ip): Address {
  const { length } = splitPrefix(subnet)
  const is4 = familyOf(ip) === 4
  const broadcast = is4 && length < 31 ? { broadcast: ipFromBigInt(4, cidrRange(subnet).last) } : {}
  return { dev, address: ipPrefixOf(ip, length), scope: 'global', noDad: !is4, ...broadcast }
}

/** The tunnel end of a host that this host can send to. */
function reachableVtep(facts: OverlayFacts, endpoint: OverlayEndpoint): Ip | undefined {
  return endpoint.vteps.find((vtep) => familyOf(vtep) === familyOf(facts.vtep))
}

/** Everything of one network on the host `facts.hostId`. Endpoints in any order; the result is in a fixed one. */
export function overlayWanted(facts: OverlayFacts, endpoints: readonly OverlayEndpoint[]): OverlayWanted {
  const alias = `${ALIAS_PREFIX}network:${facts.networkId}`
  const bridges = facts.segments.map((segment, i): WantedLink => {
    const name = bridgeName(i)
    return {
      // other hosts' gateways have the same address: their MACs must differ, because frames of a gateway may reach other hosts
      spec: { name, kind: 'bridge', mac: stableMac(`${facts.networkId} ${facts.hostId} ${i}`), mtu: facts.mtu, up: true, alias },
      addresses: segment.subnets.flatMap(({ subnet, gateway }) => (gateway === '' ? [] : [gatewayAddress(name, subnet, gateway)])),
      sysctls: [],
    }
  })
  const tunnels = facts.segments.map(
    (segment, i): WantedLink => ({
      spec: {
        name: tunnelName(i),
        kind: 'vxlan',
        vxlan: { vni: segment.vni, port: facts.port, local: facts.vtep, learning: false, proxy: true, l2miss: true, l3miss: true },
        mtu: facts.mtu,
        master: bridgeName(i),
        port: { learning: false },
        up: true,
        alias,
        addrGenMode: 'none',
      },
      addresses: [],
      sysctls: [],
    }),
  )
  if (facts.isRouted) return { bridges, tunnels: [], ...entries(facts, endpoints), neighbours: [], fdb: [], problems: [] }
  return { bridges, tunnels, ...entries(facts, endpoints) }
}

type Entries = Pick<OverlayWanted, 'neighbours' | 'fdb' | 'ports' | 'members' | 'problems'>

function entries(facts: OverlayFacts, endpoints: readonly OverlayEndpoint[]): Entries {
  const sorted = [...endpoints].sort((a, b) => (a.id < b.id ? -1 : 1))
  const local = sorted.filter((e) => e.hostId === facts.hostId)
  const ownAddresses = new Set(local.flatMap((e) => [e.ipv4, e.ipv6, e.mac]))
  const neighbours = new Map<string, Neighbour>()
  const fdb = new Map<string, FdbEntry>()
  const members = new Map(facts.segments.map((_, i) => [bridgeName(i), new Map<Ip, Mac>()]))
  const problems: string[] = []
  for (const e of sorted) {
    const segment = segmentIndexOf(facts.segments, e.ipv4, e.ipv6)
    const dev = tunnelName(segment)
    if (e.mac === '') continue
    for (const ip of [e.ipv4, e.ipv6]) if (ip !== '') members.get(bridgeName(segment))?.set(ip, e.mac)
    if (e.hostId === facts.hostId || ownAddresses.has(e.mac)) continue
    const vtep = reachableVtep(facts, e)
    if (vtep === undefined) {
      const family = familyOf(facts.vtep)
      problems.push(
        `endpoint ${e.id.slice(0, 12)} on host ${e.hostId} has no IPv${family} tunnel end (${e.vteps.join(', ') || 'none'}), this host has ${facts.vtep}`,
      )
      continue
    }
    for (const ip of [e.ipv4, e.ipv6])
      if (ip !== '' && !ownAddresses.has(ip)) neighbours.set(`${dev} ${ip}`, { dev, ip, mac: e.mac, state: 'permanent' })
    fdb.set(`${dev} ${e.mac} self`, { dev, mac: e.mac, dst: vtep, self: true, permanent: true })
    fdb.set(`${dev} ${e.mac} bridge`, { dev, mac: e.mac, self: false })
    fdb.set(`${dev} ${vtep}`, { dev, mac: EVERYONE, dst: vtep, self: true, permanent: true })
  }
  const ports = local.map((e) => ({ alias: portAlias(e.id), master: bridgeName(segmentIndexOf(facts.segments, e.ipv4, e.ipv6)) }))
  return { neighbours: [...neighbours.values()], fdb: [...fdb.values()], ports, members, problems }
}

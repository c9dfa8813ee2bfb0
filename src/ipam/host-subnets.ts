/** What of the address space the host itself uses, so that automatic choice keeps away from it. */
import { bitsOf, type Cidr, cidrOf, cidrOverlaps, familyOf, splitPrefix, tryParseIp } from '../base/address.ts'
import type { Route } from '../model/kernel-state.ts'

export interface HostSubnets {
  /** Directly attached subnets and the name servers: a network over one of these would cut the host off from it. */
  readonly reserved: readonly Cidr[]
  /** Subnets reached through a gateway (VPN, site network): avoided while anything else is free. */
  readonly avoid: readonly Cidr[]
}

export interface HostSubnetsInput {
  /** All tables, both families. */
  readonly routes: readonly Route[]
  /** As written in resolv.conf; what is no address is skipped. */
  readonly nameservers: readonly string[]
  /** Routes over these devices are ours (bridges of existing networks) and do not count. */
  readonly ownDevices?: ReadonlySet<string>
}

/**
 * A default route and the two halves by which VPN clients override it (0.0.0.0/1 + 128.0.0.0/1) say where everything else goes, not
 * what is in use: they never block a choice.
 */
export function hostSubnets({ routes, nameservers, ownDevices }: HostSubnetsInput): HostSubnets {
  const reserved = new Set<Cidr>()
  const avoid = new Set<Cidr>()
  for (const route of routes) {
    if (!countsAsUse(route) || (route.dev !== undefined && ownDevices?.has(route.dev))) continue
    if (route.gateway === undefined) reserved.add(route.dst as Cidr)
    else avoid.add(route.dst as Cidr)
  }
  for (const text of nameservers) {
    const ip = tryParseIp(text.replace(/%.*$/, ''))
    if (ip !== undefined && !/^(127\.|::1$|fe80:)/.test(ip)) reserved.add(cidrOf(ip, bitsOf(familyOf(ip))))
  }
  for (const cidr of reserved) avoid.delete(cidr)
  return { reserved: [...reserved], avoid: [...avoid] }
}

/** A network whose subnet the host has come to use otherwise, for example because a VPN was started. */
export interface SubnetConflict {
  readonly subnet: Cidr
  readonly route: Route
}

/** Which of our subnets the host's routes now overlap. `ownDevices` are our bridges. */
export function subnetConflicts(subnets: readonly Cidr[], routes: readonly Route[], ownDevices: ReadonlySet<string>): SubnetConflict[] {
  const foreign = routes.filter((route) => countsAsUse(route) && !(route.dev !== undefined && ownDevices.has(route.dev)))
  return subnets.flatMap((subnet) => {
    // a route that is wider than the network and goes through a gateway loses against the bridge's own, more specific one
    const route = foreign.find((r) => cidrOverlaps(subnet, r.dst as Cidr) && (r.gateway === undefined || narrower(r.dst as Cidr, subnet)))
    return route === undefined ? [] : [{ subnet, route }]
  })
}

const narrower = (a: Cidr, b: Cidr) => splitPrefix(a).length >= splitPrefix(b).length

function countsAsUse(route: Route): boolean {
  if (route.dst === 'default') return false
  if (route.type !== undefined && route.type !== 'unicast') return false
  const { ip, length } = splitPrefix(route.dst)
  // link-local and multicast are on every interface and never a network's
  return length > 1 && !/^(169\.254\.|fe80:|ff|22[4-9]\.|23\d\.)/.test(ip)
}

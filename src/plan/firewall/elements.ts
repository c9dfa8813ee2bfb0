/**
 * What varies, as elements of the sets and maps that `tables.ts` declares: one function for each kind of object, so that taking an
 * object away is removing the same elements. Objects may share elements (two host ports that lead to one container port):
 * keep them in an {@link ElementLedger}.
 */
import { type Cidr, cidrRange, familyOf, type Ip, ipFromBigInt, type Mac, parseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Proto } from '../../model/endpoint.ts'
import type { NftElement, NftVerdict } from '../../model/nft-element.ts'
import { address, concat, hardware, ifname, port, protocol } from './keys.ts'

export type GatewayMode = 'nat' | 'nat-unprotected' | 'routed' | 'isolated'

export interface FirewallNetwork {
  readonly id: string
  readonly bridge: string
  readonly mode4: GatewayMode
  readonly mode6: GatewayMode
  readonly internal: boolean
  readonly icc: boolean
  readonly masquerade: boolean
  /** Part of the host's LAN: what is forwarded there is as free as on the host's own interfaces. */
  readonly isLan?: boolean
  /** Its members are on other hosts too, by routes: what comes from the host's own interfaces may come in, other networks may not. */
  readonly isRoutedBetweenHosts?: boolean
  /** Its members on other hosts have addresses of these subnets: they come in by routes, and are shown the containers' own addresses. */
  readonly peers?: readonly Cidr[]
  /** The host's own addresses on this bridge. */
  readonly gateways?: readonly Ip[]
  /** Source address for what leaves, instead of the one of the outgoing interface. */
  readonly snat4?: Ip
  readonly snat6?: Ip
  /** Interfaces from which published container ports may be called by the container's own address. */
  readonly trusted: readonly string[]
}

export interface FirewallEndpoint {
  /** Bridge port on the host side. */
  readonly hostIf: string
  readonly bridge: string
  readonly mac: Mac
  readonly ips: readonly Ip[]
  /** False leaves the port unchecked. */
  readonly guard: boolean
}

export interface FirewallPort {
  readonly proto: Proto
  /** `0.0.0.0` or `::` = every address of the host in that family. */
  readonly hostIp: Ip
  readonly hostPort: number
  /** More than one: hostPort..hostPort+count-1 lead to containerPort..containerPort+count-1. */
  readonly count: number
  readonly containerIp: Ip
  readonly containerPort: number
  readonly bridge: string
  /** Opened on the container's own address, no host port. */
  readonly routed: boolean
}

/** A host interface on which forwarding was switched on for our networks alone. */
export function openedElement(family: 4 | 6, dev: string): NftElement {
  return { set: `opened${family}`, key: ifname(dev), comment: 'forwards for containers only' }
}

/** Such an interface that is a bridge: with br_netfilter on, frames between its ports come by as well. */
export function switchedElement(bridge: string): NftElement {
  return { set: 'switched', key: concat(ifname(bridge), ifname(bridge)), comment: 'bridged by the host' }
}

/** Legacy link: `from` may call `proto`/`port` of `to` although icc=false; answers belong to the flow. */
export interface FirewallLink {
  readonly bridge: string
  readonly from: Ip
  readonly to: Ip
  readonly proto: Proto
  readonly port: number
}

const INTO_MODE: Readonly<Record<GatewayMode, string>> = {
  nat: 'to_nat',
  'nat-unprotected': 'to_open',
  routed: 'to_routed',
  isolated: 'sealed_in',
}

/** Elements of one network. Throws NetError `invalid` on a name that is no interface name. */
export function networkElements(n: FirewallNetwork): NftElement[] {
  const bridge = ifname(n.bridge)
  const pair = concat(bridge, bridge)
  const comment = `network ${n.id.slice(0, 12)}`
  // what is bridged there passes; published ports that are called from the LAN itself: the answer must come back through the host
  if (n.isLan) return [{ set: 'own', key: pair, comment }]
  const goto = (chain: string): NftVerdict => ({ goto: chain })
  const out: NftElement[] = [
    { set: 'bridges', key: bridge, comment },
    { set: 'own', key: pair, comment },
    { set: 'from', key: bridge, verdict: goto(n.internal ? 'sealed_out' : 'ours'), comment },
    { set: 'into', key: bridge, verdict: goto(n.internal ? 'sealed_in' : 'ours'), comment },
    { set: 'pairs', key: pair, verdict: goto(n.icc ? 'pass' : 'closed'), comment },
    {
      set: 'to4',
      key: bridge,
      verdict: goto(n.internal ? 'sealed_in' : n.isRoutedBetweenHosts ? 'to_members' : n.peers ? 'to_peers' : INTO_MODE[n.mode4]),
      comment,
    },
    { set: 'to6', key: bridge, verdict: goto(n.internal ? 'sealed_in' : n.peers ? 'to_peers' : INTO_MODE[n.mode6]), comment },
  ]
  for (const cidr of n.peers ?? []) {
    const { family, first, last } = cidrRange(cidr)
    const at = (value: bigint) => concat(bridge, address(ipFromBigInt(family, value)))
    out.push({ set: `peers${family}`, key: at(first), keyEnd: at(last), comment })
  }
  for (const ip of new Set(n.gateways)) out.push({ set: `gateways${familyOf(ip)}`, key: address(ip), comment })
  if (n.internal) return out
  for (const name of new Set(n.trusted))
    if (name !== n.bridge) out.push({ set: 'pairs', key: concat(ifname(name), bridge), verdict: { jump: 'trusted' }, comment })
  if (!n.masquerade) return out
  let natted = false
  for (const [family, mode, source] of [[4, n.mode4, n.snat4] as const, [6, n.mode6, n.snat6] as const]) {
    if (mode !== 'nat' && mode !== 'nat-unprotected') continue
    natted = true
    out.push({
      set: `masq${family}`,
      key: bridge,
      verdict: goto(source !== undefined ? 'snat_out' : n.peers ? 'masquerade_beyond' : 'masquerade_out'),
      comment,
    })
    if (source !== undefined) out.push({ set: `snat${family}`, key: bridge, data: address(source), comment })
  }
  if (natted) out.push({ set: 'natted', key: bridge, comment })
  return out
}

/** Source guard of one bridge port; nothing when the guard is off. */
export function endpointElements(e: FirewallEndpoint): NftElement[] {
  if (!e.guard) return []
  const hostIf = ifname(e.hostIf)
  const mac = hardware(e.mac)
  const family = 'bridge'
  const out: NftElement[] = [
    { family, set: 'guarded', key: hostIf },
    { family, set: 'own_mac', key: concat(hostIf, mac) },
  ]
  for (const ip of new Set(e.ips)) {
    out.push({ family, set: `own${familyOf(ip)}`, key: concat(hostIf, mac, address(ip)) })
    if (familyOf(ip) === 6) out.push({ family, set: 'own_target', key: concat(hostIf, address(ip)) })
  }
  return out
}

const ANY = new Set<Ip>([parseIp('0.0.0.0'), parseIp('::')])

/**
 * Elements of one published port or range. A host address of the other family than the container's gets none: the kernel cannot
 * translate between families, a relay on the host serves it. A range with equal numbers on both sides is two elements, whatever its
 * length; a shifted one needs an element per port.
 * Throws NetError `invalid` on ports outside 1..65535.
 */
export function portElements(p: FirewallPort): NftElement[] {
  const family = familyOf(p.containerIp)
  if (!Number.isInteger(p.count) || p.count < 1) throw new NetError('invalid', `invalid port range: ${p.count} ports`)
  const proto = protocol(p.proto)
  const container = address(p.containerIp)
  const out: NftElement[] = []
  if (!p.routed) {
    if (familyOf(p.hostIp) !== family) return []
    const host = ANY.has(p.hostIp) ? [] : [address(p.hostIp)]
    const map = `dnat${family}${host.length === 0 ? '_any' : ''}`
    const comment = `to ${p.containerIp}`
    if (p.count > 1 && p.hostPort === p.containerPort) {
      const key = concat(...host, proto, port(p.hostPort))
      const keyEnd = concat(...host, proto, port(p.hostPort + p.count - 1))
      out.push({ set: `${map}_range`, key, keyEnd, data: container, comment })
    } else {
      for (let i = 0; i < p.count; i++)
        out.push({
          set: map,
          key: concat(...host, proto, port(p.hostPort + i)),
          data: concat(container, port(p.containerPort + i)),
          comment,
        })
    }
  }
  const key = concat(container, proto, port(p.containerPort))
  if (p.count === 1) out.push({ set: `open${family}`, key })
  else out.push({ set: `open${family}_range`, key, keyEnd: concat(container, proto, port(p.containerPort + p.count - 1)) })
  return out
}

/** Elements of one legacy link. Throws NetError `invalid` when the ends have different families. */
export function linkElements(l: FirewallLink): NftElement[] {
  const family = familyOf(l.from)
  if (familyOf(l.to) !== family) throw new NetError('invalid', `Cannot link "${l.from}" to "${l.to}": they have different families`)
  return [{ set: `links${family}`, key: concat(address(l.from), address(l.to), protocol(l.proto), port(l.port)) }]
}

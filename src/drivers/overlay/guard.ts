/**
 * The guard of an overlay network on one host (pure), as nftables text for the network's namespace: a container sends from its own MAC, and
 * of the network's addresses only from its own, in IP, ARP and neighbour advertisements. Otherwise it could take another's place: a bridge
 * follows the source MACs that it sees even where its entries are static (net/bridge/br_fdb.c br_fdb_update). The same holds for IPv6
 * link-local addresses that are made from a MAC (RFC 4291 appendix A), which is how containers and gateways get theirs; others are nobody's.
 * No router advertisements, no redirects and no tagged frames, as on bridge networks. Other addresses outside of the network's subnets pass:
 * a container may be a router. What comes by a tunnel was looked at by the host that sent it.
 */
import { type Cidr, cidrRange, familyOf, type Ip, ipFromBytes, type Mac, macToBytes } from '../../base/address.ts'
import { type OverlayEndpoint, type OverlayFacts, tunnelName } from './wanted.ts'

const GUARD_TABLE = 'bridge causeway_guard'

/** `names`: interfaces of this host's endpoints in the namespace, by endpoint. Replaces the table as a whole; equal needs are equal texts. */
export function guardText(facts: OverlayFacts, endpoints: readonly OverlayEndpoint[], names: ReadonlyMap<string, string>): string {
  const local = endpoints.flatMap((e) => {
    const port = names.get(e.id)
    return port === undefined || e.hostId !== facts.hostId || e.mac === '' ? [] : [{ ...e, port }]
  })
  local.sort((a, b) => (a.port < b.port ? -1 : 1))
  const subnets = facts.segments.flatMap((segment) => segment.subnets.map(({ subnet }) => subnet))
  const subnets6 = subnets.filter((subnet) => familyOf(subnet) === 6)
  const set = (name: string, type: string, elements: readonly string[], flags = '') =>
    `  set ${name} { type ${type}; ${flags}${elements.length === 0 ? '' : `elements = { ${elements.join(', ')} }`} }`
  const own = (address: (e: (typeof local)[number]) => string) =>
    local.flatMap((e) => (address(e) === '' ? [] : [`"${e.port}" . ${address(e)}`]))
  const of = (family: 4 | 6) => subnets.filter((subnet) => familyOf(subnet) === family)
  const interval = 'flags interval; '
  return [
    `table ${GUARD_TABLE}`,
    `delete table ${GUARD_TABLE}`,
    `table ${GUARD_TABLE} {`,
    set(
      'macs',
      'ifname . ether_addr',
      own((e) => e.mac),
    ),
    set(
      'addresses4',
      'ifname . ipv4_addr',
      own((e) => e.ipv4),
    ),
    set(
      'addresses6',
      'ifname . ipv6_addr',
      own((e) => e.ipv6),
    ),
    set(
      'linklocal6',
      'ifname . ipv6_addr',
      own((e) => linkLocalOf(e.mac as Mac)),
    ),
    set('subnets4', 'ipv4_addr', of(4), interval),
    set('subnets6', 'ipv6_addr', of(6), interval),
    '  chain advertised {',
    ...local.flatMap((e) =>
      e.ipv6 === ''
        ? []
        : subnets6.map(
            (subnet) => `    iifname "${e.port}" @th,64,128 ${rangeHex(subnet)} @th,64,128 != ${hexOf(`${e.ipv6}/128` as Cidr)} drop`,
          ),
    ),
    // bytes 11 and 12 of a target made from a MAC are ff:fe
    ...local.map((e) => {
      const address = hexOf(`${linkLocalOf(e.mac as Mac)}/128` as Cidr)
      return `    iifname "${e.port}" @th,64,10 0x3fa @th,152,16 0xfffe @th,64,128 != ${address} drop`
    }),
    '  }',
    '  chain ports {',
    '    type filter hook prerouting priority -300; policy accept;',
    ...facts.segments.map((_, i) => `    iifname "${tunnelName(i)}" accept`),
    '    iifname . ether saddr != @macs drop',
    // the receiver strips a priority tag (VLAN 0): the frame inside would arrive unchecked
    '    ether type { 8021q, 8021ad } drop',
    '    ip saddr @subnets4 iifname . ip saddr != @addresses4 drop',
    '    arp saddr ip @subnets4 iifname . arp saddr ip != @addresses4 drop',
    '    ip6 saddr @subnets6 iifname . ip6 saddr != @addresses6 drop',
    '    ip6 saddr fe80::/10 ip6 saddr & ::ff:ff00:0 == ::ff:fe00:0 iifname . ip6 saddr != @linklocal6 drop',
    '    icmpv6 type { nd-router-advert, nd-redirect } drop',
    '    icmpv6 type nd-neighbor-advert jump advertised',
    '  }',
    '}',
    '',
  ].join('\n')
}

/** The link-local address that the kernel makes from a MAC. */
function linkLocalOf(mac: Mac): Ip {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = macToBytes(mac)
  return ipFromBytes(Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f))
}

const hex = (n: bigint): string => `0x${n.toString(16).padStart(32, '0')}`
const hexOf = (address: Cidr): string => hex(cidrRange(address).first)

function rangeHex(subnet: Cidr): string {
  const { first, last } = cidrRange(subnet)
  return `${hex(first)}-${hex(last)}`
}

/**
 * The guard of an overlay network on one host (pure), as nftables text for the network's namespace: a container sends from its own MAC, and
 * of the network's addresses only from its own, in IP, ARP and neighbour advertisements. Otherwise it could take another's place: a bridge
 * follows the source MACs that it sees even where its entries are static (net/bridge/br_fdb.c br_fdb_update). Addresses outside of the
 * network's subnets pass: a container may be a router. What comes by a tunnel was looked at by the host that sent it.
 */
import { type Cidr, cidrRange, familyOf } from '../../base/address.ts'
import { type OverlayEndpoint, type OverlayFacts, tunnelName } from './wanted.ts'

export const GUARD_TABLE = 'bridge causeway_guard'

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
    '  }',
    '  chain ports {',
    '    type filter hook prerouting priority -300; policy accept;',
    ...facts.segments.map((_, i) => `    iifname "${tunnelName(i)}" accept`),
    '    iifname . ether saddr != @macs drop',
    '    ip saddr @subnets4 iifname . ip saddr != @addresses4 drop',
    '    arp saddr ip @subnets4 iifname . arp saddr ip != @addresses4 drop',
    '    ip6 saddr @subnets6 iifname . ip6 saddr != @addresses6 drop',
    '    icmpv6 type nd-neighbor-advert jump advertised',
    '  }',
    '}',
    '',
  ].join('\n')
}

const hex = (n: bigint): string => `0x${n.toString(16).padStart(32, '0')}`
const hexOf = (address: Cidr): string => hex(cidrRange(address).first)

function rangeHex(subnet: Cidr): string {
  const { first, last } = cidrRange(subnet)
  return `${hex(first)}-${hex(last)}`
}

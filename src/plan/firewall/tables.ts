/**
 * The rules: two tables, a fixed number of rules, everything that varies in sets and maps (`elements.ts`).
 *
 * Way of a forwarded packet: `forward` knows our bridges by two map look-ups; whatever is not ours leaves there. Ours goes through
 * `ours`: known flows pass, then the pair of interfaces decides (inside one bridge, trusted interface), then the mode of the bridge it
 * goes to, in its own family. Every packet that passes carries {@link MARK}, so that one foreign rule can accept all of our traffic.
 * Every drop has a named counter and a comment with the reason.
 *
 * Exact keys live in hash sets; port ranges in separate interval sets, because those copy themselves on every change
 * (net/netfilter/nft_set_pipapo.c).
 */

/** Name of our table in every family. */
export const TABLE = 'causeway'

/**
 * Mark bit on every forwarded packet that our rules accepted (set just before iptables' FORWARD chain runs). Bits in use elsewhere:
 * Kubernetes 0x4000 and 0x8000, CNI portmap and netavark 0x2000, Cilium 0x0f00, Tailscale 0xff0000, Calico 0xffff0000.
 */
export const MARK = 0x1000

/** Counter name -> reason, as shown by `nft list` and told to users. */
export const DROP_REASONS = {
  drop_unpublished: 'unpublished port',
  drop_isolation: 'isolation between networks',
  drop_internal: 'internal network',
  drop_icc: 'no communication inside this network (icc=false)',
  drop_invalid: 'packet of no known flow, would leave with a private source address',
  drop_astray: 'frame for the gateway that the bridge would pass to another port',
  drop_loopback: 'loopback address from another interface',
  drop_uplinks: 'this host does not forward between its own interfaces',
} as const

/** Reasons of the source guard, in the bridge table. */
export const GUARD_REASONS = {
  guard_mac: 'source MAC is not its own',
  guard_ip: 'source address is not its own',
  guard_arp: 'ARP sender is not its own',
  guard_nd: 'advertises a neighbour or router that it is not',
  guard_tag: 'VLAN tag from a guarded port',
} as const

type Reasons = Readonly<Record<string, string>>

const counters = (reasons: Reasons): string =>
  Object.keys(reasons)
    .map((name) => `  counter ${name} { }`)
    .join('\n')

function drop(name: keyof typeof DROP_REASONS): string {
  return `counter name "${name}" drop comment "${DROP_REASONS[name]}"`
}

function refuse(name: keyof typeof GUARD_REASONS): string {
  return `counter name "${name}" drop comment "${GUARD_REASONS[name]}"`
}

/** A chain: its hook line (empty for a chain that is jumped to) and its rules. */
type Chain = readonly [name: string, hook: string, rules: readonly string[]]

const PORT4 = 'ipv4_addr . inet_proto . inet_service'
const PORT6 = 'ipv6_addr . inet_proto . inet_service'
const ANY = 'inet_proto . inet_service'

const INET_SETS = `
  set bridges { type ifname; }
  set own { type ifname . ifname; }
  set natted { type ifname; }
  set gateways4 { type ipv4_addr; }
  set gateways6 { type ipv6_addr; }
  set opened4 { type ifname; }
  set opened6 { type ifname; }
  set switched { type ifname . ifname; }
  map from { type ifname : verdict; }
  map into { type ifname : verdict; }
  map pairs { type ifname . ifname : verdict; }
  map to4 { type ifname : verdict; }
  map to6 { type ifname : verdict; }
  map masq4 { type ifname : verdict; }
  map masq6 { type ifname : verdict; }
  set peers4 { type ifname . ipv4_addr; flags interval; }
  set peers6 { type ifname . ipv6_addr; flags interval; }
  map snat4 { type ifname : ipv4_addr; }
  map snat6 { type ifname : ipv6_addr; }
  map dnat4 { type ${PORT4} : ipv4_addr . inet_service; }
  map dnat6 { type ${PORT6} : ipv6_addr . inet_service; }
  map dnat4_any { type ${ANY} : ipv4_addr . inet_service; }
  map dnat6_any { type ${ANY} : ipv6_addr . inet_service; }
  map dnat4_range { type ${PORT4} : ipv4_addr; flags interval; }
  map dnat6_range { type ${PORT6} : ipv6_addr; flags interval; }
  map dnat4_any_range { type ${ANY} : ipv4_addr; flags interval; }
  map dnat6_any_range { type ${ANY} : ipv6_addr; flags interval; }
  set open4 { type ${PORT4}; }
  set open6 { type ${PORT6}; }
  set open4_range { type ${PORT4}; flags interval; }
  set open6_range { type ${PORT6}; flags interval; }
  set links4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
  set links6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service; }`

const dnat = (ip: 'ip' | 'ip6', n: 4 | 6): string[] => [
  `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @dnat${n}`,
  `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @dnat${n}_range`,
  `meta nfproto ipv${n} dnat ${ip} to meta l4proto . th dport map @dnat${n}_any`,
  `meta nfproto ipv${n} dnat ${ip} to meta l4proto . th dport map @dnat${n}_any_range`,
]

const INET_CHAINS: readonly Chain[] = [
  // -- filter: what may be forwarded --
  // One before iptables' FORWARD, so that the mark is there when Docker's and ufw's chains look.
  [
    'forward',
    'type filter hook forward priority filter - 1',
    [
      'iifname vmap @from',
      'oifname vmap @into',
      // With br_netfilter switched on, what is only bridged comes by here too: a LAN of the host's, with containers in it.
      'iifname . oifname @own goto pass',
      // The same of the host's own bridges that we opened: what is only bridged there is nobody's to stop.
      'iifname . oifname @switched return',
      // Interfaces on which we switched forwarding on: the host is no router for others because of us.
      `meta nfproto ipv4 iifname @opened4 ${drop('drop_uplinks')}`,
      `meta nfproto ipv6 iifname @opened6 ${drop('drop_uplinks')}`,
    ],
  ],
  [
    'ours',
    '',
    [
      // A container's MTU may be larger than the path's (tunnels): only ever lowers the value.
      'tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu',
      // A bridge whose MAC somebody has changed floods what is meant for the gateway. With br_netfilter switched on such a frame comes by
      // here, and postrouting would end its flow for leaving by another interface than before (nf_nat_core.c nf_nat_oif_changed): answers
      // would then reach the host itself, which resets the connection.
      `ct status & (snat | dnat) == snat ct direction original iifname . oifname @own ${drop('drop_astray')}`,
      'ct state established,related goto pass',
      'iifname . oifname vmap @pairs',
      'meta nfproto ipv4 oifname vmap @to4',
      'meta nfproto ipv6 oifname vmap @to6',
      // NAT leaves such packets as they are: they would show a private address to the outside and earn a reset.
      `ct state invalid iifname @natted ${drop('drop_invalid')}`,
      'goto pass',
    ],
  ],
  ['pass', '', [`meta mark set meta mark | 0x${MARK.toString(16)} accept`]],
  ['to_nat', '', ['ct status dnat jump published', `iifname @bridges ${drop('drop_isolation')}`, drop('drop_unpublished')]],
  ['to_open', '', ['goto pass']],
  // routed between hosts: those come in by the underlay, networks of this host stay out
  ['to_members', '', [`iifname @bridges ${drop('drop_isolation')}`, 'goto pass']],
  // a network whose other hosts' members come in by routes (Flannel), closed to everybody else
  [
    'to_peers',
    '',
    [
      `iifname @bridges ${drop('drop_isolation')}`,
      'oifname . ip saddr @peers4 goto pass',
      'oifname . ip6 saddr @peers6 goto pass',
      'goto to_nat',
    ],
  ],
  ['to_routed', '', ['meta l4proto { icmp, ipv6-icmp } goto pass', 'jump published', drop('drop_unpublished')]],
  ['trusted', '', ['jump published']],
  [
    'published',
    '',
    [
      'ip daddr . meta l4proto . th dport @open4 goto pass',
      'ip6 daddr . meta l4proto . th dport @open6 goto pass',
      'ip daddr . meta l4proto . th dport @open4_range goto pass',
      'ip6 daddr . meta l4proto . th dport @open6_range goto pass',
    ],
  ],
  [
    'closed',
    '',
    [
      'ct status dnat jump published',
      'ip saddr . ip daddr . meta l4proto . th dport @links4 goto pass',
      'ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 goto pass',
      drop('drop_icc'),
    ],
  ],
  ['sealed_out', '', ['iifname . oifname vmap @pairs', drop('drop_internal')]],
  ['sealed_in', '', [drop('drop_internal')]],

  // -- loopback addresses: published on 127.0.0.1 needs route_localnet on the bridge, so we keep what the kernel then lets through --
  [
    'loopback_in',
    'type filter hook prerouting priority raw',
    [`ip daddr 127.0.0.0/8 iif != "lo" ${drop('drop_loopback')}`, `ip saddr 127.0.0.0/8 iifname @bridges ${drop('drop_loopback')}`],
  ],
  [
    'loopback_out',
    'type filter hook postrouting priority srcnat + 10',
    [`ip saddr 127.0.0.0/8 oifname @bridges ${drop('drop_loopback')}`, `ip6 saddr ::1 oifname @bridges ${drop('drop_loopback')}`],
  ],

  // -- nat: published ports --
  // A link-local client cannot be forwarded (net/ipv6/ip6_output.c ip6_forward), so its packets go to the socket on the host.
  [
    'nat_prerouting',
    'type nat hook prerouting priority dstnat',
    ['ip6 saddr fe80::/10 return', 'fib daddr type local meta nfproto vmap { ipv4 : jump publish4, ipv6 : jump publish6 }'],
  ],
  // ::1 cannot be translated: the answer reaches the bridge, is translated back to ::1 and never reaches the socket (tried on 6.18, also
  // with a local route for ::1 on the bridge). So the socket on the host gets the call.
  [
    'nat_output',
    'type nat hook output priority -100',
    ['ip6 daddr ::1 return', 'fib daddr type local meta nfproto vmap { ipv4 : jump publish4, ipv6 : jump publish6 }'],
  ],
  ['publish4', '', dnat('ip', 4)],
  ['publish6', '', dnat('ip6', 6)],
  [
    'nat_postrouting',
    'type nat hook postrouting priority srcnat',
    [
      'ip saddr 127.0.0.0/8 oifname @bridges masquerade comment "host by loopback address to a published port"',
      'iifname . oifname @own goto hairpin',
      // With br_netfilter switched on (another engine does that) such a packet is bridged, and this hook is told no incoming interface.
      'iif 0 oifname @bridges fib saddr type != local goto hairpin',
      // A container that is on that other network too would answer there directly, past the flow (and its source guard drops the answer).
      ...(['ip', 'ip6'] as const).map(
        (ip) =>
          `iif 0 oifname @bridges ${ip} saddr @gateways${ip === 'ip' ? 4 : 6} fib saddr . oif type != local masquerade comment "host by the address of another bridge"`,
      ),
      'meta nfproto ipv4 iifname vmap @masq4',
      'meta nfproto ipv6 iifname vmap @masq6',
    ],
  ],
  // The answer must come back through the host, or the client sees another address than it called.
  ['hairpin', '', ['ct status dnat masquerade comment "container to a published port of its own network"']],
  ['masquerade_out', '', ['masquerade']],
  ['masquerade_beyond', '', ['iifname . ip daddr @peers4 return', 'iifname . ip6 daddr @peers6 return', 'masquerade']],
  ['snat_out', '', ['snat ip to iifname map @snat4', 'snat ip6 to iifname map @snat6']],
]

const BRIDGE_SETS = `
  set guarded { type ifname; }
  set own_mac { type ifname . ether_addr; }
  set own4 { type ifname . ether_addr . ipv4_addr; }
  set own6 { type ifname . ether_addr . ipv6_addr; }
  set own_target { typeof meta iifname . @th,64,128; }`

const BRIDGE_CHAINS: readonly Chain[] = [
  [
    'prerouting',
    'type filter hook prerouting priority -300',
    ['iifname . ether saddr . ip saddr @own4 accept', 'iifname @guarded goto guard'],
  ],
  [
    'guard',
    '',
    [
      `iifname . ether saddr != @own_mac ${refuse('guard_mac')}`,
      // A priority tag (VLAN 0) is stripped by the receiver: the frame inside would arrive unchecked.
      `ether type { 8021q, 8021ad } ${refuse('guard_tag')}`,
      'meta protocol vmap { ip : goto guard4, arp : goto guard_arp, ip6 : goto guard6 }',
    ],
  ],
  ['guard4', '', ['ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept', refuse('guard_ip')]],
  [
    'guard_arp',
    '',
    [
      'iifname . arp saddr ether . arp saddr ip @own4 accept',
      // An address probe (RFC 5227) claims nothing.
      'arp operation request arp saddr ip 0.0.0.0 accept',
      refuse('guard_arp'),
    ],
  ],
  [
    'guard6',
    '',
    [
      `icmpv6 type { nd-router-advert, nd-redirect } ${refuse('guard_nd')}`,
      'icmpv6 type nd-neighbor-advert jump guard_na',
      'iifname . ether saddr . ip6 saddr @own6 accept',
      // Its own MAC was checked; any link-local address may be made from it (RFC 4862, RFC 7217).
      'ip6 saddr fe80::/64 accept',
      'ip6 saddr :: meta l4proto ipv6-icmp accept',
      refuse('guard_ip'),
    ],
  ],
  [
    'guard_na',
    '',
    [
      // The advertised target: 8 bytes into the message (RFC 4861 4.4); this nft has no name for the field.
      'iifname . @th,64,128 @own_target return',
      '@th,64,64 0xfe80000000000000 return',
      refuse('guard_nd'),
    ],
  ],
]

function table(family: 'inet' | 'bridge', sets: string, reasons: Reasons, chains: readonly Chain[]): string {
  const declared = chains.map(([name, hook]) => `  chain ${name} { ${hook === '' ? '' : `${hook}; policy accept; `}}`)
  const filled = chains.map(([name, , rules]) => `  chain ${name} {\n${rules.map((r) => `    ${r}`).join('\n')}\n  }`)
  return [
    `table ${family} ${TABLE} {`,
    counters(reasons),
    sets.slice(1),
    ...declared,
    '}',
    `flush table ${family} ${TABLE}`,
    `table ${family} ${TABLE} {`,
    ...filled,
    '}',
    '',
  ].join('\n')
}

/**
 * Both tables as text for one nftables transaction. Declares what is missing and replaces all rules; elements stay as they are, and no
 * packet sees a moment without rules, so applying it again under traffic is harmless.
 */
export function renderTables(): string {
  return table('inet', INET_SETS, DROP_REASONS, INET_CHAINS) + table('bridge', BRIDGE_SETS, GUARD_REASONS, BRIDGE_CHAINS)
}

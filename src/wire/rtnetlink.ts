/** Constants that all rtnetlink objects share. Source: include/uapi/linux/rtnetlink.h, if_link.h, if.h */

export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18
export const RTM_SETLINK = 19
export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22
export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30
export const RTM_NEWRULE = 32
export const RTM_DELRULE = 33
export const RTM_GETRULE = 34
export const RTM_NEWNETCONF = 80

/** Multicast groups, as numbers for NETLINK_ADD_MEMBERSHIP. */
export const RTNLGRP_LINK = 1
export const RTNLGRP_NEIGH = 3
export const RTNLGRP_IPV4_IFADDR = 5
export const RTNLGRP_IPV4_ROUTE = 7
export const RTNLGRP_IPV6_IFADDR = 9
export const RTNLGRP_IPV6_ROUTE = 11
export const RTNLGRP_IPV4_RULE = 8
export const RTNLGRP_IPV6_RULE = 19
export const RTNLGRP_IPV4_NETCONF = 24
export const RTNLGRP_IPV6_NETCONF = 25

export const PF_UNSPEC = 0
export const PF_INET = 2
export const PF_BRIDGE = 7
export const PF_INET6 = 10

export const RT_TABLE_UNSPEC = 0
/** What the 8-bit field says when the number of the table is in its attribute. */
export const RT_TABLE_COMPAT = 252
export const RT_TABLE_MAIN = 254
export const RT_TABLE_LOCAL = 255

export const RT_SCOPE: Readonly<Record<string, number>> = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 }

/** Routing protocol numbers by the names of /etc/iproute2/rt_protos. */
export const RTPROT: Readonly<Record<string, number>> = { unspec: 0, redirect: 1, kernel: 2, boot: 3, static: 4, ra: 9, dhcp: 16 }

/** Route types (RTN_*). */
export const RTN: Readonly<Record<string, number>> = {
  unspec: 0,
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
  nat: 10,
}

/** The name of `value` in one of the tables above, or its decimal digits. */
export function nameIn(table: Readonly<Record<string, number>>, value: number): string {
  for (const name in table) if (table[name] === value) return name
  return String(value)
}

/** The number of a name in one of the tables above; decimal digits stand for themselves. Undefined for anything else. */
export function numberIn(table: Readonly<Record<string, number>>, name: string | number): number | undefined {
  if (typeof name === 'number') return name
  return table[name] ?? (/^\d+$/.test(name) ? Number(name) : undefined)
}

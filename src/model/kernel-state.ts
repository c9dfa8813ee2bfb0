/**
 * Kernel networking objects as plain values, and the steps that change them. Pure data: planners compare a wanted
 * with an observed set and return steps; `kernel/` encodes steps as netlink and decodes dumps into these values.
 * Field names are the kernel's words in lower case.
 */
import type { Cidr, Family, Ip, IpPrefix, Mac } from '../base/address.ts'

/** Bridge-port attributes (IFLA_BRPORT_*). */
export interface BridgePort {
  readonly isolated: boolean
  readonly hairpin: boolean
  readonly learning: boolean
  readonly neighSuppress: boolean
  readonly unicastFlood: boolean
}

export interface VxlanInfo {
  readonly vni: number
  readonly port: number
  readonly local?: Ip
  readonly learning: boolean
  readonly proxy: boolean
  readonly l2miss: boolean
  readonly l3miss: boolean
}

/** A link as the kernel dumps it. */
export interface Link {
  readonly index: number
  readonly name: string
  /** IFLA_INFO_KIND: `bridge`, `veth`, `vxlan`, `macvlan`, `vlan`, ...; empty for hardware and lo. */
  readonly kind: string
  readonly mac: Mac | ''
  readonly mtu: number
  readonly up: boolean
  readonly running: boolean
  readonly loopback: boolean
  /** IFLA_MASTER, 0 when none. */
  readonly master: number
  /** IFLA_LINK: veth peer or lower device index, 0 when none. */
  readonly link: number
  /** IFLA_LINK_NETNSID, undefined when peer is in the same namespace. */
  readonly linkNetnsId?: number
  readonly group: number
  /** IFLA_IFALIAS: we write `causeway:<kind>:<id>` on everything that is ours. */
  readonly alias: string
  readonly txQueueLen: number
  readonly port?: BridgePort
  readonly vxlan?: VxlanInfo
  readonly vlanId?: number
  readonly macvlanMode?: string
  readonly stats?: LinkStats
}

/** IFLA_STATS64, as /proc/net/dev names them. */
export interface LinkStats {
  readonly rxBytes: number
  readonly rxPackets: number
  readonly rxErrors: number
  readonly rxDropped: number
  readonly txBytes: number
  readonly txPackets: number
  readonly txErrors: number
  readonly txDropped: number
}

/** Properties that can be given at creation and changed later. */
export interface LinkSettings {
  readonly mtu?: number
  readonly mac?: Mac
  readonly up?: boolean
  /** Name of the master link, or '' to release. */
  readonly master?: string
  readonly alias?: string
  readonly group?: number
  readonly txQueueLen?: number
  /** `none` switches off the automatic fe80:: address (IN6_ADDR_GEN_MODE_NONE). */
  readonly addrGenMode?: 'eui64' | 'none'
  readonly port?: Partial<BridgePort>
}

export interface VethPeer extends Omit<LinkSettings, 'master' | 'port'> {
  readonly name: string
  /** Descriptor of the namespace in which the peer is born; absent = same namespace. */
  readonly netnsFd?: number
}

export type LinkKind =
  | { readonly kind: 'bridge'; readonly ageingTimeSeconds?: number; readonly vlanDefaultPvid?: number }
  | { readonly kind: 'veth'; readonly peer: VethPeer }
  | { readonly kind: 'dummy' }
  | { readonly kind: 'vxlan'; readonly vxlan: VxlanInfo; readonly group6?: boolean }
  | { readonly kind: 'macvlan'; readonly parent: string; readonly mode: 'bridge' | 'vepa' | 'private' | 'passthru' }
  | { readonly kind: 'ipvlan'; readonly parent: string; readonly mode: 'l2' | 'l3' | 'l3s'; readonly flag: 'bridge' | 'private' | 'vepa' }
  | { readonly kind: 'vlan'; readonly parent: string; readonly vlanId: number }

export type LinkSpec = { readonly name: string; readonly netnsFd?: number } & LinkSettings & LinkKind

export interface Address {
  readonly dev: string
  readonly address: IpPrefix
  /** `global`, `link`, `host`, or a number. */
  readonly scope?: string
  /** Skip duplicate address detection (IFA_F_NODAD). */
  readonly noDad?: boolean
  readonly broadcast?: Ip
  readonly permanent?: boolean
  readonly tentative?: boolean
  readonly dadFailed?: boolean
}

export interface Route {
  readonly family: Family
  /** `default` or a subnet. */
  readonly dst: Cidr | 'default'
  readonly gateway?: Ip
  readonly dev?: string
  readonly src?: Ip
  /** RT_TABLE, 254 (main) unless given. */
  readonly table?: number
  readonly metric?: number
  readonly scope?: 'global' | 'link' | 'host'
  /** `unicast`, `blackhole`, `unreachable`, `prohibit`, `local`, ... */
  readonly type?: string
  /** `kernel`, `boot`, `static`, `ra`, ... or a number. */
  readonly protocol?: string | number
  readonly onlink?: boolean
}

export interface Neighbour {
  readonly dev: string
  readonly ip: Ip
  readonly mac?: Mac
  /** `permanent`, `reachable`, `stale`, `failed`, `noarp`, ... */
  readonly state: string
  readonly proxy?: boolean
}

export interface FdbEntry {
  readonly dev: string
  readonly mac: Mac
  readonly dst?: Ip
  readonly self?: boolean
  readonly permanent?: boolean
}

export interface PolicyRule {
  readonly family: Family
  readonly priority: number
  readonly from?: Cidr
  readonly to?: Cidr
  readonly iif?: string
  readonly oif?: string
  readonly mark?: number
  readonly mask?: number
  readonly table: number
}

/** One change. A list of steps is applied in order, in as few system calls as the kernel allows. */
export type Step =
  | { readonly op: 'link.add'; readonly link: LinkSpec }
  | { readonly op: 'link.set'; readonly dev: string; readonly set: LinkSettings }
  | { readonly op: 'link.rename'; readonly dev: string; readonly name: string }
  | { readonly op: 'link.move'; readonly dev: string; readonly netnsFd: number; readonly name?: string }
  | { readonly op: 'link.delete'; readonly dev: string }
  /** Deletes every link of an interface group in one request: 20x cheaper than one by one. */
  | { readonly op: 'link.deleteGroup'; readonly group: number }
  | { readonly op: 'addr.add' | 'addr.replace' | 'addr.delete'; readonly addr: Address }
  | { readonly op: 'route.add' | 'route.replace' | 'route.delete'; readonly route: Route }
  | { readonly op: 'neigh.replace' | 'neigh.delete'; readonly neigh: Neighbour }
  | { readonly op: 'fdb.append' | 'fdb.replace' | 'fdb.delete'; readonly fdb: FdbEntry }
  | { readonly op: 'rule.add' | 'rule.delete'; readonly rule: PolicyRule }

/** From rtnetlink messages to the values of `model/kernel-state.ts`: indexes become names, numbers the kernel's words. */
import { cidrOf, type Family, type Ip, ipFromBytes, ipPrefixOf } from '../base/address.ts'
import type { Address, BridgePort, FdbEntry, Link, Neighbour, PolicyRule, Route, VxlanInfo } from '../model/kernel-state.ts'
import { nameIn, PF_INET6, RT_SCOPE, RT_TABLE_MAIN, RTN, RTPROT } from '../wire/rtnetlink.ts'
import { type AddressMessage, IFA_F_DADFAILED, IFA_F_NODAD, IFA_F_PERMANENT, IFA_F_TENTATIVE } from '../wire/rtnetlink-addr.ts'
import { IFF_LOOPBACK, IFF_RUNNING, IFF_UP, type LinkMessage } from '../wire/rtnetlink-link.ts'
import { type BrportFlags, MACVLAN_MODE, type VxlanData } from '../wire/rtnetlink-link-info.ts'
import { type NeighbourMessage, NTF_PROXY, NTF_SELF, NUD } from '../wire/rtnetlink-neigh.ts'
import type { RouteMessage } from '../wire/rtnetlink-route.ts'
import type { RuleMessage } from '../wire/rtnetlink-rule.ts'

/** Name of a link index, '' when there is none. */
export type NameOf = (index: number) => string

/** The value without its undefined members, as exactOptionalPropertyTypes wants it. */
type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> }
function given<T extends object>(value: T): Given<T> {
  for (const key in value) if (value[key] === undefined) delete value[key]
  return value as Given<T>
}

const has = (bits: number, bit: number): boolean => (bits & bit) !== 0
const familyOfNumber = (family: number): Family => (family === PF_INET6 ? 6 : 4)

/** A link out of its message. */
export function toLink(m: LinkMessage): Link {
  const flags = m.flags ?? 0
  const info = m.info
  return given({
    index: m.index ?? 0,
    name: m.name ?? '',
    kind: info?.kind ?? '',
    mac: m.mac ?? '',
    mtu: m.mtu ?? 0,
    up: has(flags, IFF_UP),
    running: has(flags, IFF_RUNNING),
    loopback: has(flags, IFF_LOOPBACK),
    master: m.master ?? 0,
    link: m.link ?? 0,
    linkNetnsId: m.linkNetnsId,
    group: m.group ?? 0,
    alias: m.alias ?? '',
    txQueueLen: m.txQueueLen ?? 0,
    port: info?.port && toBridgePort(info.port),
    vxlan: info?.vxlan && toVxlan(info.vxlan),
    vlanId: info?.vlan?.id,
    macvlanMode: info?.macvlan?.mode === undefined ? undefined : nameIn(MACVLAN_MODE, info.macvlan.mode),
    stats: m.counters,
  }) as Link
}

/** Flags that an old kernel does not report have the value they always had there. */
export function toBridgePort(port: BrportFlags): BridgePort {
  return {
    isolated: port.isolated ?? false,
    hairpin: port.hairpin ?? false,
    learning: port.learning ?? true,
    neighSuppress: port.neighSuppress ?? false,
    unicastFlood: port.unicastFlood ?? true,
  }
}

function toVxlan(v: VxlanData): VxlanInfo {
  return given({
    vni: v.vni ?? 0,
    port: v.port ?? 0,
    local: v.local,
    learning: v.learning ?? false,
    proxy: v.proxy ?? false,
    l2miss: v.l2miss ?? false,
    l3miss: v.l3miss ?? false,
  }) as VxlanInfo
}

/** An address out of its message. */
export function toAddress(m: AddressMessage, nameOf: NameOf): Address {
  return given({
    dev: nameOf(m.index),
    address: ipPrefixOf(m.local, m.prefixLength),
    scope: nameIn(RT_SCOPE, m.scope),
    noDad: has(m.flags, IFA_F_NODAD),
    broadcast: m.broadcast,
    permanent: has(m.flags, IFA_F_PERMANENT),
    tentative: has(m.flags, IFA_F_TENTATIVE),
    dadFailed: has(m.flags, IFA_F_DADFAILED),
  }) as Address
}

/** A multipath route is shown by its first hop. */
export function toRoute(m: RouteMessage, nameOf: NameOf): Route {
  const family = familyOfNumber(m.family)
  const hop = m.hops?.[0]
  const oif = m.oif ?? hop?.oif
  const scope = nameIn(RT_SCOPE, m.scope)
  const dst: Ip = m.dst ?? ipFromBytes(new Uint8Array(family === 4 ? 4 : 16))
  return given({
    family,
    dst: m.dstLength === 0 ? ('default' as const) : cidrOf(dst, m.dstLength),
    gateway: m.gateway ?? hop?.gateway,
    dev: oif === undefined ? undefined : nameOf(oif),
    src: m.prefSrc,
    table: m.table === 0 ? RT_TABLE_MAIN : m.table,
    metric: m.priority,
    scope: scope === 'global' || scope === 'link' || scope === 'host' ? scope : undefined,
    type: nameIn(RTN, m.type),
    protocol: nameIn(RTPROT, m.protocol),
    onlink: has(m.flags | (hop?.flags ?? 0), 4) ? true : undefined,
  }) as Route
}

/** Undefined for an entry without an address, which no caller can name. */
export function toNeighbour(m: NeighbourMessage, nameOf: NameOf): Neighbour | undefined {
  if (m.dst === undefined) return undefined
  const proxy = has(m.flags, NTF_PROXY)
  return given({
    dev: nameOf(m.index),
    ip: m.dst,
    mac: m.mac,
    state: nameIn(NUD, m.state),
    proxy: proxy ? true : undefined,
  }) as Neighbour
}

/** A forwarding entry; undefined for a neighbour message that is none. */
export function toFdb(m: NeighbourMessage, nameOf: NameOf): FdbEntry | undefined {
  if (m.mac === undefined) return undefined
  return given({
    dev: nameOf(m.index),
    mac: m.mac,
    dst: m.dst,
    self: has(m.flags, NTF_SELF),
    permanent: has(m.state, NUD['permanent'] as number),
  }) as FdbEntry
}

/** A policy rule out of its message. */
export function toRule(m: RuleMessage): PolicyRule {
  return given({
    family: familyOfNumber(m.family),
    priority: m.priority ?? 0,
    from: m.src === undefined ? undefined : cidrOf(m.src, m.srcLength),
    to: m.dst === undefined ? undefined : cidrOf(m.dst, m.dstLength),
    iif: m.iif,
    oif: m.oif,
    mark: m.mark,
    mask: m.mask,
    table: m.table,
  }) as PolicyRule
}

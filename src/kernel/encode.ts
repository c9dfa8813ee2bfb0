/** From the values of `model/kernel-state.ts` to rtnetlink messages. `indexOf` finds a link or throws for the step at hand. */
import { bitsOf, type Cidr, familyOf, type Ip, splitPrefix } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { Address, FdbEntry, LinkKind, LinkSettings, LinkSpec, Neighbour, PolicyRule, Route, VethPeer } from '../model/kernel-state.ts'
import { numberIn, PF_BRIDGE, PF_INET, PF_INET6, RT_SCOPE, RT_TABLE_MAIN, RTN, RTPROT } from '../wire/rtnetlink.ts'
import { type AddressMessage, IFA_F_NODAD } from '../wire/rtnetlink-addr.ts'
import { ADDR_GEN_MODE, IFF_UP, type LinkMessage } from '../wire/rtnetlink-link.ts'
import { IPVLAN_FLAG, IPVLAN_MODE, type LinkInfo, MACVLAN_MODE } from '../wire/rtnetlink-link-info.ts'
import { type NeighbourMessage, NTF_MASTER, NTF_PROXY, NTF_SELF, NUD } from '../wire/rtnetlink-neigh.ts'
import { type RouteMessage, RTNH_F_ONLINK } from '../wire/rtnetlink-route.ts'
import { FR_ACT_TO_TBL, FR_ACT_UNSPEC, type RuleMessage } from '../wire/rtnetlink-rule.ts'

export type IndexOf = (name: string) => number

/** USER_HZ: the unit of bridge timers in messages. */
const CLOCK_TICKS_PER_SECOND = 100
const IFNAMSIZ = 16
/**
 * The kernel's own choice is one for each possible processor (drivers/net/veth.c veth_get_num_queues), every one of them with objects
 * in sysfs: a third of what a pair costs with 2 processors, most of it with 64. Packets use them only under XDP or threaded GRO.
 */
const VETH_QUEUES = 1

const familyNumber = (ip: Ip | Cidr): number => (familyOf(ip) === 4 ? PF_INET : PF_INET6)

function word(table: Readonly<Record<string, number>>, value: string | number, what: string): number {
  const number = numberIn(table, value)
  if (number === undefined) throw new NetError('invalid', `unknown ${what} "${value}", expected one of ${Object.keys(table).join(', ')}`)
  return number
}

/** How a message names a link that exists. */
export function byName(name: string): LinkMessage {
  return Buffer.byteLength(name) < IFNAMSIZ ? { name } : { altName: name }
}

function upFlag(up: boolean): Pick<LinkMessage, 'flags' | 'change'> {
  return { flags: up ? IFF_UP : 0, change: IFF_UP }
}

/** What can be given in the message that creates a link, for either end of a veth pair. */
function atBirth(from: LinkSettings & { readonly netnsFd?: number }): LinkMessage {
  const m: LinkMessage = {}
  if (from.mac !== undefined) m.mac = from.mac
  if (from.mtu !== undefined) m.mtu = from.mtu
  if (from.group !== undefined) m.group = from.group
  if (from.txQueueLen !== undefined) m.txQueueLen = from.txQueueLen
  if (from.netnsFd !== undefined) m.netnsFd = from.netnsFd
  return m
}

const IPV6_LEAST_MTU = 1280

/**
 * Messages that a birth does not understand or would do too early: rtnl_newlink_create() ignores IFLA_IFALIAS and
 * IFLA_AF_SPEC, port flags need the master to be there, and the address generation mode must be set before `up`
 * makes the address (do_setlink() takes flags before AF_SPEC).
 */
function afterwards(set: LinkSettings, upPending: boolean): LinkMessage[] {
  // a link with a smaller MTU has no IPv6 half (RFC 8200 section 5; addrconf_notify()), and setting anything of it fails with EAFNOSUPPORT
  const mode = set.mtu !== undefined && set.mtu < IPV6_LEAST_MTU ? undefined : set.addrGenMode
  const out: LinkMessage[] = []
  const m: LinkMessage = {}
  if (set.alias !== undefined) m.alias = set.alias
  if (mode !== undefined) m.addrGenMode = ADDR_GEN_MODE[mode] as number
  if (set.port !== undefined) m.info = { portKind: 'bridge', port: { ...set.port } }
  const up = set.up === true && upPending
  if (up && mode === undefined) Object.assign(m, upFlag(true))
  if (Object.keys(m).length > 0) out.push(m)
  if (up && mode !== undefined) out.push(upFlag(true))
  return out
}

/** The messages of `link.add`: the birth, what follows for the link, what follows for a veth's peer. Follow-ups carry no name yet. */
export interface LinkBirth {
  readonly create: LinkMessage
  readonly after: readonly LinkMessage[]
  readonly peer?: { readonly spec: VethPeer; readonly after: readonly LinkMessage[] }
}

/** The messages that make a link: what it can be born with in one, the rest in those that follow. `indexOf` throws for a name that is not there. */
export function encodeLinkAdd(spec: LinkSpec, indexOf: IndexOf): LinkBirth {
  const create: LinkMessage = { ...atBirth(spec), name: spec.name, info: infoOf(spec) }
  // A bridge born with an MTU still follows its ports' MTU; one that was changed later keeps it: br_mtu_auto_adjust().
  const pinsMtu = spec.kind === 'bridge' && spec.mtu !== undefined
  if (pinsMtu) delete create.mtu
  if (spec.master !== undefined && spec.master !== '') create.master = indexOf(spec.master)
  if (spec.kind === 'macvlan' || spec.kind === 'ipvlan' || spec.kind === 'vlan') create.link = indexOf(spec.parent)
  // Port flags first, then up: an isolated port must never forward before it is isolated.
  const upAtBirth = spec.up === true && spec.addrGenMode === undefined && spec.port === undefined
  if (upAtBirth) Object.assign(create, upFlag(true))
  const after = [...(pinsMtu ? [{ mtu: spec.mtu as number }] : []), ...afterwards(spec, !upAtBirth)]
  if (spec.kind !== 'veth') return { create, after }
  create.queues = VETH_QUEUES
  create.peer = { ...atBirth(spec.peer), name: spec.peer.name, queues: VETH_QUEUES }
  // Up in the birth message fails with ENOTCONN: veth_open() runs before the two ends know each other (drivers/net/veth.c).
  return { create, after, peer: { spec: spec.peer, after: afterwards(spec.peer, true) } }
}

function infoOf(kind: LinkKind): LinkInfo {
  switch (kind.kind) {
    case 'veth':
    case 'dummy':
      return { kind: kind.kind }
    case 'bridge': {
      const bridge: NonNullable<LinkInfo['bridge']> = {}
      if (kind.ageingTimeSeconds !== undefined) bridge.ageingTime = kind.ageingTimeSeconds * CLOCK_TICKS_PER_SECOND
      if (kind.vlanDefaultPvid !== undefined) bridge.vlanDefaultPvid = kind.vlanDefaultPvid
      return { kind: 'bridge', bridge }
    }
    case 'vxlan':
      // Any IPv6 address, also the unspecified one, makes the tunnel's socket an IPv6 one: vxlan_config_validate().
      return { kind: 'vxlan', vxlan: { ...kind.vxlan, ...(kind.group6 === true ? { group: '::' as Ip } : {}) } }
    case 'macvlan':
      return { kind: 'macvlan', macvlan: { mode: word(MACVLAN_MODE, kind.mode, 'macvlan mode') } }
    case 'ipvlan':
      return {
        kind: 'ipvlan',
        ipvlan: { mode: word(IPVLAN_MODE, kind.mode, 'ipvlan mode'), flags: word(IPVLAN_FLAG, kind.flag, 'ipvlan flag') },
      }
    case 'vlan':
      return { kind: 'vlan', vlan: { id: kind.vlanId } }
  }
}

/** The messages of `link.set`, without the link's name. Empty when `set` says nothing. */
export function encodeLinkSet(set: LinkSettings, indexOf: IndexOf): LinkMessage[] {
  const first: LinkMessage = atBirth(set)
  if (set.master !== undefined) first.master = set.master === '' ? 0 : indexOf(set.master)
  if (set.up === false) Object.assign(first, upFlag(false))
  const out = Object.keys(first).length > 0 ? [first] : []
  const after = afterwards(set, true)
  const next = after[0]
  // One message does unless the port flags have to wait for the new master.
  if (out.length > 0 && next !== undefined && !(set.master !== undefined && set.port !== undefined))
    return [{ ...first, ...next }, ...after.slice(1)]
  return [...out, ...after]
}

/** RTM_NEWADDR or RTM_DELADDR of an address. */
export function encodeAddress(address: Address, indexOf: IndexOf): AddressMessage {
  const { ip, length } = splitPrefix(address.address)
  const loopback = ip.startsWith('127.') || ip === '::1'
  const m: AddressMessage = {
    family: familyNumber(ip),
    prefixLength: length,
    index: indexOf(address.dev),
    scope: word(RT_SCOPE, address.scope ?? (loopback ? 'host' : 'global'), 'scope'),
    flags: address.noDad === true ? IFA_F_NODAD : 0,
    local: ip,
  }
  if (address.broadcast !== undefined) m.broadcast = address.broadcast
  return m
}

/** Types that lead nowhere have no scope of their own in IPv4 other than the widest. */
function defaultScope(type: number, hasGateway: boolean): number {
  const local = type === RTN['local']
  if (local) return RT_SCOPE['host'] as number
  const near = type === RTN['broadcast'] || type === RTN['multicast'] || type === RTN['anycast']
  return near || (type === RTN['unicast'] && !hasGateway) ? (RT_SCOPE['link'] as number) : (RT_SCOPE['global'] as number)
}

/** With `deleting`, what the route does not say stays open: the kernel takes the first that matches. */
export function encodeRoute(route: Route, deleting: boolean, indexOf: IndexOf): RouteMessage {
  const dst = route.dst === 'default' ? undefined : splitPrefix(route.dst)
  const type = route.type === undefined && deleting ? 0 : word(RTN, route.type ?? 'unicast', 'route type')
  const openScope = deleting ? (RT_SCOPE['nowhere'] as number) : defaultScope(type, route.gateway !== undefined)
  const m: RouteMessage = {
    family: route.family === 4 ? PF_INET : PF_INET6,
    dstLength: dst?.length ?? 0,
    srcLength: 0,
    tos: 0,
    table: route.table ?? RT_TABLE_MAIN,
    protocol: word(RTPROT, route.protocol ?? (deleting ? 'unspec' : 'boot'), 'route protocol'),
    scope: route.scope === undefined ? openScope : (RT_SCOPE[route.scope] as number),
    type,
    flags: route.onlink === true ? RTNH_F_ONLINK : 0,
  }
  if (dst !== undefined) m.dst = dst.ip
  if (route.gateway !== undefined) m.gateway = route.gateway
  if (route.dev !== undefined) m.oif = indexOf(route.dev)
  if (route.src !== undefined) m.prefSrc = route.src
  if (route.metric !== undefined) m.priority = route.metric
  return m
}

/** RTM_NEWNEIGH or RTM_DELNEIGH of a neighbour. */
export function encodeNeighbour(neighbour: Neighbour, indexOf: IndexOf): NeighbourMessage {
  const proxy = neighbour.proxy === true
  const m: NeighbourMessage = {
    family: familyNumber(neighbour.ip),
    index: indexOf(neighbour.dev),
    state: proxy ? 0 : word(NUD, neighbour.state, 'neighbour state'),
    flags: proxy ? NTF_PROXY : 0,
    dst: neighbour.ip,
  }
  if (neighbour.mac !== undefined) m.mac = neighbour.mac
  return m
}

/**
 * `self` (the device's own table; assumed when there is a tunnel end) or the bridge's table. In a bridge's table the
 * kernel takes NUD_PERMANENT for an address of the bridge itself, so an entry that only shall not age is NUD_NOARP there.
 */
export function encodeFdb(fdb: FdbEntry, indexOf: IndexOf): NeighbourMessage {
  const self = fdb.self ?? fdb.dst !== undefined
  const stays = self ? fdb.permanent !== false : fdb.permanent === true
  const other = self ? 'reachable' : fdb.permanent === false ? 'reachable' : 'noarp'
  const m: NeighbourMessage = {
    family: PF_BRIDGE,
    index: indexOf(fdb.dev),
    state: NUD[stays ? 'permanent' : other] as number,
    flags: self ? NTF_SELF : NTF_MASTER,
    mac: fdb.mac,
  }
  if (fdb.dst !== undefined) m.dst = fdb.dst
  return m
}

/** RTM_NEWRULE or RTM_DELRULE of a policy rule. */
export function encodeRule(rule: PolicyRule, deleting: boolean): RuleMessage {
  const from = rule.from && splitPrefix(rule.from)
  const to = rule.to && splitPrefix(rule.to)
  const m: RuleMessage = {
    family: rule.family === 4 ? PF_INET : PF_INET6,
    dstLength: to?.length ?? 0,
    srcLength: from?.length ?? 0,
    tos: 0,
    table: rule.table,
    action: deleting ? FR_ACT_UNSPEC : FR_ACT_TO_TBL,
    flags: 0,
    priority: rule.priority,
  }
  if (from !== undefined && from.length > 0) m.src = from.ip
  if (to !== undefined && to.length > 0) m.dst = to.ip
  if (rule.iif !== undefined) m.iif = rule.iif
  if (rule.oif !== undefined) m.oif = rule.oif
  if (rule.mark !== undefined) m.mark = rule.mark
  if (rule.mask !== undefined) m.mask = rule.mask
  return m
}

/** A host route's length for a family, for lookups. */
export const hostLength = (ip: Ip): number => bitsOf(familyOf(ip))

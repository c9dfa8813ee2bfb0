/**
 * Addresses and routes of an interface, read and written whole: lifetimes, labels, metrics and whatever else the kernel says of them
 * goes along when they move to another interface. Names are resolved once per call.
 */
import { NetError } from '../../base/errors.ts'
import { indexOfLink } from '../../sys/ifindex.ts'
import { kernelError } from '../../sys/libc.ts'
import { NETLINK_ROUTE, type NetlinkRequest, NetlinkSocket } from '../../sys/netlink-socket.ts'
import { NLM_F_CREATE, NLM_F_REPLACE } from '../../wire/netlink.ts'
import {
  PF_INET6,
  RT_SCOPE,
  RTM_DELADDR,
  RTM_DELROUTE,
  RTM_GETADDR,
  RTM_GETROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWROUTE,
  RTN,
} from '../../wire/rtnetlink.ts'
import { type AddressMessage, decodeAddress, IFA_F_NODAD, writeAddress, writeAddressFilter } from '../../wire/rtnetlink-addr.ts'
import { IFF_UP, type LinkMessage, writeLink } from '../../wire/rtnetlink-link.ts'
import { decodeRoute, type RouteMessage, RTM_F_CLONED, RTNH_F_ONLINK, writeRoute } from '../../wire/rtnetlink-route.ts'

/** RTA_FLOW, RTA_METRICS, RTA_PREF, RTA_ENCAP_TYPE, RTA_ENCAP: what of a dumped route can be given back besides what the codec reads. */
const KEPT_ROUTE_ATTRS: ReadonlySet<number> = new Set([11, 8, 20, 21, 22])
const LOCAL_TABLE = 255
const LINK_LOCAL = /^fe[89ab]/

/** A route with the number of the interface that it was read from: of its hops only that one moves. */
export type StateRoute = RouteMessage & { readonly ofIndex: number }

export interface Crossing {
  readonly card: string
  /** Bridge that the card becomes a port of, '' = none. */
  readonly master: string
  /** Where the addresses are taken from. */
  readonly from: string
  /** What the routes lead over afterwards. */
  readonly to: string
  readonly addresses: readonly AddressMessage[]
  readonly routes: readonly StateRoute[]
}

export class InterfaceState {
  readonly #socket: NetlinkSocket

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  /** On the calling process's own namespace. */
  static open(): InterfaceState {
    return new InterfaceState(NetlinkSocket.open(NETLINK_ROUTE))
  }

  close(): void {
    this.#socket.close()
  }

  /** In the kernel's order: of two in one subnet the first is the one that is sent from. Link-local IPv6 addresses belong to the link and stay. */
  addresses(dev: string): AddressMessage[] {
    const index = this.#indexOf(dev)
    return this.#socket.dump(
      'addresses',
      RTM_GETADDR,
      (w) => writeAddressFilter(w, 0, index),
      ({ payload }) => {
        const m = decodeAddress(payload, true)
        const stays = m.family === PF_INET6 && m.scope === RT_SCOPE['link']
        return m.index === index && !stays ? m : undefined
      },
    )
  }

  /** Unicast routes over the interface in every table, without those that every IPv6 link has. */
  routes(dev: string): StateRoute[] {
    const index = this.#indexOf(dev)
    const found = [2, PF_INET6].flatMap((family) =>
      this.#socket.dump(
        'routes',
        RTM_GETROUTE,
        (w) =>
          writeRoute(w, { family, dstLength: 0, srcLength: 0, tos: 0, table: 0, protocol: 0, scope: 0, type: 0, flags: 0, oif: index }),
        ({ payload }) => {
          const m = decodeRoute(payload, true)
          const leadsHere = m.oif === index || m.hops?.some((hop) => hop.oif === index) === true
          const ofTheLink = m.table === LOCAL_TABLE || m.type !== RTN['unicast'] || (m.dst !== undefined && LINK_LOCAL.test(m.dst))
          return leadsHere && !ofTheLink && (m.flags & RTM_F_CLONED) === 0 ? { ...writable(m), ofIndex: index } : undefined
        },
      ),
    )
    // what other gateways are reached by comes first: larger prefixes, and routes without a gateway
    return found.sort((a, b) => Number(a.gateway !== undefined) - Number(b.gateway !== undefined))
  }

  /** Puts addresses that were read from `from` (of any index) on `dev` too. Those that are there already are brought up to date. */
  addAddresses(dev: string, addresses: readonly AddressMessage[], from: string): void {
    const index = this.#indexOf(dev)
    for (const address of addresses) {
      const m: AddressMessage = { ...address, index }
      // it is in use: asking whether somebody has it would take it away for two seconds
      if (address.family === PF_INET6) m.flags |= IFA_F_NODAD
      if (address.label !== undefined) m.label = relabel(address.label, from, dev)
      const ack = this.#socket.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, (w) => writeAddress(w, m))
      if (ack.errno !== 0) throw kernelError('add address', `${m.local}/${m.prefixLength} dev ${dev}`, ack.errno, ack.text)
    }
  }

  /**
   * In one system call, so that no crash can come in between: makes the card a port of a bridge (or frees it), leads routes over `to`, and
   * takes addresses from `from`. A route with the same destination, table and metric is replaced; one that `to` has already, because
   * the kernel makes it with an address, is left. Returns what the kernel refused; it does the rest all the same. Beyond 128 changes it takes
   * further calls.
   */
  cross({ card, master, from, to, addresses, routes }: Crossing): NetError[] {
    const cardIndex = this.#indexOf(card)
    const toIndex = this.#indexOf(to)
    const fromIndex = this.#indexOf(from)
    const there = new Set(this.routes(to).map(routeKey))
    const port: LinkMessage = { index: cardIndex, master: master === '' ? 0 : this.#indexOf(master), flags: IFF_UP, change: IFF_UP }
    const what = [`make ${card} ${master === '' ? 'no port of a bridge' : `a port of ${master}`}`]
    const requests: NetlinkRequest[] = [{ type: RTM_NEWLINK, flags: 0, write: (w) => writeLink(w, port) }]
    for (const route of routes) {
      if (there.has(routeKey(route))) continue
      const m = over(route, toIndex)
      what.push(`lead route ${m.dst ?? 'default'}/${m.dstLength} over ${to}`)
      requests.push({ type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_REPLACE, write: (w) => writeRoute(w, m) })
    }
    // the last first: with the first of a subnet the others would go
    for (const { family, prefixLength, scope, local, peer } of [...addresses].reverse()) {
      const m: AddressMessage = { family, prefixLength, scope, local, index: fromIndex, flags: 0, ...(peer === undefined ? {} : { peer }) }
      what.push(`take address ${local} from ${from}`)
      requests.push({ type: RTM_DELADDR, flags: 0, write: (w) => writeAddress(w, m) })
    }
    return this.#socket
      .batch(requests)
      .flatMap(({ errno, text }, i) =>
        errno === 0 || (requests[i]?.type === RTM_DELADDR && isMissing(errno)) ? [] : [kernelError(what[i] as string, card, errno, text)],
      )
  }

  /** Routes over an interface that has them without being a port; those that are refused are returned. */
  leadRoutes(to: string, routes: readonly StateRoute[]): NetError[] {
    const index = this.#indexOf(to)
    const there = new Set(this.routes(to).map(routeKey))
    return routes
      .filter((route) => !there.has(routeKey(route)))
      .flatMap((route) => {
        const m = over(route, index)
        const { errno, text } = this.#socket.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, (w) => writeRoute(w, m))
        return errno === 0 ? [] : [kernelError('lead route', `${m.dst ?? 'default'}/${m.dstLength} over ${to}`, errno, text)]
      })
  }

  /** Missing ones are fine. */
  deleteRoutes(routes: readonly StateRoute[]): void {
    for (const { ofIndex: _, ...route } of routes) {
      const { errno, text } = this.#socket.request(RTM_DELROUTE, 0, (w) => writeRoute(w, route))
      if (errno !== 0 && !isMissing(errno)) throw kernelError('delete route', `${route.dst ?? 'default'}/${route.dstLength}`, errno, text)
    }
  }

  #indexOf(dev: string): number {
    const index = indexOfLink(this.#socket.fd, dev)
    if (index === 0) throw new NetError('not-found', `there is no interface ${dev}`, { subject: dev, errno: 'ENODEV' })
    return index
  }
}

/** Two routes with one key cannot stand side by side; the gateway tells a wanted one from the kernel's own. */
function routeKey(m: RouteMessage): string {
  return [m.family, m.table, m.dst ?? 'default', m.dstLength, m.tos, m.priority ?? 0, m.gateway ?? '', m.hops?.length ?? 0].join(' ')
}

/** The same route over another interface. */
function over({ ofIndex, ...route }: StateRoute, index: number): RouteMessage {
  const m: RouteMessage = { ...route }
  if (m.oif === ofIndex) m.oif = index
  if (route.hops !== undefined) m.hops = route.hops.map((hop) => ({ ...hop, oif: hop.oif === ofIndex ? index : hop.oif }))
  return m
}

/** Without what only the kernel may say of a route: counters, offloading, state of its links. */
function writable(m: RouteMessage): RouteMessage {
  const { unknown, ...route } = m
  const kept = (unknown ?? []).filter((attr) => KEPT_ROUTE_ATTRS.has(attr.type))
  const hops = m.hops?.map((hop) => ({ ...hop, flags: hop.flags & RTNH_F_ONLINK }))
  return {
    ...route,
    flags: m.flags & RTNH_F_ONLINK,
    ...(hops === undefined ? {} : { hops }),
    ...(kept.length === 0 ? {} : { unknown: kept }),
  }
}

/** An IPv4 label begins with the interface's name: `eth0:1`. What would be too long is left out. */
function relabel(label: string, from: string, to: string): string {
  if (label.startsWith(to)) return label
  const next = label.startsWith(from) ? to + label.slice(from.length) : to
  return next.length < 16 ? next : to
}

/** EADDRNOTAVAIL, ENOENT, ESRCH, ENODEV. */
const isMissing = (errno: number): boolean => [99, 2, 3, 19].includes(errno)

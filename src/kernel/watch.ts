/**
 * The kernel's notifications of one namespace, decoded. They are hints with values: a burst can overrun the socket, which
 * is reported as `overrun` and means that everything must be read again.
 */
import type { Address, BridgePort, FdbEntry, Link, Neighbour, Route } from '../model/kernel-state.ts'
import { nameOfLink } from '../sys/ifindex.ts'
import { close } from '../sys/libc.ts'
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket, openNetlinkFd } from '../sys/netlink-socket.ts'
import type { Netns } from '../sys/netns.ts'
import type { Reactor } from '../sys/reactor.ts'
import { AttrReader, type NetlinkMessage, needHeader, splitMessages } from '../wire/netlink.ts'
import {
  PF_BRIDGE,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_GETLINK,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWNETCONF,
  RTM_NEWROUTE,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_NETCONF,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_NETCONF,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from '../wire/rtnetlink.ts'
import { decodeAddress } from '../wire/rtnetlink-addr.ts'
import { decodeLink, type LinkMessage, RTEXT_FILTER_SKIP_STATS, writeLink } from '../wire/rtnetlink-link.ts'
import { decodeNeighbour } from '../wire/rtnetlink-neigh.ts'
import { decodeNetconf, NETCONFA_IFINDEX_DEFAULT } from '../wire/rtnetlink-netconf.ts'
import { decodeRoute, RTM_F_CLONED } from '../wire/rtnetlink-route.ts'
import { type NameOf, toAddress, toBridgePort, toFdb, toLink, toNeighbour, toRoute } from './decode.ts'

export type WatchGroup = 'link' | 'addr4' | 'addr6' | 'route4' | 'route6' | 'neigh' | 'netconf4' | 'netconf6' | 'nft'
export type Change = 'new' | 'delete'

export type KernelEvent =
  | { readonly kind: 'link'; readonly change: Change; readonly link: Link }
  /** A bridge port changed its flags, joined (`new`) or left (`delete`) its bridge; the link itself goes on. */
  | { readonly kind: 'port'; readonly change: Change; readonly dev: string; readonly master: number; readonly port?: BridgePort }
  | { readonly kind: 'addr'; readonly change: Change; readonly addr: Address }
  | { readonly kind: 'route'; readonly change: Change; readonly route: Route }
  | { readonly kind: 'neigh'; readonly change: Change; readonly neigh: Neighbour }
  /** A forwarding entry of a bridge or a tunnel; comes with the group `neigh`. */
  | { readonly kind: 'fdb'; readonly change: Change; readonly fdb: FdbEntry }
  /** Forwarding of an interface (or of all: `dev` is '') was switched. */
  | { readonly kind: 'forwarding'; readonly family: 4 | 6; readonly dev: string; readonly on: boolean }
  /** Something in nftables changed. `table` where the message names one; the commit notice names the process instead. */
  | { readonly kind: 'nft'; readonly table?: string; readonly pid?: number; readonly process?: string }
  /** Notifications were lost: read everything again. */
  | { readonly kind: 'overrun' }

export interface KernelWatch {
  close(): void
}

const GROUP_NUMBER: Readonly<Record<Exclude<WatchGroup, 'nft'>, number>> = {
  link: RTNLGRP_LINK,
  addr4: RTNLGRP_IPV4_IFADDR,
  addr6: RTNLGRP_IPV6_IFADDR,
  route4: RTNLGRP_IPV4_ROUTE,
  route6: RTNLGRP_IPV6_ROUTE,
  neigh: RTNLGRP_NEIGH,
  netconf4: RTNLGRP_IPV4_NETCONF,
  netconf6: RTNLGRP_IPV6_NETCONF,
}
const NFNLGRP_NFTABLES = 7
const RECEIVE_BYTES = 8 << 20

/**
 * Watches `ns` (this process's own namespace when absent). `onChange` gets what one wake-up found, in order. Subscribe first
 * and list afterwards: then no change falls between. The namespace's descriptor may be closed afterwards.
 */
export function watchKernel(
  reactor: Reactor,
  ns: Netns | undefined,
  groups: readonly WatchGroup[],
  onChange: (events: KernelEvent[]) => void,
): KernelWatch {
  const closers: (() => void)[] = []
  const watch = (fd: number, decoder: Decoder): void => {
    const lost = () => {
      decoder.resync()
      onChange([{ kind: 'overrun' }])
    }
    const subscription = reactor.onPackets(
      fd,
      (packets) => {
        const events = packets.flatMap((packet) => splitMessages(packet).flatMap((message) => decoder.decode(message) ?? []))
        if (events.length > 0) onChange(events)
      },
      lost, // a socket that ended cannot tell what it missed either
      { onOverrun: lost },
    )
    closers.push(() => {
      subscription.close()
      decoder.close()
      close(fd)
    })
  }
  const wanted = new Set(groups)
  if (groups.some((group) => group !== 'nft')) {
    // Links always: they give the names that the other notices lack.
    const numbers = [RTNLGRP_LINK, ...groups.filter((group) => group !== 'nft' && group !== 'link').map((group) => GROUP_NUMBER[group])]
    watch(openNetlinkFd(NETLINK_ROUTE, ns, numbers, RECEIVE_BYTES), new RouteDecoder(ns, wanted.has('link')))
  }
  if (wanted.has('nft')) {
    const decoder: Decoder = { decode: decodeNft, resync: () => {}, close: () => {} }
    watch(openNetlinkFd(NETLINK_NETFILTER, ns, [NFNLGRP_NFTABLES], RECEIVE_BYTES), decoder)
  }
  return {
    close: () => {
      for (const stop of closers.splice(0)) stop()
    },
  }
}

interface Decoder {
  decode(message: NetlinkMessage): KernelEvent | undefined
  /** Notifications were lost. */
  resync(): void
  close(): void
}

/**
 * Keeps the names of all links: notices carry indexes only, they are read later than they were sent, and a link may
 * have gone in between.
 */
class RouteDecoder implements Decoder {
  readonly #names = new Map<number, string>()
  readonly #lister: NetlinkSocket
  readonly #tellsLinks: boolean

  /** Made after the notifications were joined, so that no link falls between. */
  constructor(ns: Netns | undefined, tellsLinks: boolean) {
    this.#lister = NetlinkSocket.open(NETLINK_ROUTE, ns)
    this.#tellsLinks = tellsLinks
    this.resync()
  }

  close(): void {
    this.#lister.close()
  }

  resync(): void {
    const links = this.#lister.dump(
      'links',
      RTM_GETLINK,
      (w) => writeLink(w, { extMask: RTEXT_FILTER_SKIP_STATS }),
      ({ payload }) => decodeLink(payload),
    )
    this.#names.clear()
    for (const link of links) this.#names.set(link.index ?? 0, link.name ?? '')
  }

  readonly #nameOf: NameOf = (index) => this.#names.get(index) ?? nameOfLink(this.#lister.fd, index)

  decode(message: NetlinkMessage): KernelEvent | undefined {
    const { type, payload } = message
    switch (type) {
      case RTM_NEWLINK:
      case RTM_DELLINK:
        return this.#link(type === RTM_NEWLINK ? 'new' : 'delete', payload)
      case RTM_NEWADDR:
      case RTM_DELADDR:
        return { kind: 'addr', change: type === RTM_NEWADDR ? 'new' : 'delete', addr: toAddress(decodeAddress(payload), this.#nameOf) }
      case RTM_NEWROUTE:
      case RTM_DELROUTE: {
        const m = decodeRoute(payload)
        if ((m.flags & RTM_F_CLONED) !== 0) return undefined
        return { kind: 'route', change: type === RTM_NEWROUTE ? 'new' : 'delete', route: toRoute(m, this.#nameOf) }
      }
      case RTM_NEWNEIGH:
      case RTM_DELNEIGH: {
        const m = decodeNeighbour(payload)
        const change = type === RTM_NEWNEIGH ? 'new' : 'delete'
        if (m.family === PF_BRIDGE) {
          const fdb = toFdb(m, this.#nameOf)
          return fdb && { kind: 'fdb', change, fdb }
        }
        const neigh = toNeighbour(m, this.#nameOf)
        return neigh && { kind: 'neigh', change, neigh }
      }
      case RTM_NEWNETCONF: {
        const conf = decodeNetconf(payload)
        if (conf.forwarding === undefined || conf.ifindex === NETCONFA_IFINDEX_DEFAULT) return undefined
        const dev = conf.ifindex > 0 ? this.#nameOf(conf.ifindex) : ''
        return { kind: 'forwarding', family: conf.family, dev, on: conf.forwarding }
      }
      default:
        return undefined
    }
  }

  #link(change: Change, payload: Uint8Array): KernelEvent | undefined {
    const m = decodeLink(payload)
    if (m.family === PF_BRIDGE) return this.#tellsLinks ? portEvent(change, m) : undefined
    const link = toLink(m)
    if (change === 'new') this.#names.set(link.index, link.name)
    else this.#names.delete(link.index)
    return this.#tellsLinks ? { kind: 'link', change, link } : undefined
  }
}

/** An AF_BRIDGE message is about a port: its RTM_DELLINK says that the link left the bridge, not that it has gone. */
function portEvent(change: Change, m: LinkMessage): KernelEvent {
  const event = { kind: 'port', change, dev: m.name ?? '', master: m.master ?? 0 } as const
  return m.protinfo === undefined ? event : { ...event, port: toBridgePort(m.protinfo) }
}

const NFGENMSG_BYTES = 4
const NFT_MSG_NEWGEN = 15
/** The same number in every object's attributes: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE... */
const NFTA_TABLE = 1
const NFTA_GEN_PROC_PID = 2
const NFTA_GEN_PROC_NAME = 3

function decodeNft(message: NetlinkMessage): KernelEvent {
  const { payload } = message
  const view = needHeader(payload, NFGENMSG_BYTES, 'nftables')
  const r = new AttrReader(payload, NFGENMSG_BYTES, payload.length, view)
  const found: { table?: string; pid?: number; process?: string } = {}
  const isCommit = (message.type & 0xff) === NFT_MSG_NEWGEN
  while (r.next()) {
    if (!isCommit && r.type === NFTA_TABLE) found.table = r.text()
    if (isCommit && r.type === NFTA_GEN_PROC_PID) found.pid = r.u32be()
    if (isCommit && r.type === NFTA_GEN_PROC_NAME) found.process = r.text()
  }
  return { kind: 'nft', ...found }
}

/**
 * The kernel's notifications of one namespace, decoded. They are hints with values: a burst can overrun the socket, which
 * is reported as `overrun` and means that everything must be read again.
 */
import type { Address, BridgePort, Link, Neighbour, Route } from '../model/kernel-state.ts'
import { nameOfLink } from '../sys/ifindex.ts'
import { close } from '../sys/libc.ts'
import { NETLINK_NETFILTER, NETLINK_ROUTE, openNetlinkFd } from '../sys/netlink-socket.ts'
import type { Netns } from '../sys/netns.ts'
import type { Reactor } from '../sys/reactor.ts'
import { AttrReader, type NetlinkMessage, needHeader, splitMessages } from '../wire/netlink.ts'
import {
  PF_BRIDGE,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from '../wire/rtnetlink.ts'
import { decodeAddress } from '../wire/rtnetlink-addr.ts'
import { decodeLink } from '../wire/rtnetlink-link.ts'
import { decodeNeighbour } from '../wire/rtnetlink-neigh.ts'
import { decodeRoute, RTM_F_CLONED } from '../wire/rtnetlink-route.ts'
import { type NameOf, toAddress, toBridgePort, toLink, toNeighbour, toRoute } from './decode.ts'

export type WatchGroup = 'link' | 'addr4' | 'addr6' | 'route4' | 'route6' | 'neigh' | 'nft'
export type Change = 'new' | 'delete'

export type KernelEvent =
  | { readonly kind: 'link'; readonly change: Change; readonly link: Link }
  /** A bridge port changed its flags, joined (`new`) or left (`delete`) its bridge; the link itself goes on. */
  | { readonly kind: 'port'; readonly change: Change; readonly dev: string; readonly master: number; readonly port?: BridgePort }
  | { readonly kind: 'addr'; readonly change: Change; readonly addr: Address }
  | { readonly kind: 'route'; readonly change: Change; readonly route: Route }
  | { readonly kind: 'neigh'; readonly change: Change; readonly neigh: Neighbour }
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
}
const NFNLGRP_NFTABLES = 7
const RECEIVE_BYTES = 8 << 20
const KNOWN_NAMES = 4096

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
  const watch = (protocol: number, numbers: readonly number[], decoderOf: (fd: number) => Decoder): void => {
    const fd = openNetlinkFd(protocol, ns, numbers, RECEIVE_BYTES)
    const decode = decoderOf(fd)
    const subscription = reactor.onPackets(
      fd,
      (packets) => {
        const events = packets.flatMap((packet) => splitMessages(packet).flatMap((message) => decode(message) ?? []))
        if (events.length > 0) onChange(events)
      },
      () => onChange([{ kind: 'overrun' }]), // a socket that ended cannot tell what it missed either
      { onOverrun: () => onChange([{ kind: 'overrun' }]) },
    )
    closers.push(() => {
      subscription.close()
      close(fd)
    })
  }
  const routeGroups = groups.filter((group) => group !== 'nft').map((group) => GROUP_NUMBER[group])
  if (routeGroups.length > 0) watch(NETLINK_ROUTE, routeGroups, routeDecoder)
  if (groups.includes('nft')) watch(NETLINK_NETFILTER, [NFNLGRP_NFTABLES], () => decodeNft)
  return {
    close: () => {
      for (const stop of closers.splice(0)) stop()
    },
  }
}

type Decoder = (message: NetlinkMessage) => KernelEvent | undefined

/** Remembers names, because the notice of an address's end comes when its link has gone already. */
function routeDecoder(fd: number): Decoder {
  const names = new Map<number, string>()
  const remember = (index: number, name: string): string => {
    if (names.size >= KNOWN_NAMES) names.clear()
    names.set(index, name)
    return name
  }
  const nameOf: NameOf = (index) => {
    const name = nameOfLink(fd, index)
    return name === '' ? (names.get(index) ?? '') : remember(index, name)
  }
  return (message) => {
    const { type, payload } = message
    switch (type) {
      case RTM_NEWLINK:
      case RTM_DELLINK: {
        const m = decodeLink(payload)
        const change = type === RTM_NEWLINK ? 'new' : 'delete'
        if (m.family === PF_BRIDGE) return portEvent(change, m.name ?? '', m.master ?? 0, m.protinfo && toBridgePort(m.protinfo))
        const link = toLink(m)
        if (change === 'new') remember(link.index, link.name)
        else names.delete(link.index)
        return { kind: 'link', change, link }
      }
      case RTM_NEWADDR:
      case RTM_DELADDR:
        return { kind: 'addr', change: type === RTM_NEWADDR ? 'new' : 'delete', addr: toAddress(decodeAddress(payload), nameOf) }
      case RTM_NEWROUTE:
      case RTM_DELROUTE: {
        const m = decodeRoute(payload)
        if ((m.flags & RTM_F_CLONED) !== 0) return undefined
        return { kind: 'route', change: type === RTM_NEWROUTE ? 'new' : 'delete', route: toRoute(m, nameOf) }
      }
      case RTM_NEWNEIGH:
      case RTM_DELNEIGH: {
        const m = decodeNeighbour(payload)
        const neigh = m.family === PF_BRIDGE ? undefined : toNeighbour(m, nameOf)
        return neigh && { kind: 'neigh', change: type === RTM_NEWNEIGH ? 'new' : 'delete', neigh }
      }
      default:
        return undefined
    }
  }
}

/** An AF_BRIDGE message is about a port: its RTM_DELLINK says that the link left the bridge, not that it has gone. */
function portEvent(change: Change, dev: string, master: number, port: BridgePort | undefined): KernelEvent {
  return port === undefined ? { kind: 'port', change, dev, master } : { kind: 'port', change, dev, master, port }
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

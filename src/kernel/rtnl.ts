/**
 * One network namespace's kernel over rtnetlink. Steps are sent one after the other and each is acknowledged before the
 * next: a step behind a refused one is never run, which a batch cannot promise (the kernel runs all of it), and an
 * exchange costs only 1.2 us. A handle holds a socket of its namespace and so keeps the namespace alive until closed.
 */
import { type Family, familyOf, parseIp } from '../base/address.ts'
import { hasCode, NetError } from '../base/errors.ts'
import type { Address, FdbEntry, Link, LinkSpec, Neighbour, PolicyRule, Route, Step } from '../model/kernel-state.ts'
import { indexOfLink, isLinkRunning, nameOfLink } from '../sys/ifindex.ts'
import { EBUSY, errnoName, kernelError } from '../sys/libc.ts'
import { NETLINK_ROUTE, NetlinkSocket } from '../sys/netlink-socket.ts'
import type { Netns } from '../sys/netns.ts'
import { pause } from '../sys/pause.ts'
import { type NetlinkAck, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from '../wire/netlink.ts'
import {
  PF_BRIDGE,
  PF_INET,
  PF_INET6,
  PF_UNSPEC,
  RT_TABLE_MAIN,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_GETROUTE,
  RTM_GETRULE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTM_NEWRULE,
} from '../wire/rtnetlink.ts'
import { decodeAddress, writeAddress, writeAddressFilter } from '../wire/rtnetlink-addr.ts'
import { decodeLink, type LinkMessage, writeLink } from '../wire/rtnetlink-link.ts'
import { decodeNeighbour, NTF_PROXY, writeNeighbour, writeNeighbourFilter } from '../wire/rtnetlink-neigh.ts'
import { decodeRoute, type RouteMessage, RTM_F_CLONED, RTM_F_LOOKUP_TABLE, writeRoute } from '../wire/rtnetlink-route.ts'
import { decodeRule, writeRule } from '../wire/rtnetlink-rule.ts'
import { type NameOf, toAddress, toFdb, toLink, toNeighbour, toRoute, toRule } from './decode.ts'
import {
  byName,
  encodeAddress,
  encodeFdb,
  encodeLinkAdd,
  encodeLinkSet,
  encodeNeighbour,
  encodeRoute,
  encodeRule,
  hostLength,
  type IndexOf,
} from './encode.ts'
import { LinkReaper } from './link-reaper.ts'
import { describeStep } from './step-text.ts'
import type { Rtnl } from './types.ts'

/**
 * Opens a handle on `ns`, or on this process's own namespace. The namespace's descriptor may be closed afterwards.
 * Throws NetError `denied` without CAP_NET_ADMIN there.
 */
export function openRtnl(ns?: Netns): Rtnl {
  return new KernelRtnl(NetlinkSocket.open(NETLINK_ROUTE, ns))
}

const familyNumber = (family: Family | undefined): number => (family === undefined ? PF_UNSPEC : family === 4 ? PF_INET : PF_INET6)
const DONE: NetlinkAck = { errno: 0, text: '' }
const CREATE = NLM_F_CREATE | NLM_F_EXCL
/** Together 100 ms; a namespace's links are gone after 25 to 50. */
const PARENT_TRIES = 25
const PARENT_PAUSE_MS = 4
const REPLACE = NLM_F_CREATE | NLM_F_REPLACE

class KernelRtnl implements Rtnl {
  readonly #socket: NetlinkSocket
  readonly #reaper: LinkReaper

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
    this.#reaper = new LinkReaper(() => socket.sibling())
  }

  close(): void {
    this.#reaper.close()
    this.#socket.close()
  }

  links(kind?: string): Link[] {
    const filter: LinkMessage = kind === undefined ? {} : { info: { kind } }
    return this.#socket.dump(
      'links',
      RTM_GETLINK,
      (w) => writeLink(w, filter),
      ({ payload }) => {
        const link = toLink(decodeLink(payload))
        return kind === undefined || link.kind === kind ? link : undefined
      },
    )
  }

  indexOf(name: string): number {
    return indexOfLink(this.#socket.fd, name)
  }

  nameOf(index: number): string {
    return nameOfLink(this.#socket.fd, index)
  }

  isRunning(name: string): boolean {
    return isLinkRunning(this.#socket.fd, name)
  }

  link(nameOrIndex: string | number): Link | undefined {
    if (nameOrIndex === '' || nameOrIndex === 0) return undefined
    const ask = typeof nameOrIndex === 'number' ? { index: nameOrIndex } : byName(nameOrIndex)
    const answer = this.#socket.query(
      RTM_GETLINK,
      0,
      (w) => writeLink(w, ask),
      ({ payload }) => toLink(decodeLink(payload)),
    )
    if (!('errno' in answer)) return answer
    if (errnoName(answer.errno) === 'ENODEV') return undefined
    throw kernelError('read link', String(nameOrIndex), answer.errno, answer.text)
  }

  addresses(filter: { dev?: string; family?: Family } = {}): Address[] {
    const index = this.#filterIndex('list addresses', filter.dev)
    const nameOf = this.#namer()
    return this.#socket.dump(
      'addresses',
      RTM_GETADDR,
      (w) => writeAddressFilter(w, familyNumber(filter.family), index),
      ({ payload }) => {
        const m = decodeAddress(payload)
        return (index === 0 || m.index === index) && isFamily(m.family, filter.family) ? toAddress(m, nameOf) : undefined
      },
    )
  }

  routes(filter: { family?: Family; table?: number | 'all'; dev?: string } = {}): Route[] {
    const index = this.#filterIndex('list routes', filter.dev)
    const table = filter.table === 'all' ? 0 : (filter.table ?? RT_TABLE_MAIN)
    const families: Family[] = filter.family === undefined ? [4, 6] : [filter.family]
    return families.flatMap((family) => this.#routesOf(family, table, index))
  }

  #routesOf(family: Family, table: number, oif: number): Route[] {
    const nameOf = this.#namer()
    const ask: RouteMessage = { ...anyRoute(family), table, ...(oif === 0 ? {} : { oif }) }
    try {
      return this.#socket.dump(
        'routes',
        RTM_GETROUTE,
        (w) => writeRoute(w, ask),
        ({ payload }) => {
          const m = decodeRoute(payload)
          if (!isFamily(m.family, family) || (m.flags & RTM_F_CLONED) !== 0) return undefined
          const usesDev = oif === 0 || m.oif === oif || m.hops?.some((hop) => hop.oif === oif)
          return usesDev && (table === 0 || m.table === table) ? toRoute(m, nameOf) : undefined
        },
      )
    } catch (error) {
      if (hasCode(error, 'not-found')) return [] // ENOENT: a table without routes does not exist
      throw error
    }
  }

  routeTo(ip: string, options: { from?: string; iif?: string; mark?: number } = {}): Route {
    const dst = parseIp(ip)
    const what = `${ip}${options.from === undefined ? '' : ` from ${options.from}`}`
    const ask: RouteMessage = { ...anyRoute(familyOf(dst)), dst, dstLength: hostLength(dst), flags: RTM_F_LOOKUP_TABLE }
    if (options.from !== undefined) {
      ask.src = parseIp(options.from)
      ask.srcLength = hostLength(ask.src)
    }
    if (options.iif !== undefined) ask.iif = this.#filterIndex('look up route', options.iif)
    if (options.mark !== undefined) ask.mark = options.mark
    const answer = this.#socket.query(
      RTM_GETROUTE,
      0,
      (w) => writeRoute(w, ask),
      ({ payload }) => toRoute(decodeRoute(payload), this.#namer()),
    )
    if ('errno' in answer) throw kernelError('look up route', what, answer.errno, answer.text)
    return answer
  }

  neighbours(filter: { dev?: string; family?: Family } = {}): Neighbour[] {
    const index = this.#filterIndex('list neighbours', filter.dev)
    const family = familyNumber(filter.family)
    const nameOf = this.#namer()
    // Proxy entries live in a table of their own, which has its own dump.
    return [0, NTF_PROXY].flatMap((flags) =>
      this.#socket.dump(
        'neighbours',
        RTM_GETNEIGH,
        (w) => writeNeighbourFilter(w, family, flags, index),
        ({ payload }) => {
          const m = decodeNeighbour(payload)
          const wanted = (index === 0 || m.index === index) && isFamily(m.family, filter.family)
          return wanted ? toNeighbour(m, nameOf) : undefined
        },
      ),
    )
  }

  fdb(dev: string): FdbEntry[] {
    const index = this.#filterIndex('list forwarding entries', dev)
    const nameOf = this.#namer()
    return this.#socket.dump(
      'forwarding entries',
      RTM_GETNEIGH,
      (w) => writeNeighbourFilter(w, PF_BRIDGE, 0, index),
      ({ payload }) => {
        const m = decodeNeighbour(payload)
        return m.index === index ? toFdb(m, nameOf) : undefined
      },
    )
  }

  rules(family: Family): PolicyRule[] {
    const number = familyNumber(family)
    return this.#socket.dump(
      'rules',
      RTM_GETRULE,
      (w) => writeRule(w, { family: number, dstLength: 0, srcLength: 0, tos: 0, table: 0, action: 0, flags: 0 }),
      ({ payload }) => {
        const m = decodeRule(payload)
        return m.family === number ? toRule(m) : undefined
      },
    )
  }

  apply(steps: readonly Step[]): void {
    const known = new Map<string, number>()
    const indexOf: IndexOf = (name) => {
      const seen = known.get(name)
      if (seen !== undefined) return seen
      const index = indexOfLink(this.#socket.fd, name)
      if (index === 0) throw new NetError('not-found', `there is no link "${name}"`, { errno: 'ENODEV' })
      known.set(name, index)
      return index
    }
    for (const step of steps) {
      let ack: NetlinkAck
      try {
        ack = this.#run(step, indexOf)
      } catch (error) {
        throw aboutStep(error, step)
      }
      if (ack.errno !== 0) {
        const { op, subject } = describeStep(step)
        throw withMissingKind(kernelError(op, subject, ack.errno, ack.text), step, ack.text)
      }
      if (step.op.startsWith('link.') && step.op !== 'link.set') known.clear() // names may mean other links now
    }
  }

  deleteGroupInBackground(group: number): Promise<void> {
    return this.#reaper.deleteGroup(group)
  }

  deleteLinksInBackground(names: readonly string[]): Promise<void> {
    return this.#reaper.deleteLinks(names.map((name) => this.indexOf(name)).filter((index) => index !== 0))
  }

  /** The acknowledgement of the step's last message, or of the one that was refused. */
  #run(step: Step, indexOf: IndexOf): NetlinkAck {
    switch (step.op) {
      case 'link.add':
        return this.#addLink(step.link, indexOf)
      case 'link.set':
        return this.#linkMessages(this.#socket, step.dev, encodeLinkSet(step.set, indexOf))
      case 'link.rename':
        return this.#link(RTM_NEWLINK, 0, { index: indexOf(step.dev), name: step.name })
      case 'link.move': {
        const move: LinkMessage = { index: indexOf(step.dev), netnsFd: step.netnsFd }
        return this.#link(RTM_NEWLINK, 0, step.name === undefined ? move : { ...move, name: step.name })
      }
      case 'link.delete':
        return this.#link(RTM_DELLINK, 0, byName(step.dev))
      case 'link.deleteGroup':
        if (step.group === 0) throw new NetError('invalid', 'group 0 is every link that was never grouped')
        return this.#link(RTM_DELLINK, 0, { group: step.group })
      case 'addr.add':
      case 'addr.replace':
      case 'addr.delete': {
        const m = encodeAddress(step.addr, indexOf)
        return this.#socket.request(...pick(step.op, RTM_NEWADDR, RTM_DELADDR), (w) => writeAddress(w, m))
      }
      case 'route.add':
      case 'route.replace':
      case 'route.delete': {
        const m = encodeRoute(step.route, step.op === 'route.delete', indexOf)
        return this.#socket.request(...pick(step.op, RTM_NEWROUTE, RTM_DELROUTE), (w) => writeRoute(w, m))
      }
      case 'neigh.replace':
      case 'neigh.delete': {
        const m = encodeNeighbour(step.neigh, indexOf)
        return this.#socket.request(...pick(step.op, RTM_NEWNEIGH, RTM_DELNEIGH), (w) => writeNeighbour(w, m))
      }
      case 'fdb.append':
      case 'fdb.replace':
      case 'fdb.delete': {
        const m = encodeFdb(step.fdb, indexOf)
        return this.#socket.request(...pick(step.op, RTM_NEWNEIGH, RTM_DELNEIGH), (w) => writeNeighbour(w, m))
      }
      case 'rule.add':
      case 'rule.delete': {
        const m = encodeRule(step.rule, step.op === 'rule.delete')
        return this.#socket.request(...pick(step.op, RTM_NEWRULE, RTM_DELRULE), (w) => writeRule(w, m))
      }
    }
  }

  /** Creates a link and completes it; when completing fails it is taken away again, so that the step is done or not done. */
  #addLink(spec: LinkSpec, indexOf: IndexOf): NetlinkAck {
    const { create, after, peer } = encodeLinkAdd(spec, indexOf)
    const born = this.#bear(spec, create)
    if (born.errno !== 0) return born
    let ack = after.length === 0 ? born : this.#inside(spec.netnsFd, (socket) => this.#linkMessages(socket, spec.name, after))
    if (ack.errno === 0 && peer !== undefined && peer.after.length > 0)
      ack = this.#inside(peer.spec.netnsFd ?? spec.netnsFd, (socket) => this.#linkMessages(socket, peer.spec.name, peer.after))
    if (ack.errno !== 0) this.#inside(spec.netnsFd, (socket) => socket.request(RTM_DELLINK, 0, (w) => writeLink(w, byName(spec.name))))
    return ack
  }

  /**
   * A parent has one user of its frames at a time, and the last one's removal is answered before the kernel is done with it: a macvlan on it
   * is then refused with EBUSY for as long as that takes (netdev_is_rx_handler_busy() in drivers/net/macvlan.c), so it is tried again.
   */
  #bear(spec: LinkSpec, create: LinkMessage): NetlinkAck {
    let ack = this.#link(RTM_NEWLINK, CREATE, create)
    const hasParent = spec.kind === 'macvlan' || spec.kind === 'ipvlan'
    for (let n = 0; n < PARENT_TRIES && hasParent && ack.errno === EBUSY; n++) {
      pause(PARENT_PAUSE_MS)
      ack = this.#link(RTM_NEWLINK, CREATE, create)
    }
    return ack
  }

  /** Runs `fn` with this handle's socket, or with one in the namespace that a link was born into. */
  #inside(netnsFd: number | undefined, fn: (socket: NetlinkSocket) => NetlinkAck): NetlinkAck {
    if (netnsFd === undefined) return fn(this.#socket)
    const there = NetlinkSocket.open(NETLINK_ROUTE, { fd: netnsFd, inode: 0, path: `fd ${netnsFd}` })
    try {
      return fn(there)
    } finally {
      there.close()
    }
  }

  /** Changes of one link that exists, up to the first that is refused. */
  #linkMessages(socket: NetlinkSocket, name: string, messages: readonly LinkMessage[]): NetlinkAck {
    let ack: NetlinkAck = DONE
    for (const m of messages) {
      ack = socket.request(RTM_NEWLINK, 0, (w) => writeLink(w, { ...byName(name), ...m }))
      if (ack.errno !== 0) break
    }
    return ack
  }

  #link(type: number, flags: number, m: LinkMessage): NetlinkAck {
    return this.#socket.request(type, flags, (w) => writeLink(w, m))
  }

  /** Names are asked of the kernel once per listing. */
  #namer(): NameOf {
    const names = new Map<number, string>()
    return (index) => {
      let name = names.get(index)
      if (name === undefined) {
        name = nameOfLink(this.#socket.fd, index)
        names.set(index, name)
      }
      return name
    }
  }

  #filterIndex(op: string, dev: string | undefined): number {
    if (dev === undefined) return 0
    const index = indexOfLink(this.#socket.fd, dev)
    if (index === 0)
      throw new NetError('not-found', `Cannot ${op} of "${dev}": there is no such link`, { op, subject: dev, errno: 'ENODEV' })
    return index
  }
}

const isFamily = (number: number, family: Family | undefined): boolean => family === undefined || number === familyNumber(family)

function anyRoute(family: Family): RouteMessage {
  return { family: familyNumber(family), dstLength: 0, srcLength: 0, tos: 0, table: 0, protocol: 0, scope: 0, type: 0, flags: 0 }
}

/** Message type and flags of `x.add`, `x.replace`, `x.append` or `x.delete`. */
function pick(op: Step['op'], create: number, remove: number): readonly [type: number, flags: number] {
  if (op.endsWith('.delete')) return [remove, 0]
  if (op.endsWith('.replace')) return [create, REPLACE]
  if (op.endsWith('.append')) return [create, NLM_F_CREATE | NLM_F_APPEND]
  return [create, CREATE]
}

/** The error with the step's verb and object; errors that have them already pass. */
function aboutStep(error: unknown, step: Step): unknown {
  if (!(error instanceof NetError) || error.detail.op !== undefined) return error
  const { op, subject } = describeStep(step)
  return new NetError(error.code, `Cannot ${op} "${subject}": ${error.message}`, { ...error.detail, op, subject })
}

/** "Unknown device type" says neither which nor what to do: kernels are built without some kinds of links, or their module is not there. */
function withMissingKind(error: NetError, step: Step, text: string): NetError {
  if (step.op !== 'link.add' || text !== 'Unknown device type') return error
  const { kind } = step.link
  const hint = `this kernel has no ${kind} links (module ${kind === 'vlan' ? '8021q' : kind})`
  return new NetError(error.code, `${error.message}: ${hint}`, error.detail, error)
}

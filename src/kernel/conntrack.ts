/**
 * Connection tracking: list entries, delete exactly those that a change of ours has made wrong. Old UDP flows outlive a published port
 * or a container's address by minutes and lead every packet to the old place. Always by original tuple, never by port number alone.
 */
import { networkInterfaces } from 'node:os'
import { type Family, familyOf, type Ip, parseIp, tryParseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { Proto } from '../model/endpoint.ts'
import { errnoName, kernelError } from '../sys/libc.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from '../sys/netlink-socket.ts'
import { inNetns, type Netns } from '../sys/netns.ts'
import {
  CT_DELETE,
  CT_GET,
  CT_GET_STATS,
  type Flow,
  type FlowFilter,
  readFlow,
  readFlowCount,
  writeFlowDelete,
  writeFlowQuery,
  writeStatsQuery,
} from '../wire/ctnetlink.ts'

export { type Flow, type FlowFilter, STATUS_DST_NAT, STATUS_SRC_NAT } from '../wire/ctnetlink.ts'

function list(socket: NetlinkSocket, filter: FlowFilter): Flow[] {
  const family = familyOfFilter(filter)
  const families = family === undefined ? ([4, 6] as const) : [family]
  return families.flatMap((family) => socket.dump('conntrack entries', CT_GET, (w) => writeFlowQuery(w, family, filter), readFlow))
}

/** Deletes these entries and no others; entries that have ended meanwhile are fine. */
function remove(socket: NetlinkSocket, flows: readonly Flow[]): void {
  for (const ack of socket.batch(flows.map((flow) => ({ type: CT_DELETE, flags: 0, write: (w) => writeFlowDelete(w, flow) }))))
    if (ack.errno !== 0 && errnoName(ack.errno) !== 'ENOENT') throw kernelError('delete', 'conntrack entry', ack.errno, ack.text)
}

/**
 * One filter. Since Linux 6.8 the kernel itself deletes by filter, in 0.3 ms; a dump walks every bucket of the hash table under its
 * lock, which takes 10 ms with the usual quarter of a million. Older kernels refuse the incomplete tuple.
 */
function removeMatching(socket: NetlinkSocket, filter: FlowFilter): void {
  const family = familyOfFilter(filter)
  if (family !== undefined && socket.request(CT_DELETE, 0, (w) => writeFlowQuery(w, family, filter)).errno === 0) return
  remove(socket, list(socket, filter))
}

/**
 * One namespace's table (this process's own when absent). Keep it open: the end of a netfilter socket makes the next change of the
 * namespace's nftables wait until old rules are destroyed, for an RCU grace period (nf_tables_api.c nft_rcv_nl_event).
 */
export class Conntrack {
  readonly #socket: NetlinkSocket
  readonly #ns: Netns | undefined

  private constructor(socket: NetlinkSocket, ns: Netns | undefined) {
    this.#socket = socket
    this.#ns = ns
  }

  static open(ns?: Netns): Conntrack {
    return new Conntrack(NetlinkSocket.open(NETLINK_NETFILTER, ns), ns)
  }

  /** Entries that match; all without a filter. Both families unless an address says one. */
  flows(filter: FlowFilter = {}): Flow[] {
    return list(this.#socket, filter)
  }

  /** Deletes the entries that match any of the filters. Throws NetError `invalid` for a filter without an address: it names no flow of ours. */
  deleteFlows(filters: readonly FlowFilter[]): void {
    if (filters.some((filter) => familyOfFilter(filter) === undefined))
      throw new NetError('invalid', 'Cannot delete conntrack entries: a filter needs an address')
    if (isEmpty(this.#socket)) return
    for (const filter of filters) removeMatching(this.#socket, filter)
  }

  /** Deletes what a container's address takes part in: flows that it opened, and flows that it answers under whatever address. */
  flushAddress(ip: Ip): void {
    this.deleteFlows([{ origSrc: ip }, { replySrc: ip }])
  }

  /** Deletes the entries that `isMeant` says yes to; it is told whether an address is this host's own. Costs a dump of the whole table. */
  deleteWhere(isMeant: (flow: Flow, isLocal: (ip: Ip) => boolean) => boolean): void {
    if (isEmpty(this.#socket)) return
    const local = hostAddresses(this.#ns)
    const isLocal = (ip: Ip) => local.has(ip)
    const gone = list(this.#socket, {}).filter((flow) => isMeant(flow, isLocal))
    if (gone.length > 0) remove(this.#socket, gone)
  }

  /**
   * Deletes the flows that called a published port: those to its host address, or, for `0.0.0.0` and `::`, those to an address of this
   * host. Flows that pass through the host to the same port number elsewhere stay.
   */
  flushPort(port: { readonly proto: Proto; readonly ip: Ip; readonly port: number }): void {
    const filter: FlowFilter = { proto: port.proto, origDport: port.port }
    const family = familyOf(port.ip)
    const socket = this.#socket
    if (isEmpty(socket)) return
    if (port.ip !== ANY4 && port.ip !== ANY6) {
      removeMatching(socket, { ...filter, origDst: port.ip })
      return
    }
    const local = [...hostAddresses(this.#ns)].filter((ip) => familyOf(ip) === family)
    if (local.length <= FILTERS_PER_DUMP) for (const ip of local) removeMatching(socket, { ...filter, origDst: ip })
    else {
      const called = new Set(local)
      remove(
        socket,
        list(socket, filter).filter((flow) => called.has(flow.orig.dst)),
      )
    }
  }

  /** Idempotent. */
  close(): void {
    this.#socket.close()
  }
}

const ANY4 = parseIp('0.0.0.0')
const ANY6 = parseIp('::')
/** So many filtered deletions take about as long as one dump. */
const FILTERS_PER_DUMP = 24

function familyOfFilter(filter: FlowFilter): Family | undefined {
  const address = filter.origSrc ?? filter.origDst ?? filter.replySrc
  return address === undefined ? undefined : familyOf(address)
}

/** True when the namespace tracks nothing at all, as a host's does until the first packet. */
function isEmpty(socket: NetlinkSocket): boolean {
  return socket.query(CT_GET_STATS, 0, writeStatsQuery, readFlowCount) === 0
}

function hostAddresses(ns: Netns | undefined): Set<Ip> {
  const read = (): { all: Ip[] } => ({
    all: Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .flatMap((a) => tryParseIp(a.address) ?? []),
  })
  return new Set((ns === undefined ? read() : inNetns(ns, read)).all)
}

/** Rate limits of interfaces: a token bucket filter as root queueing discipline (tc-tbf(8)). It limits what the interface sends. */
import { NetError } from '../base/errors.ts'
import { indexOfLink } from '../sys/ifindex.ts'
import { kernelError } from '../sys/libc.ts'
import { NETLINK_ROUTE, NetlinkSocket } from '../sys/netlink-socket.ts'
import type { Netns } from '../sys/netns.ts'
import { NLM_F_CREATE, NLM_F_REPLACE } from '../wire/netlink.ts'
import { decodeQdisc, RTM_GETQDISC, RTM_NEWQDISC, TC_H_ROOT, type TokenBucket, writeQdisc } from '../wire/tc-tbf.ts'

/** How long a packet may wait in a token bucket: the figure of CNI's bandwidth plugin. */
const LATENCY_SECONDS = 0.025

/** The token bucket for a rate in bits per second and a burst in bits. */
export function bucketOf({ rate, burst }: { readonly rate: number; readonly burst: number }): TokenBucket {
  const bytes = Math.max(1, Math.floor(rate / 8))
  const burstBytes = Math.min(0xffffffff, Math.max(1, Math.floor(burst / 8)))
  return { rate: bytes, burst: burstBytes, limit: Math.min(0xffffffff, Math.ceil(bytes * LATENCY_SECONDS) + burstBytes) }
}

function withSocket<T>(ns: Netns | undefined, dev: string, fn: (socket: NetlinkSocket, index: number) => T): T {
  const socket = NetlinkSocket.open(NETLINK_ROUTE, ns)
  try {
    const index = indexOfLink(socket.fd, dev)
    if (index === 0) throw new NetError('not-found', `there is no link "${dev}"`, { errno: 'ENODEV', subject: dev })
    return fn(socket, index)
  } finally {
    socket.close()
  }
}

/** Limits what `dev` sends, or replaces its limit. `ns` absent = the engine's own namespace. */
export function limitRate(ns: Netns | undefined, dev: string, bucket: TokenBucket): void {
  withSocket(ns, dev, (socket, index) => {
    const ack = socket.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, (w) => writeQdisc(w, index, bucket))
    if (ack.errno !== 0) throw kernelError('limit the rate of', dev, ack.errno, ack.text)
  })
}

/** The limit in force, undefined when there is none. Its burst is not told. */
export function rateOf(ns: Netns | undefined, dev: string): TokenBucket | undefined {
  return withSocket(ns, dev, (socket, index) => {
    const found = socket.dump(
      'queueing disciplines',
      RTM_GETQDISC,
      (w) => writeQdisc(w, index),
      ({ payload }) => {
        const m = decodeQdisc(payload)
        return m.index === index && m.parent === TC_H_ROOT ? m : undefined
      },
    )
    return found[0]?.bucket
  })
}

/** A lease as a client holds and stores it, and what follows from its times. Source: RFC 2131 sections 4.3.1 and 4.4.5. */
import type { Ip, Mac } from '../../base/address.ts'
import { type DhcpMessage, INFINITE_LEASE } from '../../wire/dhcp.ts'

export interface Lease {
  readonly ip: Ip
  readonly prefixLength: number
  readonly gateway: Ip | ''
  readonly dns: readonly Ip[]
  readonly domain: string
  /** 0 = not said. */
  readonly mtu: number
  readonly serverId: Ip
  /** Sender of the server's last frame: the server, or the relay on this link. */
  readonly serverMac: Mac
  /** When it was asked for, milliseconds since the epoch: the times below count from then. */
  readonly since: number
  readonly leaseSeconds: number
  readonly t1Seconds: number
  readonly t2Seconds: number
}

/** What an OFFER or ACK gives, or undefined when it lacks what an address is useless without. */
export function leaseFrom(message: DhcpMessage, serverMac: Mac, since: number): Lease | undefined {
  const { options: o, yiaddr: ip } = message
  if (o.serverId === undefined || ip === '0.0.0.0') return undefined
  const leaseSeconds = o.leaseSeconds ?? INFINITE_LEASE // BOOTP servers say nothing and mean for ever
  const t2Seconds = within(o.t2Seconds, leaseSeconds) ?? Math.floor(leaseSeconds * 0.875)
  const t1Seconds = within(o.t1Seconds, t2Seconds) ?? Math.min(t2Seconds, Math.floor(leaseSeconds * 0.5))
  // classless routes, when there are any, replace the router option (RFC 3442)
  const gateway = o.routes === undefined ? o.routers?.[0] : o.routes.find((route) => route.dst === '0.0.0.0/0')?.gateway
  return {
    ip,
    prefixLength: o.prefixLength ?? classLength(ip),
    gateway: gateway ?? '',
    dns: o.dns ?? [],
    domain: o.domain ?? '',
    mtu: o.mtu ?? 0,
    serverId: o.serverId,
    serverMac,
    since,
    leaseSeconds,
    t1Seconds,
    t2Seconds,
  }
}

/** Ends that are not in order are the server's mistake: the defaults hold then. */
function within(seconds: number | undefined, end: number): number | undefined {
  return seconds !== undefined && seconds > 0 && seconds <= end ? seconds : undefined
}

/** Without a mask the address's class decides (RFC 2132 3.3 says how rare that is). */
function classLength(ip: Ip): number {
  const first = Number(ip.slice(0, ip.indexOf('.')))
  return first < 128 ? 8 : first < 192 ? 16 : 24
}

/** Milliseconds since the epoch at which a part of the lease ends; Infinity when it never does. */
export function endOf(lease: Lease, part: 't1Seconds' | 't2Seconds' | 'leaseSeconds'): number {
  return lease.leaseSeconds === INFINITE_LEASE ? Number.POSITIVE_INFINITY : lease.since + lease[part] * 1000
}

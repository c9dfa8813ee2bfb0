/** What opening, changing and restoring sandboxes share: the parts they work with and the small steps they have in common. */
import { messageOf } from '../base/errors.ts'
import { announce } from '../kernel/announce.ts'
import type { PortBinding } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import type { Attached, Attachments } from './attachments.ts'
import type { AuthorityDesk } from './authority-desk.ts'
import { applyExtras } from './endpoint-extras.ts'
import type { EndpointReserver } from './endpoint-reserve.ts'
import type { Environment } from './environment.ts'
import type { Firewall } from './firewall.ts'
import type { HostKernel } from './host-kernel.ts'
import type { Networks } from './networks.ts'
import { bringIn } from './plugs.ts'
import type { PortMapper } from './port-mapper.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import type { SandboxFiles } from './sandbox-files.ts'
import { defaultRouteStep, type SandboxKernel } from './sandbox-kernel.ts'
import type { SandboxRegistry } from './sandbox-registry.ts'
import type { UndoStack } from './undo.ts'

export interface Parts {
  readonly env: Environment
  readonly networks: Networks
  readonly registry: SandboxRegistry
  readonly attachments: Attachments
  readonly reserver: EndpointReserver
  readonly host: HostKernel
  readonly firewall: Firewall
  readonly ports: PortMapper
  readonly files: SandboxFiles
  readonly desk: AuthorityDesk
  /** The network docker_gwbridge, made when it is not there. */
  readonly gatewayBridge: () => Network
  readonly emit: (action: 'connect' | 'disconnect', network: Network, containerId: string) => void
}

/** Brings an endpoint's interface into its sandbox and configures it, with the default routes that lead over it. */
export function plugIn(parts: Parts, kernel: SandboxKernel, at: Attached, record: SandboxRecord, undo?: UndoStack): void {
  const { hostIfname, ifname, place } = at.record
  if (ifname === '') return
  const wanted = parts.attachments.wanted(at, kernel.ns.fd)
  bringIn(parts, kernel, wanted, record.key, undo)
  const routes = parts.attachments.defaultRoutes(record).filter((route) => route.ifname === ifname)
  kernel.configure(wanted.inside, routes.map(defaultRouteStep))
  applyExtras(parts, kernel, at)
  // an outer end on the host shows whether the pair carries already
  const isRunning = hostIfname === '' || place !== undefined ? () => true : () => parts.host.rtnl.isRunning(hostIfname)
  announce(kernel, [parts.attachments.announcement(at)], parts.env.clock, isRunning)
}

/** Tells the resolver an endpoint's names; `undo` takes them back. */
export function publishNames(parts: Parts, e: EndpointRecord, undo?: UndoStack): void {
  if (e.dnsNames.length === 0) return
  parts.env.dns.setEndpoint(e.networkId, {
    endpointId: e.id,
    names: e.dnsNames,
    ...(e.ipv4 === '' ? {} : { ipv4: e.ipv4 }),
    ...(e.ipv6 === '' ? {} : { ipv6: e.ipv6 }),
  })
  undo?.defer('names', () => parts.env.dns.removeEndpoint(e.networkId, e.id))
}

/** The reverse of {@link publishNames}; safe to repeat. */
export function withdrawNames(parts: Parts, e: EndpointRecord): void {
  if (e.dnsNames.length > 0) parts.env.dns.removeEndpoint(e.networkId, e.id)
}

/** A udp flow that was translated by an old mapping would go on with it: exactly those flows are forgotten. */
export function forgetPortFlows(parts: Parts, bindings: readonly PortBinding[]): void {
  for (const b of bindings)
    if (b.proto === 'udp' && b.count === 1 && b.hostPort !== 0)
      parts.env.conntrack.flushPort({ proto: 'udp', ip: b.hostIp, port: b.hostPort })
}

/** Flows of addresses that are about to belong to somebody else. Done right after the caller has its answer, before the next request is read. */
export function forgetAddressFlows(parts: Parts, endpoints: readonly EndpointRecord[]): void {
  parts.env.clock.after(0, () => {
    for (const e of endpoints)
      for (const ip of [e.ipv4, e.ipv6])
        try {
          if (ip !== '') parts.env.conntrack.flushAddress(ip)
        } catch (error) {
          parts.env.log.warn('cannot forget the flows of an address', { ip, error: messageOf(error) })
        }
  })
}

/**
 * What follows from a sandbox's record: default routes, where its ports lead, which firewall elements it wants, what its resolver
 * sees. Derived each time from record and networks, never stored.
 */
import { type Ip, splitPrefix } from '../base/address.ts'
import { parseBridgeConfig } from '../drivers/bridge/config.ts'
import { advertiseOptions, endpointSysctls, OPTION } from '../drivers/options.ts'
import { type EndpointWanted, type Publishing, poolOf } from '../drivers/types.ts'
import type { Announcement } from '../kernel/announce.ts'
import type { EndpointInfo } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import type { NftElement } from '../model/nft-element.ts'
import { endpointElements, linkElements, portElements } from '../plan/firewall/elements.ts'
import { parseLinkLocal } from './endpoint-rules.ts'
import { electGateways, type GatewayCandidate, gatewayOrder } from './gateway.ts'
import type { Networks } from './networks.ts'
import type { PublishTarget } from './port-mapper.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import type { DefaultRoute } from './sandbox-kernel.ts'

export interface Attached {
  readonly record: EndpointRecord
  readonly network: Network
}

type Candidate = GatewayCandidate & { readonly at: Attached }

export class Attachments {
  readonly #networks: Networks
  readonly #bridgeNetfilter: () => boolean

  /** `bridgeNetfilter` says whether br_netfilter is on now: another engine may load it at any time. */
  constructor(networks: Networks, bridgeNetfilter: () => boolean = () => false) {
    this.#networks = networks
    this.#bridgeNetfilter = bridgeNetfilter
  }

  /** Endpoints whose network is known, in the order of attachment. */
  of(record: SandboxRecord): Attached[] {
    return record.endpoints.flatMap((e) => {
      const network = this.#networks.find(e.networkId)
      return network ? [{ record: e, network }] : []
    })
  }

  /** `name` is the endpoint's own, when it is not the container's. */
  info(e: EndpointRecord, name?: string): EndpointInfo {
    const network = this.#networks.find(e.networkId)
    const lengthOf = (family: 4 | 6, ip: string) => {
      if (network === undefined || ip === '') return 0
      const own = this.#networks.driverOf(network).prefixLength?.(e.data ?? {}, ip as Ip)
      if (own !== undefined) return own
      const pool = poolOf(network, family, ip as Ip)
      return pool ? splitPrefix(pool.subnet).length : 0
    }
    const gateways = this.#gatewaysOf({ record: e, network })
    return {
      id: e.id,
      networkId: e.networkId,
      networkName: e.networkName,
      containerId: e.containerId,
      ifname: e.ifname,
      hostIfname: e.hostIfname,
      mac: e.mac,
      ipv4: e.ipv4,
      ipv4Length: lengthOf(4, e.ipv4),
      gateway4: gateways.ipv4,
      ipv6: e.ipv6,
      ipv6Length: lengthOf(6, e.ipv6),
      gateway6: gateways.ipv6,
      dnsNames: e.dnsNames,
      gwPriority: e.settings.gwPriority ?? 0,
      ...(name === undefined ? {} : { name }),
    }
  }

  #gatewaysOf(at: { record: EndpointRecord; network: Network | undefined }): { ipv4: Ip | ''; ipv6: Ip | '' } {
    if (at.network === undefined || at.record.ifname === '') return { ipv4: '', ipv6: '' }
    const { ipv4, ipv6 } = this.#networks.driverOf(at.network).gatewayOf(at.network, at.record.data ?? {}, at.record)
    return { ipv4: at.record.ipv4 === '' ? '' : ipv4, ipv6: at.record.ipv6 === '' ? '' : ipv6 }
  }

  #candidates(record: SandboxRecord): Candidate[] {
    return this.of(record).map((at) => {
      const { ipv4, ipv6 } = this.#gatewaysOf(at)
      const device = at.record.ifname === '' ? undefined : this.#networks.driverOf(at.network).deviceRoute?.(at.network)
      return {
        at,
        endpointId: at.record.id,
        networkName: at.network.name,
        priority: at.record.settings.gwPriority ?? 0,
        internal: at.network.internal,
        isGwBridge: at.record.gatewayBridge === true,
        gateway4: ipv4,
        gateway6: ipv6,
        ...(device ? { device4: device.ipv4 && at.record.ipv4 !== '', device6: device.ipv6 && at.record.ipv6 !== '' } : {}),
      }
    })
  }

  /** The endpoints that carry the default routes. */
  gateways(record: SandboxRecord): { v4: Attached | undefined; v6: Attached | undefined } {
    const { v4, v6 } = electGateways(this.#candidates(record))
    return { v4: v4?.at, v6: v6?.at }
  }

  /** Attachments in gateway order: the resolver asks their networks in this order. */
  inGatewayOrder(record: SandboxRecord): Attached[] {
    return gatewayOrder(this.#candidates(record)).map((c) => c.at)
  }

  defaultRoutes(record: SandboxRecord): DefaultRoute[] {
    const { v4, v6 } = electGateways(this.#candidates(record))
    const out: DefaultRoute[] = []
    if (v4 && mayLeadOut(v4.at, 4)) out.push({ family: 4, ifname: v4.at.record.ifname, gateway: v4.gateway4 as Ip | '' })
    if (v6 && mayLeadOut(v6.at, 6)) out.push({ family: 6, ifname: v6.at.record.ifname, gateway: v6.gateway6 as Ip | '' })
    return out
  }

  /** Some network leads further than its own members: names that none of them has are asked outside. */
  reachesOutside(record: SandboxRecord): boolean {
    if (this.defaultRoutes(record).length > 0) return true
    return this.of(record).some(({ network }) => this.#networks.driverOf(network).reachesOutside?.(network) ?? false)
  }

  /** The embedded DNS serves a sandbox that is on a user-defined network. */
  hasInternalDns(record: SandboxRecord): boolean {
    const isOffered = record.netns === undefined || record.resolver === true
    return record.mode === 'private' && isOffered && this.of(record).some((at) => hasNames(at))
  }

  /** Wanted kernel state of one endpoint; `netnsFd` is the sandbox's namespace (-1 when only the host side matters). */
  wanted({ record: e, network }: Attached, netnsFd: number): EndpointWanted {
    return this.#networks.driverOf(network).endpointWanted(network, {
      id: e.id,
      ifname: e.ifname,
      hostIfname: e.hostIfname,
      mac: e.mac,
      ipv4: e.ipv4,
      ipv6: e.ipv6,
      linkLocalIps: parseLinkLocal(e.settings),
      sysctls: endpointSysctls(e.settings.driverOpts?.[OPTION.endpointSysctls], e.ifname),
      bridgeNetfilter: netnsFd >= 0 && this.#bridgeNetfilter(),
      netnsFd,
      data: e.data ?? {},
    })
  }

  announcement({ record, network }: Attached): Announcement {
    const ips = [record.ipv4, record.ipv6].filter((ip): ip is Ip => ip !== '')
    return { ifname: record.ifname, mac: record.mac, ips, ...advertiseOptions(network.options) }
  }

  /** Where published ports lead, undefined when no network can publish. */
  publishTarget(record: SandboxRecord): PublishTarget | undefined {
    const { v4, v6 } = this.gateways(record)
    const main = v4 ?? v6
    const publishing = main && this.#publishing(main)
    if (publishing === undefined) return undefined
    const modeOf = (at: Attached | undefined, family: 4 | 6) => {
      const own = at && this.#publishing(at)
      return (family === 4 ? own?.mode4 : own?.mode6) ?? 'nat'
    }
    return {
      holder: record.id,
      holderName: record.containerName,
      ipv4: v4?.record.ipv4 ?? '',
      ipv6: v6?.record.ipv6 ?? '',
      defaultIpv4: publishing.hostBindingIpv4,
      routed4: modeOf(v4, 4) === 'routed',
      routed6: modeOf(v6, 6) === 'routed',
      unheld: record.netns !== undefined,
    }
  }

  /** Elements of the published ports in force. IPv6 host addresses of IPv4-only containers have none: a relay serves them. */
  portElements(record: SandboxRecord, ports = record.ports): NftElement[] {
    const { v4, v6 } = this.gateways(record)
    return ports.flatMap((binding) => {
      const isV6 = binding.hostIp.includes(':')
      const via = isV6 ? v6 : v4
      const containerIp = isV6 ? via?.record.ipv6 : via?.record.ipv4
      const bridge = via && this.#publishing(via)?.bridge
      if (bridge === undefined || !containerIp) return []
      return portElements({ ...binding, containerIp, bridge, routed: binding.hostPort === 0 })
    })
  }

  #publishing({ network }: Attached): Publishing | undefined {
    return this.#networks.driverOf(network).publishing?.(network)
  }

  endpointElements(at: Attached): NftElement[] {
    if (at.record.ifname === '') return []
    const { firewall } = this.wanted(at, -1)
    return firewall ? endpointElements(firewall) : []
  }

  /** Everything that a sandbox wants in the firewall, its legacy links excepted. */
  elements(record: SandboxRecord): NftElement[] {
    if (record.mode === 'host') return []
    return [...this.of(record).flatMap((at) => this.endpointElements(at)), ...this.portElements(record)]
  }

  /** What one legacy link opens: the target's exposed ports, for this container alone, whatever icc says. */
  linkElements(record: SandboxRecord, target: SandboxRecord): NftElement[] {
    const from = this.defaultBridgeAddress(record)
    const to = this.defaultBridgeAddress(target)
    const network = this.#networks.byName('bridge')
    if (from === undefined || to === undefined || network === undefined) return []
    const { bridge } = parseBridgeConfig(network)
    return target.exposed.flatMap(({ proto, port }) => linkElements({ bridge, from, to, proto, port }))
  }

  /** The sandbox has no other way out than docker_gwbridge, and one of its networks wants it to have one. */
  needsGatewayBridge(record: SandboxRecord): boolean {
    const candidates = this.#candidates(record).filter((c) => !c.isGwBridge)
    if (candidates.some((c) => c.gateway4 !== '' || c.gateway6 !== '' || c.device4 || c.device6)) return false
    return candidates.some(({ at }) => {
      const driver = this.#networks.driverOf(at.network)
      return at.record.ifname !== '' && (driver.usesGatewayBridge?.(at.network, at.record.data ?? {}) ?? false)
    })
  }

  /** The sandbox's IPv4 address on the network `bridge`. */
  defaultBridgeAddress(record: SandboxRecord | undefined): Ip | undefined {
    const ip = record?.endpoints.find((e) => this.#networks.find(e.networkId)?.name === 'bridge')?.ipv4
    return ip === '' ? undefined : ip
  }
}

/** The network's members find each other by name there. */
export function hasNames({ record, network }: Attached): boolean {
  return isUserDefined(network) && record.gatewayBridge !== true
}

/** Endpoints in namespaces of others can leave the default route to somebody else. */
function mayLeadOut({ record }: Attached, family: 4 | 6): boolean {
  const said = record.settings.driverOpts?.[OPTION.defaultRoute] ?? 'true'
  return said === 'true' || said === `ipv${family}`
}

/** Made by a user: names, aliases and static addresses work on it. */
export function isUserDefined(network: Network): boolean {
  return !network.predefined && network.driver !== 'null' && network.driver !== 'host'
}

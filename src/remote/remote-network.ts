/** The calls of a plugin's network driver, with what they must and must not answer. */
import { type Cidr, type Ip, parseCidr, splitPrefix, tryParseIp, tryParseMac, trySplitPrefix } from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import type { EndpointAsk, EndpointFinal } from '../drivers/authority.ts'
import { endpointData, type RemoteEndpointData, type RemoteRoute } from '../drivers/remote/data.ts'
import {
  type Capabilities,
  type CreateEndpointRequest,
  type CreateEndpointResponse,
  type CreateNetworkRequest,
  type EndpointInterface,
  type EndpointRef,
  type IpamData,
  type JoinRequest,
  type JoinResponse,
  LABEL,
  NETWORK_DRIVER,
  type PortMapEntry,
  PROTO_NUMBER,
} from '../drivers/remote/protocol.ts'
import { poolOf } from '../drivers/types.ts'
import type { Network } from '../model/network.ts'
import type { Patience, Plugin } from './plugin.ts'

/** Why a node is announced to drivers of global scope. */
const NODE_DISCOVERY = 1

export class RemoteNetwork {
  readonly #plugin: Plugin
  readonly #log: Logger

  constructor(plugin: Plugin, log: Logger) {
    this.#plugin = plugin
    this.#log = log
  }

  /** @throws NetError `internal` when the scope is neither local nor global (Docker's text). */
  async capabilities(): Promise<{ scope: 'local' | 'global'; checksGateways: boolean }> {
    const { Scope, GwAllocChecker } = await this.#call<Capabilities>('GetCapabilities', undefined)
    if (Scope !== 'local' && Scope !== 'global')
      throw new NetError('internal', `invalid capability: expecting 'local' or 'global', got ${Scope ?? ''}`)
    return { scope: Scope, checksGateways: GwAllocChecker === true }
  }

  /** Families for which the driver wants no gateway to be reserved. */
  async gatewayCheck(options: Readonly<Record<string, unknown>>): Promise<{ ipv4: boolean; ipv6: boolean }> {
    const answer = await this.#call<{ SkipIPv4: boolean; SkipIPv6: boolean }>('GwAllocCheck', { Options: options })
    return { ipv4: answer.SkipIPv4 === true, ipv6: answer.SkipIPv6 === true }
  }

  /** Global scope: the one that makes the network lets the driver choose what all hosts must agree on. */
  async allocate(network: Network): Promise<Readonly<Record<string, string>>> {
    const body = { NetworkID: network.id, Options: network.options, IPv4Data: ipamData(network, 4), IPv6Data: ipamData(network, 6) }
    const answer = await this.#plugin.callOptional<{ Options: Record<string, string> | null }>(`${NETWORK_DRIVER}.AllocateNetwork`, body)
    return answer?.Options ?? {}
  }

  async free(networkId: string): Promise<void> {
    await this.#plugin.callOptional(`${NETWORK_DRIVER}.FreeNetwork`, { NetworkID: networkId }, 'once')
  }

  async createNetwork(network: Network, allocated: Readonly<Record<string, string>>): Promise<void> {
    const body: CreateNetworkRequest = {
      NetworkID: network.id,
      Options: networkOptions(network, allocated),
      IPv4Data: ipamData(network, 4),
      IPv6Data: ipamData(network, 6),
    }
    await this.#call('CreateNetwork', body)
  }

  async deleteNetwork(networkId: string): Promise<void> {
    await this.#call('DeleteNetwork', { NetworkID: networkId }, 'once')
  }

  /** CreateEndpoint. What the driver answers may fill what is empty and change nothing (Docker's texts). */
  async createEndpoint(network: Network, endpoint: EndpointFinal): Promise<Pick<RemoteEndpointData, 'mac' | 'address4' | 'address6'>> {
    const own = endpointData(endpoint.data)
    const given: EndpointInterface = {
      Address: own.address4 || withLength(network, endpoint.ipv4),
      AddressIPv6: own.address6 || withLength(network, endpoint.ipv6),
      MacAddress: endpoint.mac,
    }
    const body: CreateEndpointRequest = {
      NetworkID: network.id,
      EndpointID: endpoint.endpointId,
      Interface: given,
      Options: endpointOptions(endpoint),
    }
    const { Interface } = await this.#call<CreateEndpointResponse>('CreateEndpoint', body)
    return {
      mac: chosenMac(given.MacAddress ?? '', Interface?.MacAddress ?? ''),
      address4: chosenAddress(4, given.Address ?? '', Interface?.Address ?? ''),
      address6: chosenAddress(6, given.AddressIPv6 ?? '', Interface?.AddressIPv6 ?? ''),
    }
  }

  async deleteEndpoint(ref: EndpointRef): Promise<void> {
    await this.#call('DeleteEndpoint', ref, 'once')
  }

  /** Facts of the driver about an endpoint, for people. */
  async operInfo(ref: EndpointRef): Promise<Readonly<Record<string, unknown>>> {
    return (await this.#call<{ Value: Record<string, unknown> | null }>('EndpointOperInfo', ref, 'once')).Value ?? {}
  }

  async join(network: Network, endpoint: EndpointFinal): Promise<Omit<RemoteEndpointData, 'mac' | 'address4' | 'address6' | 'held'>> {
    const body: JoinRequest = {
      NetworkID: network.id,
      EndpointID: endpoint.endpointId,
      SandboxKey: endpoint.sandboxKey,
      Options: sandboxOptions(endpoint),
    }
    const answer = await this.#call<JoinResponse>('Join', body)
    const srcName = answer.InterfaceName?.SrcName ?? ''
    // none is fine: Docker starts such containers too, without an interface on the network
    if (srcName !== '' && !/^[^\s/]{1,15}$/.test(srcName))
      throw new NetError(
        'internal',
        `${NETWORK_DRIVER}.Join: plugin "${this.#plugin.name}" named an interface that cannot be: InterfaceName.SrcName is "${srcName}"`,
      )
    return {
      srcName,
      isWithoutInterface: srcName === '',
      dstPrefix: answer.InterfaceName?.DstPrefix || 'eth',
      gateway4: gateway('Gateway', answer.Gateway),
      gateway6: gateway('GatewayIPv6', answer.GatewayIPv6),
      routes: (answer.StaticRoutes ?? []).flatMap(parseRoute),
      disableGatewayService: answer.DisableGatewayService === true,
    }
  }

  async leave(ref: EndpointRef): Promise<void> {
    await this.#call('Leave', ref, 'once')
  }

  /** The endpoint is the container's way out: its ports may be published. */
  async programExternal(network: Network, endpoint: EndpointFinal): Promise<void> {
    const body = { NetworkID: network.id, EndpointID: endpoint.endpointId, Options: sandboxOptions(endpoint) }
    await this.#plugin.callOptional(`${NETWORK_DRIVER}.ProgramExternalConnectivity`, body)
  }

  async revokeExternal(ref: EndpointRef): Promise<void> {
    await this.#plugin.callOptional(`${NETWORK_DRIVER}.RevokeExternalConnectivity`, ref, 'once')
  }

  /** A node came or went. Drivers that do not care may answer anything. */
  async discover(node: { readonly address: string; readonly self: boolean }, isNew: boolean): Promise<void> {
    const body = { DiscoveryType: NODE_DISCOVERY, DiscoveryData: { Address: node.address, BindAddress: '', Self: node.self } }
    try {
      await this.#plugin.callOptional(`${NETWORK_DRIVER}.${isNew ? 'DiscoverNew' : 'DiscoverDelete'}`, body, 'once')
    } catch (error) {
      this.#log.debug('plugin does not take a node', { plugin: this.#plugin.name, error: messageOf(error) })
    }
  }

  #call<T extends object>(method: string, body: unknown, patience?: Patience): Promise<Partial<T>> {
    return this.#plugin.call<T>(`${NETWORK_DRIVER}.${method}`, body, patience)
  }
}

/** The options of CreateNetwork and GwAllocCheck as Docker sends them. */
export function networkOptions(
  network: Pick<Network, 'enableIpv4' | 'enableIpv6' | 'internal' | 'options'>,
  allocated: Readonly<Record<string, string>> = {},
): Record<string, unknown> {
  return {
    [LABEL.enableIpv4]: network.enableIpv4,
    [LABEL.enableIpv6]: network.enableIpv6,
    ...(network.internal ? { [LABEL.internal]: true } : {}),
    [LABEL.generic]: { ...network.options, ...allocated },
  }
}

function ipamData(network: Network, family: 4 | 6): IpamData[] {
  return network.pools
    .filter(({ subnet }) => subnet.includes(':') === (family === 6))
    .map(({ subnet, gateway: ip, aux }) => {
      const { length } = splitPrefix(subnet)
      return {
        AddressSpace: network.scope === 'local' ? 'LocalDefault' : 'GlobalDefault',
        Pool: subnet,
        Gateway: ip === undefined ? '' : `${ip}/${length}`,
        AuxAddresses: Object.fromEntries(Object.entries(aux).map(([name, address]) => [name, `${address}/${length}`])),
      }
    })
}

function withLength(network: Network, ip: Ip | ''): string {
  if (ip === '') return ''
  const family = ip.includes(':') ? 6 : 4
  const pool = poolOf(network, family)
  return `${ip}/${pool ? splitPrefix(pool.subnet).length : family === 4 ? 32 : 128}`
}

function sandboxOptions(ask: EndpointAsk): Record<string, unknown> {
  const portMap: PortMapEntry[] = ask.ports.map((port) => ({
    Proto: PROTO_NUMBER[port.proto] ?? 0,
    IP: '',
    Port: port.containerPort,
    HostIP: port.hostIp,
    HostPort: port.hostPort,
    HostPortEnd: port.hostPort,
  }))
  return {
    [LABEL.exposedPorts]: ask.exposed.map(({ proto, port }) => ({ Proto: PROTO_NUMBER[proto] ?? 0, Port: port })),
    [LABEL.portMap]: portMap,
  }
}

function endpointOptions(endpoint: EndpointFinal): Record<string, unknown> {
  return {
    ...sandboxOptions(endpoint),
    ...(endpoint.settings.mac ? { [LABEL.endpointMac]: endpoint.settings.mac } : {}),
    ...endpoint.settings.driverOpts,
  }
}

function chosenMac(given: string, answered: string) {
  if (answered === '') return ''
  const mac = tryParseMac(answered)
  if (mac === undefined) throw new NetError('internal', `address ${answered}: invalid MAC address`)
  if (given === '') return mac
  if (given === mac) return ''
  throw new NetError(
    'internal',
    `driver modified interface MAC address: endpoint interface MAC address present (${given}). Cannot be modified with ${mac}.`,
  )
}

function chosenAddress(family: 4 | 6, given: string, answered: string): string {
  if (answered === '') return ''
  const parsed = trySplitPrefix(answered)
  if (parsed === undefined || parsed.ip.includes(':') !== (family === 6))
    throw new NetError('internal', `invalid CIDR address: ${answered}`)
  if (given === '') return answered
  const had = trySplitPrefix(given)
  if (had?.ip === parsed.ip && had.length === parsed.length) return ''
  throw new NetError(
    'internal',
    `driver modified interface address: endpoint interface IP present (${given}). Cannot be modified with (${answered}).`,
  )
}

function gateway(key: string, text: string | undefined): Ip | '' {
  if (!text) return ''
  const ip = tryParseIp(text)
  if (ip === undefined) throw new NetError('internal', `unable to parse ${key} "${text}"`)
  return ip
}

function parseRoute(route: { Destination?: string; RouteType?: number; NextHop?: string }): RemoteRoute[] {
  let dst: Cidr
  try {
    dst = parseCidr(route.Destination ?? '')
  } catch {
    throw new NetError('internal', `invalid CIDR address: ${route.Destination ?? ''}`)
  }
  if (route.RouteType === 1 || !route.NextHop) return [{ dst, via: '' }]
  const via = tryParseIp(route.NextHop)
  if (via === undefined) throw new NetError('internal', `failed to parse nexthop IP ${route.NextHop}`)
  return [{ dst, via }]
}

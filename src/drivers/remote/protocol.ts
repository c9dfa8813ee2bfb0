/**
 * The plugin protocol's messages (version 1: JSON over HTTP POST, `POST /<Interface>.<Method>`), as Docker's engines speak it. Both sides
 * of it use these: the engine that calls plugins, and Causeway when it is the plugin. Keys are spelled as on the wire.
 */

export const NETWORK_DRIVER = 'NetworkDriver'
/** First part of the IPAM methods' names. */
export const IPAM_DRIVER = 'IpamDriver'
/** Media type of the plugin protocol, in both directions. */
export const ACCEPT = 'application/vnd.docker.plugins.v1.2+json'

/** Keys below `Options` of the network and endpoint calls. */
export const LABEL = {
  generic: 'com.docker.network.generic',
  enableIpv4: 'com.docker.network.enable_ipv4',
  enableIpv6: 'com.docker.network.enable_ipv6',
  internal: 'com.docker.network.internal',
  gateway: 'com.docker.network.gateway',
  portMap: 'com.docker.network.portmap',
  exposedPorts: 'com.docker.network.endpoint.exposedports',
  endpointMac: 'com.docker.network.endpoint.macaddress',
  endpointName: 'com.docker.network.endpoint.name',
  requestAddressType: 'RequestAddressType',
} as const

/** IP protocol numbers of port lists. */
export const PROTO_NUMBER: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 }

export interface Activation {
  readonly Implements?: readonly string[] | null
}

export interface Capabilities {
  readonly Scope?: string
  readonly ConnectivityScope?: string
  readonly GwAllocChecker?: boolean
}

export interface IpamCapabilities {
  readonly RequiresMACAddress?: boolean
  readonly RequiresRequestReplay?: boolean
}

export interface IpamData {
  readonly AddressSpace: string
  readonly Pool: string
  /** With prefix length; empty when the network has no gateway in that family. */
  readonly Gateway: string
  /** With prefix lengths, by name. */
  readonly AuxAddresses: Readonly<Record<string, string>>
}

export interface CreateNetworkRequest {
  readonly NetworkID: string
  readonly Options: Readonly<Record<string, unknown>> | null
  readonly IPv4Data: readonly IpamData[] | null
  readonly IPv6Data: readonly IpamData[] | null
}

export interface EndpointInterface {
  readonly Address?: string
  readonly AddressIPv6?: string
  readonly MacAddress?: string
}

export interface PortMapEntry {
  readonly Proto: number
  readonly IP: string
  readonly Port: number
  readonly HostIP: string
  readonly HostPort: number
  readonly HostPortEnd: number
}

export interface CreateEndpointRequest {
  readonly NetworkID: string
  readonly EndpointID: string
  readonly Interface: EndpointInterface | null
  readonly Options: Readonly<Record<string, unknown>> | null
}

export interface CreateEndpointResponse {
  readonly Interface?: EndpointInterface | null
}

export interface JoinRequest {
  readonly NetworkID: string
  readonly EndpointID: string
  readonly SandboxKey: string
  readonly Options: Readonly<Record<string, unknown>> | null
}

/** `RouteType` 0: over a next hop; 1: on the link itself. */
export interface StaticRoute {
  readonly Destination: string
  readonly RouteType: number
  readonly NextHop?: string
}

export interface JoinResponse {
  readonly InterfaceName?: { readonly SrcName?: string; readonly DstName?: string; readonly DstPrefix?: string } | null
  readonly Gateway?: string
  readonly GatewayIPv6?: string
  readonly StaticRoutes?: readonly StaticRoute[] | null
  readonly DisableGatewayService?: boolean
}

export interface EndpointRef {
  readonly NetworkID: string
  readonly EndpointID: string
}

export interface AddressSpaces {
  readonly LocalDefaultAddressSpace?: string
  readonly GlobalDefaultAddressSpace?: string
}

export interface PoolRequest {
  readonly AddressSpace: string
  readonly Pool: string
  readonly SubPool: string
  readonly Options: Readonly<Record<string, string>> | null
  readonly V6: boolean
}

export interface PoolResponse {
  readonly PoolID?: string
  readonly Pool?: string
  readonly Data?: Readonly<Record<string, string>> | null
}

export interface AddressRequest {
  readonly PoolID: string
  readonly Address: string
  readonly Options: Readonly<Record<string, string>> | null
}

export interface AddressResponse {
  readonly Address?: string
  readonly Data?: Readonly<Record<string, string>> | null
}

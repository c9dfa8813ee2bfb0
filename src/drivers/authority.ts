/**
 * An authority is somebody outside the engine who decides on networks and endpoints: a cluster's store, a plugin behind a socket,
 * a DHCP server. The controller's own work is synchronous; it asks the authority before (grant, create) and tells it after
 * (activate, remove). Networks without an authority never wait for anything.
 *
 * Rules of the contract:
 * - Ids are the engine's. They are stored as an intent before the first call, so that after a crash `removeEndpoint` and
 *   `removeNetwork` are called for whatever was begun. Both are therefore idempotent and accept what they never saw.
 * - A call that throws has taken back what it did. Errors are NetErrors with Docker's text where Docker has one.
 * - Removals that fail with code `unavailable` are repeated by the engine, with growing pauses, until they succeed.
 */
import type { Ip, Mac } from '../base/address.ts'
import type { EndpointSettings } from '../model/endpoint.ts'
import type { IpamPool, IpamPoolRequest, Network } from '../model/network.ts'
import type { NetworkDraft } from './types.ts'

/** Anything an authority wants to find again: kept in the network's or endpoint's record, never looked into by the engine. JSON only. */
export type AuthorityData = Readonly<Record<string, unknown>>

export interface NetworkGrant {
  /** Absent: the engine's own address space decides. */
  readonly pools?: readonly IpamPool[]
  /** Without `pools`: what the engine's address space is asked for, instead of what the user said. */
  readonly requests?: readonly IpamPoolRequest[]
  readonly data?: AuthorityData
}

/** Who asks for an endpoint. */
export interface EndpointAsk {
  readonly endpointId: string
  readonly containerId: string
  readonly containerName: string
  readonly hostname: string
  /** Sandbox's id and namespace file; the file does not exist before {@link Authority.activateEndpoint}. */
  readonly sandboxId: string
  readonly sandboxKey: string
  readonly settings: EndpointSettings
  /** Names under which other members of the network find it. */
  readonly dnsNames: readonly string[]
  /** All of the container's published and exposed ports. */
  readonly ports: readonly { readonly proto: string; readonly containerPort: number; readonly hostIp: string; readonly hostPort: number }[]
  readonly exposed: readonly { readonly proto: string; readonly port: number }[]
}

/** What an authority says of an endpoint; what it leaves out the engine chooses. */
export interface EndpointGrant {
  readonly ipv4?: Ip
  readonly ipv6?: Ip
  readonly mac?: Mac
  readonly data?: AuthorityData
}

/** The endpoint as it is going to be. */
export interface EndpointFinal extends EndpointAsk {
  readonly ipv4: Ip | ''
  readonly ipv6: Ip | ''
  readonly mac: Mac | ''
  /** Name of the outer end on the host, when the interface is a pair. */
  readonly hostIfname?: string
  readonly data: AuthorityData
  /** In {@link Authority.restore}: its sandbox reaches the outside over it. */
  readonly isGateway?: boolean
}

/** An endpoint of the network on another host. */
export interface RemoteEndpoint {
  readonly id: string
  readonly name: string
  readonly host: string
  /** The host is not heard of. */
  readonly isHostDown?: boolean
  readonly ipv4: Ip | ''
  readonly ipv4Length: number
  readonly ipv6: Ip | ''
  readonly ipv6Length: number
  readonly mac: Mac | ''
}

export interface Authority {
  readonly name: string
  /** What others call this host, where networks have members on several. */
  readonly host?: string
  /** Decides whether the network may exist and which subnets it has. */
  grantNetwork?(
    draft: NetworkDraft,
    requests: readonly IpamPoolRequest[],
    ipamOptions: Readonly<Record<string, string>>,
  ): Promise<NetworkGrant>
  /** The network with its pools; returns more data for the record. */
  createNetwork?(network: Network): Promise<AuthorityData | undefined>
  /** `force`: the user insists although the authority may be gone. */
  removeNetwork?(network: Network, force: boolean): Promise<void>
  grantEndpoint?(network: Network, ask: EndpointAsk): Promise<EndpointGrant>
  /** Addresses are settled; what comes back is merged into the record's data and given to the driver's `endpointWanted`. */
  createEndpoint?(network: Network, endpoint: EndpointFinal): Promise<AuthorityData | undefined>
  /** The interface is in place, with addresses: others may be told the name now. Awaited before the start call answers. */
  activateEndpoint?(network: Network, endpoint: EndpointFinal): Promise<void>
  /**
   * The endpoint has become the one over which its sandbox reaches the outside (in either family), or is that no longer and stays. After
   * {@link activateEndpoint}; one that goes is not told. Throws when an endpoint cannot be made the gateway: it is not attached then.
   */
  setGateway?(network: Network, endpoint: EndpointFinal, isGateway: boolean): Promise<void>
  /** The container is about to have the name in `endpoint`: others are told that one. Throws when the network has it already. */
  renameEndpoint?(network: Network, endpoint: EndpointFinal): Promise<void>
  /** The interface has gone. Frees the addresses that were granted. */
  removeEndpoint?(network: Network, endpointId: string, data: AuthorityData): Promise<void>
  /** Somebody is about to look at the members: reads those of networks that this host does not follow. Throws `unavailable`. */
  readMembers?(network: Network): Promise<void>
  /** Members on other hosts, for inspect. */
  remoteEndpoints?(network: Network): readonly RemoteEndpoint[]
  /** The engine has started again and these endpoints of its own are alive: called once, before changes are accepted. */
  restore?(
    networks: readonly Network[],
    endpoints: readonly { readonly network: Network; readonly endpoint: EndpointFinal }[],
  ): Promise<void>
}

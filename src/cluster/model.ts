/**
 * What the members of a cluster share, as plain values, and the live view of it that the rest of a host works from.
 * The shared store holds JSON of these shapes (keys: `keys.ts`); what comes out of it is checked by `decode.ts` before it becomes one.
 */
import type { Cidr, Ip, Mac } from '../base/address.ts'
import type { Network } from '../model/network.ts'

/** One subnet of a cluster network and the segment that carries it. */
export interface ClusterSubnet {
  readonly subnet: Cidr
  /** Absent when the network reserves none. The same on every host. */
  readonly gateway?: Ip
  /** VXLAN network identifier. An IPv6 subnet shares the identifier, and so the segment, of the IPv4 subnet it stands beside. */
  readonly vni: number
}

/** A network of the cluster, with everything that a host needs to carry it. */
export interface ClusterNetwork {
  readonly id: string
  readonly name: string
  readonly internal: boolean
  /** In the order of the network's pools, IPv4 first. */
  readonly subnets: readonly ClusterSubnet[]
  /** The user's driver options (`com.docker.network.driver.mtu`, `encrypted`, …). */
  readonly options: Readonly<Record<string, string>>
  /** Host on which it was created. */
  readonly createdBy: string
  /** The engine's record: the same value on every host. Absent between the grant of its subnets and its creation. */
  readonly network?: Network
}

/** An attachment somewhere in the cluster. Addresses are owned from the grant until the endpoint is removed or its host is evicted. */
export interface ClusterEndpoint {
  readonly id: string
  readonly networkId: string
  readonly containerId: string
  /** Container's name, unique in the network. */
  readonly name: string
  /** The first is what a reverse look-up answers. */
  readonly dnsNames: readonly string[]
  readonly ipv4: Ip | ''
  readonly ipv6: Ip | ''
  readonly mac: Mac
  readonly hostId: string
  /** Its host's tunnel address (VTEP). Follows the host when that comes back with another one. */
  readonly hostAddress: Ip
  /** The interface is in place: names may be told. The path is laid before, as soon as the endpoint is known. */
  readonly active: boolean
}

/** A member. */
export interface ClusterHost {
  readonly id: string
  readonly name: string
  /** The advertised address: other hosts' tunnels end there. */
  readonly address: Ip
  /** The advertised port. */
  readonly port: number
  readonly version: string
  /** When its engine started, milliseconds since the epoch. */
  readonly started: number
  /** Changes at every start of the engine: two values at a time mean two engines with one identity. */
  readonly instance: string
  /** The largest IP packet that it can send to every other member, in bytes: of its interface, less when a path carries less. 0 = unknown. */
  readonly mtu: number
  /** Subnets that the host routes to: not chosen for a network unless asked for. */
  readonly routes: readonly Cidr[]
  /** `down`: its lease has ended; it keeps what it owns. `evicted`: what it owned was freed; it may come back. */
  readonly state: 'up' | 'down' | 'evicted'
}

/** What changed in a {@link ClusterView}. A host's new tunnel address shows as changes of its endpoints too. */
export type ClusterChange =
  | { readonly kind: 'network'; readonly networkId: string }
  | { readonly kind: 'endpoint'; readonly networkId: string; readonly endpointId: string }
  /** Many at once (first reading, or a lost watch): read the network's endpoints again. */
  | { readonly kind: 'endpoints'; readonly networkId: string }
  | { readonly kind: 'host'; readonly hostId: string }

/**
 * What this host knows of the cluster, kept current by watches; from the last known state while the store is away.
 * Endpoints are followed only for networks that this host uses.
 */
export interface ClusterView {
  /** This host. */
  readonly hostId: string
  networks(): readonly ClusterNetwork[]
  network(id: string): ClusterNetwork | undefined
  /** All endpoints of a network that this host uses, its own included; empty for other networks. */
  endpointsOf(networkId: string): readonly ClusterEndpoint[]
  endpoint(networkId: string, endpointId: string): ClusterEndpoint | undefined
  /** Networks whose endpoints are followed here. */
  used(): readonly string[]
  hosts(): readonly ClusterHost[]
  host(id: string): ClusterHost | undefined
  /** Called after the view has changed; returns the unsubscribe function. Listeners must not throw. */
  onChange(listener: (change: ClusterChange) => void): () => void
}

/** One path as it is in a host's kernel, for `causeway cluster verify`. */
export interface KernelEntry {
  readonly ip: Ip
  readonly mac: Mac
  /** Tunnel address of the host that has it; this host's own for local endpoints. */
  readonly host: Ip
}

/** Reads the kernel's own state of a network (neighbours, forwarding entries, local ports), not what was meant to be there. */
export type ReadKernelEntries = (networkId: string) => Promise<readonly KernelEntry[]> | readonly KernelEntry[]

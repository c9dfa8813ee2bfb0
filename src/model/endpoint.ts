/** Endpoints, sandboxes and published ports: the joint between a container and its networks. */
import type { Ip, Mac } from '../base/address.ts'

export type Proto = 'tcp' | 'udp' | 'sctp'

/** What the user asked of one attachment; stored with the container, valid while it is stopped. */
export interface EndpointSettings {
  readonly ipv4?: string
  readonly ipv6?: string
  readonly linkLocalIps?: readonly string[]
  /** `name` or `name:alias`: network-scoped aliases on user-defined networks. */
  readonly links?: readonly string[]
  readonly aliases?: readonly string[]
  readonly driverOpts?: Readonly<Record<string, string>>
  readonly gwPriority?: number
  readonly mac?: string
}

/** What a live attachment got. Absent values are ''/0 as Docker prints them. */
export interface EndpointInfo {
  readonly id: string
  readonly networkId: string
  readonly networkName: string
  readonly containerId: string
  readonly ifname: string
  /** Host side of the veth, '' for drivers without one. */
  readonly hostIfname: string
  readonly mac: Mac | ''
  readonly ipv4: Ip | ''
  readonly ipv4Length: number
  readonly gateway4: Ip | ''
  readonly ipv6: Ip | ''
  readonly ipv6Length: number
  readonly gateway6: Ip | ''
  readonly dnsNames: readonly string[]
  readonly gwPriority: number
  /** Only when it is not the container's: `gateway_<id12>` on docker_gwbridge. */
  readonly name?: string
}

/** One `-p`: as parsed from HostConfig.PortBindings. */
export interface PortRequest {
  readonly proto: Proto
  readonly containerPort: number
  /** '' = every address of the host, both families. */
  readonly hostIp: string
  /** 0 = ephemeral. */
  readonly hostPort: number
  /** Last port of a host range to choose one from; equals hostPort for a single port. */
  readonly hostPortEnd: number
}

/** One published port in force; `count` > 1 for a range mapped pairwise by one map element. */
export interface PortBinding {
  readonly proto: Proto
  readonly containerPort: number
  readonly hostIp: Ip
  /** 0 in routed mode: open on the container's address, no host port. */
  readonly hostPort: number
  readonly count: number
}

/** Key of `lent` sandboxes: their interfaces are made in the engine's own namespace, where they end up is the other engine's affair. */
export const LENT_KEY = '/proc/thread-self/ns/net'

/** Everything the controller needs to build a container's network at start. */
export interface SandboxRequest {
  readonly containerId: string
  readonly containerName: string
  readonly hostname: string
  readonly domainname: string
  /**
   * `private`: own namespace with endpoints (none mode = private with the endpoint on `none`). `host`: the engine's namespace.
   * `lent`: another engine's container; the interfaces are left on the host under the names that the endpoints ask for, for it to take.
   */
  readonly mode: 'private' | 'host' | 'lent'
  /** NetworkMode's network first, then as given. Networks by name, id or id prefix. */
  readonly endpoints: readonly { readonly network: string; readonly settings: EndpointSettings }[]
  readonly ports: readonly PortRequest[]
  /** Exposed ports without a binding, for links and for publish-all (which the caller has expanded into `ports`). */
  readonly exposed: readonly { readonly proto: Proto; readonly port: number }[]
  readonly extraHosts: readonly string[]
  readonly dns: { readonly servers: readonly string[]; readonly search: readonly string[]; readonly options: readonly string[] }
  /** Legacy links on the default bridge: running target container and alias. */
  readonly legacyLinks: readonly {
    readonly containerId: string
    readonly name: string
    readonly hostname: string
    readonly alias: string
  }[]
  /** Folder that receives `hosts`, `resolv.conf`, `hostname` (and their hash files). */
  readonly filesDir: string
  /** An existing namespace to work in (of a CNI runtime) instead of one of our own: no files are written there, and it stays. */
  readonly netns?: string
  /** A resolver is opened in `netns` too, on 127.0.0.11. Sandboxes of one namespace share it: it knows the networks of all of them. */
  readonly resolver?: true
}

/** A container's live network. */
export interface SandboxInfo {
  readonly id: string
  /** Docker's SandboxKey: the namespace's file. */
  readonly key: string
  readonly containerId: string
  readonly endpoints: readonly EndpointInfo[]
  readonly ports: readonly PortBinding[]
  /** The way out through docker_gwbridge, when the sandbox has one; not among `endpoints`, because nobody asked for it. */
  readonly gatewayBridge?: EndpointInfo
}

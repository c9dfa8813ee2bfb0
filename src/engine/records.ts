/** What the controller stores. A record is written before the kernel is touched, so that a crash at any point leaves a trail. */
import type { Ip, Mac } from '../base/address.ts'
import type { AuthorityData } from '../drivers/authority.ts'
import type { EndpointSettings, PortBinding, PortRequest, SandboxRequest } from '../model/endpoint.ts'

export interface EndpointRecord {
  readonly id: string
  readonly networkId: string
  readonly networkName: string
  readonly containerId: string
  readonly settings: EndpointSettings
  readonly ifname: string
  readonly hostIfname: string
  readonly mac: Mac | ''
  readonly ipv4: Ip | ''
  readonly ipv6: Ip | ''
  readonly dnsNames: readonly string[]
  /** Namespace file in which the outer end lives; absent = the host. */
  readonly place?: string
  /** What the network's authority wants to find again. */
  readonly data?: AuthorityData
  /** The way out through docker_gwbridge that a sandbox has without having asked for it. */
  readonly gatewayBridge?: true
}

export interface SandboxRecord {
  readonly id: string
  readonly key: string
  readonly containerId: string
  readonly mode: SandboxRequest['mode']
  readonly containerName: string
  readonly hostname: string
  readonly domainname: string
  readonly filesDir: string
  readonly extraHosts: readonly string[]
  readonly dns: SandboxRequest['dns']
  readonly legacyLinks: SandboxRequest['legacyLinks']
  readonly exposed: SandboxRequest['exposed']
  readonly portRequests: readonly PortRequest[]
  readonly endpoints: readonly EndpointRecord[]
  /** In force, in the order of the requests. */
  readonly ports: readonly PortBinding[]
  /** Ports of the embedded DNS inside the sandbox, 0 when there is none. */
  readonly dnsPorts: { readonly udp: number; readonly tcp: number }
  /** The namespace is somebody else's (a CNI runtime's): it has its own files, and it stays when the sandbox goes. */
  readonly netns?: string
  /** Wants a resolver in `netns`; whose record has the ports keeps it for all sandboxes of that namespace. */
  readonly resolver?: true
  /** A connect or disconnect was under way when this was written: an engine that finds it so completes what the record says. */
  readonly unfinished?: true
}

export const KEY = {
  network: (id: string) => `network/${id}`,
  sandbox: (containerId: string) => `sandbox/${containerId}`,
  networks: 'network/',
  sandboxes: 'sandbox/',
  sysctls: 'sysctl/',
  /** What an authority was asked for and what it has to take back, by the id of network or endpoint. */
  intent: (id: string) => `intent/${id}`,
  intents: 'intent/',
  host: 'host',
} as const

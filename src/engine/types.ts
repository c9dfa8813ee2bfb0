/**
 * The network controller's face to the layers above (containers, api, insight). `controller.ts` implements it.
 * Every method validates first and changes nothing when it throws; every method is safe to repeat.
 */
import type { RemoteEndpoint } from '../drivers/authority.ts'
import type { EndpointInfo, EndpointSettings, PortBinding, PortRequest, SandboxInfo, SandboxRequest } from '../model/endpoint.ts'
import type { Network, NetworkSpec } from '../model/network.ts'
import type { RepairEvent } from '../model/own-answers.ts'

/** How many addresses of a subnet are taken, and how many automatic choice has left. */
export interface SubnetUsage {
  readonly subnet: string
  readonly ipsInUse: bigint
  readonly dynamicAvailable: bigint
}

/** What happened to a network, for the event stream. `connect`/`disconnect` carry the container. */
export interface NetworkEvent {
  readonly action: 'create' | 'connect' | 'disconnect' | 'destroy' | 'prune'
  readonly network: { readonly id: string; readonly name: string; readonly driver: string }
  readonly containerId?: string
  readonly attributes?: Readonly<Record<string, string>>
}

export type { RepairEvent }

/** The one owner of networks, endpoints and published ports. Errors are NetError with Docker's texts, where Docker has one. */
export interface NetworkController {
  /** Throws `conflict` for a name that is taken, `invalid` and `denied` for what the driver or IPAM refuses. */
  createNetwork(spec: NetworkSpec): Promise<{ network: Network; warning: string }>
  /** Docker's lookup order: full id, full name, id prefix. Throws `not-found` / `invalid` (ambiguous) with Docker's text. */
  getNetwork(ref: string): Network
  /** {@link getNetwork}, with undefined for what is not there. */
  findNetwork(ref: string): Network | undefined
  /** Predefined networks included. */
  listNetworks(): readonly Network[]
  /** `force`: although the network's authority (a plugin) does not answer. */
  removeNetwork(ref: string, force?: boolean): Promise<void>
  /** Live endpoints of a network. */
  endpointsOf(networkId: string): readonly EndpointInfo[]
  /** Makes {@link remoteEndpointsOf} current for a network that nobody here uses. Throws `unavailable` when nobody can be asked. */
  readMembers?(networkId: string): Promise<void>
  /** Members of a network on other hosts. */
  remoteEndpointsOf(networkId: string): readonly RemoteEndpoint[]
  /** Of each subnet of a network. Throws `not-found`. */
  usageOf(networkId: string): readonly SubnetUsage[]

  /** Checks endpoint settings against a network as far as is possible without starting. Throws Docker's texts. `network` may be unknown (then only syntax is checked). */
  validateEndpoint(network: string, settings: EndpointSettings): void

  /**
   * Says which addresses a container was given by hand, whether it runs or not: automatic choice leaves them to it. Replaces what was said
   * before; call with no endpoints when the container is removed. Networks may be unknown yet.
   */
  declareAddresses(containerId: string, endpoints: SandboxRequest['endpoints']): void

  /** Builds namespace, endpoints, names, files and ports of a container about to start. On failure nothing is left. */
  openSandbox(request: SandboxRequest): Promise<SandboxInfo>
  /** Takes all of it away. Idempotent; collects errors and reports them in one. */
  closeSandbox(containerId: string): Promise<void>
  /** What a running container has, undefined when it has no sandbox. */
  sandboxOf(containerId: string): SandboxInfo | undefined
  /** Live connect of a running container. */
  connect(containerId: string, network: string, settings: EndpointSettings): Promise<EndpointInfo>
  /** Live disconnect. Throws `internal`, as Docker does, when it is not connected. */
  disconnect(containerId: string, network: string, force: boolean): Promise<void>
  /** Its names on its networks follow at once. */
  renameContainer(containerId: string, name: string): Promise<void>
  /** Publishes ports of a running container, all or none. Throws `conflict` when it does not run, Docker's text when a host port is taken. */
  addPorts(containerId: string, ports: readonly PortRequest[]): Promise<readonly PortBinding[]>
  removePorts(containerId: string, ports: readonly PortRequest[]): Promise<void>

  /** Called once at start with the containers that still run: keeps their sandboxes, takes away all others. */
  restore(liveContainerIds: ReadonlySet<string>): Promise<void>

  /** Called for every change, after it is in force. Returns how to end it. */
  onEvent(listener: (event: NetworkEvent) => void): () => void
  /** Called for every repair. Returns how to end it. */
  onRepair(listener: (event: RepairEvent) => void): () => void
  /** Path of the hosts/resolv.conf/hostname files of a container that has a sandbox. */
  filesOf(containerId: string): { hosts: string; resolvConf: string; hostname: string } | undefined
  /** Stops watching. Leaves the kernel as it is, so that containers go on (`causeway down` removes it). */
  close(): Promise<void>
}

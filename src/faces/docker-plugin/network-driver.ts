/**
 * A network driver of Causeway's for Docker Engines. Docker's network becomes one of ours, Docker's endpoint a sandbox whose interface
 * is lent (engine/lending.ts): we make it on the host, Docker moves it into the container and gives it its addresses. Firewall, source
 * guard and published ports are the engine's, as for containers of its own. Every call may come twice.
 */
import { type Ip, ipToBytes, type Mac, macFromBytes, tryParseMac, trySplitPrefix } from '../../base/address.ts'
import { hasCode, messageOf, NetError } from '../../base/errors.ts'
import { OPTION } from '../../drivers/options.ts'
import type {
  Capabilities,
  CreateEndpointRequest,
  CreateEndpointResponse,
  CreateNetworkRequest,
  EndpointRef,
  IpamData,
  JoinRequest,
  JoinResponse,
  PortMapEntry,
} from '../../drivers/remote/protocol.ts'
import { LABEL, PROTO_NUMBER } from '../../drivers/remote/protocol.ts'
import type { NetworkController } from '../../engine/types.ts'
import { type EndpointInfo, LENT_KEY, type PortRequest, type Proto, type SandboxInfo } from '../../model/endpoint.ts'
import type { Network, NetworkSpec } from '../../model/network.ts'
import { badCall } from './errors.ts'
import type { OverlayAddresses } from './overlay-addresses.ts'
import type { OverlayNetworks } from './overlay-networks.ts'
import type { HostView } from './ports.ts'

/** Label of networks that belong to a Docker Engine: its own id of the network. */
export const DOCKER_NETWORK = 'causeway.docker.network'

/** What differs between the drivers that we offer. */
export interface DriverFlavour {
  /** The engine's driver behind it. */
  readonly driver: string
  /** The engine's IPAM driver for its networks, see docker-addresses.ts. */
  readonly ipamDriver: string
  /** Docker's docker_gwbridge gives containers the way out. */
  readonly usesGatewayBridge: boolean
}

/** What the overlay has besides: networks that others make too, and addresses that the cluster gives. */
export interface OverlayParts {
  readonly networks: OverlayNetworks
  readonly addresses: OverlayAddresses
}

export interface PluginDriverParts {
  readonly controller: NetworkController
  readonly overlay?: OverlayParts
  readonly flavour: DriverFlavour
  readonly host: HostView
}

export class PluginNetworkDriver {
  readonly #controller: NetworkController
  readonly #flavour: DriverFlavour
  readonly #host: HostView
  readonly #overlay: OverlayParts | undefined

  constructor({ controller, flavour, host, overlay }: PluginDriverParts) {
    this.#overlay = overlay
    this.#controller = controller
    this.#flavour = flavour
    this.#host = host
  }

  /** Local: Docker's "global" wants a store of its own. That networks span hosts is our affair. */
  capabilities(): Capabilities {
    return { Scope: 'local', ConnectivityScope: this.#flavour.driver === 'overlay' ? 'global' : 'local' }
  }

  async createNetwork(request: Partial<CreateNetworkRequest>): Promise<object> {
    const id = required(request.NetworkID, 'NetworkDriver.CreateNetwork', 'NetworkID')
    if (this.#overlay ? this.#overlay.networks.isKnown(id) : this.#find(id)) return {} // asked again after a lost answer
    const spec = networkSpec(id, request, this.#flavour)
    if (this.#overlay) await this.#overlay.networks.join(id, request, spec)
    else {
      if (this.#flavour.driver === 'bridge') this.#refuseSecondBridge(id, request)
      await this.#controller.createNetwork(spec)
    }
    return {}
  }

  /** A pool of the cluster may be asked for by several networks of one host, which only networks on a LAN can make use of. Docker's text. */
  #refuseSecondBridge(id: string, { IPv4Data, IPv6Data }: Partial<CreateNetworkRequest>): void {
    for (const { Pool } of [...(IPv4Data ?? []), ...(IPv6Data ?? [])]) {
      const there = this.#controller
        .listNetworks()
        .find(({ driver, pools }) => driver === 'bridge' && pools.some(({ subnet }) => subnet === Pool))
      if (there !== undefined)
        throw new NetError(
          'denied',
          `cannot create network ${id} (br-${id.slice(0, 12)}): conflicts with network ${there.id} (${there.name}): networks have overlapping IPv${Pool.includes(':') ? 6 : 4}`,
        )
    }
  }

  async deleteNetwork(id: string): Promise<object> {
    if (this.#overlay) {
      await this.#overlay.networks.leave(id)
      return {}
    }
    const network = this.#find(id)
    if (network === undefined) return {}
    // endpoints that Docker forgot to delete, because it was killed, are not in the way
    for (const { containerId } of this.#controller.endpointsOf(network.id))
      if (this.#controller.sandboxOf(containerId)?.key === LENT_KEY) await this.#controller.closeSandbox(containerId)
    await this.#controller.removeNetwork(network.id, true)
    return {}
  }

  async createEndpoint(request: Partial<CreateEndpointRequest>): Promise<CreateEndpointResponse> {
    const method = 'NetworkDriver.CreateEndpoint'
    const id = required(request.EndpointID, method, 'EndpointID')
    const network = await this.#require(required(request.NetworkID, method, 'NetworkID'))
    const given = request.Interface ?? {}
    const existing = this.#controller.sandboxOf(id)
    const info = existing ? endpointOf(existing) : await this.#open(id, network, given)
    // Docker takes only what it left open
    return { Interface: given.MacAddress || info?.mac === '' ? {} : { MacAddress: info?.mac ?? '' } }
  }

  async deleteEndpoint({ EndpointID = '' }: Partial<EndpointRef>): Promise<object> {
    await this.#controller.closeSandbox(EndpointID)
    return {}
  }

  operInfo({ EndpointID = '' }: Partial<EndpointRef>): object {
    const sandbox = this.#controller.sandboxOf(EndpointID)
    const info = sandbox && endpointOf(sandbox)
    if (sandbox === undefined || info === undefined) return { Value: {} }
    const { mac, ipv4, ipv6, hostIfname } = info
    return { Value: { mac, ipv4, ipv6, 'host-interface': hostIfname, ports: sandbox.ports } }
  }

  async join(request: Partial<JoinRequest>): Promise<JoinResponse> {
    const method = 'NetworkDriver.Join'
    const id = required(request.EndpointID, method, 'EndpointID')
    const network = await this.#require(required(request.NetworkID, method, 'NetworkID'))
    const sandbox = this.#controller.sandboxOf(id)
    let info = sandbox && endpointOf(sandbox)
    if (sandbox === undefined || info === undefined) throw new NetError('not-found', `endpoint ${id.slice(0, 12)} is not known`)
    // it went down with a container's namespace: the same endpoint may join again
    if (!this.#host.hasLink(info.ifname)) {
      const { mac } = info
      const { ipv4, ipv6 } = info
      await this.#controller.closeSandbox(id)
      info = await this.#open(id, network, { Address: ipv4 && `${ipv4}/32`, AddressIPv6: ipv6 && `${ipv6}/128`, MacAddress: mac })
    }
    return {
      InterfaceName: { SrcName: info?.ifname ?? '', DstPrefix: network.options[OPTION.ifacePrefix] || 'eth' },
      // an overlay's way out is Docker's own docker_gwbridge
      Gateway: this.#flavour.usesGatewayBridge ? '' : (info?.gateway4 ?? ''),
      GatewayIPv6: this.#flavour.usesGatewayBridge ? '' : (info?.gateway6 ?? ''),
      DisableGatewayService: !this.#flavour.usesGatewayBridge || network.internal,
    }
  }

  /** Docker moves the interface back to the host, or it goes with the container's namespace: nothing is ours to do. */
  leave(): object {
    return {}
  }

  async programExternal({ EndpointID = '', Options }: Partial<JoinRequest>): Promise<object> {
    await this.revokeExternal({ EndpointID })
    const wanted = portRequests(Options ?? {})
    if (wanted.length > 0 && this.#flavour.driver === 'bridge') await this.#controller.addPorts(EndpointID, wanted)
    return {}
  }

  async revokeExternal({ EndpointID = '' }: Partial<EndpointRef>): Promise<object> {
    const ports = this.#controller.sandboxOf(EndpointID)?.ports ?? []
    if (ports.length > 0)
      await this.#controller.removePorts(
        EndpointID,
        ports.flatMap(({ proto, containerPort, hostIp, hostPort, count }) =>
          Array.from({ length: count }, (_, i) => {
            const port = hostPort === 0 ? 0 : hostPort + i
            return { proto, containerPort: containerPort + i, hostIp, hostPort: port, hostPortEnd: port }
          }),
        ),
      )
    return {}
  }

  #find(dockerId: string): Network | undefined {
    if (this.#overlay) return this.#overlay.networks.find(dockerId)
    return this.#controller.listNetworks().find((network) => network.labels[DOCKER_NETWORK] === dockerId)
  }

  async #require(dockerId: string): Promise<Network> {
    const network = this.#overlay ? await this.#overlay.networks.settled(dockerId) : this.#find(dockerId)
    if (network === undefined)
      throw new NetError('not-found', `network ${dockerId.slice(0, 12)} is not known to Causeway: remove it from Docker and make it anew`)
    return network
  }

  async #open(id: string, network: Network, given: NonNullable<CreateEndpointRequest['Interface']>): Promise<EndpointInfo | undefined> {
    const ipv4 = trySplitPrefix(given.Address ?? '')?.ip
    const ipv6 = trySplitPrefix(given.AddressIPv6 ?? '')?.ip
    for (const ip of [ipv4, ipv6]) if (ip !== undefined) await this.#overlay?.addresses.handOver(network.id, ip)
    const mac = tryParseMac(given.MacAddress ?? '') ?? macOf(ipv4)
    const sandbox = await this.#openSandbox(id, network, { ipv4, ipv6, mac })
    return endpointOf(sandbox)
  }

  async #openSandbox(
    id: string,
    network: Network,
    { ipv4, ipv6, mac }: { ipv4: Ip | undefined; ipv6: Ip | undefined; mac: Mac | undefined },
  ): Promise<SandboxInfo> {
    const opening = this.#controller.openSandbox({
      containerId: id,
      containerName: `docker-${id.slice(0, 12)}`,
      hostname: '',
      domainname: '',
      mode: 'lent',
      endpoints: [
        {
          network: network.id,
          settings: {
            ...(ipv4 ? { ipv4 } : {}),
            ...(ipv6 ? { ipv6 } : {}),
            ...(mac ? { mac } : {}),
            driverOpts: { [OPTION.endpointIfname]: lentName(id), [OPTION.addressGiven]: 'true' },
          },
        },
      ],
      ports: [],
      exposed: [],
      extraHosts: [],
      dns: { servers: [], search: [], options: [] },
      legacyLinks: [],
      filesDir: '',
    })
    if (this.#overlay === undefined) return opening
    return opening.catch(async (error: unknown) => {
      throw hasCode(error, 'denied') && messageOf(error).endsWith(ADDRESS_IN_USE) ? await this.#taken(network, [ipv4, ipv6], error) : error
    })
  }

  /** Who has an address that Docker chose, and what can be done. */
  async #taken(network: Network, ips: readonly (Ip | undefined)[], cause: unknown): Promise<NetError> {
    await this.#controller.readMembers?.(network.id).catch(() => {})
    const isTaken = ({ ipv4, ipv6 }: { ipv4: Ip | ''; ipv6: Ip | '' }) => ips.some((ip) => ip !== undefined && (ip === ipv4 || ip === ipv6))
    const holder = this.#controller.remoteEndpointsOf(network.id).find(isTaken)
    const who = holder ? `${holder.name} on host ${holder.host}` : 'another container'
    return new NetError(
      'denied',
      `Address already in use: ${ips.filter((ip) => ip !== undefined).join(' and ')} of overlay network ${network.name} belongs to ${who}; ` +
        `give another --ip, or make Docker's network with --ipam-driver causeway --ipam-opt causeway.network=${network.name}`,
      {},
      cause,
    )
  }
}

const ADDRESS_IN_USE = 'Address already in use'

/** Name of the interface on the host until Docker takes it. */
function lentName(endpointId: string): string {
  return `cw${endpointId.slice(0, 12)}`
}

/** As Docker's own drivers have it: who gets an address again has the MAC that neighbours remember. */
function macOf(ip: Ip | undefined): Mac | undefined {
  return ip === undefined ? undefined : macFromBytes(Uint8Array.from([0x02, 0x42, ...ipToBytes(ip)]))
}

function endpointOf(sandbox: SandboxInfo): EndpointInfo | undefined {
  return sandbox.endpoints[0]
}

function required(value: string | undefined, method: string, key: string): string {
  if (typeof value !== 'string' || value === '') throw badCall(method, `${key} is missing`)
  return value
}

function networkSpec(id: string, request: Partial<CreateNetworkRequest>, flavour: DriverFlavour): NetworkSpec {
  const options = request.Options ?? {}
  const generic = (options[LABEL.generic] ?? {}) as Record<string, unknown>
  const pools = [...(request.IPv4Data ?? []), ...(request.IPv6Data ?? [])]
  const isOn = (value: unknown) => value === true || value === 'true'
  return {
    name: `docker-${id.slice(0, 12)}`,
    driver: flavour.driver,
    enableIpv4: (request.IPv4Data ?? []).length > 0,
    enableIpv6: isOn(options[LABEL.enableIpv6]) || (request.IPv6Data ?? []).length > 0,
    internal: isOn(options[LABEL.internal]),
    ipam: { driver: flavour.ipamDriver, config: pools.map(poolRequest) },
    options: {
      ...(flavour.driver === 'bridge' ? { [OPTION.bridgeName]: `br-${id.slice(0, 12)}` } : {}),
      ...Object.fromEntries(Object.entries(generic).map(([key, value]) => [key, String(value)])),
    },
    labels: { [DOCKER_NETWORK]: id },
  }
}

function poolRequest({ Pool, Gateway, AuxAddresses }: IpamData) {
  const ip = (text: string) => trySplitPrefix(text)?.ip ?? text
  return {
    subnet: Pool,
    ...(Gateway ? { gateway: ip(Gateway) } : {}),
    aux: Object.fromEntries(Object.entries(AuxAddresses ?? {}).map(([name, address]) => [name, ip(address)])),
  }
}

const PROTO_OF = new Map(Object.entries(PROTO_NUMBER).map(([name, number]) => [number, name as Proto]))

function portRequests(options: Readonly<Record<string, unknown>>): PortRequest[] {
  const entries = options[LABEL.portMap]
  return (Array.isArray(entries) ? (entries as Partial<PortMapEntry>[]) : []).map((entry) => ({
    proto: PROTO_OF.get(entry.Proto ?? 6) ?? 'tcp',
    containerPort: entry.Port ?? 0,
    hostIp: entry.HostIP ?? '',
    hostPort: entry.HostPort ?? 0,
    hostPortEnd: Math.max(entry.HostPortEnd ?? 0, entry.HostPort ?? 0),
  }))
}

/** Networks and sandboxes without a kernel: what the API needs to show them. */
import type { Cidr, Ip, Mac } from '../../src/base/address.ts'
import { NetError } from '../../src/base/errors.ts'
import type { EventBus } from '../../src/containers/types.ts'
import type { NetworkController, NetworkEvent, RepairEvent } from '../../src/engine/types.ts'
import type { EndpointInfo, PortBinding, SandboxInfo } from '../../src/model/endpoint.ts'
import type { Network, NetworkSpec } from '../../src/model/network.ts'
import { idOf } from './ids.ts'

/** The controller of the API tests: names and addresses are plausible, nothing is allocated. */
export class MemoryController implements NetworkController {
  readonly networks = new Map<string, Network>()
  readonly sandboxes = new Map<string, SandboxInfo>()
  readonly repairListeners = new Set<(event: RepairEvent) => void>()
  readonly #events: EventBus

  constructor(events: EventBus) {
    this.#events = events
    this.#add({ name: 'bridge', driver: 'bridge' }, true, '172.17.0.0/16', '172.17.0.1')
    this.#add({ name: 'host', driver: 'host' }, true)
    this.#add({ name: 'none', driver: 'null' }, true)
  }

  #add(spec: NetworkSpec, predefined: boolean, subnet?: string, gateway?: string): Network {
    const network: Network = {
      id: idOf(`network ${spec.name}`),
      name: spec.name,
      created: new Date().toISOString(),
      driver: spec.driver || 'bridge',
      scope: 'local',
      enableIpv4: spec.enableIpv4 ?? true,
      enableIpv6: spec.enableIpv6 ?? false,
      internal: spec.internal ?? false,
      attachable: spec.attachable ?? false,
      ingress: false,
      configOnly: spec.configOnly ?? false,
      configFrom: spec.configFrom ?? '',
      ipamDriver: 'default',
      ipamOptions: spec.ipam?.options ?? null,
      pools:
        subnet === undefined ? [] : [{ subnet: subnet as Cidr, ...(gateway === undefined ? {} : { gateway: gateway as Ip }), aux: {} }],
      options: spec.options ?? {},
      labels: spec.labels ?? {},
      predefined,
    }
    this.networks.set(network.id, network)
    return network
  }
  #emit(action: NetworkEvent['action'], network: Network, attributes: Record<string, string> = {}): void {
    const Attributes = { name: network.name, type: network.driver, ...attributes }
    this.#events.publish({ Type: 'network', Action: action, Actor: { ID: network.id, Attributes } })
  }

  async createNetwork(spec: NetworkSpec): Promise<{ network: Network; warning: string }> {
    if (this.listNetworks().some((n) => n.name === spec.name))
      throw new NetError('conflict', `network with name ${spec.name} already exists`)
    const pool = spec.ipam?.config?.[0]
    const octet = 17 + this.networks.size
    const network = this.#add(spec, false, pool?.subnet ?? `172.${octet}.0.0/16`, pool?.gateway ?? `172.${octet}.0.1`)
    this.#emit('create', network)
    return { network, warning: '' }
  }
  getNetwork(ref: string): Network {
    const found = this.findNetwork(ref)
    if (found === undefined) throw new NetError('not-found', `network ${ref} not found`)
    return found
  }
  findNetwork(ref: string): Network | undefined {
    const all = this.listNetworks()
    return this.networks.get(ref) ?? all.find((n) => n.name === ref) ?? all.find((n) => ref !== '' && n.id.startsWith(ref))
  }
  listNetworks(): readonly Network[] {
    return [...this.networks.values()]
  }
  async removeNetwork(ref: string): Promise<void> {
    const network = this.getNetwork(ref)
    if (network.predefined) throw new NetError('denied', `${network.name} is a pre-defined network and cannot be removed`)
    if (this.endpointsOf(network.id).length > 0)
      throw new NetError('denied', `error while removing network: network ${network.name} has active endpoints`)
    this.networks.delete(network.id)
    this.#emit('destroy', network)
  }
  remoteEndpointsOf(): readonly never[] {
    return []
  }

  endpointsOf(networkId: string): readonly EndpointInfo[] {
    return [...this.sandboxes.values()].flatMap((s) => s.endpoints.filter((e) => e.networkId === networkId))
  }
  usageOf(networkId: string): readonly { subnet: string; ipsInUse: bigint; dynamicAvailable: bigint }[] {
    return (this.networks.get(networkId)?.pools ?? []).map((p) => ({ subnet: p.subnet, ipsInUse: 4n, dynamicAvailable: 2n ** 80n }))
  }
  validateEndpoint(): void {}
  async openSandbox(): Promise<SandboxInfo> {
    throw new Error('the memory containers open their sandbox themselves')
  }
  async closeSandbox(containerId: string): Promise<void> {
    const sandbox = this.sandboxes.get(containerId)
    this.sandboxes.delete(containerId)
    for (const endpoint of sandbox?.endpoints ?? [])
      this.#emit('disconnect', this.getNetwork(endpoint.networkId), { container: containerId })
  }
  sandboxOf(containerId: string): SandboxInfo | undefined {
    return this.sandboxes.get(containerId)
  }
  async connect(containerId: string, ref: string): Promise<EndpointInfo> {
    const network = this.getNetwork(ref)
    const sandbox = this.sandboxes.get(containerId) ?? {
      id: idOf(`sandbox ${containerId}`),
      key: `/run/causeway/netns/${containerId.slice(0, 12)}`,
      containerId,
      endpoints: [],
      ports: [],
    }
    if (sandbox.endpoints.some((e) => e.networkId === network.id))
      throw new NetError('denied', `endpoint with name x already exists in network ${network.name}`)
    const pool = network.pools[0]
    const prefix = (pool?.subnet ?? '0.0.0.0/0').split('.').slice(0, 3).join('.')
    const endpoint: EndpointInfo = {
      id: idOf(`endpoint ${containerId} ${network.id}`),
      networkId: network.id,
      networkName: network.name,
      containerId,
      ifname: `eth${sandbox.endpoints.length}`,
      hostIfname: `veth${containerId.slice(0, 7)}`,
      mac: '02:42:ac:11:00:02' as Mac,
      ipv4: pool === undefined ? '' : (`${prefix}.${2 + this.endpointsOf(network.id).length}` as Ip),
      ipv4Length: pool === undefined ? 0 : 16,
      gateway4: pool?.gateway ?? '',
      ipv6: '',
      ipv6Length: 0,
      gateway6: '',
      dnsNames: network.predefined ? [] : ['c', containerId.slice(0, 12)],
      gwPriority: 0,
    }
    this.sandboxes.set(containerId, { ...sandbox, endpoints: [...sandbox.endpoints, endpoint] })
    this.#emit('connect', network, { container: containerId })
    return endpoint
  }
  async disconnect(containerId: string, ref: string): Promise<void> {
    const network = this.getNetwork(ref)
    const sandbox = this.sandboxes.get(containerId)
    if (sandbox === undefined || !sandbox.endpoints.some((e) => e.networkId === network.id)) {
      throw new NetError('internal', `container ${containerId} is not connected to network ${network.name}`)
    }
    this.sandboxes.set(containerId, { ...sandbox, endpoints: sandbox.endpoints.filter((e) => e.networkId !== network.id) })
    this.#emit('disconnect', network, { container: containerId })
  }
  async renameContainer(): Promise<void> {}
  declareAddresses(): void {}

  async addPorts(containerId: string, ports: Parameters<NetworkController['addPorts']>[1]): Promise<readonly PortBinding[]> {
    const sandbox = this.sandboxes.get(containerId)
    if (sandbox === undefined) throw new NetError('conflict', `container ${containerId} is not running`)
    const added = ports.map((p) => ({
      proto: p.proto,
      containerPort: p.containerPort,
      hostIp: (p.hostIp || '0.0.0.0') as Ip,
      hostPort: p.hostPort || 49_153,
      count: 1,
    }))
    this.sandboxes.set(containerId, { ...sandbox, ports: [...sandbox.ports, ...added] })
    return added
  }
  async removePorts(containerId: string, ports: Parameters<NetworkController['removePorts']>[1]): Promise<void> {
    const sandbox = this.sandboxes.get(containerId)
    if (sandbox === undefined) throw new NetError('conflict', `container ${containerId} is not running`)
    const kept = sandbox.ports.filter((b) => !ports.some((p) => p.proto === b.proto && p.containerPort === b.containerPort))
    this.sandboxes.set(containerId, { ...sandbox, ports: kept })
  }
  async restore(): Promise<void> {}
  onEvent(): () => void {
    return () => {}
  }
  onRepair(listener: (event: RepairEvent) => void): () => void {
    this.repairListeners.add(listener)
    return () => this.repairListeners.delete(listener)
  }
  filesOf(): undefined {
    return undefined
  }
  async close(): Promise<void> {}
}

/** One host of a simulated cluster: the real member, store client and overlay with its planner, on a kernel in memory. */
import type { Ip, IpPrefix } from '../src/base/address.ts'
import { systemClock } from '../src/base/clock.ts'
import { newId } from '../src/base/ids.ts'
import { type Logger, silentLogger } from '../src/base/ports.ts'
import { systemRng } from '../src/base/rng.ts'
import type { ClusterEndpoint, KernelEntry } from '../src/cluster/model.ts'
import { Overlay } from '../src/cluster/overlay/overlay.ts'
import { overlayNamespaceName } from '../src/cluster/overlay/sandboxes.ts'
import { openClusterStore } from '../src/cluster/store/open.ts'
import type { StoreConfig } from '../src/cluster/store/url.ts'
import type { Authority, EndpointFinal } from '../src/drivers/authority.ts'
import { overlayDriver } from '../src/drivers/overlay/overlay.ts'
import { EVERYONE } from '../src/drivers/overlay/wanted.ts'
import type { Network } from '../src/model/network.ts'
import { type Member, startMember } from '../test/cluster/model-lab.ts'
import { FakeKernel } from './fake-kernel.ts'
import type { FakeRtnl } from './fake-rtnl.ts'

const NETNS_DIR = '/simulated/netns'

/** What a container's life asks of the authority. */
type Calls = Required<Pick<Authority, 'grantEndpoint' | 'createEndpoint' | 'activateEndpoint' | 'removeEndpoint'>>

export class SimHost {
  readonly name: string
  readonly address: Ip
  readonly kernel: FakeKernel
  readonly member: Member
  readonly overlay: Overlay
  /** Changes of its view, and those of them that had it read a network's endpoints as a whole. */
  changes = 0
  readings = 0
  readonly #authority: Calls

  /** `number`: 0 to 65,535, makes its address. */
  constructor(number: number, config: StoreConfig, logger: Logger = silentLogger) {
    this.name = `h${number}`
    this.address = `10.99.${number >> 8}.${number & 255}` as Ip
    this.kernel = new FakeKernel(`${this.address}/16` as IpPrefix)
    const store = openClusterStore(config, { clock: systemClock, rng: systemRng, logger })
    this.member = startMember({ name: this.name, address: this.address, store, readKernel: (id) => this.overlay.kernelEntries(id) })
    const { view, authority } = this.member.service
    this.overlay = new Overlay({
      view,
      vtep: this.address,
      netnsDir: NETNS_DIR,
      rtnl: this.kernel.host,
      namespaces: this.kernel.namespaces,
      clock: systemClock,
      rng: systemRng,
      log: logger,
      store,
    })
    this.#authority = this.overlay.wrap(authority) as Calls
    view.onChange(({ kind }) => {
      this.changes++
      if (kind === 'endpoints') this.readings++
    })
  }

  /** Questions to the store that something asked for. */
  get asked(): number {
    const { reads, writes } = this.member.store.counters()
    return reads + writes
  }

  /** A container start as the engine does it: granted, a place made, plugged in, told. */
  async start(network: Network, containerName: string): Promise<EndpointFinal> {
    await this.member.service.membership.join()
    const ask = {
      endpointId: newId(systemRng),
      containerId: newId(systemRng),
      containerName,
      hostname: containerName,
      sandboxId: newId(systemRng),
      sandboxKey: '',
      settings: {},
      dnsNames: [containerName],
      ports: [],
      exposed: [],
    }
    const granted = await this.#authority.grantEndpoint(network, ask)
    const { ipv4 = '', ipv6 = '', mac = '', data = {} } = granted ?? {}
    const asked: EndpointFinal = { ...ask, ipv4, ipv6, mac, data }
    const said = await this.#authority.createEndpoint(network, asked)
    const endpoint = { ...asked, data: { ...data, ...said } }
    const { plug } = overlayDriver.endpointWanted(network, {
      id: ask.endpointId,
      ifname: 'eth0',
      hostIfname: `veth${ask.endpointId.slice(0, 7)}`,
      mac,
      ipv4,
      ipv6,
      linkLocalIps: [],
      sysctls: [],
      netnsFd: -1,
      data: endpoint.data,
    })
    if (plug.kind !== 'pair') throw new Error('an endpoint of an overlay network is a pair')
    this.#inside(plug.place ?? '').apply([{ op: 'link.add', link: plug.link.spec }])
    this.member.live.set(ask.endpointId, { network, endpoint })
    try {
      await this.#authority.activateEndpoint(network, endpoint)
    } catch (error) {
      await this.stop(endpoint)
      throw error
    }
    return endpoint
  }

  /** May be repeated when it is refused. */
  async stop(endpoint: EndpointFinal): Promise<void> {
    const network = this.member.live.get(endpoint.endpointId)?.network
    if (network === undefined) throw new Error(`${endpoint.containerName} does not run here`)
    const { place, link } = endpoint.data as { place: string; link: string }
    const inside = this.kernel.mounted.get(place)?.rtnl
    if (inside?.link(link) !== undefined) inside.apply([{ op: 'link.delete', dev: link }])
    await this.#authority.removeEndpoint(network, endpoint.endpointId, endpoint.data)
    this.member.live.delete(endpoint.endpointId)
  }

  /**
   * How this host's kernel differs from `endpoints`, which is all that the store has: namespaces, and in each of them the entries that lead to
   * every member, no more and no less. Empty when it does not.
   */
  differences(endpoints: readonly ClusterEndpoint[]): string[] {
    const byNetwork = new Map<string, ClusterEndpoint[]>()
    for (const e of endpoints) byNetwork.set(e.networkId, [...(byNetwork.get(e.networkId) ?? []), e])
    for (const [id, members] of byNetwork) if (!members.some((e) => e.hostId === this.member.id)) byNetwork.delete(id)
    const wanted = new Map([...byNetwork].map(([id, members]) => [`${NETNS_DIR}/${overlayNamespaceName(id)}`, members]))
    const wrong: string[] = []
    for (const path of this.kernel.mounted.keys()) if (!wanted.has(path)) wrong.push(`${path} is not wanted`)
    for (const [path, members] of wanted) {
      const inside = this.kernel.mounted.get(path)?.rtnl
      if (inside === undefined) wrong.push(`${path} is missing`)
      else wrong.push(...this.#differencesInside(path, inside, members))
    }
    return wrong.map((text) => `${this.name}: ${text}`)
  }

  /** Ends it as a crash does. */
  async crash(): Promise<void> {
    await this.overlay.close()
    await this.member.crash()
  }

  #inside(path: string): FakeRtnl {
    const space = this.kernel.mounted.get(path)
    if (space === undefined) throw new Error(`${this.name} has no namespace ${path}`)
    return space.rtnl
  }

  #differencesInside(path: string, inside: FakeRtnl, members: readonly ClusterEndpoint[]): string[] {
    const networkId = members[0]?.networkId ?? ''
    const others = members.filter((e) => e.hostId !== this.member.id)
    const text = (entries: readonly KernelEntry[]) =>
      entries
        .map(({ ip, mac, host }) => `${ip} ${mac} at ${host}`)
        .sort()
        .join(', ')
    const tunnels = inside.links('vxlan').map(({ name }) => name)
    const fdb = tunnels.flatMap((name) => inside.fdb(name)).filter((f) => f.self === true)
    const counted = {
      entries: [
        text(this.overlay.kernelEntries(networkId)),
        text(members.map((e) => ({ ip: e.ipv4 as Ip, mac: e.mac, host: e.hostAddress }))),
      ],
      neighbours: [tunnels.flatMap((name) => inside.neighbours({ dev: name })).length, others.length],
      'tunnel ends': [fdb.filter((f) => f.mac !== EVERYONE).length, others.length],
      'hosts that broadcasts go to': [fdb.filter((f) => f.mac === EVERYONE).length, new Set(others.map((e) => e.hostId)).size],
      interfaces: [inside.links('veth').length, members.length - others.length],
    }
    return Object.entries(counted).flatMap(([what, [have, want]]) => (have === want ? [] : [`${path} has ${what} ${have}, wanted ${want}`]))
  }
}

/**
 * Sandboxes and endpoints: the life of a container's network from start to stop, live connect and disconnect included.
 * Everything between reserving and publishing is synchronous, so no two operations can interleave; only the kernel's slow
 * deletions happen behind the caller's back.
 */
import { existsSync, readdirSync } from 'node:fs'
import { type Ip, parseIp, parseMac, splitPrefix } from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import { hex, newId, randomMac } from '../base/ids.ts'
import { parseBridgeConfig } from '../drivers/bridge/config.ts'
import { endpointSysctls, OPTION } from '../drivers/options.ts'
import { type EndpointFacts, type EndpointWanted, poolOf } from '../drivers/types.ts'
import type { AddressSpace } from '../ipam/address-space.ts'
import { flushAddress, flushPort } from '../kernel/conntrack.ts'
import type { NftElement } from '../model/nft-element.ts'
import { installDnsRedirect } from '../kernel/sandbox-dns.ts'
import type { EndpointInfo, EndpointSettings, PortBinding, PortRequest, SandboxInfo, SandboxRequest } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import { endpointElements, linkElements, portElements } from '../plan/firewall/elements.ts'
import { createNetns, removeNetns } from '../sys/netns.ts'
import { announce } from './announce.ts'
import { checkEndpointSettings, dnsNamesOf, parseLinkLocal } from './endpoint-rules.ts'
import type { Environment, NetworkingConfig } from './environment.ts'
import { SandboxFiles } from './files.ts'
import type { Firewall } from './firewall.ts'
import { electGateways, type GatewayCandidate, gatewayOrder } from './gateway.ts'
import type { HostKernel } from './host-kernel.ts'
import { dnsViewOf, hostsLinesOf } from './names.ts'
import type { Networks } from './networks.ts'
import type { PortMapper, PublishTarget } from './port-mapper.ts'
import { type EndpointRecord, KEY, type SandboxRecord } from './records.ts'
import { type DefaultRoute, defaultRouteStep, renameError, SandboxKernel } from './sandbox-kernel.ts'
import { UndoStack } from './undo.ts'

interface Attached {
  readonly record: EndpointRecord
  readonly network: Network
}

export interface SandboxesOptions {
  readonly env: Environment
  readonly config: NetworkingConfig
  readonly networks: Networks
  readonly ipam: AddressSpace
  readonly host: HostKernel
  readonly ports: PortMapper
  readonly firewall: Firewall
  readonly emit: (action: 'connect' | 'disconnect', network: Network, containerId: string) => void
}

export class Sandboxes {
  readonly #o: SandboxesOptions
  readonly #files: SandboxFiles
  readonly #live = new Map<string, SandboxRecord>()
  /** networkId -> endpointId -> record, for inspect and removal checks. */
  readonly #byNetwork = new Map<string, Map<string, EndpointRecord>>()
  /** What legacy links of a container have opened; depends on which targets run. */
  readonly #opened = new Map<string, NftElement[]>()

  constructor(options: SandboxesOptions) {
    this.#o = options
    this.#files = new SandboxFiles(options.config)
  }

  // ---- reading -------------------------------------------------------------------------------------------------------------

  get(containerId: string): SandboxRecord | undefined {
    return this.#live.get(containerId)
  }

  all(): readonly SandboxRecord[] {
    return [...this.#live.values()]
  }

  endpointsOf(networkId: string): readonly EndpointRecord[] {
    return [...(this.#byNetwork.get(networkId)?.values() ?? [])]
  }

  info(record: SandboxRecord): SandboxInfo {
    return {
      id: record.id,
      key: record.key,
      containerId: record.containerId,
      endpoints: record.endpoints.map((e) => this.endpointInfo(e)),
      ports: record.ports,
    }
  }

  endpointInfo(e: EndpointRecord): EndpointInfo {
    const network = this.#o.networks.find(e.networkId)
    const lengthOf = (family: 4 | 6, ip: string) => {
      const pool = network && ip !== '' ? poolOf(network, family) : undefined
      return pool ? splitPrefix(pool.subnet).length : 0
    }
    const gateways = network && e.ifname !== '' ? this.#o.networks.driverOf(network).gatewayOf(network) : { ipv4: '' as const, ipv6: '' as const }
    return {
      id: e.id,
      networkId: e.networkId,
      networkName: e.networkName,
      containerId: e.containerId,
      ifname: e.ifname,
      hostIfname: e.hostIfname,
      mac: e.mac,
      ipv4: e.ipv4,
      ipv4Length: lengthOf(4, e.ipv4),
      gateway4: e.ipv4 === '' ? '' : gateways.ipv4,
      ipv6: e.ipv6,
      ipv6Length: lengthOf(6, e.ipv6),
      gateway6: e.ipv6 === '' ? '' : gateways.ipv6,
      dnsNames: e.dnsNames,
      gwPriority: e.settings.gwPriority ?? 0,
    }
  }

  filesOf(containerId: string): { hosts: string; resolvConf: string; hostname: string } | undefined {
    const record = this.#live.get(containerId)
    return record && this.#files.paths(record.filesDir)
  }

  // ---- opening and closing ---------------------------------------------------------------------------------------------------

  open(request: SandboxRequest): SandboxInfo {
    if (this.#live.has(request.containerId))
      throw new NetError('conflict', `container ${request.containerId.slice(0, 12)} has a sandbox already`)
    const { env, networks } = this.#o
    const resolved = request.endpoints.map((e) => ({ network: networks.get(e.network), settings: e.settings }))
    for (const { network, settings } of resolved) checkEndpointSettings(network.name, network, settings)
    const id = newId(env.rng)
    const blank: SandboxRecord = {
      id,
      key: request.mode === 'host' ? `${env.netnsDir}/default` : `${env.netnsDir}/${id.slice(0, 12)}`,
      containerId: request.containerId,
      mode: request.mode,
      containerName: request.containerName,
      hostname: request.hostname,
      domainname: request.domainname,
      filesDir: request.filesDir,
      extraHosts: request.extraHosts,
      dns: request.dns,
      legacyLinks: request.legacyLinks,
      exposed: request.exposed,
      portRequests: request.ports,
      endpoints: [],
      ports: [],
      dnsPorts: { udp: 0, tcp: 0 },
    }
    const undo = new UndoStack()
    try {
      const endpoints: EndpointRecord[] = []
      for (const { network, settings } of resolved) endpoints.push(this.#reserve(blank, network, settings, endpoints, undo))
      let record: SandboxRecord = { ...blank, endpoints }
      this.#save(record)
      undo.defer('record', () => this.#forget(record))
      if (record.mode === 'private') {
        createNetns(record.key)
        undo.defer(`namespace ${record.key}`, () => removeNetns(record.key))
        record = this.#build(record, undo)
      }
      this.#files.write(record, this.#attached(record), this.#hasInternalDns(record))
      this.#save(record)
      for (const e of record.endpoints) this.#index(e)
      this.#refreshLinksTo(record)
      undo.commit()
      for (const { network } of resolved) this.#o.emit('connect', network, record.containerId)
      return this.info(record)
    } catch (cause) {
      const leftovers = undo.unwind()
      for (const error of leftovers) env.log.error('cleanup after a failed start is incomplete', { error: error.message })
      throw cause
    }
  }

  /** Everything inside a fresh namespace: one netlink batch out here, one in there, one nft batch, one DNS call. */
  #build(record: SandboxRecord, undo: UndoStack): SandboxRecord {
    const attached = this.#attached(record)
    const elements: NftElement[] = []
    const routes = this.#routes(attached)
    let dnsPorts = record.dnsPorts
    SandboxKernel.with(record.key, (kernel) => {
      kernel.loopbackUp()
      for (const { record: e, network } of attached) {
        if (e.ifname === '') continue
        const wanted = this.#wanted(network, e, kernel.ns.fd)
        this.#createPair(wanted, e, undo)
        kernel.configure(wanted.inside, routes.filter((r) => r.ifname === e.ifname).map(defaultRouteStep))
        if (wanted.firewall) elements.push(...endpointElements(wanted.firewall))
      }
      if (this.#hasInternalDns(record)) {
        dnsPorts = { ...this.#dnsPortsOf(record, kernel) }
        undo.defer('resolver', () => this.#o.env.dns.removeSandbox(record.id))
        installDnsRedirect(kernel.ns, dnsPorts)
      }
      announce(kernel, this.#announcements(attached), this.#o.env.clock)
    })
    const ports = this.#publish(record, attached, undo)
    const full = { ...record, ports, dnsPorts }
    elements.push(...this.#portElements(full))
    this.#o.firewall.change(elements)
    undo.defer('firewall elements', () => this.#o.firewall.change([], elements))
    for (const { record: e, network } of attached) this.#setDnsRecord(e, network, undo)
    return full
  }

  /** Takes a sandbox away. Goes on after errors and throws them together. */
  async close(containerId: string): Promise<void> {
    const record = this.#live.get(containerId)
    if (record === undefined) return
    const { env, networks } = this.#o
    const problems: unknown[] = []
    const attempt = (fn: () => void) => {
      try {
        fn()
      } catch (error) {
        problems.push(error)
      }
    }
    attempt(() => this.#withdrawNames(record))
    attempt(() => this.#o.firewall.change([], this.#allElements(record)))
    this.#o.ports.withdraw(record.id, record.ports)
    attempt(() => this.#flushFlows(record))
    if (record.mode === 'private') {
      // without its namespace the kernel ends the pair by itself; the host's end may live until the last process has gone
      attempt(() => removeNetns(record.key))
      const links = record.endpoints.map((e) => e.hostIfname).filter((name) => name !== '')
      this.#o.host.release(links).catch((error) => env.log.warn('cannot delete links', { links, error: messageOf(error) }))
    }
    for (const e of record.endpoints) this.#release(e)
    this.#forget(record)
    this.#refreshLinksTo(record)
    for (const e of record.endpoints) {
      const network = networks.find(e.networkId)
      if (network) this.#o.emit('disconnect', network, containerId)
    }
    if (problems.length > 0)
      throw new NetError('internal', `network of container ${record.containerName} was taken away with errors: ${problems.map(messageOf).join('; ')}`)
  }

  // ---- live changes ------------------------------------------------------------------------------------------------------------

  connect(containerId: string, ref: string, settings: EndpointSettings): EndpointInfo {
    const before = this.#require(containerId)
    const { env, networks } = this.#o
    const network = networks.get(ref)
    if (before.mode === 'host' || network.driver === 'host')
      throw new NetError('invalid', 'cannot connect container to host network - container must be created in host network mode')
    if (before.endpoints.some((e) => e.networkId === network.id))
      throw new NetError('denied', `endpoint with name ${before.containerName} already exists in network ${network.name}`)
    if (network.driver === 'null' || before.endpoints.some((e) => networks.find(e.networkId)?.driver === 'null'))
      throw new NetError('invalid', 'container cannot be connected to multiple networks with one of the networks in private (none) mode')
    checkEndpointSettings(network.name, network, settings)
    const undo = new UndoStack()
    try {
      const taken = SandboxKernel.with(before.key, (kernel) => kernel.ifnames())
      const endpoint = this.#reserve(before, network, settings, before.endpoints, undo, taken)
      let record: SandboxRecord = { ...before, endpoints: [...before.endpoints, endpoint] }
      this.#save(record)
      undo.defer('record', () => this.#save(before))
      const elements: NftElement[] = []
      SandboxKernel.with(record.key, (kernel) => {
        const wanted = this.#wanted(network, endpoint, kernel.ns.fd)
        this.#createPair(wanted, endpoint, undo)
        kernel.configure(wanted.inside)
        if (wanted.firewall) elements.push(...endpointElements(wanted.firewall))
        if (this.#hasInternalDns(record) && record.dnsPorts.udp === 0) {
          record = { ...record, dnsPorts: this.#dnsPortsOf(record, kernel) }
          undo.defer('resolver', () => env.dns.removeSandbox(record.id))
          installDnsRedirect(kernel.ns, record.dnsPorts)
        }
        announce(kernel, this.#announcements([{ record: endpoint, network }]), env.clock)
      })
      this.#o.firewall.change(elements)
      undo.defer('firewall elements', () => this.#o.firewall.change([], elements))
      this.#setDnsRecord(endpoint, network, undo)
      record = this.#settle(before, record, undo)
      this.#index(endpoint)
      undo.commit()
      this.#o.emit('connect', network, containerId)
      return this.endpointInfo(endpoint)
    } catch (cause) {
      for (const error of undo.unwind()) env.log.error('cleanup after a failed connect is incomplete', { error: error.message })
      throw cause
    }
  }

  disconnect(containerId: string, ref: string): void {
    const before = this.#require(containerId)
    const { env, networks } = this.#o
    const network = networks.find(ref)
    const endpoint = before.endpoints.find((e) => e.networkId === network?.id || e.networkName === ref || e.networkId === ref)
    if (endpoint === undefined)
      throw new NetError('internal', `container ${before.containerId} is not connected to network ${network?.name ?? ref}`)
    if (before.mode === 'host')
      throw new NetError('invalid', 'cannot disconnect container from host network - container was created in host network mode')
    const record: SandboxRecord = { ...before, endpoints: before.endpoints.filter((e) => e !== endpoint) }
    if (network) env.dns.removeEndpoint(network.id, endpoint.id)
    this.#o.firewall.change([], network ? this.#endpointElements(endpoint, network) : [])
    if (endpoint.hostIfname !== '') {
      const done = this.#o.host.release([endpoint.hostIfname])
      done.catch((error) => env.log.warn('cannot delete link', { link: endpoint.hostIfname, error: messageOf(error) }))
    }
    this.#settle(before, record, new UndoStack())
    this.#flushAddresses([endpoint])
    this.#release(endpoint)
    this.#byNetwork.get(endpoint.networkId)?.delete(endpoint.id)
    if (network) this.#o.emit('disconnect', network, containerId)
  }

  /** After the set of endpoints changed: default routes, published ports, resolver view, files, record. */
  #settle(before: SandboxRecord, after: SandboxRecord, undo: UndoStack): SandboxRecord {
    const oldAttached = this.#attached(before)
    const attached = this.#attached(after)
    const oldRoutes = this.#routes(oldAttached)
    const routes = this.#routes(attached)
    const apply = (from: readonly DefaultRoute[], to: readonly DefaultRoute[]) =>
      SandboxKernel.with(after.key, (kernel) => {
        for (const family of [4, 6] as const) {
          const a = from.find((r) => r.family === family)
          const b = to.find((r) => r.family === family)
          if (a?.ifname !== b?.ifname || a?.gateway !== b?.gateway) kernel.setDefaultRoute(family, b)
        }
      })
    if (JSON.stringify(oldRoutes) !== JSON.stringify(routes)) {
      apply(oldRoutes, routes)
      undo.defer('default route', () => apply(routes, oldRoutes))
    }
    const oldTarget = this.#publishTarget(before, oldAttached)
    const target = this.#publishTarget(after, attached)
    let record = after
    if (JSON.stringify(oldTarget) !== JSON.stringify(target)) record = this.#movePorts(before, record, undo)
    if (record.dnsPorts.udp !== 0) {
      this.#o.env.dns.setView(record.id, this.#view(record, attached))
      undo.defer('resolver view', () => this.#o.env.dns.setView(before.id, this.#view(before, oldAttached)))
    }
    this.#files.update(before, oldAttached, record, attached, this.#hasInternalDns(record))
    this.#save(record)
    return record
  }

  /** Moves published ports to another gateway endpoint; host ports stay the same numbers. */
  #movePorts(before: SandboxRecord, after: SandboxRecord, undo: UndoStack): SandboxRecord {
    const { ports } = this.#o
    const oldElements = this.#portElements(before)
    ports.withdraw(before.id, before.ports)
    undo.defer('published ports', () => {
      const oldTarget = this.#publishTarget(before, this.#attached(before))
      if (oldTarget) ports.restore(oldTarget, before.ports)
      this.#o.firewall.change(oldElements)
    })
    const sticky = after.portRequests.map((r) => {
      const old = r.hostPort === r.hostPortEnd && r.hostPort !== 0 ? undefined : before.ports.find((b) => b.containerPort === r.containerPort && b.proto === r.proto && b.hostPort !== 0)
      return old ? { ...r, hostPort: old.hostPort, hostPortEnd: old.hostPort } : r
    })
    const bindings = this.#publish({ ...after, portRequests: sticky }, this.#attached(after), undo)
    const record = { ...after, ports: bindings }
    this.#o.firewall.change(this.#portElements(record), oldElements)
    this.#flushPorts(before.ports)
    return record
  }

  rename(containerId: string, name: string): void {
    const before = this.#live.get(containerId)
    if (before === undefined) return
    const endpoints = before.endpoints.map((e) => {
      if (e.dnsNames.length === 0) return e
      const names = dnsNamesOf(name, e.settings.aliases ?? [], containerId, before.hostname)
      return { ...e, dnsNames: names }
    })
    const record = { ...before, containerName: name, endpoints }
    this.#save(record)
    for (const e of endpoints) {
      this.#index(e)
      const network = this.#o.networks.find(e.networkId)
      if (network) this.#setDnsRecord(e, network, new UndoStack())
    }
  }

  addPorts(containerId: string, requests: readonly PortRequest[]): readonly PortBinding[] {
    const before = this.#require(containerId)
    if (before.mode === 'host') throw new NetError('invalid', 'Published ports are discarded when using host network mode')
    const target = this.#publishTarget(before, this.#attached(before))
    if (target === undefined)
      throw new NetError('denied', `container ${before.containerName} has no network that can publish ports: connect it to one that is not internal`)
    const bindings = this.#o.ports.publish(target, requests)
    const record = { ...before, ports: [...before.ports, ...bindings], portRequests: [...before.portRequests, ...requests] }
    try {
      this.#o.firewall.change(this.#portElements({ ...before, ports: bindings }))
    } catch (error) {
      this.#o.ports.withdraw(before.id, bindings)
      throw error
    }
    this.#save(record)
    this.#flushPorts(bindings)
    return bindings
  }

  removePorts(containerId: string, requests: readonly PortRequest[]): void {
    const before = this.#require(containerId)
    const matches = (b: { proto: string; containerPort: number; hostPort: number; hostIp: string }, r: PortRequest) =>
      b.proto === r.proto &&
      (r.containerPort === 0 || b.containerPort === r.containerPort) &&
      (r.hostPort === 0 || b.hostPort === r.hostPort) &&
      (r.hostIp === '' || b.hostIp === r.hostIp)
    for (const request of requests)
      if (!before.ports.some((b) => matches(b, request)))
        throw new NetError(
          'not-found',
          `container ${before.containerName} publishes no port ${request.hostPort || '*'}->${request.containerPort || '*'}/${request.proto}`,
        )
    const gone = before.ports.filter((b) => requests.some((r) => matches(b, r)))
    const portRequests = before.portRequests.filter((p) => !requests.some((r) => matches(p, { ...r, hostIp: p.hostIp === '' ? '' : r.hostIp })))
    this.#o.firewall.change([], this.#portElements({ ...before, ports: gone }))
    this.#o.ports.withdraw(before.id, gone)
    this.#save({ ...before, ports: before.ports.filter((b) => !gone.includes(b)), portRequests })
    this.#flushPorts(gone)
  }

  // ---- restart -----------------------------------------------------------------------------------------------------------------

  /** Takes up stored sandboxes: those of live containers are completed where something is missing, the others are taken away. */
  restore(records: readonly SandboxRecord[], liveContainerIds: ReadonlySet<string>): void {
    const { env, networks, ipam } = this.#o
    const keep: SandboxRecord[] = []
    for (const record of records) {
      for (const e of record.endpoints)
        for (const [family, ip] of [[4, e.ipv4], [6, e.ipv6]] as const) {
          const network = networks.find(e.networkId)
          const key = network && ip !== '' ? networks.poolKey(network, family, ip) : undefined
          if (key === undefined || ip === '') continue
          try {
            ipam.requestAddress(key, { ip, holder: `container "${record.containerName}"` })
          } catch (error) {
            env.log.error('stored address is taken', { container: record.containerName, ip, error: messageOf(error) })
          }
        }
      this.#live.set(record.containerId, record)
      for (const e of record.endpoints) {
        this.#index(e)
        if (e.hostIfname !== '') this.#rememberWanted(e)
      }
      if (liveContainerIds.has(record.containerId) && (record.mode === 'host' || existsSync(record.key))) keep.push(record)
    }
    for (const record of this.all()) if (!keep.includes(record)) this.close(record.containerId).catch((error) => env.log.warn(messageOf(error)))
    for (const record of keep) this.#o.firewall.expect(this.#allElements(record))
    for (const record of keep) {
      try {
        this.#resume(record)
      } catch (error) {
        env.log.error('cannot restore the network of a running container', { container: record.containerName, error: messageOf(error) })
      }
    }
    for (const record of keep) this.#refreshLinksTo(record)
    this.#removeStrangers(keep)
  }

  #resume(record: SandboxRecord): void {
    const { env, ports } = this.#o
    const attached = this.#attached(record)
    if (record.mode === 'host') return
    const target = this.#publishTarget(record, attached)
    if (target && record.ports.length > 0) ports.restore(target, record.ports)
    if (record.dnsPorts.udp !== 0)
      SandboxKernel.with(record.key, (kernel) => {
        const dnsPorts = env.dns.restoreSandbox(record.id, kernel.ns, this.#view(record, attached), record.dnsPorts)
        installDnsRedirect(kernel.ns, dnsPorts)
        this.#save({ ...record, dnsPorts })
      })
    for (const { record: e, network } of attached) this.#setDnsRecord(e, network, new UndoStack())
    this.repairInside(record.containerId)
  }

  /** Makes the container's side again where a veth pair was made anew. */
  repairInside(containerId: string, created: ReadonlySet<string> = new Set()): void {
    const record = this.#live.get(containerId)
    if (record === undefined || record.mode === 'host') return
    const attached = this.#attached(record)
    const routes = this.#routes(attached)
    SandboxKernel.with(record.key, (kernel) => {
      for (const { record: e, network } of attached) {
        if (e.ifname === '' || (created.size > 0 ? !created.has(e.hostIfname) : kernel.rtnl.link(e.ifname) !== undefined)) continue
        const wanted = this.#wanted(network, e, kernel.ns.fd)
        if (this.#o.host.rtnl.link(e.hostIfname) === undefined) this.#o.host.create(wanted.link)
        kernel.configure(wanted.inside, routes.filter((r) => r.ifname === e.ifname).map(defaultRouteStep))
        announce(kernel, this.#announcements([{ record: e, network }]), this.#o.env.clock)
      }
    })
  }

  /** The sandbox that a host-side interface belongs to. */
  ownerOf(hostIfname: string): SandboxRecord | undefined {
    for (const record of this.#live.values()) if (record.endpoints.some((e) => e.hostIfname === hostIfname)) return record
    return undefined
  }

  #rememberWanted(e: EndpointRecord): void {
    const network = this.#o.networks.find(e.networkId)
    const record = this.#live.get(e.containerId)
    if (network && record) this.#o.host.want(this.#wanted(network, e, -1).link)
  }

  /** Gives the kernel's view of a veth its peer's namespace again, just before it is made anew. */
  recreatePair(hostIfname: string): boolean {
    const record = this.ownerOf(hostIfname)
    const e = record?.endpoints.find((x) => x.hostIfname === hostIfname)
    const network = e && this.#o.networks.find(e.networkId)
    if (record === undefined || e === undefined || network === undefined) return false
    const routes = this.#routes(this.#attached(record))
    SandboxKernel.with(record.key, (kernel) => {
      const wanted = this.#wanted(network, e, kernel.ns.fd)
      this.#o.host.create(wanted.link)
      kernel.configure(wanted.inside, routes.filter((r) => r.ifname === e.ifname).map(defaultRouteStep))
      announce(kernel, this.#announcements([{ record: e, network }]), this.#o.env.clock)
    })
    return true
  }

  /** Namespaces in our folder that belong to no sandbox are leftovers of a crash. */
  #removeStrangers(keep: readonly SandboxRecord[]): void {
    const known = new Set(keep.map((r) => r.key))
    const dir = this.#o.env.netnsDir
    if (!existsSync(dir)) return
    for (const name of readdirSync(dir)) if (!known.has(`${dir}/${name}`) && /^[0-9a-f]{12}$/.test(name)) removeNetns(`${dir}/${name}`)
  }

  /** Every firewall element that live sandboxes want. */
  elements(): NftElement[] {
    return this.all().flatMap((record) => this.#allElements(record))
  }

  // ---- parts ---------------------------------------------------------------------------------------------------------------------

  #require(containerId: string): SandboxRecord {
    const record = this.#live.get(containerId)
    if (record === undefined) throw new NetError('conflict', `container ${containerId.slice(0, 12)} is not running`)
    return record
  }

  #attached(record: SandboxRecord): Attached[] {
    return record.endpoints.flatMap((e) => {
      const network = this.#o.networks.find(e.networkId)
      return network ? [{ record: e, network }] : []
    })
  }

  #reserve(
    sandbox: SandboxRecord,
    network: Network,
    settings: EndpointSettings,
    siblings: readonly EndpointRecord[],
    undo: UndoStack,
    taken: ReadonlySet<string> = new Set(),
  ): EndpointRecord {
    const { env, networks, ipam } = this.#o
    const driver = networks.driverOf(network)
    if (network.configOnly) throw new NetError('denied', `network ${network.name} is a configuration network and cannot be used by containers`)
    const base = { id: newId(env.rng), networkId: network.id, networkName: network.name, containerId: sandbox.containerId, settings }
    if (driver.withoutIpam) return { ...base, ifname: '', hostIfname: '', mac: '', ipv4: '', ipv6: '', dnsNames: [] }
    const holder = `container "${sandbox.containerName}"`
    const take = (family: 4 | 6, wanted: string | undefined): Ip | '' => {
      if (family === 4 ? !network.enableIpv4 : !network.enableIpv6) return ''
      const ip = wanted ? parseIp(wanted) : undefined
      const key = networks.poolKey(network, family, ip)
      if (key === undefined) return ''
      const got = ipam.requestAddress(key, { ...(ip ? { ip } : {}), holder, network: `${network.name} (${network.id})` })
      undo.defer(`address ${got}`, () => ipam.releaseAddress(key, got))
      return got
    }
    const ipv4 = take(4, settings.ipv4)
    const ipv6 = take(6, settings.ipv6)
    parseLinkLocal(settings)
    const dnsNames =
      network.predefined || !driver.userDefined
        ? []
        : dnsNamesOf(sandbox.containerName, settings.aliases ?? [], sandbox.containerId, sandbox.hostname)
    return {
      ...base,
      ifname: this.#chooseIfname(network, settings, siblings, taken),
      hostIfname: this.#newVethName(),
      mac: settings.mac ? parseMac(settings.mac) : randomMac(env.rng),
      ipv4,
      ipv6,
      dnsNames,
    }
  }

  #chooseIfname(network: Network, settings: EndpointSettings, siblings: readonly EndpointRecord[], taken: ReadonlySet<string>): string {
    const used = new Set([...taken, ...siblings.map((e) => e.ifname)])
    const asked = settings.driverOpts?.[OPTION.endpointIfname]
    if (asked) {
      if (used.has(asked)) throw renameError(new NetError('conflict', 'taken', { errno: 'EEXIST' }), asked)
      return asked
    }
    const prefix = network.options[OPTION.ifacePrefix] || 'eth'
    for (let n = 0; ; n++) if (!used.has(`${prefix}${n}`)) return `${prefix}${n}`
  }

  #newVethName(): string {
    for (;;) {
      const name = `veth${hex(this.#o.env.rng.bytes(4)).slice(0, 7)}`
      if (!this.#o.host.isWanted(name)) return name
    }
  }

  #wanted(network: Network, e: EndpointRecord, netnsFd: number): EndpointWanted {
    const facts: EndpointFacts = {
      id: e.id,
      ifname: e.ifname,
      hostIfname: e.hostIfname,
      mac: e.mac,
      ipv4: e.ipv4,
      ipv6: e.ipv6,
      linkLocalIps: parseLinkLocal(e.settings),
      sysctls: endpointSysctls(e.settings.driverOpts?.[OPTION.endpointSysctls], e.ifname),
      netnsFd,
    }
    return this.#o.networks.driverOf(network).endpointWanted(network, facts)
  }

  #createPair(wanted: EndpointWanted, e: EndpointRecord, undo: UndoStack): void {
    try {
      this.#o.host.create(wanted.link)
    } catch (cause) {
      throw renameError(cause, e.ifname)
    }
    undo.defer(`link ${e.hostIfname}`, () => this.#o.host.releaseNow([e.hostIfname]))
  }

  #candidates(attached: readonly Attached[]): (GatewayCandidate & { readonly at: Attached })[] {
    return attached.map((at) => {
      const gateways = this.#o.networks.driverOf(at.network).gatewayOf(at.network)
      return {
        at,
        endpointId: at.record.id,
        networkName: at.network.name,
        priority: at.record.settings.gwPriority ?? 0,
        internal: at.network.internal,
        isGwBridge: at.network.name === 'docker_gwbridge',
        gateway4: at.record.ipv4 === '' ? '' : gateways.ipv4,
        gateway6: at.record.ipv6 === '' ? '' : gateways.ipv6,
      }
    })
  }

  #routes(attached: readonly Attached[]): DefaultRoute[] {
    const { v4, v6 } = electGateways(this.#candidates(attached))
    const out: DefaultRoute[] = []
    if (v4) out.push({ family: 4, ifname: v4.at.record.ifname, gateway: v4.gateway4 as Ip })
    if (v6) out.push({ family: 6, ifname: v6.at.record.ifname, gateway: v6.gateway6 as Ip })
    return out
  }

  #hasInternalDns(record: SandboxRecord): boolean {
    return record.mode === 'private' && this.#attached(record).some(({ network }) => !network.predefined && network.driver !== 'null')
  }

  #view(record: SandboxRecord, attached: readonly Attached[]) {
    const order = gatewayOrder(this.#candidates(attached)).map((c) => c.at)
    const hasGateway = this.#routes(attached).length > 0
    const resolver = this.#files.resolver(record, attached)
    return dnsViewOf(
      order.filter(({ network }) => !network.predefined),
      resolver.upstreams,
      hasGateway,
      resolver.options,
    )
  }

  #dnsPortsOf(record: SandboxRecord, kernel: SandboxKernel): { udp: number; tcp: number } {
    const { udpPort, tcpPort } = this.#o.env.dns.addSandbox(record.id, kernel.ns, this.#view(record, this.#attached(record)))
    return { udp: udpPort, tcp: tcpPort }
  }

  #setDnsRecord(e: EndpointRecord, network: Network, undo: UndoStack): void {
    if (e.dnsNames.length === 0) return
    this.#o.env.dns.setEndpoint(network.id, {
      endpointId: e.id,
      names: e.dnsNames,
      ...(e.ipv4 === '' ? {} : { ipv4: e.ipv4 }),
      ...(e.ipv6 === '' ? {} : { ipv6: e.ipv6 }),
    })
    undo.defer('names', () => this.#o.env.dns.removeEndpoint(network.id, e.id))
  }

  #withdrawNames(record: SandboxRecord): void {
    for (const e of record.endpoints) if (e.dnsNames.length > 0) this.#o.env.dns.removeEndpoint(e.networkId, e.id)
    if (record.dnsPorts.udp !== 0) this.#o.env.dns.removeSandbox(record.id)
  }

  #announcements(attached: readonly Attached[]) {
    return attached
      .filter(({ record, network }) => record.ifname !== '' && network.driver === 'bridge')
      .map(({ record, network }) => ({
        ifname: record.ifname,
        mac: record.mac,
        ips: [record.ipv4, record.ipv6].filter((ip): ip is Ip => ip !== ''),
        ...parseBridgeConfig(network).advertise,
      }))
  }

  // ---- ports -----------------------------------------------------------------------------------------------------------------------

  #publishTarget(record: SandboxRecord, attached: readonly Attached[]): PublishTarget | undefined {
    const { v4, v6 } = electGateways(this.#candidates(attached))
    const main = v4 ?? v6
    if (main === undefined || main.at.network.driver !== 'bridge') return undefined
    const config = parseBridgeConfig(main.at.network)
    return {
      holder: record.id,
      holderName: record.containerName,
      ipv4: v4?.at.record.ipv4 ?? '',
      ipv6: v6?.at.record.ipv6 ?? '',
      defaultIpv4: config.hostBindingIpv4,
      routed4: config.mode4 === 'routed',
      routed6: config.mode6 === 'routed',
    }
  }

  #publish(record: SandboxRecord, attached: readonly Attached[], undo: UndoStack): PortBinding[] {
    if (record.portRequests.length === 0) return []
    const target = this.#publishTarget(record, attached)
    if (target === undefined) return []
    try {
      const bindings = this.#o.ports.publish(target, record.portRequests)
      undo.defer('published ports', () => this.#o.ports.withdraw(record.id, bindings))
      return bindings
    } catch (error) {
      const { v4, v6 } = electGateways(this.#candidates(attached))
      const id = (v4 ?? v6)?.endpointId ?? ''
      throw new NetError(
        error instanceof NetError ? error.code : 'internal',
        `driver failed programming external connectivity on endpoint ${record.containerName} (${id}): ${messageOf(error)}`,
        error instanceof NetError ? error.detail : {},
        error,
      )
    }
  }

  #portElements(record: SandboxRecord): NftElement[] {
    const { v4, v6 } = electGateways(this.#candidates(this.#attached(record)))
    return record.ports.flatMap((binding) => {
      const via = binding.hostIp.includes(':') ? v6 : v4
      if (via === undefined) return [] // IPv6 host address, IPv4 container: relayed in userland
      const containerIp = binding.hostIp.includes(':') ? via.at.record.ipv6 : via.at.record.ipv4
      if (containerIp === '') return []
      const config = parseBridgeConfig(via.at.network)
      return portElements({
        proto: binding.proto,
        hostIp: binding.hostIp,
        hostPort: binding.hostPort,
        count: binding.count,
        containerIp,
        containerPort: binding.containerPort,
        bridge: config.bridge,
        routed: binding.hostPort === 0,
      })
    })
  }

  #endpointElements(e: EndpointRecord, network: Network): NftElement[] {
    if (e.ifname === '') return []
    const { firewall } = this.#wanted(network, e, -1)
    return firewall ? endpointElements(firewall) : []
  }

  #allElements(record: SandboxRecord): NftElement[] {
    if (record.mode === 'host') return []
    return [
      ...this.#attached(record).flatMap(({ record: e, network }) => this.#endpointElements(e, network)),
      ...this.#portElements(record),
    ]
  }

  /** Legacy links open the target's exposed ports to the linking container, whatever icc says. */
  #linkElements(record: SandboxRecord): NftElement[] {
    return record.legacyLinks.flatMap((link) => {
      const target = this.#live.get(link.containerId)
      const from = record.endpoints.find((e) => this.#isDefaultBridge(e))
      const to = target?.endpoints.find((e) => this.#isDefaultBridge(e))
      if (!target || !from || !to || from.ipv4 === '' || to.ipv4 === '') return []
      const network = this.#o.networks.get(from.networkId)
      const bridge = parseBridgeConfig(network).bridge
      return target.exposed.flatMap(({ proto, port }) =>
        linkElements({ bridge, from: from.ipv4 as Ip, to: to.ipv4 as Ip, proto, port }),
      )
    })
  }

  #isDefaultBridge(e: EndpointRecord): boolean {
    return this.#o.networks.find(e.networkId)?.name === 'bridge'
  }

  /** A container came or went: hosts lines and openings of its own links and of those that link to it follow. */
  #refreshLinksTo(target: SandboxRecord): void {
    const addressOf = (id: string) => this.#live.get(id)?.endpoints.find((e) => this.#isDefaultBridge(e))?.ipv4 || undefined
    for (const record of new Set([...this.#live.values(), target])) {
      const isLinker = record.legacyLinks.length > 0 && (record === target || record.containerId === target.containerId)
      if (!isLinker && !record.legacyLinks.some((l) => l.containerId === target.containerId)) continue
      const runs = this.#live.has(record.containerId)
      const elements = runs ? this.#linkElements(record) : []
      this.#o.firewall.change(elements, this.#opened.get(record.containerId) ?? [])
      if (elements.length > 0) this.#opened.set(record.containerId, elements)
      else this.#opened.delete(record.containerId)
      if (runs) this.#files.updateLinks(record, addressOf)
    }
  }

  #flushPorts(bindings: readonly PortBinding[]): void {
    for (const b of bindings)
      if (b.proto === 'udp' && b.count === 1 && b.hostPort !== 0) flushPort({ proto: 'udp', ip: b.hostIp, port: b.hostPort })
  }

  #flushAddresses(endpoints: readonly EndpointRecord[]): void {
    for (const e of endpoints) for (const ip of [e.ipv4, e.ipv6]) if (ip !== '') flushAddress(ip)
  }

  #flushFlows(record: SandboxRecord): void {
    this.#flushPorts(record.ports)
    if (record.ports.length > 0) this.#flushAddresses(record.endpoints)
  }

  // ---- records -----------------------------------------------------------------------------------------------------------------------

  #save(record: SandboxRecord): void {
    this.#o.env.store.put(KEY.sandbox(record.containerId), record)
    this.#live.set(record.containerId, record)
  }

  #forget(record: SandboxRecord): void {
    this.#o.env.store.remove(KEY.sandbox(record.containerId))
    this.#live.delete(record.containerId)
    for (const e of record.endpoints) this.#byNetwork.get(e.networkId)?.delete(e.id)
  }

  #index(e: EndpointRecord): void {
    let endpoints = this.#byNetwork.get(e.networkId)
    if (endpoints === undefined) {
      endpoints = new Map()
      this.#byNetwork.set(e.networkId, endpoints)
    }
    endpoints.set(e.id, e)
  }

  #release(e: EndpointRecord): void {
    const network = this.#o.networks.find(e.networkId)
    if (network === undefined) return
    for (const [family, ip] of [[4, e.ipv4], [6, e.ipv6]] as const) {
      const key = ip === '' ? undefined : this.#o.networks.poolKey(network, family, ip)
      if (key !== undefined && ip !== '') this.#o.ipam.releaseAddress(key, ip)
    }
  }
}

export { hostsLinesOf }

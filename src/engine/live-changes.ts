/** Changes of a running container's network: connect, disconnect, rename, ports. Nothing is cut that need not be. */
import { messageOf, NetError } from '../base/errors.ts'
import type { EndpointInfo, EndpointSettings, PortBinding, PortRequest } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import { Asking, rememberToRemove } from './asking.ts'
import type { Attached } from './attachments.ts'
import { checkEndpointSettings, dnsNamesOf, refuseConfigOnly } from './endpoint-rules.ts'
import { withGatewayBridge } from './gateway-bridge.ts'
import { bringOut } from './plugs.ts'
import { cutPorts } from './port-cuts.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import { type DefaultRoute, SandboxKernel } from './sandbox-kernel.ts'
import { forgetAddressFlows, forgetPortFlows, type Parts, plugIn, publishNames, withdrawNames } from './sandbox-parts.ts'
import { resolverView, startResolver } from './sandbox-resolver.ts'
import { UndoStack } from './undo.ts'

export class LiveChanges {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** For networks without an authority. */
  connect(containerId: string, ref: string, settings: EndpointSettings): EndpointInfo {
    const { before, network } = this.#check(containerId, ref, settings)
    const info = this.#attach(before, network, (kernel, undo) =>
      this.#parts.reserver.reserve(before, network, settings, before.endpoints, undo, { isTaken: kernel.hasLink }),
    )
    this.#settleGatewayBridge(containerId)
    return info
  }

  /** The same when somebody else has a say: he is asked before, and told after. */
  async connectAsking(containerId: string, ref: string, settings: EndpointSettings): Promise<EndpointInfo> {
    const { registry, reserver, desk, env } = this.#parts
    const { before, network } = this.#check(containerId, ref, settings)
    const unpin = desk.pin([network.id])
    const asking = new Asking(this.#parts, before)
    const undo = new UndoStack()
    let isAttached = false
    try {
      const grant = await asking.grant(network, settings)
      const reserved = reserver.reserve(before, network, settings, before.endpoints, undo, grant ?? {})
      const endpoint = (await asking.create(reserved)) ?? reserved
      if (registry.get(containerId) === undefined) throw new NetError('conflict', `container ${containerId.slice(0, 12)} is not running`)
      const info = this.#attach(this.#require(containerId), network, (kernel) =>
        reserver.settle(endpoint, network, before.endpoints, kernel.hasLink),
      )
      isAttached = true
      this.#settleGatewayBridge(containerId)
      await asking.activate(before)
      undo.commit()
      return info
    } catch (cause) {
      if (isAttached && registry.get(containerId)) this.#detach(containerId, network.id)
      for (const error of undo.unwind()) env.log.error('cleanup after a failed connect is incomplete', { error: error.message })
      await asking.withdraw()
      throw cause
    } finally {
      unpin()
    }
  }

  #check(containerId: string, ref: string, settings: EndpointSettings): { before: SandboxRecord; network: Network } {
    const { networks, attachments } = this.#parts
    const before = this.#require(containerId)
    const network = networks.get(ref)
    if (before.mode === 'host' || network.driver === 'host')
      throw new NetError('invalid', 'cannot connect container to host network - container must be created in host network mode')
    if (before.endpoints.some((e) => e.networkId === network.id))
      throw new NetError('denied', `endpoint with name ${before.containerName} already exists in network ${network.name}`)
    refuseConfigOnly(network)
    if (network.driver === 'null' || attachments.of(before).some((at) => at.network.driver === 'null'))
      throw new NetError('invalid', 'container cannot be connected to multiple networks with one of the networks in private (none) mode')
    checkEndpointSettings(network.name, network, settings)
    return { before, network }
  }

  /** Brings one more endpoint into a running sandbox, or leaves everything as it was. */
  #attach(before: SandboxRecord, network: Network, reserve: (kernel: SandboxKernel, undo: UndoStack) => EndpointRecord): EndpointInfo {
    const { env, registry, attachments, firewall } = this.#parts
    const undo = new UndoStack()
    try {
      return SandboxKernel.with(before.key, (kernel) => {
        const endpoint = reserve(kernel, undo)
        let record: SandboxRecord = { ...before, endpoints: [...before.endpoints, endpoint] }
        registry.save({ ...record, unfinished: true })
        undo.defer('record', () => registry.save(before))
        const at = { record: endpoint, network }
        plugIn(this.#parts, kernel, at, record, undo)
        record = startResolver(this.#parts, kernel, record, undo)
        const elements = attachments.endpointElements(at)
        firewall.change(elements)
        undo.defer('firewall elements', () => firewall.change([], elements))
        publishNames(this.#parts, endpoint, undo)
        this.#settle(kernel, before, record, undo)
        undo.commit()
        this.#parts.emit('connect', network, before.containerId)
        return attachments.info(endpoint)
      })
    } catch (cause) {
      for (const error of undo.unwind()) env.log.error('cleanup after a failed connect is incomplete', { error: error.message })
      throw cause
    }
  }

  /** Returns the endpoint that has gone, so that its authority can be told. */
  disconnect(containerId: string, ref: string): Attached | undefined {
    const gone = this.#detach(containerId, ref)
    this.#settleGatewayBridge(containerId)
    return gone
  }

  /** The way out through docker_gwbridge comes when the last other one has gone, and goes when there is another. */
  #settleGatewayBridge(containerId: string): void {
    const { attachments, gatewayBridge } = this.#parts
    const record = this.#require(containerId)
    if (record.netns !== undefined) return
    const there = record.endpoints.find((e) => e.gatewayBridge)
    const isNeeded = attachments.needsGatewayBridge(record)
    if (isNeeded === (there !== undefined)) return
    if (there) {
      this.#detach(containerId, there.networkId)
      return
    }
    this.#attach(record, gatewayBridge(), (kernel, undo) => {
      const { endpoints } = withGatewayBridge(this.#parts, record, undo, kernel.hasLink)
      return endpoints[endpoints.length - 1] as EndpointRecord
    })
  }

  #detach(containerId: string, ref: string): Attached | undefined {
    const { env, networks, registry, attachments, reserver, firewall } = this.#parts
    const before = this.#require(containerId)
    const network = networks.find(ref)
    const endpoint = before.endpoints.find((e) => e.networkId === network?.id || e.networkName === ref || e.networkId === ref)
    if (endpoint === undefined)
      throw new NetError('internal', `container ${before.containerId} is not connected to network ${network?.name ?? ref}`)
    if (before.mode === 'host')
      throw new NetError('invalid', 'cannot disconnect container from host network - container was created in host network mode')
    const after: SandboxRecord = { ...before, endpoints: before.endpoints.filter((e) => e !== endpoint) }
    const undo = new UndoStack()
    if (network) rememberToRemove(this.#parts, { record: endpoint, network })
    registry.save({ ...before, unfinished: true })
    withdrawNames(this.#parts, endpoint)
    const outside = SandboxKernel.with(before.key, (kernel) => {
      this.#settle(kernel, before, after, undo)
      if (endpoint.ifname === '' || network === undefined) return { gone: Promise.resolve() }
      return { gone: bringOut(this.#parts, kernel, endpoint, network) }
    })
    // The guard forgets the port's addresses now and the port itself when it has gone: what the old interface still sends is dropped.
    const elements = network ? attachments.endpointElements({ record: endpoint, network }) : []
    const port = elements.filter((e) => e.set === 'guarded')
    firewall.change(
      [],
      elements.filter((e) => e.set !== 'guarded'),
    )
    outside.gone
      .then(() => firewall.change([], port))
      .catch((error) => env.log.warn('cannot delete link', { link: endpoint.hostIfname || endpoint.ifname, error: messageOf(error) }))
    forgetAddressFlows(this.#parts, [endpoint])
    reserver.release(endpoint)
    undo.commit()
    if (network === undefined) return undefined
    this.#parts.emit('disconnect', network, containerId)
    return { record: endpoint, network }
  }

  /** After the set of endpoints changed: default routes, published ports, resolver view, files, record. */
  #settle(kernel: SandboxKernel, before: SandboxRecord, after: SandboxRecord, undo: UndoStack): void {
    const { attachments, registry, env, files } = this.#parts
    const old = attachments.defaultRoutes(before)
    const now = attachments.defaultRoutes(after)
    if (!same(old, now)) {
      moveRoutes(kernel, old, now)
      undo.defer('default route', () => SandboxKernel.with(before.key, (k) => moveRoutes(k, now, old)))
    }
    let record = after
    if (!same(attachments.publishTarget(before), attachments.publishTarget(after))) record = this.#movePorts(before, after, undo)
    if (record.dnsPorts.udp !== 0) {
      env.dns.setView(record.id, resolverView(this.#parts, record))
      if (before.dnsPorts.udp !== 0) undo.defer('resolver view', () => env.dns.setView(before.id, resolverView(this.#parts, before)))
    }
    files.update(before, record)
    undo.defer('files', () => files.update(record, before))
    const stored = registry.get(record.containerId)
    const isStored = (['endpoints', 'ports', 'dnsPorts'] as const).every((key) => stored?.[key] === record[key])
    if (isStored) registry.settle(record, env.clock)
    else registry.save(record)
  }

  /** Published ports go to another gateway endpoint. Host ports keep their numbers. */
  #movePorts(before: SandboxRecord, after: SandboxRecord, undo: UndoStack): SandboxRecord {
    const { attachments, firewall, ports } = this.#parts
    const oldTarget = attachments.publishTarget(before)
    const oldElements = attachments.portElements(before)
    ports.withdraw(before.id, before.ports)
    undo.defer('published ports', () => {
      if (oldTarget) ports.restore(oldTarget, before.ports)
    })
    const target = attachments.publishTarget(after)
    const bindings = target ? ports.publish(target, sticky(after.portRequests, before.ports)) : []
    undo.defer('moved ports', () => ports.withdraw(after.id, bindings))
    const record = { ...after, ports: bindings }
    const elements = attachments.portElements(record)
    firewall.change(elements, oldElements)
    undo.defer('port elements', () => firewall.change(oldElements, elements))
    forgetPortFlows(this.#parts, before.ports)
    return record
  }

  rename(containerId: string, name: string): void {
    const { registry } = this.#parts
    const before = registry.get(containerId)
    if (before === undefined) return
    const endpoints = before.endpoints.map((e) =>
      e.dnsNames.length === 0 ? e : { ...e, dnsNames: dnsNamesOf(name, e.settings.aliases ?? [], containerId, before.hostname) },
    )
    registry.save({ ...before, containerName: name, endpoints })
    for (const e of endpoints) publishNames(this.#parts, e)
  }

  addPorts(containerId: string, requests: readonly PortRequest[]): readonly PortBinding[] {
    const { attachments, firewall, ports, registry } = this.#parts
    const before = this.#require(containerId)
    if (before.mode === 'host')
      throw new NetError('invalid', 'a container in host network mode has no ports to publish: it listens on the host itself')
    const target = attachments.publishTarget(before)
    if (target === undefined)
      throw new NetError(
        'denied',
        `container ${before.containerName} is on no network that can publish ports: connect it to one that is not internal`,
      )
    const bindings = ports.publish(target, requests)
    try {
      firewall.change(attachments.portElements(before, bindings))
    } catch (error) {
      ports.withdraw(before.id, bindings)
      throw error
    }
    registry.save({ ...before, ports: [...before.ports, ...bindings], portRequests: [...before.portRequests, ...requests] })
    forgetPortFlows(this.#parts, bindings)
    return bindings
  }

  removePorts(containerId: string, requests: readonly PortRequest[]): void {
    const { attachments, firewall, ports, registry } = this.#parts
    const before = this.#require(containerId)
    const { gone, left, ended, unknown, stays } = cutPorts(before.ports, requests)
    const [missing] = unknown
    if (missing !== undefined)
      throw new NetError(
        'not-found',
        `container ${before.containerName} publishes no port ${missing.hostPort || '*'}->${missing.containerPort || '*'}/${missing.proto}`,
      )
    firewall.change(attachments.portElements(before, left), attachments.portElements(before, gone))
    ports.withdraw(before.id, gone)
    ports.keep(before.id, left)
    const stayed = before.ports.filter((b) => !gone.includes(b))
    registry.save({ ...before, ports: [...stayed, ...left], portRequests: before.portRequests.filter(stays) })
    forgetPortFlows(this.#parts, ended)
  }

  #require(containerId: string): SandboxRecord {
    const record = this.#parts.registry.get(containerId)
    if (record === undefined) throw new NetError('conflict', `container ${containerId.slice(0, 12)} is not running`)
    const { unfinished: _unfinished, ...settled } = record
    return settled
  }
}

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)

function moveRoutes(kernel: SandboxKernel, from: readonly DefaultRoute[], to: readonly DefaultRoute[]): void {
  for (const family of [4, 6] as const) {
    const next = to.find((r) => r.family === family)
    if (
      !same(
        from.find((r) => r.family === family),
        next,
      )
    )
      kernel.setDefaultRoute(family, next)
  }
}

/** Requests that left the choice of the host port open ask for the one they had. */
function sticky(requests: readonly PortRequest[], bindings: readonly PortBinding[]): PortRequest[] {
  return requests.map((r) => {
    const open = r.hostPort === 0 || r.hostPort !== r.hostPortEnd
    const old = open ? bindings.find((b) => b.proto === r.proto && b.containerPort === r.containerPort && b.hostPort !== 0) : undefined
    return old ? { ...r, hostPort: old.hostPort, hostPortEnd: old.hostPort } : r
  })
}

/** Zero ports and an empty address in the request stand for any. */

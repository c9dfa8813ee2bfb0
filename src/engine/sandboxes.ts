/**
 * Sandboxes from start to stop. Everything between reserving and publishing is synchronous, so no two operations can interleave;
 * only the kernel's slow deletions happen behind the caller's back.
 */
import { existsSync, readdirSync } from 'node:fs'
import { messageOf, NetError } from '../base/errors.ts'
import { newId } from '../base/ids.ts'
import { type EndpointSettings, LENT_KEY, type PortBinding, type SandboxInfo, type SandboxRequest } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import { createNetns, isNetnsMounted, removeNetns } from '../sys/netns.ts'
import { Asking, type GrantedEndpoint, rememberToRemove } from './asking.ts'
import { applyExtras } from './endpoint-extras.ts'
import { checkEndpointSettings } from './endpoint-rules.ts'
import { gatewayEndpointName, withGatewayBridge } from './gateway-bridge.ts'
import type { LegacyLinks } from './legacy-links.ts'
import { lendOut } from './lending.ts'
import { bringAllOut } from './plugs.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import { SandboxKernel } from './sandbox-kernel.ts'
import { forgetAddressFlows, forgetPortFlows, type Parts, plugIn, publishNames, withdrawNames } from './sandbox-parts.ts'
import { resumeResolver, startResolver, stopResolver } from './sandbox-resolver.ts'
import { UndoStack } from './undo.ts'

export class Sandboxes {
  readonly #parts: Parts
  readonly #links: LegacyLinks

  constructor(parts: Parts, links: LegacyLinks) {
    this.#parts = parts
    this.#links = links
  }

  info(record: SandboxRecord): SandboxInfo {
    const { attachments } = this.#parts
    const gateway = record.endpoints.find((e) => e.gatewayBridge)
    return {
      id: record.id,
      key: record.key,
      containerId: record.containerId,
      endpoints: record.endpoints.filter((e) => !e.gatewayBridge).map((e) => attachments.info(e)),
      ports: record.ports,
      ...(gateway ? { gatewayBridge: attachments.info(gateway, gatewayEndpointName(record.id)) } : {}),
    }
  }

  /** Builds everything or leaves nothing. For networks without an authority. */
  open(request: SandboxRequest): SandboxInfo {
    const { env, reserver } = this.#parts
    const resolved = this.#resolve(request)
    const undo = new UndoStack()
    try {
      const blank = this.#blank(request)
      const endpoints: EndpointRecord[] = []
      for (const { network, settings } of resolved) endpoints.push(reserver.reserve(blank, network, settings, endpoints, undo))
      return this.#finish({ ...blank, endpoints }, undo)
    } catch (cause) {
      for (const error of undo.unwind()) env.log.error('cleanup after a failed start is incomplete', { error: error.message })
      throw cause
    }
  }

  /** The same when somebody else has a say: he is asked before, and told after. */
  async openAsking(request: SandboxRequest): Promise<SandboxInfo> {
    const { env, reserver, desk } = this.#parts
    const resolved = this.#resolve(request)
    const undo = new UndoStack()
    const unpin = desk.pin(resolved.map(({ network }) => network.id))
    const blank = this.#blank(request)
    const asking = new Asking(this.#parts, blank)
    let isBuilt = false
    try {
      const grants = new Map<Network, GrantedEndpoint>()
      for (const { network, settings } of resolved) {
        const grant = await asking.grant(network, settings)
        if (grant) grants.set(network, grant)
      }
      const endpoints: EndpointRecord[] = []
      for (const { network, settings } of resolved)
        endpoints.push(reserver.reserve(blank, network, settings, endpoints, undo, grants.get(network) ?? {}))
      for (const [i, e] of endpoints.entries()) {
        const settled = await asking.create(e)
        if (settled) endpoints[i] = reserver.settle(settled, resolved[i]?.network as Network, endpoints.slice(0, i))
      }
      const info = this.#finish({ ...blank, endpoints }, undo)
      isBuilt = true
      await asking.activate()
      return info
    } catch (cause) {
      if (isBuilt) this.close(request.containerId)
      for (const error of undo.unwind()) env.log.error('cleanup after a failed start is incomplete', { error: error.message })
      await asking.withdraw()
      throw cause
    } finally {
      unpin()
    }
  }

  /** Networks and settings of a request, checked. */
  #resolve(request: SandboxRequest): { network: Network; settings: EndpointSettings }[] {
    const { networks, registry } = this.#parts
    if (registry.has(request.containerId))
      throw new NetError('conflict', `container ${request.containerId.slice(0, 12)} has a sandbox already`)
    const resolved = request.endpoints.map((e) => ({ network: networks.get(e.network), settings: e.settings }))
    for (const { network, settings } of resolved) checkEndpointSettings(network.name, network, settings)
    return resolved
  }

  /** From reserved endpoints to a sandbox that works. */
  #finish(reserved: SandboxRecord, undo: UndoStack): SandboxInfo {
    const { registry, files, networks } = this.#parts
    let record = reserved.mode === 'lent' ? reserved : withGatewayBridge(this.#parts, reserved, undo)
    // the record is durable before the kernel is touched: a crash from here on leaves a trail to clean up by
    registry.save(record)
    undo.defer('record', () => registry.forget(record.containerId))
    if (record.mode !== 'host') record = this.#build(record, undo)
    if (record.mode !== 'lent') files.write(record)
    registry.save(record)
    this.#links.refresh(record)
    undo.commit()
    for (const e of record.endpoints) {
      const network = networks.find(e.networkId)
      if (network) this.#parts.emit('connect', network, record.containerId)
    }
    return this.info(record)
  }

  #blank(request: SandboxRequest): SandboxRecord {
    const { env } = this.#parts
    const id = newId(env.rng)
    const { endpoints: _endpoints, ports, ...rest } = request
    return {
      ...rest,
      id,
      key:
        request.netns ?? (request.mode === 'lent' ? LENT_KEY : `${env.netnsDir}/${request.mode === 'host' ? 'default' : id.slice(0, 12)}`),
      portRequests: ports,
      endpoints: [],
      ports: [],
      dnsPorts: { udp: 0, tcp: 0 },
    }
  }

  /** Everything inside a fresh namespace, then its ports and firewall elements in one transaction. */
  #build(record: SandboxRecord, undo: UndoStack): SandboxRecord {
    const { attachments } = this.#parts
    if (record.mode === 'lent') {
      lendOut(this.#parts, record, undo)
      return this.#open(record, undo)
    }
    if (record.netns === undefined) {
      createNetns(record.key)
      undo.defer(`namespace ${record.key}`, () => removeNetns(record.key))
    }
    const withResolver = SandboxKernel.with(record.key, (kernel) => {
      kernel.loopbackUp()
      for (const at of attachments.of(record)) if (at.record.ifname !== '') plugIn(this.#parts, kernel, at, record, undo)
      return startResolver(this.#parts, kernel, record, undo)
    })
    return this.#open(withResolver, undo)
  }

  /** The host's side of a sandbox whose interfaces are in place: firewall, published ports, names. */
  #open(record: SandboxRecord, undo: UndoStack): SandboxRecord {
    const { attachments, firewall } = this.#parts
    const full = { ...record, ports: this.#publish(record, undo) }
    const elements = attachments.elements(full)
    firewall.change(elements)
    undo.defer('firewall elements', () => firewall.change([], elements))
    forgetPortFlows(this.#parts, full.ports)
    for (const e of full.endpoints) publishNames(this.#parts, e, undo)
    return full
  }

  #publish(record: SandboxRecord, undo: UndoStack): PortBinding[] {
    const { attachments, ports } = this.#parts
    const target = record.portRequests.length === 0 ? undefined : attachments.publishTarget(record)
    if (target === undefined) return []
    try {
      const bindings = ports.publish(target, record.portRequests)
      undo.defer('published ports', () => ports.withdraw(record.id, bindings))
      return bindings
    } catch (error) {
      const { v4, v6 } = attachments.gateways(record)
      const text = `driver failed programming external connectivity on endpoint ${record.containerName} (${(v4 ?? v6)?.record.id ?? ''}): ${messageOf(error)}`
      if (!(error instanceof NetError)) throw error
      throw new NetError(error.code, text, error.detail, error)
    }
  }

  /** Takes a sandbox away. Goes on after errors and throws them together. Idempotent. */
  close(containerId: string): void {
    const { networks, registry, attachments, firewall, ports, reserver } = this.#parts
    const record = registry.get(containerId)
    if (record === undefined) return
    for (const at of attachments.of(record)) rememberToRemove(this.#parts, at)
    const problems: unknown[] = []
    const attempt = (fn: () => void) => {
      try {
        fn()
      } catch (error) {
        problems.push(error)
      }
    }
    for (const e of record.endpoints) attempt(() => withdrawNames(this.#parts, e))
    attempt(() => stopResolver(this.#parts, record))
    attempt(() => firewall.change([], attachments.elements(record)))
    attempt(() => ports.withdraw(record.id, record.ports))
    ports.forget(record.id)
    attempt(() => forgetPortFlows(this.#parts, record.ports))
    if (record.ports.length > 0) attempt(() => forgetAddressFlows(this.#parts, record.endpoints))
    if (record.mode !== 'host')
      bringAllOut(this.#parts, record, attempt, () => {
        if (record.netns === undefined && record.mode === 'private') removeNetns(record.key)
      })
    for (const e of record.endpoints) attempt(() => reserver.release(e))
    registry.forget(containerId)
    attempt(() => this.#links.refresh(record))
    for (const e of record.endpoints) {
      const network = networks.find(e.networkId)
      if (network) this.#parts.emit('disconnect', network, containerId)
    }
    if (problems.length === 0) return
    const what = problems.map(messageOf).join('; ')
    throw new NetError('internal', `network of container ${record.containerName} was taken away with errors: ${what}`)
  }

  // ---- restart and repair ----------------------------------------------------------------------------------------------------

  /** Takes up stored sandboxes: those of live containers are completed where something is missing, the others are taken away. */
  restore(records: readonly SandboxRecord[], liveContainerIds: ReadonlySet<string>): void {
    const { env, registry, reserver, host, attachments, firewall } = this.#parts
    for (const record of records) {
      for (const e of record.endpoints)
        try {
          reserver.retake(e, record.containerName)
        } catch (error) {
          env.log.error('stored address is taken', { container: record.containerName, error: messageOf(error) })
        }
      registry.index(record)
      for (const at of attachments.of(record)) {
        const plug = at.record.ifname === '' ? undefined : attachments.wanted(at, -1).plug
        if (plug?.kind === 'pair' && plug.place === undefined) host.want(plug.link)
      }
    }
    const isAlive = (r: SandboxRecord) =>
      r.mode === 'lent' || // its engine says when it has gone
      (r.netns !== undefined
        ? isNetnsMounted(r.netns)
        : liveContainerIds.has(r.containerId) && (r.mode === 'host' || isNetnsMounted(r.key)))
    const keep = records.filter(isAlive)
    for (const record of keep) firewall.expect(attachments.elements(record))
    for (const record of records)
      if (!keep.includes(record))
        try {
          this.close(record.containerId)
        } catch (error) {
          env.log.warn(messageOf(error))
        }
    for (const record of keep)
      try {
        this.#resume(record)
      } catch (error) {
        env.log.error('cannot restore the network of a running container', { container: record.containerName, error: messageOf(error) })
      }
    this.#removeStrangers()
  }

  #resume(stored: SandboxRecord): void {
    const { attachments, ports } = this.#parts
    if (stored.mode === 'host') return
    const own = stored.netns === undefined ? new Set(stored.endpoints.map((e) => e.ifname)) : undefined
    SandboxKernel.with(stored.key, (kernel) => kernel.sweep(own))
    const record = stored.unfinished ? this.#complete(stored) : stored
    const target = attachments.publishTarget(record)
    if (target && record.ports.length > 0) ports.restore(target, record.ports)
    if (stored.dnsPorts.udp !== 0) resumeResolver(this.#parts, record)
    for (const e of record.endpoints) publishNames(this.#parts, e)
    this.#links.refresh(record)
  }

  /** The engine ended in the middle of a connect or disconnect: brings the inside to what the record says. */
  #complete({ unfinished: _unfinished, ...record }: SandboxRecord): SandboxRecord {
    const { registry, attachments, files } = this.#parts
    const undo = new UndoStack()
    const completed = SandboxKernel.with(record.key, (kernel) => {
      const there = new Set<string>()
      for (const at of attachments.of(record)) {
        if (at.record.ifname === '') continue
        const { plug, inside } = attachments.wanted(at, -1)
        if (kernel.complete(inside)) {
          there.add(at.record.ifname)
          applyExtras(this.#parts, kernel, at)
        }
        // a pair is made when its outer end is missed; this kind has none
        else if (plug.kind === 'born') plugIn(this.#parts, kernel, at, record, undo)
      }
      const routes = attachments.defaultRoutes(record)
      for (const family of [4, 6] as const) {
        const route = routes.find((r) => r.family === family)
        // an interface that has to be made anew brings its route along
        if (route === undefined || there.has(route.ifname)) kernel.setDefaultRoute(family, route)
      }
      return startResolver(this.#parts, kernel, record, undo)
    })
    const blank = { ...record, endpoints: [] }
    files.update(record, blank)
    files.update(blank, record)
    registry.save(completed)
    return completed
  }

  /** Makes a veth pair anew that has gone, inner end included. False when no sandbox wants it. */
  replug(hostIfname: string): boolean {
    const { registry, attachments } = this.#parts
    const record = registry.ownerOf(hostIfname)
    const at = record && attachments.of(record).find((a) => a.record.hostIfname === hostIfname)
    // where the other engine has moved the inner end is not known
    if (record === undefined || at === undefined || record.mode === 'lent') return false
    SandboxKernel.with(record.key, (kernel) => plugIn(this.#parts, kernel, at, record))
    return true
  }

  /** Namespaces in our folder that belong to no sandbox are leftovers of a crash. */
  #removeStrangers(): void {
    const { env, registry } = this.#parts
    if (!existsSync(env.netnsDir)) return
    const known = new Set(registry.all().map((r) => r.key))
    for (const name of readdirSync(env.netnsDir)) {
      const path = `${env.netnsDir}/${name}`
      if (/^[0-9a-f]{12}$/.test(name) && !known.has(path)) removeNetns(path)
    }
  }
}

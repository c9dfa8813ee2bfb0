/**
 * The namespaces of overlay networks on this host, one for each network that has an endpoint here: made, compared with what is wanted
 * and repaired, and taken away with the last local endpoint. All state is in the kernel: after a crash what is there is taken up.
 */
import { existsSync, readdirSync } from 'node:fs'
import { messageOf, NetError } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import { guardText } from '../../drivers/overlay/guard.ts'
import { type OverlayKernelEntry, overlayKernelEntries } from '../../drivers/overlay/kernel-entries.ts'
import { isEmptyPlan, planOverlay } from '../../drivers/overlay/plan.ts'
import { type OverlayEndpoint, type OverlayFacts, overlayWanted, portAlias } from '../../drivers/overlay/wanted.ts'
import type { Rtnl } from '../../kernel/types.ts'
import { type KernelEvent, type KernelWatch, watchKernel } from '../../kernel/watch.ts'
import type { Link } from '../../model/kernel-state.ts'
import type { Finding } from '../../plan/links.ts'
import type { Netns } from '../../sys/netns.ts'
import type { Reactor } from '../../sys/reactor.ts'
import { linuxNamespaces, type NamespaceSystem, OverlayNamespace } from './namespace.ts'
import { removeRouted, removeRoutedStrangers, repairRouted, routedEntries } from './routed.ts'

/** After a notice of the kernel; notices come in bursts, our own changes' echoes among them. */
const SETTLE_MS = 30

interface Sandbox {
  readonly namespace: OverlayNamespace
  readonly watch: KernelWatch | undefined
  facts: OverlayFacts
  endpoints: readonly OverlayEndpoint[]
  /** Names given to interfaces that are not there yet, by endpoint. */
  readonly promised: Map<string, string>
  pendingLook: (() => void) | undefined
  problems: string
  /** The guard's rules as they were last written; '' = not yet. */
  guard: string
}

export interface OverlaySandboxesOptions {
  /** Folder of the namespace files. */
  readonly netnsDir: string
  /** The namespace in which the tunnels' packets travel. */
  readonly rtnl: Rtnl
  /** That namespace, when it is not this process's own. */
  readonly hostNetns?: Netns
  /** Absent: nothing is watched, repairs happen when {@link OverlaySandboxes.reconcile} is called. */
  readonly reactor?: Reactor
  /** The kernel's, unless given. */
  readonly namespaces?: NamespaceSystem
  readonly clock: Clock
  readonly log: Logger
  /** Told of everything that had to be repaired without a change of the wanted state. */
  readonly onRepair?: (networkId: string, findings: readonly Finding[]) => void
}

/** Name of a network's namespace, as Docker has it: people look for it with `ip netns`. */
export const overlayNamespaceName = (networkId: string): string => `1-${networkId.slice(0, 10)}`

export class OverlaySandboxes {
  readonly #options: OverlaySandboxesOptions
  readonly #system: NamespaceSystem
  readonly #open = new Map<string, Sandbox>()
  /** Namespaces on their way out, by path: their tunnels hold their VXLAN ids until they have gone. */
  readonly #leaving = new Map<string, Promise<void>>()

  constructor(options: OverlaySandboxesOptions) {
    this.#options = options
    this.#system = options.namespaces ?? linuxNamespaces
  }

  /** Networks that have a namespace here. */
  networkIds(): string[] {
    return [...this.#open.keys()]
  }

  has(networkId: string): boolean {
    return this.#open.has(networkId)
  }

  /** Some container is still plugged in. */
  hasPorts(networkId: string): boolean {
    return (
      this.#open
        .get(networkId)
        ?.namespace.rtnl.links('veth')
        .some((link) => link.alias.startsWith(portAlias(''))) ?? false
    )
  }

  /** MTU of the largest interface of a container plugged in; 0 = there is none. */
  largestPortMtu(networkId: string): number {
    const links = this.#open.get(networkId)?.namespace.rtnl.links('veth') ?? []
    return Math.max(0, ...links.filter((link) => link.alias.startsWith(portAlias(''))).map((link) => link.mtu))
  }

  pathOf(networkId: string): string {
    return `${this.#options.netnsDir}/${overlayNamespaceName(networkId)}`
  }

  /**
   * Makes the network's namespace what `facts` and `endpoints` (of all hosts) say, creating it when it is not there. Returns what differed.
   * Idempotent. Throws `conflict` when a VXLAN id is in use on this host by somebody else.
   */
  async ensure(facts: OverlayFacts, endpoints: readonly OverlayEndpoint[]): Promise<readonly Finding[]> {
    await this.#leaving.get(this.pathOf(facts.networkId))
    try {
      return this.reconcile(facts, endpoints)
    } catch (error) {
      // the id of a network that has just left is free when its tunnel has gone
      if (!(error instanceof NetError && error.detail.errno === 'EEXIST') || this.#leaving.size === 0) throw error
      await Promise.all(this.#leaving.values())
      return this.reconcile(facts, endpoints)
    }
  }

  /** Other networks whose namespaces here have a VXLAN id of this one. */
  holdersOf(facts: OverlayFacts): string[] {
    const wanted = new Set(facts.segments.map(({ vni }) => vni))
    const holds = ({ facts: other }: Sandbox) => other.port === facts.port && other.segments.some(({ vni }) => wanted.has(vni))
    return [...this.#open].flatMap(([id, sandbox]) => (id !== facts.networkId && holds(sandbox) ? [id] : []))
  }

  /** Looks at a network's namespace and repairs it, as after a notice of the kernel. */
  check(networkId: string): void {
    const sandbox = this.#open.get(networkId)
    if (sandbox !== undefined) this.#look(networkId, sandbox)
  }

  /** {@link ensure} for a namespace that is not on its way out; without waiting. */
  reconcile(facts: OverlayFacts, endpoints: readonly OverlayEndpoint[]): readonly Finding[] {
    const sandbox = this.#open.get(facts.networkId) ?? this.#take(facts, endpoints)
    sandbox.facts = facts
    sandbox.endpoints = endpoints
    return this.#repair(sandbox)
  }

  /** Takes away interfaces of containers whose endpoints are not in `live`: what a crash has left between record and kernel. */
  async removeStrayPorts(networkId: string, live: ReadonlySet<string>): Promise<void> {
    const sandbox = this.#open.get(networkId)
    const ports = sandbox?.namespace.rtnl.links('veth').filter(({ alias }) => alias.startsWith(portAlias(''))) ?? []
    const strays = ports.filter(({ alias }) => !live.has(alias.slice(portAlias('').length))).map(({ name }) => name)
    if (strays.length === 0) return
    this.#options.log.info('removing links of an overlay network left by a crash', { network: networkId, links: strays })
    await sandbox?.namespace.rtnl.deleteLinksInBackground(strays)
  }

  /** Name for the interface of an endpoint: the one it has, else the lowest free vethN. */
  interfaceName(networkId: string, endpointId: string): string {
    const sandbox = this.#known(networkId)
    const links = sandbox.namespace.rtnl.links()
    const there = links.find((link) => link.alias === portAlias(endpointId))
    if (there !== undefined) return there.name
    const given = sandbox.promised.get(endpointId)
    if (given !== undefined) return given
    const taken = new Set([...links.map((link) => link.name), ...sandbox.promised.values()])
    let n = 0
    while (taken.has(`veth${n}`)) n++
    sandbox.promised.set(endpointId, `veth${n}`)
    this.#guard(sandbox, links)
    return `veth${n}`
  }

  /** Members as the kernel has them, empty for a network without a namespace here. */
  kernelEntries(networkId: string): OverlayKernelEntry[] {
    const sandbox = this.#open.get(networkId)
    if (sandbox?.facts.isRouted) return routedEntries(this.#options.rtnl, sandbox.namespace, sandbox.facts, sandbox.endpoints)
    return sandbox === undefined ? [] : overlayKernelEntries(sandbox.facts, sandbox.endpoints, sandbox.namespace.observe())
  }

  /** Takes a network's namespace away with everything in it. Resolves when its VXLAN ids are free. Idempotent. */
  drop(networkId: string): Promise<void> {
    const sandbox = this.#open.get(networkId)
    if (sandbox !== undefined) {
      this.#open.delete(networkId)
      sandbox.pendingLook?.()
      sandbox.watch?.close()
      sandbox.namespace.close()
      if (sandbox.facts.isRouted) removeRouted(this.#options.rtnl, sandbox.facts)
    }
    return this.#leave(this.pathOf(networkId))
  }

  /** Takes away the namespaces of networks that are not in `keep`: leftovers of a crash. */
  async removeStrangers(keep: Iterable<string>): Promise<void> {
    const { netnsDir, log, rtnl } = this.#options
    removeRoutedStrangers(rtnl, new Set([...keep, ...this.#open.keys()]))
    if (!existsSync(netnsDir)) return
    const known = new Set([...keep, ...this.#open.keys()].map(overlayNamespaceName))
    const strangers = readdirSync(netnsDir).filter((name) => /^1-[0-9a-f]{10}$/.test(name) && !known.has(name))
    for (const name of strangers) {
      log.info('removing the namespace of an overlay network that is not used here', { namespace: name })
      await this.#leave(`${netnsDir}/${name}`)
    }
  }

  /** Lets go of everything and leaves the kernel as it is. */
  async close(): Promise<void> {
    for (const sandbox of this.#open.values()) {
      sandbox.pendingLook?.()
      sandbox.watch?.close()
      sandbox.namespace.close()
    }
    this.#open.clear()
    await Promise.all(this.#leaving.values())
  }

  #known(networkId: string): Sandbox {
    const sandbox = this.#open.get(networkId)
    if (sandbox === undefined)
      throw new NetError('not-found', `Cannot use overlay network "${networkId}": it has no namespace on this host`, { subject: networkId })
    return sandbox
  }

  #take(facts: OverlayFacts, endpoints: readonly OverlayEndpoint[]): Sandbox {
    const { reactor } = this.#options
    const hasIpv6 = facts.segments.some(({ subnets }) => subnets.some(({ subnet }) => subnet.includes(':')))
    const namespace = OverlayNamespace.ensure(this.pathOf(facts.networkId), hasIpv6, this.#system)
    try {
      const watch =
        reactor && watchKernel(reactor, namespace.ns, ['link', 'addr4', 'addr6', 'neigh'], (events) => this.#see(facts.networkId, events))
      const sandbox: Sandbox = { namespace, watch, facts, endpoints, promised: new Map(), pendingLook: undefined, problems: '', guard: '' }
      this.#open.set(facts.networkId, sandbox)
      return sandbox
    } catch (error) {
      namespace.close()
      throw error
    }
  }

  #repair(sandbox: Sandbox): readonly Finding[] {
    const { rtnl, log } = this.#options
    const { namespace, facts, endpoints, promised } = sandbox
    const want = overlayWanted(facts, endpoints)
    const problems = want.problems.join('; ')
    if (problems !== '' && problems !== sandbox.problems) log.warn('overlay members that cannot be reached', { problems })
    if (!facts.isRouted) sandbox.problems = problems
    const lostFile = namespace.ensureFile() ? [{ subject: namespace.path, wrong: 'the namespace had no file' }] : []
    const have = namespace.observe()
    for (const link of have.links()) for (const [id] of promised) if (link.alias === portAlias(id)) promised.delete(id)
    const plan = planOverlay(want, have)
    if (!isEmptyPlan(plan))
      try {
        namespace.apply(plan, rtnl)
      } catch (error) {
        throw explained(error, facts)
      }
    this.#guard(sandbox, have.links())
    return [...lostFile, ...plan.findings, ...(facts.isRouted ? this.#repairRoutes(sandbox) : [])]
  }

  /** Written before an interface appears under its promised name, so that it is known from its first frame on. */
  #guard(sandbox: Sandbox, links: readonly Link[]): void {
    const { namespace, facts, endpoints, promised } = sandbox
    const names = new Map(promised)
    for (const { alias, name } of links) if (alias.startsWith(portAlias(''))) names.set(alias.slice(portAlias('').length), name)
    const text = guardText(facts, endpoints, names)
    if (text === sandbox.guard) return
    try {
      namespace.guard(text)
    } catch (error) {
      if (!sandbox.guard.startsWith('cannot'))
        this.#options.log.warn('containers of an overlay network are not kept from sending under the addresses of others', {
          network: facts.networkId,
          error: messageOf(error),
        })
      sandbox.guard = 'cannot'
      return
    }
    sandbox.guard = text
  }

  #repairRoutes(sandbox: Sandbox): readonly Finding[] {
    const { rtnl, log, hostNetns } = this.#options
    const { findings, problems } = repairRouted(rtnl, sandbox.namespace, sandbox.facts, sandbox.endpoints, hostNetns)
    const text = problems.join('; ')
    if (text !== '' && text !== sandbox.problems) log.warn('overlay members that cannot be reached', { problems: text })
    sandbox.problems = text
    return findings
  }

  #see(networkId: string, events: readonly KernelEvent[]): void {
    const sandbox = this.#open.get(networkId)
    if (sandbox === undefined || events.every(isOrdinary)) return
    sandbox.pendingLook ??= this.#options.clock.after(SETTLE_MS, () => {
      sandbox.pendingLook = undefined
      this.#look(networkId, sandbox)
    })
  }

  #look(networkId: string, sandbox: Sandbox): void {
    if (this.#open.get(networkId) !== sandbox) return
    const { log, onRepair } = this.#options
    try {
      const findings = this.#repair(sandbox)
      if (findings.length === 0) return
      log.warn('repaired an overlay network', { network: networkId, findings: findings.map((f) => `${f.subject}: ${f.wrong}`) })
      onRepair?.(networkId, findings)
    } catch (error) {
      log.error('cannot repair an overlay network', { network: networkId, error: messageOf(error) })
    }
  }

  #leave(path: string): Promise<void> {
    const already = this.#leaving.get(path)
    if (already !== undefined) return already
    const going = this.#remove(path).finally(() => this.#leaving.delete(path))
    this.#leaving.set(path, going)
    return going
  }

  /** Tunnels first and waited for: a namespace's own end comes later and would hold their VXLAN ids meanwhile. */
  async #remove(path: string): Promise<void> {
    const namespace = OverlayNamespace.openExisting(path, this.#system)
    if (namespace !== undefined)
      try {
        const tunnels = namespace.rtnl.links('vxlan').map((link) => link.name)
        await namespace.rtnl.deleteLinksInBackground(tunnels)
      } catch (error) {
        this.#options.log.warn('cannot delete the tunnels of an overlay network', { namespace: path, error: messageOf(error) })
      } finally {
        namespace.close()
      }
    this.#system.remove(path)
  }
}

/** The gateways' own neighbours, and what the bridge learns from containers, come and go all the time. */
function isOrdinary(event: KernelEvent): boolean {
  if (event.kind === 'neigh') return !event.neigh.dev.startsWith('vxlan')
  return event.kind === 'fdb' && !event.fdb.dev.startsWith('vxlan')
}

/** Says whose the VXLAN id or the UDP port may be. */
function explained(error: unknown, facts: OverlayFacts): unknown {
  if (!(error instanceof NetError)) return error
  const ids = facts.segments.map((segment) => segment.vni).join(', ')
  if (error.detail.errno === 'EEXIST' && /vxlan/i.test(`${error.detail.subject} ${error.message}`))
    return new NetError(
      'conflict',
      `VXLAN id ${ids} on UDP port ${facts.port} is in use on this host by another device: ${error.message}`,
      error.detail,
      error,
    )
  if (error.detail.errno === 'EADDRINUSE')
    return new NetError(
      'conflict',
      `UDP port ${facts.port} is in use on this host by another program, VXLAN needs it: ${error.message}`,
      error.detail,
      error,
    )
  return error
}

/** One overlay network's namespace on this host, held open: read as a whole, changed by plans. */
import { hasCode } from '../../base/errors.ts'
import type { OverlayObserved, OverlayPlan } from '../../drivers/overlay/plan.ts'
import { openRtnl } from '../../kernel/rtnl.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { LinkSpec, Step } from '../../model/kernel-state.ts'
import { Libnftables } from '../../sys/libnftables.ts'
import { closeNetns, createNetns, isNetnsMounted, type Netns, openNetns, remountNetns, removeNetns } from '../../sys/netns.ts'
import { writeSysctl } from '../../sys/sysctl.ts'

/** What a namespace needs of the operating system. `testkit/fake-kernel.ts` has it in memory. */
export interface NamespaceSystem {
  readonly isMounted: (path: string) => boolean
  readonly create: (path: string) => void
  readonly open: (path: string) => Netns
  readonly close: (ns: Netns) => void
  readonly remount: (ns: Netns) => void
  /** Idempotent. */
  readonly remove: (path: string) => void
  readonly openRtnl: (ns: Netns) => Rtnl
  readonly writeSysctl: (path: string, value: string, ns: Netns) => void
  readonly openNftables: (ns: Netns) => Pick<Libnftables, 'run' | 'close'>
}

export const linuxNamespaces: NamespaceSystem = {
  isMounted: isNetnsMounted,
  create: createNetns,
  open: openNetns,
  close: closeNetns,
  remount: remountNetns,
  remove: removeNetns,
  openRtnl,
  writeSysctl,
  openNftables: (ns) => Libnftables.open(ns),
}

export class OverlayNamespace {
  readonly path: string
  readonly ns: Netns
  readonly rtnl: Rtnl
  readonly #system: NamespaceSystem
  #nftables: Pick<Libnftables, 'run' | 'close'> | undefined

  private constructor(path: string, system: NamespaceSystem) {
    this.path = path
    this.#system = system
    this.ns = system.open(path)
    this.rtnl = system.openRtnl(this.ns)
  }

  /** Opens the namespace at `path`, made when it is not there, and sets what holds for all of it. Close it with {@link close}. */
  static ensure(path: string, hasIpv6: boolean, system = linuxNamespaces): OverlayNamespace {
    if (!system.isMounted(path)) system.create(path)
    const namespace = new OverlayNamespace(path, system)
    try {
      namespace.#prepare(hasIpv6)
      return namespace
    } catch (error) {
      namespace.close()
      throw error
    }
  }

  /** Opens a namespace that is there already; undefined when there is none. */
  static openExisting(path: string, system = linuxNamespaces): OverlayNamespace | undefined {
    return system.isMounted(path) ? new OverlayNamespace(path, system) : undefined
  }

  #prepare(hasIpv6: boolean): void {
    this.#set('net/ipv4/ip_forward', '1') // between the subnets of the network
    for (const scope of ['all', 'default']) {
      this.#set(`net/ipv6/conf/${scope}/disable_ipv6`, hasIpv6 ? '0' : '1')
      this.#set(`net/ipv6/conf/${scope}/accept_ra`, '0')
      // gateways have one address on every host, which duplicate address detection would find out
      this.#set(`net/ipv6/conf/${scope}/accept_dad`, '0')
      if (hasIpv6) this.#set(`net/ipv6/conf/${scope}/forwarding`, '1')
    }
    // bridged frames are nobody's business here: there are no rules, only the cost of looking
    for (const family of ['ip', 'ip6', 'arp']) this.#set(`net/bridge/bridge-nf-call-${family}tables`, '0')
    this.rtnl.apply([{ op: 'link.set', dev: 'lo', set: { up: true } }])
  }

  /** A kernel without IPv6 or br_netfilter has no such parameter. */
  #set(path: string, value: string): void {
    try {
      this.#system.writeSysctl(path, value, this.ns)
    } catch (error) {
      if (!hasCode(error, 'not-found')) throw error
    }
  }

  /** Puts the namespace's file back when somebody has taken it away (`ip netns delete`). True when it had gone. */
  ensureFile(): boolean {
    if (this.#system.isMounted(this.path)) return false
    this.#system.remount(this.ns)
    return true
  }

  /** Reads links and addresses now, tables when asked. */
  observe(): OverlayObserved {
    const { rtnl } = this
    const links = rtnl.links()
    const byName = new Map(links.map((link) => [link.name, link]))
    const nameOf = new Map(links.map((link) => [link.index, link.name]))
    const addresses = rtnl.addresses()
    return {
      links: () => links,
      link: (name) => byName.get(name),
      nameOf: (index) => nameOf.get(index),
      addressesOf: (name) => addresses.filter((a) => a.dev === name),
      neighboursOf: (dev) => (byName.has(dev) ? rtnl.neighbours({ dev }).filter((n) => n.proxy !== true) : []),
      fdbOf: (dev) => (byName.has(dev) ? rtnl.fdb(dev) : []),
    }
  }

  /** Applies a plan. `host` is the namespace in which the tunnels' packets travel. */
  apply(plan: OverlayPlan, host: Rtnl): void {
    this.rtnl.apply(plan.before)
    host.apply(plan.births.map((link): Step => ({ op: 'link.add', link: { ...link, netnsFd: this.ns.fd } as LinkSpec })))
    this.#applyEach(plan.after)
  }

  /** An entry that has gone by itself is as gone as a deleted one; that must not keep the others from being written. */
  #applyEach(steps: readonly Step[]): void {
    for (const step of steps)
      try {
        this.rtnl.apply([step])
      } catch (error) {
        if (!step.op.endsWith('.delete') || !hasCode(error, 'not-found')) throw error
      }
  }

  /** Replaces the rules about who may send what. Throws `unavailable` for a kernel or a machine without nftables. */
  guard(text: string): void {
    this.#nftables ??= this.#system.openNftables(this.ns)
    this.#nftables.run(text)
  }

  close(): void {
    this.#nftables?.close()
    this.rtnl.close()
    this.#system.close(this.ns)
  }
}

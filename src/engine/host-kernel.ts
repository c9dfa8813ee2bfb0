/**
 * The host side of everything: bridges and veth ends that should exist, compared with the kernel and made so.
 * Keeps the wanted set; creation, restart and repair are the same comparison (`plan/links.ts`).
 */
import { hasCode, messageOf, NetError } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Address, Link, Route } from '../model/kernel-state.ts'
import { type Finding, isOurs, type LinkPlan, nothingObserved, type Observed, planLink } from '../plan/links.ts'
import type { WantedLink, WantedSysctl } from '../plan/wanted.ts'
import { setSysctl, writeSysctl } from '../sys/sysctl.ts'

export class HostKernel {
  readonly rtnl: Rtnl
  readonly #log: Logger
  readonly #wanted = new Map<string, WantedLink>()
  /** Being deleted in the background. */
  readonly #doomed = new Set<string>()

  constructor(rtnl: Rtnl, log: Logger) {
    this.rtnl = rtnl
    this.#log = log
  }

  isWanted(name: string): boolean {
    return this.#wanted.has(name)
  }

  /** Ours: wanted, or on its way out. */
  isKnown(name: string): boolean {
    return this.#wanted.has(name) || this.#doomed.has(name)
  }

  wanted(name: string): WantedLink | undefined {
    return this.#wanted.get(name)
  }

  wantedNames(): readonly string[] {
    return [...this.#wanted.keys()]
  }

  /** Only remembers what should be there; {@link repair} makes it so. */
  want(link: WantedLink): void {
    this.#wanted.set(link.spec.name, link)
  }

  /** Creates a bridge that is not there, or brings one that is into its wanted state. */
  ensure(want: WantedLink): void {
    this.#finishOff(want.spec.name)
    this.#wanted.set(want.spec.name, want)
    try {
      this.#apply(want, this.observe(want.spec.name))
    } catch (error) {
      this.#wanted.delete(want.spec.name)
      throw error
    }
  }

  /** Creates a link whose name is new, without looking first: the path of every attachment and of every new network. */
  create(want: WantedLink): void {
    this.#finishOff(want.spec.name)
    this.#wanted.set(want.spec.name, want)
    try {
      this.#apply(want, nothingObserved)
    } catch (error) {
      this.#wanted.delete(want.spec.name)
      throw error
    }
  }

  #apply(want: WantedLink, have: Observed): LinkPlan {
    const plan = planLink(want, have)
    if (want.adopted && plan.created.length > 0)
      throw new NetError('unavailable', `interface ${want.spec.name} is not there, and it is for another program to make it`, {
        subject: want.spec.name,
      })
    // sysctls of a new link are set before its addresses: disable_ipv6 flushes them, accept_ra must not race with up
    const at = plan.created.length > 0 ? 1 : 0
    if (at > 0 && want.sysctls.length > 0) {
      this.rtnl.apply(plan.steps.slice(0, at))
      this.applySysctls(want.sysctls, setSysctl)
      this.rtnl.apply(plan.steps.slice(at))
    } else {
      if (plan.steps.length > 0) this.rtnl.apply(plan.steps)
      if (have !== nothingObserved) this.applySysctls(want.sysctls)
    }
    return plan
  }

  /** Writes sysctls that differ. Optional ones that the kernel lacks are passed over. */
  applySysctls(sysctls: readonly WantedSysctl[], write: (path: string, value: string) => void = writeSysctl): void {
    for (const { path, value, optional } of sysctls) {
      try {
        write(path, value)
      } catch (error) {
        if (!optional) throw error
      }
    }
  }

  /** Forgets links and deletes those that are not adopted; returns at once, the kernel's waiting happens off this thread. */
  release(names: readonly string[]): Promise<void> {
    const own: string[] = []
    for (const name of names) {
      const want = this.#wanted.get(name)
      this.#wanted.delete(name)
      if (want !== undefined && this.#isSomebodyElses(want)) continue
      own.push(name)
    }
    if (own.length === 0) return Promise.resolve()
    for (const name of own) this.#doomed.add(name)
    return this.rtnl.deleteLinksInBackground(own).finally(() => {
      for (const name of own) this.#doomed.delete(name)
    })
  }

  /** Never deleted by us: a device that a network uses, and one that would have been made had it been missing. */
  #isSomebodyElses(want: WantedLink): boolean {
    if (want.adopted) return true
    const link = want.madeWhenMissing ? this.rtnl.link(want.spec.name) : undefined
    return link !== undefined && !isOurs(link)
  }

  /** A name that is on its way out must be gone before it can be used again. */
  #finishOff(name: string): void {
    if (!this.#doomed.delete(name)) return
    try {
      this.rtnl.apply([{ op: 'link.delete', dev: name }])
    } catch (error) {
      if (!hasCode(error, 'not-found')) throw error
    }
  }

  /** Deletes links now, waiting for the kernel. A missing one is fine. */
  releaseNow(names: readonly string[]): void {
    for (const name of names) {
      const want = this.#wanted.get(name)
      this.#wanted.delete(name)
      if (want !== undefined && this.#isSomebodyElses(want)) continue
      try {
        this.rtnl.apply([{ op: 'link.delete', dev: name }])
      } catch (error) {
        if (!hasCode(error, 'not-found')) throw error
      }
    }
  }

  /** What the kernel holds for one name, read now. */
  observe(name: string): Observed {
    const link = this.rtnl.link(name)
    const routed = link !== undefined && link.kind !== 'veth'
    const addresses = routed ? this.rtnl.addresses({ dev: name }) : []
    const routes = routed ? this.rtnl.routes({ dev: name }) : []
    const neighbours = link !== undefined && this.#wanted.get(name)?.neighbours ? this.rtnl.neighbours({ dev: name }) : []
    return {
      link: (n) => (n === name ? link : undefined),
      nameOf: (index) => this.rtnl.nameOf(index),
      addressesOf: (n) => (n === name ? addresses : []),
      routesOf: (n) => (n === name ? routes : []),
      neighboursOf: (n) => (n === name ? neighbours : []),
    }
  }

  /** Everything the kernel holds, in two dumps. */
  observeAll(): Observed {
    const byName = new Map<string, Link>()
    const byIndex = new Map<number, string>()
    for (const link of this.rtnl.links()) {
      byName.set(link.name, link)
      byIndex.set(link.index, link.name)
    }
    const addresses = new Map<string, Address[]>()
    for (const address of this.rtnl.addresses()) {
      const list = addresses.get(address.dev)
      if (list) list.push(address)
      else addresses.set(address.dev, [address])
    }
    const routes = new Map<string, Route[]>()
    for (const route of this.rtnl.routes()) {
      if (route.dev === undefined) continue
      const list = routes.get(route.dev)
      if (list) list.push(route)
      else routes.set(route.dev, [route])
    }
    return {
      link: (n) => byName.get(n),
      nameOf: (i) => byIndex.get(i),
      addressesOf: (n) => addresses.get(n) ?? [],
      routesOf: (n) => routes.get(n) ?? [],
      neighboursOf: (n) => this.rtnl.neighbours({ dev: n }),
    }
  }

  /**
   * Repairs the named links (all when absent). Returns what was wrong and which links were made anew.
   * A link that cannot be repaired is logged and does not stop the others.
   */
  repair(names?: readonly string[]): { findings: Finding[]; created: string[] } {
    const have = names === undefined ? this.observeAll() : undefined
    const findings: Finding[] = []
    const created: string[] = []
    // bridges before the ports that are enslaved to them
    const order = [...(names ?? this.#wanted.keys())].map((n) => this.#wanted.get(n)).filter((w): w is WantedLink => w !== undefined)
    order.sort((a, b) => Number(b.spec.kind === 'bridge') - Number(a.spec.kind === 'bridge'))
    for (const want of order) {
      try {
        const plan = this.#apply(want, have ?? this.observe(want.spec.name))
        findings.push(...plan.findings)
        created.push(...plan.created)
        // a bridge that was made anew has lost its ports
        if (want.spec.kind === 'bridge' && plan.created.length > 0)
          for (const [name, port] of this.#wanted)
            if (port.spec.master === want.spec.name && names !== undefined && !names.includes(name)) {
              const portPlan = this.#apply(port, this.observe(name))
              findings.push(...portPlan.findings)
              created.push(...portPlan.created)
            }
      } catch (error) {
        this.#log.error('cannot repair link', { link: want.spec.name, error: messageOf(error) })
      }
    }
    return { findings, created }
  }
}

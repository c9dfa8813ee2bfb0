/**
 * Watches the kernel and has repaired what somebody else broke. Notifications are only hints: an event that agrees with what is
 * wanted is dropped at once, everything else leads to a look at the kernel itself. Our own changes echo here and cost a comparison.
 */
import { messageOf } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import { type KernelEvent, type KernelWatch, watchKernel } from '../kernel/watch.ts'
import type { Link, Route } from '../model/kernel-state.ts'
import { connectedRoute, planLink } from '../plan/links.ts'
import type { Reactor } from '../sys/reactor.ts'
import type { Controller } from './controller.ts'

/** Events come in bursts: one look answers all of them. */
const SETTLE_MS = 5
/** Other programs write their rules in many steps; looking at theirs costs processes. */
const FOREIGN_SETTLE_MS = 1000
const OUR_TABLE = 'causeway'

export class Guardian {
  readonly #controller: Controller
  readonly #clock: Clock
  readonly #log: Logger
  readonly #pid: number
  readonly #onForeignRules: () => void
  readonly #suspects = new Set<string>()
  /** `family interface`: forwarding was switched off there. */
  readonly #closed = new Set<string>()
  #watch: KernelWatch | undefined
  /** Tables named since the last commit notice. */
  readonly #touched = new Set<string>()
  #lookAll = false
  #lookFirewall = false
  #culprit = ''
  #pending: (() => void) | undefined
  #foreignPending: (() => void) | undefined

  constructor(options: {
    controller: Controller
    clock: Clock
    log: Logger
    pid: number
    /** Another program changed its firewall rules, a second ago or so. */
    onForeignRules?: () => void
  }) {
    this.#onForeignRules = options.onForeignRules ?? (() => {})
    this.#controller = options.controller
    this.#clock = options.clock
    this.#log = options.log
    this.#pid = options.pid
  }

  start(reactor: Reactor): void {
    this.#watch = watchKernel(
      reactor,
      undefined,
      ['link', 'addr4', 'addr6', 'route4', 'route6', 'netconf4', 'netconf6', 'nft'],
      (events) => {
        for (const event of events) this.#see(event)
      },
    )
  }

  close(): void {
    this.#watch?.close()
    this.#pending?.()
    this.#foreignPending?.()
  }

  #see(event: KernelEvent): void {
    const { host, forwarding } = this.#controller
    switch (event.kind) {
      case 'link': {
        const { link, change } = event
        if (!host.isWanted(link.name)) {
          if (change === 'new' && !link.loopback && link.up && link.master === 0 && !link.alias.startsWith('causeway:'))
            forwarding.interfaceAppeared(link.name)
          else if (change === 'delete') forwarding.interfaceGone(link.name)
          return
        }
        // a link that is being made looks wrong until its last event
        if (change === 'delete' || !this.#agrees(link)) this.#suspect(link.name)
        else this.#suspects.delete(link.name)
        return
      }
      case 'port':
        if (event.change === 'delete' && host.isWanted(event.dev)) this.#suspect(event.dev)
        return
      case 'addr':
        if (event.change === 'delete' && host.wanted(event.addr.dev)?.addresses.some((a) => a.address === event.addr.address))
          this.#suspect(event.addr.dev)
        return
      case 'route': {
        const { route, change } = event
        if (route.dev === undefined || !host.isKnown(route.dev)) this.#controller.hostRoutes.note(change, route.dst)
        else if (change === 'delete' && host.isWanted(route.dev) && this.#isConnected(route)) this.#suspect(route.dev)
        return
      }
      case 'forwarding':
        if (event.on && event.dev === '') forwarding.hostForwards(event.family)
        if (event.on) return
        this.#closed.add(`${event.family} ${event.dev}`)
        this.#look()
        return
      case 'nft':
        // what changed comes first, who did it comes last
        if (event.pid === undefined) {
          this.#touched.add(event.table ?? '')
          return
        }
        if (event.pid !== this.#pid) this.#foreignCommit(event.process ?? '', event.pid)
        this.#touched.clear()
        return
      case 'overrun':
        this.#lookAll = true
        this.#lookFirewall = true
        this.#look()
        return
      case 'neigh':
        return
    }
  }

  #foreignCommit(process: string, pid: number): void {
    if ([...this.#touched].some((table) => table !== OUR_TABLE)) this.#foreignRulesChanged()
    if (!this.#touched.has(OUR_TABLE)) return
    this.#culprit = `${process || 'a program'} (pid ${pid})`
    this.#lookFirewall = true
    this.#look()
  }

  /** The route that belongs to an address which we want there. */
  #isConnected(route: Route): boolean {
    const addresses = this.#controller.host.wanted(route.dev ?? '')?.addresses ?? []
    return addresses.some((addr) => connectedRoute(addr).dst === route.dst)
  }

  #foreignRulesChanged(): void {
    this.#foreignPending ??= this.#clock.after(FOREIGN_SETTLE_MS, () => {
      this.#foreignPending = undefined
      try {
        this.#onForeignRules()
      } catch (error) {
        this.#log.warn('cannot look at the rules of others', { error: messageOf(error) })
      }
    })
  }

  /** The event's own values already say that nothing is wrong. Addresses are not in it and not judged. */
  #agrees(link: Link): boolean {
    const want = this.#controller.host.wanted(link.name)
    if (want === undefined) return true
    const plan = planLink(
      { ...want, addresses: [] },
      { link: () => link, nameOf: (index) => this.#controller.host.rtnl.nameOf(index), addressesOf: () => [] },
    )
    return plan.steps.length === 0
  }

  #suspect(name: string): void {
    this.#suspects.add(name)
    this.#look()
  }

  #look(): void {
    this.#pending ??= this.#clock.after(SETTLE_MS, () => {
      this.#pending = undefined
      try {
        this.#repair()
      } catch (error) {
        this.#log.error('repair failed', { error: messageOf(error) })
      }
    })
  }

  #repair(): void {
    const names = [...this.#suspects].filter((name) => this.#controller.host.isWanted(name))
    this.#suspects.clear()
    if (this.#lookFirewall) {
      this.#lookFirewall = false
      this.#controller.repairs.rules(this.#culprit)
      this.#culprit = ''
    }
    for (const place of this.#closed) {
      const [family, dev = ''] = place.split(' ')
      this.#controller.repairs.openForwarding(family === '6' ? 6 : 4, dev)
    }
    this.#closed.clear()
    if (this.#lookAll) {
      this.#lookAll = false
      this.#controller.repairs.links()
      for (const family of [4, 6] as const) this.#controller.repairs.openForwarding(family, '')
    } else if (names.length > 0) this.#controller.repairs.links(names)
  }
}

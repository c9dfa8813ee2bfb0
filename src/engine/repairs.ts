/** Puts back what the kernel has lost of what the engine wants: links, rules, forwarding. Each repair is logged and told. */
import { cidrContains, type Ip } from '../base/address.ts'
import { messageOf } from '../base/errors.ts'
import { STATUS_DST_NAT, STATUS_SRC_NAT } from '../kernel/conntrack.ts'
import type { Environment } from './environment.ts'
import type { Firewall } from './firewall.ts'
import type { Forwarding } from './forwarding.ts'
import type { HostKernel } from './host-kernel.ts'
import type { Networks } from './networks.ts'
import type { SandboxRegistry } from './sandbox-registry.ts'
import type { Sandboxes } from './sandboxes.ts'
import type { RepairEvent } from './types.ts'

export interface RepairsOptions {
  readonly env: Environment
  readonly networks: Networks
  readonly host: HostKernel
  readonly firewall: Firewall
  readonly forwarding: Forwarding
  readonly registry: SandboxRegistry
  readonly sandboxes: Sandboxes
  readonly onRepaired: (event: RepairEvent) => void
}

export class Repairs {
  readonly #o: RepairsOptions

  constructor(options: RepairsOptions) {
    this.#o = options
  }

  /** A bridge that was deleted took the host's addresses along. */
  #retakeCards(): void {
    const { cards, log } = this.#o.env
    for (const network of cards === undefined ? [] : this.#o.networks.list()) {
      const bridge = cards?.concerns(network) ? this.#o.networks.driverOf(network).deviceOf?.(network) : undefined
      if (bridge === undefined || !this.#o.host.isWanted(bridge) || this.#o.host.rtnl.link(bridge) !== undefined) continue
      try {
        cards?.take(network)
        this.#repaired(bridge, 'link is missing', 'made anew, with the addresses of the host')
      } catch (error) {
        log.error('cannot repair link', { link: bridge, error: messageOf(error) })
      }
    }
  }

  /** Repairs links (all when absent) and the container ends of pairs that had to be made anew. */
  links(names?: readonly string[]): void {
    const missingPairs = (names ?? this.#o.host.wantedNames()).filter(
      (name) => this.#o.host.wanted(name)?.spec.kind === 'veth' && this.#o.host.rtnl.link(name) === undefined,
    )
    const bridges =
      names?.filter((name) => !missingPairs.includes(name)) ?? this.#o.host.wantedNames().filter((n) => !missingPairs.includes(n))
    this.#retakeCards()
    const { findings, created } = this.#o.host.repair(bridges)
    for (const { subject, wrong } of findings) this.#repaired(subject, wrong, created.includes(subject) ? 'made anew' : 'set right')
    for (const name of created) for (const family of [4, 6] as const) this.#o.forwarding.repair(family, name)
    for (const name of missingPairs) {
      try {
        if (this.#o.sandboxes.replug(name)) this.#repaired(name, 'link is missing', 'made anew with its container end')
      } catch (error) {
        this.#o.env.log.error('cannot repair link', { link: name, error: messageOf(error) })
      }
    }
  }

  /** Puts back what is missing of the firewall. `culprit` is the program that committed the last foreign change. */
  rules(culprit = ''): void {
    const state = this.#o.firewall.isIntact()
    if (state !== true) this.#o.firewall.ensureTables()
    const { missing, strange } = this.#o.firewall.sync()
    const wrong = [
      state === true ? '' : state,
      missing > 0 ? `${missing} elements missing` : '',
      strange > 0 ? `${strange} elements not ours` : '',
    ]
    const text = wrong.filter((part) => part !== '').join(', ')
    if (text === '') return
    this.#repaired('nftables table causeway', `${text}${culprit === '' ? '' : ` (changed by ${culprit})`}`, 'put back')
    if (state !== true || missing > 0) this.#forgetStuckFlows()
  }

  /** A flow that began while rules were missing goes on untranslated for as long as it lives: forgotten, it is translated at its next packet. */
  #forgetStuckFlows(): void {
    const pools = this.#o.networks.list().flatMap((n) => n.pools.map((pool) => pool.subnet))
    const ports = new Set(
      this.#o.registry.all().flatMap(({ ports }) => ports.filter((b) => b.count === 1).map((b) => `${b.proto} ${b.hostPort}`)),
    )
    const isContainer = (ip: Ip) => pools.some((subnet) => cidrContains(subnet, ip))
    try {
      this.#o.env.conntrack.deleteWhere(
        ({ orig, proto, status }, isLocal) =>
          (ports.has(`${proto} ${orig.dport}`) && (status & STATUS_DST_NAT) === 0 && isLocal(orig.dst)) ||
          ((status & STATUS_SRC_NAT) === 0 && isContainer(orig.src) && !isContainer(orig.dst) && !isLocal(orig.dst)),
      )
    } catch (error) {
      this.#o.env.log.warn('cannot forget flows that began without rules', { error: messageOf(error) })
    }
  }

  /** Forwarding was switched off somewhere; `dev` empty = for the whole host. */
  openForwarding(family: 4 | 6, dev: string): void {
    for (const { subject, wrong } of this.#o.forwarding.repair(family, dev)) this.#repaired(subject, wrong, 'switched on')
  }

  /** Links that carry our mark but that nobody wants are leftovers of a crash. */
  removeStrayLinks(): void {
    const strays = this.#o.env.rtnl
      .links()
      .filter((l) => /^causeway:(network|endpoint|parent):/.test(l.alias) && !this.#o.host.isWanted(l.name))
      .map((l) => l.name)
    if (strays.length === 0) return
    this.#o.env.log.info('removing links left by a crash', { links: strays })
    this.#o.host.release(strays).catch((error) => this.#o.env.log.warn('cannot remove leftover links', { error: messageOf(error) }))
  }

  #repaired(subject: string, wrong: string, repair: string): void {
    const event: RepairEvent = { at: this.#o.env.clock.now(), subject, wrong, repair }
    this.#o.env.log.warn(`repaired ${subject}: ${wrong}`, { repair })
    this.#o.onRepaired(event)
  }
}

/**
 * Lets packets through this host, without making it a router for others. Where the host does not forward at all, forwarding is
 * switched on interface by interface: our bridges, and the host's own interfaces, because replies come in there. What comes in on
 * such an interface and is neither from nor for a network of ours is dropped by the firewall, as it was before.
 * What was switched is remembered in the store and given back by {@link Forwarding.restore}.
 */

import { messageOf } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { NftElement } from '../model/nft-element.ts'
import { openedElement, switchedElement } from '../plan/firewall/elements.ts'
import type { Finding } from '../plan/links.ts'
import type { Store } from '../store/types.ts'
import { readSysctl, setSysctl, standingSysctl, writeSysctl } from '../sys/sysctl.ts'
import { KEY } from './records.ts'

type Family = 4 | 6

const IPV6_ALL = 'net/ipv6/conf/all/forwarding'

export class Forwarding {
  readonly #store: Store
  readonly #rtnl: Rtnl
  readonly #log: Logger
  readonly #isOurs: (ifname: string) => boolean
  readonly #enabled: boolean
  readonly #setElements: (wanted: readonly NftElement[], unwanted: readonly NftElement[]) => void
  /** Our bridges that need forwarding. */
  readonly #bridges = new Map<string, readonly Family[]>()
  /** Host interfaces that we opened: the firewall keeps them from forwarding among themselves. */
  readonly #opened = { 4: new Set<string>(), 6: new Set<string>() }
  /** Those of them that are bridges. */
  readonly #hostBridges = new Set<string>()
  readonly #families = new Set<Family>()
  /** The switches for every interface, asked whenever a bridge comes. */
  readonly #global = { 4: standingSysctl('net/ipv4/ip_forward'), 6: standingSysctl(IPV6_ALL) }

  constructor(options: {
    store: Store
    rtnl: Rtnl
    log: Logger
    isOurs: (ifname: string) => boolean
    enabled: boolean
    /** Puts elements into the firewall and takes others out. */
    setElements: (wanted: readonly NftElement[], unwanted: readonly NftElement[]) => void
  }) {
    this.#store = options.store
    this.#rtnl = options.rtnl
    this.#log = options.log
    this.#isOurs = options.isOurs
    this.#enabled = options.enabled
    this.#setElements = options.setElements
  }

  /** True when packets of the family are forwarded on every interface already. */
  isGlobal(family: Family): boolean {
    return this.#global[family]() === '1'
  }

  /** Opens a bridge of ours, and the host's interfaces when this is the first bridge of the family. */
  openBridge(bridge: string, families: readonly Family[]): void {
    if (!this.#enabled) return
    this.#bridges.set(bridge, families)
    for (const family of families) this.#open(bridge, family)
  }

  /** A bridge of ours has gone. */
  closeBridge(bridge: string): void {
    this.#bridges.delete(bridge)
  }

  /** Bridges of ours through which packets are forwarded. */
  bridgeNames(): readonly string[] {
    return [...this.#bridges.keys()]
  }

  #open(bridge: string, family: Family): void {
    if (this.isGlobal(family) && !this.#isOwnSwitch(family)) {
      if (!this.#families.has(family)) this.#forget(family)
      return
    }
    this.#set(bridge, family, false)
    if (this.#families.has(family)) return
    this.#families.add(family)
    const links = this.#hostLinks()
    for (const name of links) this.#set(name, family, true)
    if (links.length > 0)
      this.#log.info(`IPv${family} forwarding enabled on single interfaces; the host's own setting is untouched`, { interfaces: links })
  }

  #hostLinks(): string[] {
    return this.#rtnl
      .links()
      .filter((l) => !l.loopback && l.up && l.master === 0 && !this.#isOurs(l.name) && !/^causeway:(?!nic:)/.test(l.alias))
      .map((l) => l.name)
  }

  /** A host interface appeared later. */
  interfaceAppeared(name: string): void {
    for (const family of this.#families) if (!this.#isOurs(name) && !this.isGlobal(family)) this.#set(name, family, true)
  }

  /** A host interface that we opened has gone. */
  interfaceGone(name: string): void {
    for (const family of [4, 6] as const) {
      if (!this.#opened[family].delete(name)) continue
      this.#setElements([], this.#elementsOf(family, name))
      this.#store.remove(KEY.sysctls + forwardingOf(name, family))
    }
    this.#hostBridges.delete(name)
  }

  /** Somebody made the host a router for everybody: what we opened one by one is open anyway, and stays so when we go. */
  hostForwards(family: Family): void {
    if (this.isGlobal(family) && !this.#isOwnSwitch(family)) this.#forget(family)
  }

  /** The whole host forwards because we had to switch it on, see {@link #openIpv6Globally}. */
  #isOwnSwitch(family: Family): boolean {
    return family === 6 && this.#store.get(`${KEY.sysctls}${IPV6_ALL}`) !== undefined
  }

  #forget(family: Family): void {
    for (const [key] of this.#store.list(KEY.sysctls)) if (key.startsWith(`${KEY.sysctls}net/ipv${family}/conf/`)) this.#store.remove(key)
    this.#setElements(
      [],
      [...this.#opened[family]].flatMap((dev) => this.#elementsOf(family, dev)),
    )
    this.#opened[family].clear()
    this.#families.delete(family)
  }

  /**
   * Looks at one interface, or at all when `dev` is empty, after somebody switched forwarding off there, and opens what must be open.
   * Returns what was wrong.
   */
  repair(family: Family, dev = ''): Finding[] {
    const findings: Finding[] = []
    // the notices of their removal may have been lost
    if (dev === '') for (const name of this.#opened[family]) if (this.#rtnl.link(name) === undefined) this.interfaceGone(name)
    if (!this.#enabled || this.isGlobal(family)) return findings
    const bridges = [...this.#bridges].filter(([name, families]) => families.includes(family) && (dev === '' || dev === name))
    const look = (name: string, remember: boolean) => {
      if (this.#set(name, family, remember)) findings.push({ subject: name, wrong: `IPv${family} forwarding is off` })
    }
    for (const [name] of bridges) look(name, false)
    if (bridges.length > 0 && !this.#families.has(family)) {
      this.#families.add(family)
      for (const name of this.#hostLinks()) look(name, true)
    } else for (const name of this.#opened[family]) if (dev === '' || dev === name) look(name, true)
    return findings
  }

  /** Returns whether it had to be switched. */
  #set(dev: string, family: Family, remember: boolean): boolean {
    const path = forwardingOf(dev, family)
    try {
      const before = readSysctl(path)
      const known = this.#store.get(KEY.sysctls + path) !== undefined
      if (before === '1') {
        if (known) this.#guard(family, dev)
        return false
      }
      if (remember) {
        // nothing may pass between opening and guarding
        this.#guard(family, dev)
        if (!known) this.#store.put(KEY.sysctls + path, before)
      }
      setSysctl(path, '1')
      return true
    } catch (error) {
      if (family === 4) {
        this.#log.warn('cannot enable forwarding', { interface: dev, error: messageOf(error) })
        return false
      }
      if (remember) this.#guard(family, dev)
      return this.#openIpv6Globally()
    }
  }

  #guard(family: Family, dev: string): void {
    if (this.#opened[family].has(dev)) return
    if (this.#rtnl.link(dev)?.kind === 'bridge') this.#hostBridges.add(dev)
    this.#setElements(this.#elementsOf(family, dev), [])
    this.#opened[family].add(dev)
  }

  /** What the firewall has of an opened interface in one family, and of both as long as one is left. */
  #elementsOf(family: Family, dev: string): NftElement[] {
    const other = this.#opened[family === 4 ? 6 : 4].has(dev)
    return [openedElement(family, dev), ...(this.#hostBridges.has(dev) && !other ? [switchedElement(dev)] : [])]
  }

  #openIpv6Globally(): boolean {
    const path = IPV6_ALL
    try {
      const before = readSysctl(path)
      if (before === '1') return false
      this.#store.put(KEY.sysctls + path, before)
      writeSysctl(path, '1')
      this.#log.warn('this kernel cannot forward IPv6 on single interfaces: forwarding was enabled for the whole host')
      return true
    } catch (error) {
      this.#log.warn('cannot enable IPv6 forwarding', { error: messageOf(error) })
      return false
    }
  }

  /** Gives every sysctl back its value of before. */
  restore(): void {
    for (const [key, value] of this.#store.list<string>(KEY.sysctls)) {
      const path = key.slice(KEY.sysctls.length)
      try {
        writeSysctl(path, value)
      } catch (error) {
        this.#log.debug('cannot restore sysctl', { path, error: messageOf(error) }) // its interface has gone
      }
      this.#store.remove(key)
    }
    this.#opened[4].clear()
    this.#opened[6].clear()
    this.#hostBridges.clear()
    this.#bridges.clear()
    this.#families.clear()
  }
}

/** IPv6 routes per interface only since 6.17 (force_forwarding); before that there is the global switch alone. */
const forwardingOf = (dev: string, family: Family): string =>
  family === 4 ? `net/ipv4/conf/${dev}/forwarding` : `net/ipv6/conf/${dev}/force_forwarding`

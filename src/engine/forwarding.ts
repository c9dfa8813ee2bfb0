/**
 * Lets packets through this host, without making it a router for others. Where the host does not forward at all, forwarding is
 * switched on interface by interface: our bridges, and the host's own interfaces, because replies come in there.
 * What was switched is remembered in the store and given back by {@link Forwarding.restore}.
 */

import { messageOf } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Store } from '../store/types.ts'
import { readSysctl, writeSysctl } from '../sys/sysctl.ts'
import { KEY } from './records.ts'

/** How soon a host that was made a router by its administrator is believed. */
const LOOK_MS = 5000

export class Forwarding {
  readonly #store: Store
  readonly #rtnl: Rtnl
  readonly #log: Logger
  readonly #isOurs: (ifname: string) => boolean
  readonly #enabled: boolean
  readonly #clock: Clock
  readonly #onOpened: (opened: readonly string[], closed: readonly string[]) => void
  /** Host interfaces that we opened: the firewall keeps them from forwarding among themselves. */
  readonly #opened = new Set<string>()
  #families = new Set<4 | 6>()
  #cancelLook: (() => void) | undefined

  constructor(options: {
    store: Store
    rtnl: Rtnl
    log: Logger
    clock: Clock
    isOurs: (ifname: string) => boolean
    enabled: boolean
    /** Told of interfaces that must not forward among themselves from now on, and of those that may again. */
    onOpened: (opened: readonly string[], closed: readonly string[]) => void
  }) {
    this.#clock = options.clock
    this.#onOpened = options.onOpened
    this.#store = options.store
    this.#rtnl = options.rtnl
    this.#log = options.log
    this.#isOurs = options.isOurs
    this.#enabled = options.enabled
  }

  /** True when packets of the family are forwarded on every interface already. */
  isGlobal(family: 4 | 6): boolean {
    try {
      return readSysctl(family === 4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding') === '1'
    } catch {
      return false
    }
  }

  /** Opens a bridge of ours, and the host's interfaces when this is the first bridge of the family. */
  openBridge(bridge: string, families: readonly (4 | 6)[]): void {
    for (const family of families) {
      if (!this.#enabled || this.isGlobal(family)) continue
      this.#set(bridge, family, false)
      if (this.#families.has(family)) continue
      this.#families.add(family)
      const links = this.#rtnl
        .links()
        .filter((l) => !l.loopback && l.up && l.master === 0 && !this.#isOurs(l.name) && !l.alias.startsWith('causeway:'))
      for (const link of links) this.#set(link.name, family, true)
      if (links.length > 0)
        this.#log.info(`IPv${family} forwarding enabled on single interfaces; the host's own setting is untouched`, {
          interfaces: links.map((l) => l.name),
        })
    }
  }

  /** A host interface appeared later. */
  interfaceAppeared(name: string): void {
    for (const family of this.#families) if (!this.#isOurs(name) && !this.isGlobal(family)) this.#set(name, family, true)
  }

  #set(dev: string, family: 4 | 6, remember: boolean): void {
    // IPv6 routes per interface only since 6.17 (force_forwarding); before that there is the global switch alone
    const path = family === 4 ? `net/ipv4/conf/${dev}/forwarding` : `net/ipv6/conf/${dev}/force_forwarding`
    try {
      const before = readSysctl(path)
      if (before === '1') {
        if (this.#store.get(KEY.sysctls + path) !== undefined) this.#noteOpened(dev)
        return
      }
      if (remember) {
        this.#store.put(KEY.sysctls + path, before)
        this.#noteOpened(dev)
      }
      writeSysctl(path, '1')
    } catch (error) {
      if (family === 6) this.#openIpv6Globally()
      else this.#log.warn('cannot enable forwarding', { interface: dev, error: messageOf(error) })
    }
  }

  #openIpv6Globally(): void {
    const path = 'net/ipv6/conf/all/forwarding'
    try {
      const before = readSysctl(path)
      if (before === '1') return
      this.#store.put(KEY.sysctls + path, before)
      writeSysctl(path, '1')
      this.#log.warn('this kernel cannot forward IPv6 on single interfaces: forwarding was enabled for the whole host')
    } catch (error) {
      this.#log.warn('cannot enable IPv6 forwarding', { error: messageOf(error) })
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
    this.#forgetOpened()
    this.#families.clear()
  }

  #noteOpened(dev: string): void {
    if (this.#opened.has(dev)) return
    this.#opened.add(dev)
    this.#onOpened([dev], [])
    this.#cancelLook ??= this.#clock.after(LOOK_MS, () => this.#look())
  }

  /** The administrator may make the host a router at any time; the kernel tells nobody, so we look. */
  #look(): void {
    this.#cancelLook = undefined
    if (this.#opened.size === 0) return
    if (this.isGlobal(4)) this.#forgetOpened()
    else this.#cancelLook = this.#clock.after(LOOK_MS, () => this.#look())
  }

  #forgetOpened(): void {
    this.#cancelLook?.()
    this.#cancelLook = undefined
    const closed = [...this.#opened]
    this.#opened.clear()
    if (closed.length > 0) this.#onOpened([], closed)
  }
}

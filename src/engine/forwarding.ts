/**
 * Lets packets through this host, without making it a router for others. Where the host does not forward at all, forwarding is
 * switched on interface by interface: our bridges, and the host's own interfaces, because replies come in there.
 * What was switched is remembered in the store and given back by {@link Forwarding.restore}.
 */

import { messageOf } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Store } from '../store/types.ts'
import { readSysctl, writeSysctl } from '../sys/sysctl.ts'
import { KEY } from './records.ts'

export class Forwarding {
  readonly #store: Store
  readonly #rtnl: Rtnl
  readonly #log: Logger
  readonly #isOurs: (ifname: string) => boolean
  readonly #enabled: boolean
  /** Host interfaces that we opened: the firewall keeps them from forwarding among themselves. */
  readonly opened = new Set<string>()
  #families = new Set<4 | 6>()

  constructor(options: { store: Store; rtnl: Rtnl; log: Logger; isOurs: (ifname: string) => boolean; enabled: boolean }) {
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
        if (this.#store.get(KEY.sysctls + path) !== undefined) this.opened.add(dev)
        return
      }
      if (remember) {
        this.#store.put(KEY.sysctls + path, before)
        this.opened.add(dev)
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
    this.opened.clear()
    this.#families.clear()
  }
}

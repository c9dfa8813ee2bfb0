/**
 * Bridges that belong to somebody else and that a network uses: they keep their device, MTU and MAC; what they get from us is
 * remembered in the store and taken back with the network.
 */
import { hasCode, NetError } from '../base/errors.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { WantedLink } from '../plan/wanted.ts'
import type { Store } from '../store/types.ts'
import { tryReadSysctl, writeSysctl } from '../sys/sysctl.ts'
import type { HostKernel } from './host-kernel.ts'

export class AdoptedBridges {
  readonly #store: Store
  readonly #rtnl: Rtnl
  readonly #host: HostKernel

  constructor(store: Store, rtnl: Rtnl, host: HostKernel) {
    this.#store = store
    this.#rtnl = rtnl
    this.#host = host
  }

  /**
   * What to make of a link: itself, or, on a device of somebody else's, only what a network needs there. `isAdopted` decides when it is
   * known; otherwise the device says whose it is. Throws `conflict` when the name stands for a device of another kind.
   */
  prepare(link: WantedLink, isAdopted: boolean | undefined): WantedLink {
    if (link.madeWhenMissing) return link
    this.#refuseOtherKind(link)
    if (!(isAdopted ?? this.#isForeignBridge(link))) return link
    const want = adopt(link)
    this.#note(want)
    return want
  }

  /** Takes back the addresses and sysctls that adopted ones among these links got from us. The devices stay. */
  withdraw(links: readonly WantedLink[]): void {
    for (const link of links) {
      const want = this.#host.wanted(link.spec.name)
      if (!want?.adopted) continue
      for (const addr of want.addresses) {
        if (this.#store.get(`adopted/${link.spec.name}/${addr.address}`) === undefined) continue
        try {
          this.#rtnl.apply([{ op: 'addr.delete', addr }])
        } catch (error) {
          if (!hasCode(error, 'not-found')) throw error
        }
        this.#store.remove(`adopted/${link.spec.name}/${addr.address}`)
      }
      for (const { path } of want.sysctls) {
        const key = `adopted/${link.spec.name}/sysctl/${path}`
        const before = this.#store.get<string>(key)
        if (before === undefined) continue
        if (this.#rtnl.link(link.spec.name) !== undefined) writeSysctl(path, before)
        this.#store.remove(key)
      }
    }
  }

  /** Remembers what an adopted device gets from us: only those addresses go with the network, and sysctls get their value of before. */
  #note(link: WantedLink): void {
    for (const { path, value } of link.sysctls) {
      const key = `adopted/${link.spec.name}/sysctl/${path}`
      const before = tryReadSysctl(path)
      if (before !== undefined && before !== value && this.#store.get(key) === undefined) this.#store.put(key, before)
    }
    const present = new Set(this.#rtnl.addresses({ dev: link.spec.name }).map((a) => a.address)) // it exists: it is adopted
    for (const addr of link.addresses) if (!present.has(addr.address)) this.#store.put(`adopted/${link.spec.name}/${addr.address}`, true)
  }

  /** A name that stands for somebody's device of another kind is never taken from it. Throws `conflict` with Docker's text. */
  #refuseOtherKind(link: WantedLink): void {
    const there = this.#rtnl.link(link.spec.name)
    if (there !== undefined && there.kind !== link.spec.kind && !there.alias.startsWith('causeway:'))
      throw new NetError('conflict', `existing interface ${link.spec.name} is not a ${link.spec.kind}`, { subject: link.spec.name })
  }

  /** A bridge that exists under a name the user gave and that is not marked as ours. */
  #isForeignBridge(link: WantedLink): boolean {
    if (/^(br-[0-9a-f]{12}|docker0)$/.test(link.spec.name)) return false // names of our own; a crash may have left one without its mark
    const there = this.#rtnl.link(link.spec.name)
    return there !== undefined && there.kind === 'bridge' && !there.alias.startsWith('causeway:')
  }
}

/** Somebody else's device: addresses and port state are ours, and the sysctls without which the network would not work. */
function adopt(link: WantedLink): WantedLink {
  const { mtu: _mtu, alias: _alias, mac: _mac, ...spec } = link.spec
  // accept_ra, accept_dad and switching IPv6 off (which would take its owner's addresses) are for bridges of our own
  const sysctls = link.sysctls.filter(
    ({ path, value }) => !/\/accept_(ra|dad)$/.test(path) && !(path.endsWith('/disable_ipv6') && value === '1'),
  )
  return { ...link, spec: spec as WantedLink['spec'], sysctls, adopted: true }
}

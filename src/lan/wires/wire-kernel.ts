/**
 * The kernel side of a wire: a veth pair from a bridge of the host into a namespace. The inner end is found by its alias, so
 * that a wire that is there already is completed and never made twice.
 */
import { cidrRange, familyOf, type Ip, ipFromBigInt, type Mac, splitPrefix } from '../../base/address.ts'
import { hasCode, isErrno, NetError } from '../../base/errors.ts'
import type { Clock } from '../../base/ports.ts'
import { announce } from '../../kernel/announce.ts'
import { openRtnl } from '../../kernel/rtnl.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { Address, Step } from '../../model/kernel-state.ts'
import { closeNetns, homeNetns, type Netns, openNetns } from '../../sys/netns.ts'
import { tryReadSysctl, writeSysctl } from '../../sys/sysctl.ts'
import { subnetOf, type WireSpec } from './wire-spec.ts'

/** A wire as it is made: names and MAC are settled. */
export interface WirePlan extends WireSpec {
  readonly id: string
  readonly hostIfname: string
}

const wireAlias = (id: string): string => `causeway:wire:${id}`
/** Mark of a bridge that a wire needed and nobody had. */
const WIRE_BRIDGE_ALIAS = 'causeway:wire-bridge'

/** What is wrong with a place, for people: `container web`, `namespace /run/x`. */
export type PlaceName = string

export class WireKernel {
  readonly #rtnl: Rtnl
  readonly #clock: Clock

  constructor(rtnl: Rtnl, clock: Clock) {
    this.#rtnl = rtnl
    this.#clock = clock
  }

  /** Looks whether the wire can be made, and answers the interface's name inside. Changes nothing. Throws `conflict`, `not-found`. */
  check(wire: WireSpec, path: string, place: PlaceName): string {
    const there = this.#rtnl.link(wire.bridge)
    if (there !== undefined && there.kind !== 'bridge') throw new NetError('conflict', `existing interface ${wire.bridge} is not a bridge`)
    return this.#inside(path, place, (inner) => {
      const names = new Set(inner.links().map((link) => link.name))
      if (wire.ifname !== '' && names.has(wire.ifname)) throw new NetError('conflict', `${place} has an interface ${wire.ifname} already`)
      const own = new Set(inner.addresses().map((a) => splitPrefix(a.address).ip))
      for (const address of wire.addresses)
        if (own.has(splitPrefix(address).ip)) throw new NetError('conflict', `${place} has the address ${splitPrefix(address).ip} already`)
      for (const gateway of wire.gateways) {
        const old = inner.routes({ family: familyOf(gateway) }).find((route) => route.dst === 'default')
        if (old !== undefined)
          throw new NetError(
            'conflict',
            `${place} has a default route already, ${describe(old)}: leave the gateway out, or take that one away first`,
          )
      }
      if (wire.ifname !== '') return wire.ifname
      for (let n = 1; ; n++) if (!names.has(`eth${n}`)) return `eth${n}`
    })
  }

  /** Makes the wire, or completes what is there of it. On an error nothing of it is left. */
  plug(wire: WirePlan, path: string, place: PlaceName): void {
    this.#ensureBridge(wire.bridge)
    try {
      this.#inside(path, place, (inner, ns) => {
        const outer = wire.vlan === 0 ? wire.ifname : vlanParent(wire)
        if (inner.link(outer)?.alias !== wireAlias(wire.id)) {
          this.#deleteNow(wire.hostIfname) // its other end went with the last start's namespace, or is about to
          this.#makePair(wire, outer, ns)
        } else this.#rtnl.apply([{ op: 'link.set', dev: wire.hostIfname, set: { master: wire.bridge, up: true } }])
        if (wire.vlan !== 0) tag(inner, wire, outer)
        configure(inner, ns, wire)
        const ips = wire.addresses.map((address) => splitPrefix(address).ip)
        const mac = inner.link(wire.ifname)?.mac ?? ''
        announce({ ns, rtnl: inner }, [{ ifname: wire.ifname, mac, ips, count: 1, intervalMs: 1000 }], this.#clock, () =>
          this.#rtnl.isRunning(wire.hostIfname),
        )
      })
    } catch (error) {
      this.#deleteNow(wire.hostIfname)
      throw error
    }
  }

  /** Takes wires away, both ends. Missing ones are fine. */
  async unplug(hostIfnames: readonly string[]): Promise<void> {
    await this.#rtnl.deleteLinksInBackground(hostIfnames)
  }

  /** A bridge that a wire needed goes when nothing is plugged into it any more. */
  dropBridge(bridge: string): void {
    const there = this.#rtnl.link(bridge)
    if (there?.alias !== WIRE_BRIDGE_ALIAS || this.#rtnl.links().some((link) => link.master === there.index)) return
    this.#deleteNow(bridge)
  }

  isPlugged(hostIfname: string): boolean {
    return this.#rtnl.isRunning(hostIfname)
  }

  /** Host ends that carry the mark of a wire: by wire id. */
  marked(): Map<string, string> {
    const prefix = wireAlias('')
    const ours = this.#rtnl.links('veth').filter((link) => link.alias.startsWith(prefix))
    return new Map(ours.map((link) => [link.alias.slice(prefix.length), link.name]))
  }

  #ensureBridge(name: string): void {
    const there = this.#rtnl.link(name)
    if (there === undefined) {
      this.#rtnl.apply([{ op: 'link.add', link: { name, kind: 'bridge', alias: WIRE_BRIDGE_ALIAS } }])
      // the bridge is for whoever is plugged in: the host has no part in it unless it gives itself an address
      if (tryReadSysctl(`net/ipv6/conf/${name}/disable_ipv6`) !== undefined) writeSysctl(`net/ipv6/conf/${name}/disable_ipv6`, '1')
    } else if (there.kind !== 'bridge') throw new NetError('conflict', `existing interface ${name} is not a bridge`)
    if (there?.up !== true) this.#rtnl.apply([{ op: 'link.set', dev: name, set: { up: true } }])
  }

  #makePair(wire: WirePlan, outer: string, ns: Netns): void {
    const mtu = this.#rtnl.link(wire.bridge)?.mtu ?? 1500
    const mac = wire.mac === '' ? {} : { mac: wire.mac as Mac }
    const alias = wireAlias(wire.id)
    const link = {
      name: wire.hostIfname,
      kind: 'veth',
      mtu,
      alias,
      master: wire.bridge,
      addrGenMode: 'none',
      up: true,
      peer: { name: outer, netnsFd: ns.fd, mtu, alias, ...mac },
    } as const
    this.#rtnl.apply([{ op: 'link.add', link }])
  }

  #deleteNow(name: string): void {
    try {
      this.#rtnl.apply([{ op: 'link.delete', dev: name }])
    } catch (error) {
      if (!hasCode(error, 'not-found')) throw error
    }
  }

  #inside<T>(path: string, place: PlaceName, fn: (inner: Rtnl, ns: Netns) => T): T {
    let ns: Netns
    try {
      ns = openNetns(path)
    } catch (cause) {
      throw new NetError('not-found', `${place} has no network namespace now: ${path} does not exist`, { subject: path }, cause)
    }
    try {
      if (ns.inode === homeNetns().inode) throw new NetError('invalid', `${place} is in the host's own network: a wire needs another end`)
      let inner: Rtnl
      try {
        inner = openRtnl(ns)
      } catch (cause) {
        throw new NetError('invalid', `${path} is no network namespace`, { subject: path }, cause)
      }
      try {
        return fn(inner, ns)
      } finally {
        inner.close()
      }
    } finally {
      closeNetns(ns)
    }
  }
}

const vlanParent = (wire: WirePlan): string => `w${wire.id}`

/** The tag is put on and taken off inside: the bridge sees tagged frames and needs to know nothing of it. */
function tag(inner: Rtnl, wire: WirePlan, outer: string): void {
  if (inner.link(wire.ifname) !== undefined) return
  try {
    inner.apply([
      { op: 'link.set', dev: outer, set: { up: true } },
      { op: 'link.add', link: { name: wire.ifname, kind: 'vlan', parent: outer, vlanId: wire.vlan } },
    ])
  } catch (cause) {
    if (!isErrno(cause, 'ENOTSUP') && !isErrno(cause, 'EOPNOTSUPP')) throw cause
    throw new NetError(
      'unavailable',
      `a wire with VLAN ${wire.vlan} cannot be made: this kernel has no 802.1Q interfaces (module 8021q)`,
      {},
      cause,
    )
  }
}

function configure(inner: Rtnl, ns: Netns, wire: WirePlan): void {
  const has6 = wire.addresses.some((address) => familyOf(address) === 6)
  const path = `net/ipv6/conf/${wire.ifname}/disable_ipv6`
  if (has6 && tryReadSysctl(path, ns) === '1') writeSysctl(path, '0', ns)
  const present = new Set(inner.addresses({ dev: wire.ifname }).map((a) => a.address))
  const steps: Step[] = wire.addresses
    .filter((address) => !present.has(address))
    .map((address) => ({ op: 'addr.add', addr: addressOn(wire.ifname, address) }))
  steps.push({ op: 'link.set', dev: wire.ifname, set: { up: true } })
  for (const gateway of wire.gateways)
    steps.push({ op: 'route.replace', route: { family: familyOf(gateway), dst: 'default', gateway, dev: wire.ifname } })
  inner.apply(steps)
}

function addressOn(dev: string, address: WireSpec['addresses'][number]): Address {
  const { ip, length } = splitPrefix(address)
  const broadcast = familyOf(ip) === 4 && length < 31 ? { broadcast: ipFromBigInt(4, cidrRange(subnetOf(address)).last) } : {}
  return { dev, address, scope: 'global', noDad: familyOf(ip) === 6, ...broadcast }
}

function describe(route: { readonly gateway?: Ip; readonly dev?: string }): string {
  return [route.gateway === undefined ? '' : `via ${route.gateway}`, route.dev === undefined ? '' : `dev ${route.dev}`]
    .filter((t) => t !== '')
    .join(' ')
}

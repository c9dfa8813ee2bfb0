/**
 * One namespace's links, addresses, neighbours and forwarding entries in memory: what overlay networks use of rtnetlink, with the kernel's
 * refusals. `test/kernel/fake-rtnl.test.ts` holds it against the real one. Routes and rules are not in it: their verbs throw.
 */
import type { Family, Mac } from '../src/base/address.ts'
import { splitPrefix } from '../src/base/address.ts'
import type { Rtnl } from '../src/kernel/types.ts'
import type { Address, FdbEntry, Link, LinkSettings, LinkSpec, Neighbour, PolicyRule, Route, Step } from '../src/model/kernel-state.ts'
import { kernelError } from '../src/sys/libc.ts'

const ENOENT = 2
const EEXIST = 17
const ENODEV = 19
const EOPNOTSUPP = 95
const EADDRNOTAVAIL = 99

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** What namespaces of one machine share. */
export interface FakeMachine {
  /** The namespace behind a descriptor; undefined: nobody looks at what is born there. */
  namespaceOf(fd: number): FakeRtnl | undefined
  /** VXLAN ids in use, as `<id> <port>`, and the device that has each. */
  readonly tunnels: Map<string, Mutable<Link>>
  nextMac(): Mac
}

export class FakeRtnl implements Rtnl {
  readonly #machine: FakeMachine
  readonly #links = new Map<string, Mutable<Link>>()
  readonly #addresses = new Map<string, Address>()
  readonly #neighbours = new Map<string, Neighbour>()
  readonly #fdb = new Map<string, FdbEntry>()
  #lastIndex = 0
  /** Steps that were applied. */
  steps = 0

  constructor(machine: FakeMachine) {
    this.#machine = machine
    this.#add({ name: 'lo', kind: '', loopback: true, mtu: 65536 })
  }

  links(kind?: string): Link[] {
    return [...this.#links.values()].filter((link) => kind === undefined || link.kind === kind).map((link) => ({ ...link }))
  }

  link(nameOrIndex: string | number): Link | undefined {
    const link = [...this.#links.values()].find(({ name, index }) => name === nameOrIndex || index === nameOrIndex)
    return link && { ...link }
  }

  indexOf = (name: string): number => this.#links.get(name)?.index ?? 0
  nameOf = (index: number): string => this.link(index)?.name ?? ''
  isRunning = (name: string): boolean => this.#links.get(name)?.up ?? false

  addresses({ dev, family }: { dev?: string; family?: Family } = {}): Address[] {
    const isOf = (a: Address) => family === undefined || splitPrefix(a.address).ip.includes(':') === (family === 6)
    return [...this.#addresses.values()].filter((a) => (dev === undefined || a.dev === dev) && isOf(a))
  }

  neighbours({ dev, family }: { dev?: string; family?: Family } = {}): Neighbour[] {
    const isOf = (n: Neighbour) => family === undefined || n.ip.includes(':') === (family === 6)
    return [...this.#neighbours.values()].filter((n) => (dev === undefined || n.dev === dev) && isOf(n))
  }

  fdb(dev: string): FdbEntry[] {
    return [...this.#fdb.values()].filter((f) => f.dev === dev)
  }

  routes(): Route[] {
    throw new Error('the fake has no routes')
  }

  routeTo(): Route {
    throw new Error('the fake has no routes')
  }

  rules(): PolicyRule[] {
    throw new Error('the fake has no rules')
  }

  apply(steps: readonly Step[]): void {
    for (const step of steps) {
      this.#apply(step)
      this.steps++
    }
  }

  async deleteGroupInBackground(group: number): Promise<void> {
    for (const { name } of this.links().filter((link) => link.group === group)) this.#delete(name)
  }

  async deleteLinksInBackground(names: readonly string[]): Promise<void> {
    for (const name of names) if (this.#links.has(name)) this.#delete(name)
  }

  close(): void {}

  /** The namespace ends. */
  end(): void {
    for (const name of [...this.#links.keys()]) this.#delete(name)
  }

  #apply(step: Step): void {
    switch (step.op) {
      case 'link.add':
        this.#addSpec(step.link)
        break
      case 'link.set':
        this.#set(this.#known(step.dev, step.op), step.set)
        break
      case 'link.delete':
        this.#known(step.dev, step.op)
        this.#delete(step.dev)
        break
      case 'addr.add':
      case 'addr.replace':
        this.#known(step.addr.dev, step.op)
        this.#refuse(step.op === 'addr.add' && this.#addresses.has(keyOf.addr(step.addr)), step.op, step.addr.address, EEXIST)
        this.#addresses.set(keyOf.addr(step.addr), { ...step.addr, permanent: true })
        break
      case 'addr.delete':
        this.#refuse(!this.#addresses.delete(keyOf.addr(step.addr)), step.op, step.addr.address, EADDRNOTAVAIL)
        break
      case 'neigh.replace':
        this.#known(step.neigh.dev, step.op)
        this.#neighbours.set(keyOf.neigh(step.neigh), step.neigh)
        break
      case 'neigh.delete':
        this.#refuse(!this.#neighbours.delete(keyOf.neigh(step.neigh)), step.op, step.neigh.ip, ENOENT)
        break
      case 'fdb.append':
      case 'fdb.replace':
        this.#setFdb(step.fdb, step.op)
        break
      case 'fdb.delete':
        this.#refuse(!this.#fdb.delete(keyOf.fdb(step.fdb)), step.op, step.fdb.mac, ENOENT)
        break
      default:
        throw new Error(`the fake has no ${step.op}`)
    }
  }

  /** A tunnel is born where its packets travel, and holds its id there wherever it lives. */
  #addSpec(spec: LinkSpec): void {
    const home = spec.netnsFd === undefined ? this : this.#machine.namespaceOf(spec.netnsFd)
    if (home === undefined) throw new Error(`no namespace has descriptor ${spec.netnsFd}`)
    this.#refuse(home.#links.has(spec.name), 'link.add', spec.name, EEXIST)
    const tunnel = spec.kind === 'vxlan' ? `${spec.vxlan.vni} ${spec.vxlan.port}` : ''
    this.#refuse(this.#machine.tunnels.has(tunnel), 'link.add', spec.name, EEXIST)
    const link = home.#add({ name: spec.name, kind: spec.kind, ...(spec.kind === 'vxlan' ? { vxlan: spec.vxlan } : {}) })
    if (tunnel !== '') this.#machine.tunnels.set(tunnel, link)
    if (spec.kind === 'veth') {
      const inner = spec.peer.netnsFd === undefined ? home : this.#machine.namespaceOf(spec.peer.netnsFd)
      const { name: _, netnsFd: __, ...settings } = spec.peer
      if (inner !== undefined) inner.#set(inner.#add({ name: spec.peer.name, kind: 'veth' }), settings)
    }
    home.#set(link, spec)
  }

  #add(link: Pick<Link, 'name' | 'kind'> & Partial<Link>): Mutable<Link> {
    const whole: Mutable<Link> = {
      index: ++this.#lastIndex,
      mac: this.#machine.nextMac(),
      mtu: 1500,
      up: false,
      running: false,
      loopback: false,
      master: 0,
      link: 0,
      group: 0,
      alias: '',
      txQueueLen: 1000,
      ...link,
    }
    this.#links.set(link.name, whole)
    return whole
  }

  #set(link: Mutable<Link>, { mtu, mac, up, master, alias, group, txQueueLen, port }: LinkSettings): void {
    if (mtu !== undefined) link.mtu = mtu
    if (mac !== undefined) link.mac = mac
    if (alias !== undefined) link.alias = alias
    if (group !== undefined) link.group = group
    if (txQueueLen !== undefined) link.txQueueLen = txQueueLen
    if (master !== undefined) this.#enslave(link, master)
    if (port !== undefined && link.port !== undefined) link.port = { ...link.port, ...port }
    if (up === false && link.up) this.#forget(({ dev }) => dev === link.name, { keepFdb: true })
    if (up !== undefined) link.up = up
    link.running = link.up
  }

  /** A bridge keeps the address of each of its ports. */
  #enslave(link: Mutable<Link>, master: string): void {
    link.master = master === '' ? 0 : this.#known(master, 'link.set').index
    for (const [key, f] of this.#fdb) if (f.dev === link.name && f.self !== true) this.#fdb.delete(key)
    delete link.port
    if (link.master === 0) return
    link.port = { isolated: false, hairpin: false, learning: true, neighSuppress: false, unicastFlood: true }
    if (link.mac !== '') this.#fdb.set(`${link.name} ${link.mac} port`, { dev: link.name, mac: link.mac, self: false, permanent: true })
  }

  #setFdb(fdb: FdbEntry, op: string): void {
    const link = this.#known(fdb.dev, op)
    this.#refuse(fdb.self !== true && link.master === 0, op, fdb.mac, EOPNOTSUPP)
    // one device's table has one end for a MAC, unless ends are appended; a bridge has one port for a MAC
    for (const [key, f] of this.#fdb) {
      if (f.mac !== fdb.mac || (f.self === true) !== (fdb.self === true)) continue
      const isSame = fdb.self === true ? op === 'fdb.replace' && f.dev === fdb.dev : this.#links.get(f.dev)?.master === link.master
      if (isSame) this.#fdb.delete(key)
    }
    this.#fdb.set(keyOf.fdb(fdb), { ...fdb, permanent: fdb.permanent ?? false })
  }

  #delete(name: string): void {
    const { index } = this.#links.get(name) as Link
    for (const link of this.#links.values()) if (link.master === index) this.#enslave(link, '')
    this.#forget(({ dev }) => dev === name, { keepFdb: false })
    for (const [key, a] of this.#addresses) if (a.dev === name) this.#addresses.delete(key)
    for (const [key, link] of this.#machine.tunnels) if (link === this.#links.get(name)) this.#machine.tunnels.delete(key)
    this.#links.delete(name)
  }

  #forget(isGone: (entry: { readonly dev: string }) => boolean, { keepFdb }: { keepFdb: boolean }): void {
    for (const [key, n] of this.#neighbours) if (isGone(n) && (!keepFdb || n.state !== 'permanent')) this.#neighbours.delete(key)
    if (!keepFdb) for (const [key, f] of this.#fdb) if (isGone(f)) this.#fdb.delete(key)
  }

  #known(dev: string, op: string): Mutable<Link> {
    const link = this.#links.get(dev)
    if (link === undefined) throw kernelError(op, dev, ENODEV)
    return link
  }

  #refuse(isRefused: boolean, op: string, subject: string, errno: number): void {
    if (isRefused) throw kernelError(op, subject, errno)
  }
}

const keyOf = {
  addr: (a: Address) => `${a.dev} ${a.address}`,
  neigh: (n: Neighbour) => `${n.dev} ${n.ip}`,
  fdb: (f: FdbEntry) => `${f.dev} ${f.mac} ${f.self === true ? (f.dst ?? 'self') : 'bridge'}`,
}

/**
 * Wires: interfaces that people plug into a container, or into any network namespace, by hand, beside its networks or instead of them
 * (`--network none`). They are state: listed, plugged in again when the container or the engine starts anew, gone with the container.
 */
import { messageOf, NetError } from '../../base/errors.ts'
import { hex } from '../../base/ids.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { Wire } from '../../model/own-answers.ts'
import type { Store } from '../../store/types.ts'
import { closeNetns, openNetns } from '../../sys/netns.ts'
import { WireKernel, type WirePlan } from './wire-kernel.ts'
import { parseWire, type WireAsk } from './wire-spec.ts'

/** A container as wires see it. */
export interface WiredContainer {
  readonly id: string
  readonly name: string
  /** Path of its network namespace, '' while it does not run. */
  readonly netns: string
}

/** Where a wire ends. A process's namespace is known by its number too: the pid may be somebody else's later. */
export type WireEnd =
  | { readonly kind: 'container'; readonly containerId: string }
  | { readonly kind: 'netns'; readonly path: string; readonly inode?: number }

export interface WireRecord extends WirePlan {
  readonly end: WireEnd
  readonly created: number
}

export interface WiresParts {
  readonly store: Store
  readonly rtnl: Rtnl
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** By name, id or the beginning of one. Throws `not-found` with Docker's text. */
  readonly container: (ref: string) => WiredContainer
  readonly findContainer: (id: string) => WiredContainer | undefined
}

const PREFIX = 'wire/'

export class Wires {
  readonly #parts: WiresParts
  readonly #kernel: WireKernel

  constructor(parts: WiresParts) {
    this.#parts = parts
    this.#kernel = new WireKernel(parts.rtnl, parts.clock)
  }

  list(): Wire[] {
    return this.#records().map((record) => this.#info(record))
  }

  /** Plugs a wire in. The container must run; everything is checked before anything is made. Throws `invalid`, `conflict`, `not-found`, `unavailable`. */
  add(ask: WireAsk): Wire {
    const spec = parseWire(ask)
    const end = this.#endOf(ask)
    const { path, place } = this.#placeOf(end)
    if (path === '') throw new NetError('conflict', `${place} is not running: start it first, then it is wired at every start`)
    const records = this.#records()
    for (const address of spec.addresses) {
      const other = records.find(
        (r) => r.bridge === spec.bridge && r.vlan === spec.vlan && r.addresses.some((a) => a.split('/')[0] === address.split('/')[0]),
      )
      if (other !== undefined) throw new NetError('conflict', `address ${address} is on wire ${other.id} already, on the same bridge`)
    }
    const ifname = this.#kernel.check(spec, path, place)
    const { rng, clock, store } = this.#parts
    const record: WireRecord = { ...spec, ifname, id: hex(rng.bytes(6)), hostIfname: this.#newName(), end, created: clock.now() }
    store.put(PREFIX + record.id, record)
    try {
      this.#kernel.plug(record, path, place)
    } catch (error) {
      store.remove(PREFIX + record.id)
      this.#kernel.dropBridge(record.bridge)
      throw error
    }
    return this.#info(record)
  }

  /** Takes a wire away; `ref` is its id or the beginning of it. Throws `not-found`, `invalid` when several match. */
  async remove(ref: string): Promise<void> {
    const matches = this.#records().filter((record) => ref !== '' && record.id.startsWith(ref))
    const [record] = matches
    if (record === undefined) throw new NetError('not-found', `No such wire: ${ref}`)
    if (matches.length > 1) throw new NetError('invalid', `${ref} is the beginning of ${matches.length} wires: give more of the id`)
    await this.#drop([record])
  }

  /** The container runs (again): its wires are plugged in. Errors are logged: the container runs without that wire. */
  containerStarted(containerId: string): void {
    for (const record of this.#records())
      if (record.end.kind === 'container' && record.end.containerId === containerId) this.#tryPlug(record)
  }

  /** The container has ended; its namespace may live on with others in it. */
  async containerStopped(containerId: string): Promise<void> {
    await this.#kernel.unplug(this.#of(containerId).map((record) => record.hostIfname))
  }

  async containerRemoved(containerId: string): Promise<void> {
    await this.#drop(this.#of(containerId))
  }

  /** After a start of the engine: what is missing is plugged in again, what has no owner any more is taken away. */
  async restore(): Promise<void> {
    const { findContainer, log } = this.#parts
    const gone: WireRecord[] = []
    for (const record of this.#records()) {
      const { end } = record
      if (end.kind === 'container' ? findContainer(end.containerId) === undefined : this.#isOver(end)) gone.push(record)
      else this.#tryPlug(record)
    }
    await this.#drop(gone)
    const known = new Set(this.#records().map((record) => record.id))
    const strays = [...this.#kernel.marked()].filter(([id]) => !known.has(id)).map(([, name]) => name)
    if (strays.length > 0) log.info('removing wires left by a crash', { links: strays })
    await this.#kernel.unplug(strays)
  }

  /** Takes every wire out of the kernel and keeps the records: for the end of the engine when nothing runs any more. */
  async unplugAll(): Promise<void> {
    const records = this.#records().filter((record) => record.end.kind === 'container')
    await this.#kernel.unplug(records.map((record) => record.hostIfname))
    for (const bridge of new Set(records.map((record) => record.bridge))) this.#kernel.dropBridge(bridge)
  }

  #records(): WireRecord[] {
    return this.#parts.store
      .list<WireRecord>(PREFIX)
      .map(([, record]) => record)
      .sort((a, b) => a.created - b.created)
  }

  #of(containerId: string): WireRecord[] {
    return this.#records().filter(({ end }) => end.kind === 'container' && end.containerId === containerId)
  }

  #tryPlug(record: WireRecord): void {
    const { path, place } = this.#placeOf(record.end)
    if (path === '') return
    try {
      this.#kernel.plug(record, path, place)
    } catch (error) {
      this.#parts.log.error(`cannot plug wire ${record.id} into ${place}`, { error: messageOf(error) })
    }
  }

  async #drop(records: readonly WireRecord[]): Promise<void> {
    if (records.length === 0) return
    for (const record of records) this.#parts.store.remove(PREFIX + record.id)
    await this.#kernel.unplug(records.map((record) => record.hostIfname))
    const left = new Set(this.#records().map((record) => record.bridge))
    for (const bridge of new Set(records.map((record) => record.bridge))) if (!left.has(bridge)) this.#kernel.dropBridge(bridge)
  }

  #endOf(ask: WireAsk): WireEnd {
    const given = [ask.container, ask.netns, ask.pid].filter((x) => x !== undefined && x !== '')
    if (given.length !== 1) throw new NetError('invalid', 'a wire needs one end: a container, --netns PATH or --pid PID')
    if (ask.container !== undefined && ask.container !== '')
      return { kind: 'container', containerId: this.#parts.container(ask.container).id }
    if (ask.pid === undefined) {
      const path = ask.netns ?? ''
      if (!path.startsWith('/')) throw new NetError('invalid', `invalid namespace "${path}": expected an absolute path`)
      return { kind: 'netns', path }
    }
    if (!Number.isInteger(ask.pid) || ask.pid < 1) throw new NetError('invalid', `invalid pid ${ask.pid}`)
    const path = `/proc/${ask.pid}/ns/net`
    const inode = inodeOf(path)
    if (inode === undefined) throw new NetError('not-found', `there is no process ${ask.pid}`)
    return { kind: 'netns', path, inode }
  }

  /** `path` is '' for a container that does not run. */
  #placeOf(end: WireEnd): { path: string; place: string } {
    if (end.kind === 'netns') return { path: end.path, place: `namespace ${end.path}` }
    const container = this.#parts.findContainer(end.containerId)
    return { path: container?.netns ?? '', place: `container ${container?.name ?? end.containerId.slice(0, 12)}` }
  }

  /** The namespace is not there any more, or not the one it was. */
  #isOver(end: Extract<WireEnd, { kind: 'netns' }>): boolean {
    const inode = inodeOf(end.path)
    return inode === undefined || (end.inode !== undefined && end.inode !== inode)
  }

  #newName(): string {
    const { rng, rtnl } = this.#parts
    for (;;) {
      const name = `veth${hex(rng.bytes(4)).slice(0, 7)}`
      if (rtnl.indexOf(name) === 0) return name
    }
  }

  #info(record: WireRecord): Wire {
    const { end } = record
    const container = end.kind === 'container' ? this.#parts.findContainer(end.containerId) : undefined
    const { path } = this.#placeOf(end)
    const isUp = this.#kernel.isPlugged(record.hostIfname)
    const without = end.kind === 'container' ? (path === '' ? 'waiting' : 'down') : this.#isOver(end) ? 'gone' : 'down'
    return {
      id: record.id,
      container: container?.name ?? '',
      containerId: container?.id ?? '',
      netns: path,
      bridge: record.bridge,
      hostInterface: record.hostIfname,
      interface: record.ifname,
      addresses: record.addresses,
      gateways: record.gateways,
      mac: record.mac,
      vlan: record.vlan,
      state: isUp ? 'up' : without,
    }
  }
}

function inodeOf(path: string): number | undefined {
  try {
    const ns = openNetns(path)
    closeNetns(ns)
    return ns.inode
  } catch {
    return undefined // that it is not there is the answer
  }
}

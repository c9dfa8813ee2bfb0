/**
 * Paths from this host to the others: probed when a member appears and when `cluster verify` asks. A bad one is named in the log and
 * looked at again until it is good; the smallest one decides how large the packets of new containers may be.
 */
import { familyOf, type Ip } from '../../base/address.ts'
import { messageOf } from '../../base/errors.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import type { Reactor } from '../../sys/reactor.ts'
import { openUdpProbe, type UdpProbeSocket } from '../../sys/udp-probe.ts'
import { PROBE_VNI } from '../../wire/path-probe.ts'
import type { ClusterHost, ClusterView } from '../model.ts'
import { Prober } from './prober.ts'

/** A member that appears is probed after this, by chance up to twice as late and later in large clusters: all others do the same. */
const APPEAR_MS = 300
const APPEAR_PER_HOST_MS = 10
/** A bad path is looked at again after this, and then with growing pauses. */
const AGAIN_MS = 2_000
const LONGEST_PAUSE_MS = 60_000
/** RFC 791: a path that carries less is not one. */
const LEAST_MTU = 576

/** What one host has found about its paths: host ids and bytes of IP packets. */
export interface PathReport {
  /** Largest packet that is answered, by the host it was sent to; 0 = none. */
  readonly sent: Readonly<Record<string, number>>
  /** Largest packet that has come, by the host it came from; 0 = none. */
  readonly heard: Readonly<Record<string, number>>
  /** Largest tunnel packet that containers running here can make; 0 = there are none. */
  readonly need: number
}

export interface PathsOptions {
  readonly view: ClusterView
  /** The advertised address. */
  readonly source: Ip
  readonly port: number
  /** Of the interface with that address; 0 = unknown. */
  readonly mtu: () => number
  readonly need: () => number
  readonly reactor: Reactor
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** {@link Paths.smallest} has changed. */
  readonly onSmallest: () => void
}

export class Paths {
  readonly #o: PathsOptions
  readonly #prober: Prober
  readonly #socket: UdpProbeSocket | undefined
  readonly #unsubscribe: () => void
  readonly #closers: (() => void)[] = []
  /** How each member was when it was last probed. */
  readonly #seen = new Map<string, string>()
  readonly #timers = new Map<string, () => void>()
  readonly #results = new Map<string, number>()
  readonly #badText = new Map<string, string>()

  constructor(options: PathsOptions) {
    this.#o = options
    const { view, source, port, reactor, clock, rng, log } = options
    try {
      this.#socket = openUdpProbe(source, port, (PROBE_VNI << 8) >>> 0)
    } catch (error) {
      log.warn('paths between hosts cannot be probed', { error: messageOf(error) })
    }
    const socket = this.#socket
    this.#prober = new Prober({
      hostId: view.hostId,
      source,
      port,
      mtu: () => this.#most(),
      addressOf: (id) => view.host(id)?.address,
      send: (to, datagram) => socket?.send(to, datagram) ?? false,
      clock,
      rng,
    })
    if (socket !== undefined) {
      const receive = (packets: Uint8Array[]) => {
        for (const packet of packets) this.#prober.receive(socket.datagram(packet))
      }
      const subscription = reactor.onPackets(socket.fd, receive, (why) => log.warn('paths between hosts are probed no longer', { why }))
      this.#closers.push(
        () => subscription.close(),
        () => socket.close(),
      )
    }
    this.#unsubscribe = view.onChange((change) => {
      if (change.kind === 'host') this.#noticed(change.hostId)
    })
    for (const { id } of view.hosts()) this.#noticed(id)
  }

  /** MTU of the smallest path to a member that is up, the own interface included; 0 = unknown. A path that carries nothing does not count. */
  smallest(): number {
    const { view, mtu } = this.#o
    const found = [...this.#results].filter(([id, size]) => size >= LEAST_MTU && view.host(id)?.state === 'up').map(([, size]) => size)
    const own = mtu()
    return own === 0 && found.length === 0 ? 0 : Math.min(...(own === 0 ? [] : [own]), ...found)
  }

  /** Probes all members that are up, all of them doing the same under this number (not 0). Undefined when this host cannot. */
  async survey(survey: number): Promise<PathReport | undefined> {
    if (this.#socket === undefined) return undefined
    const peers = this.#peers()
    const sent: Record<string, number> = {}
    const heard: Record<string, number> = {}
    await Promise.all(
      peers.map(async ({ id }) => {
        sent[id] = await this.#prober.probe(id, survey)
      }),
    )
    for (const host of peers) {
      this.#judge(host, sent[host.id] ?? 0)
      heard[host.id] = this.#prober.heardFrom(host.id, survey)
    }
    return { sent, heard, need: this.#o.need() }
  }

  close(): void {
    this.#unsubscribe()
    for (const cancel of this.#timers.values()) cancel()
    this.#timers.clear()
    for (const close of this.#closers.splice(0)) close()
  }

  #most(): number {
    return Math.min(this.#o.mtu() || 1500, 65535)
  }

  #peers(): ClusterHost[] {
    const { view, source } = this.#o
    return view.hosts().filter(({ id, state, address }) => id !== view.hostId && state === 'up' && familyOf(address) === familyOf(source))
  }

  #noticed(hostId: string): void {
    const { view, rng } = this.#o
    if (hostId === view.hostId || this.#socket === undefined) return
    const host = view.host(hostId)
    const now = host === undefined ? '' : `${host.state} ${host.instance} ${host.address}`
    if (this.#seen.get(hostId) === now) return
    this.#seen.set(hostId, now)
    this.#timers.get(hostId)?.()
    this.#timers.delete(hostId)
    if (host?.state !== 'up') {
      this.#prober.forget(hostId)
      this.#badText.delete(hostId)
      if (this.#results.delete(hostId)) this.#o.onSmallest()
      if (host === undefined) this.#seen.delete(hostId)
      return
    }
    const chance = (rng.bytes(1)[0] ?? 0) / 256
    this.#later(hostId, (APPEAR_MS + view.hosts().length * APPEAR_PER_HOST_MS) * (1 + chance), AGAIN_MS)
  }

  #later(hostId: string, ms: number, pause: number): void {
    const cancel = this.#o.clock.after(ms, () => {
      this.#timers.delete(hostId)
      void this.#probe(hostId, pause)
    })
    this.#timers.set(hostId, cancel)
  }

  async #probe(hostId: string, pause: number): Promise<void> {
    const isFirst = pause === AGAIN_MS
    const size = await this.#prober.probe(hostId)
    const host = this.#o.view.host(hostId)
    if (host?.state !== 'up' || this.#timers.has(hostId)) return
    const isGood = size >= this.#most()
    // the other engine may not know this one yet, or a packet may have been lost: only what is seen twice counts
    if (isGood || !isFirst) this.#judge(host, size)
    if (!isGood) this.#later(hostId, pause, Math.min(pause * 2, LONGEST_PAUSE_MS))
  }

  #judge(host: ClusterHost, size: number): void {
    const { log, onSmallest } = this.#o
    const before = this.smallest()
    this.#results.set(host.id, size)
    const bad = this.#complaint(host, size)
    const said = this.#badText.get(host.id)
    if (bad !== said) {
      if (bad !== undefined) log.warn(bad, { host: host.name, address: host.address })
      else log.info('the path to a host is good again', { host: host.name, address: host.address, mtu: size })
      if (bad === undefined) this.#badText.delete(host.id)
      else this.#badText.set(host.id, bad)
    }
    if (this.smallest() !== before) onSmallest()
  }

  #complaint(host: ClusterHost, size: number): string | undefined {
    const { port } = this.#o
    if (size === 0)
      return `UDP port ${port} does not pass between this host and ${host.name}: open it in the firewalls between them; "causeway cluster verify" says in which direction`
    if (size < Math.min(this.#most(), host.mtu || this.#most()))
      return `the path to ${host.name} carries packets of ${size} bytes, this host's interface ${this.#most()}: containers started from now on keep to it, those that run have to be restarted`
    return undefined
  }
}

/** MTU that all hosts can send to each other with: the smallest of what members say; 0 = nobody says. Hosts that are down still have containers. */
export function agreedMtu(hosts: readonly Pick<ClusterHost, 'mtu' | 'state'>[], own: number): number {
  const said = hosts.flatMap(({ mtu, state }) => (state === 'evicted' || mtu === 0 ? [] : [mtu]))
  if (own !== 0) said.push(own)
  return said.length === 0 ? 0 : Math.min(...said)
}

/**
 * Publishes container ports on host addresses: chooses host ports, really binds them, and says which firewall elements carry
 * them. Everything is synchronous; on failure nothing stays bound.
 */
import { familyOf, type Ip, parseIp, tryParseIp } from '../base/address.ts'
import { isErrno, NetError } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { PortBinding, PortRequest, Proto } from '../model/endpoint.ts'
import { close } from '../sys/libc.ts'
import { pause } from '../sys/pause.ts'
import { type HeldPort, holdPort, releasePort } from '../sys/port-hold.ts'
import { coalesce, PortTable } from './port-table.ts'
import { type Readiness, type Relay, relayTcp, relayUdp } from './relay.ts'

/** Where published ports of a sandbox lead: its gateway endpoint. */
export interface PublishTarget {
  readonly holder: string
  readonly holderName: string
  readonly ipv4: Ip | ''
  readonly ipv6: Ip | ''
  /** Default host address of the network when a request names none. */
  readonly defaultIpv4: Ip | undefined
  readonly routed4: boolean
  readonly routed6: boolean
  /** Somebody else holds the ports (a CNI runtime does that itself): they are forwarded and not bound. */
  readonly unheld?: boolean
}

/** Who else on this host holds a port: for messages, and for ranges that are not bound one by one. */
export interface SocketTable {
  /** Lowest port in [first, last] in use on an overlapping address and who has it (`''`, 0: nobody does any more), or undefined. */
  findUse(proto: Proto, ip: Ip, first: number, last: number): { port: number; program: string; pid: number } | undefined
}

interface Held {
  readonly held: HeldPort
  readonly relay: Relay | undefined
}

const ANY4 = parseIp('0.0.0.0')
const ANY6 = parseIp('::')
const EPHEMERAL_TRIES = 1000
/** How long a socket that a relay has closed may live on, and how often it is looked at. */
const LINGER_MS = 200
const LINGER_PAUSE_MS = 2

export class PortMapper {
  readonly #table = new PortTable()
  readonly #held = new Map<string, Held>()
  readonly #last = new Map<string, number>()
  /** When relays gave back their port, by protocol and port; the last {@link LINGER_MS} only. */
  readonly #relayed = new Map<string, number>()
  readonly #sockets: SocketTable
  readonly #ephemeral: () => { first: number; last: number }
  readonly #clock: Clock
  readonly #log: Logger
  readonly #reactor: Readiness
  readonly #names = new Map<string, string>()

  constructor(options: {
    sockets: SocketTable
    ephemeral: () => { first: number; last: number }
    clock: Clock
    log: Logger
    reactor: Readiness
  }) {
    this.#sockets = options.sockets
    this.#ephemeral = options.ephemeral
    this.#clock = options.clock
    this.#log = options.log
    this.#reactor = options.reactor
  }

  /** Publishes all requests or none. Throws Docker's texts (`Bind for … failed: port is already allocated`, …). */
  publish(target: PublishTarget, requests: readonly PortRequest[]): PortBinding[] {
    const done: PortBinding[] = []
    this.#names.set(target.holder, target.holderName)
    try {
      for (const { request, count } of coalesce(requests)) done.push(...this.#publishOne(target, request, count))
    } catch (error) {
      this.withdraw(target.holder, done)
      throw error
    }
    return done
  }

  /** Re-takes bindings of a container that outlived the engine. A port lost to somebody else is logged, its rules stay. */
  restore(target: PublishTarget, bindings: readonly PortBinding[]): void {
    this.#names.set(target.holder, target.holderName)
    for (const binding of bindings) {
      this.#table.add(binding, target.holder)
      try {
        this.#hold(target, binding)
      } catch (error) {
        this.#log.warn('published port is held by somebody else', { port: describe(binding), error: String(error) })
      }
    }
  }

  /** A sandbox has gone: nothing of it stays behind. Idempotent. */
  forget(holder: string): void {
    this.#names.delete(holder)
  }

  /** What is left of an interval that was withdrawn stays taken. */
  keep(holder: string, bindings: readonly PortBinding[]): void {
    for (const binding of bindings) this.#table.add(binding, holder)
  }

  /** Releases bindings. Idempotent. */
  withdraw(holder: string, bindings: readonly PortBinding[]): void {
    for (const binding of bindings) {
      this.#table.remove(binding, holder)
      const key = keyOf(holder, binding)
      const held = this.#held.get(key)
      if (held === undefined) continue
      this.#held.delete(key)
      if (held.relay) this.#closeRelay(held.relay, binding)
      else releasePort(held.held)
    }
  }

  #closeRelay(relay: Relay, { proto, hostPort }: PortBinding): void {
    relay.close()
    const now = this.#clock.now()
    for (const [key, at] of this.#relayed) if (now - at > LINGER_MS) this.#relayed.delete(key)
    this.#relayed.set(`${proto} ${hostPort}`, now)
  }

  /**
   * A relay's socket that was closed a moment ago may still be bound: the reactor closes its duplicate when its thread comes to it, and
   * whoever waits on a socket in epoll has it for as long as he looks (fs/eventpoll.c, epi_fget). Nobody or we ourselves own it then, and
   * it is waited for; what another program holds is refused at once.
   */
  #bind({ proto, hostIp, hostPort }: PortBinding, accepting: boolean): HeldPort {
    const until = (this.#relayed.get(`${proto} ${hostPort}`) ?? Number.NEGATIVE_INFINITY) + LINGER_MS
    for (;;) {
      try {
        return holdPort(proto, hostIp, hostPort, accepting)
      } catch (error) {
        if (!isErrno(error, 'EADDRINUSE') || this.#clock.now() > until) throw error
        const owner = this.#sockets.findUse(proto, hostIp, hostPort, hostPort)
        if (owner?.program && owner.pid !== process.pid) throw error
        pause(LINGER_PAUSE_MS)
      }
    }
  }

  #publishOne(target: PublishTarget, request: PortRequest, count: number): PortBinding[] {
    const addresses = this.#addresses(target, request)
    const bindings = (port: number): PortBinding[] =>
      addresses.map((hostIp) => ({ proto: request.proto, containerPort: request.containerPort, hostIp, hostPort: port, count }))
    const routed = (b: PortBinding) => (familyOf(b.hostIp) === 4 ? target.routed4 : target.routed6)
    if (addresses.length > 0 && bindings(0).every(routed)) return bindings(0)

    const tryPort = (port: number): PortBinding[] => {
      const taken: PortBinding[] = []
      try {
        for (const binding of bindings(port)) {
          if (routed(binding)) {
            taken.push({ ...binding, hostPort: 0 })
            continue
          }
          this.#take(target, binding)
          taken.push(binding)
        }
        return taken
      } catch (error) {
        this.withdraw(target.holder, taken)
        throw error
      }
    }

    if (request.hostPort !== 0 && request.hostPort === request.hostPortEnd) return tryPort(request.hostPort)
    const range = request.hostPort === 0 ? this.#ephemeral() : { first: request.hostPort, last: request.hostPortEnd }
    const size = range.last - range.first + 1
    const lastKey = `${request.proto} ${range.first}`
    const start = request.hostPort === 0 ? (this.#last.get(lastKey) ?? range.first - 1) + 1 : range.first
    for (let i = 0; i < Math.min(size, EPHEMERAL_TRIES); i++) {
      const port = range.first + ((start - range.first + i) % size)
      try {
        const result = tryPort(port)
        if (request.hostPort === 0) this.#last.set(lastKey, port)
        return result
      } catch (error) {
        if (!(error instanceof NetError) || error.detail.op !== 'publish') throw error
      }
    }
    throw new NetError('internal', `all ports are allocated`)
  }

  #addresses(target: PublishTarget, request: PortRequest): Ip[] {
    if (request.hostIp !== '') {
      const ip = tryParseIp(request.hostIp)
      if (ip === undefined) throw new NetError('invalid', `invalid IP address in port mapping: ${request.hostIp}`)
      return [ip]
    }
    if (target.defaultIpv4 !== undefined && target.defaultIpv4 !== ANY4) return [target.defaultIpv4]
    if (target.ipv4 === '') return [ANY6]
    if (target.unheld && target.ipv6 === '') return [ANY4] // IPv6 to an IPv4 container takes a relay, which needs the port
    return [ANY4, ANY6]
  }

  #take(target: PublishTarget, binding: PortBinding): void {
    const last = binding.hostPort + binding.count - 1
    const shown = familyOf(binding.hostIp) === 6 ? `[${binding.hostIp}]` : binding.hostIp
    const fail = (text: string) => new NetError('internal', text, { op: 'publish', subject: describe(binding) })
    const own = this.#table.holderOf(binding.proto, binding.hostIp, binding.hostPort, last)
    if (own !== undefined) {
      const name = this.#names.get(own.holder)
      throw fail(`Bind for ${shown}:${own.port} failed: port is already allocated${name ? ` (by container "${name}")` : ''}`)
    }
    if (binding.count > 1 && !target.unheld) {
      const use = this.#sockets.findUse(binding.proto, binding.hostIp, binding.hostPort, last)
      if (use) throw fail(`failed to bind host port ${shown}:${use.port}/${binding.proto}: address already in use${by(use.program)}`)
    }
    this.#table.add(binding, target.holder)
    try {
      this.#hold(target, binding)
    } catch (error) {
      this.#table.remove(binding, target.holder)
      if (isErrno(error, 'EADDRINUSE')) {
        const use = this.#sockets.findUse(binding.proto, binding.hostIp, binding.hostPort, last)
        throw fail(`failed to bind host port ${shown}:${binding.hostPort}/${binding.proto}: address already in use${by(use?.program)}`)
      }
      if (isErrno(error, 'EADDRNOTAVAIL'))
        throw fail(`failed to bind host port ${shown}:${binding.hostPort}/${binding.proto}: cannot assign requested address`)
      throw error
    }
  }

  #hold(target: PublishTarget, binding: PortBinding): void {
    if (binding.count > 1 || binding.hostPort === 0 || target.unheld) return
    const v6 = familyOf(binding.hostIp) === 6
    const noKernelPath = v6 && (target.ipv6 === '' || binding.hostIp === '::1' || binding.hostIp === ANY6)
    const relayed = noKernelPath && binding.proto !== 'sctp'
    const held = this.#bind(binding, relayed)
    let relay: Relay | undefined
    if (relayed) {
      const to = { ip: (target.ipv6 === '' ? target.ipv4 : target.ipv6) as Ip, port: binding.containerPort }
      try {
        relay = binding.proto === 'tcp' ? relayTcp(held.fd, to) : relayUdp(held.fd, to, this.#clock, this.#reactor)
      } catch (error) {
        close(held.fd)
        throw error
      }
    }
    this.#held.set(keyOf(target.holder, binding), { held, relay })
  }
}

const by = (program: string | undefined) => (program ? ` (by ${program})` : '')
const keyOf = (holder: string, b: PortBinding) => `${holder} ${b.proto} ${b.hostIp} ${b.hostPort}`

/** `0.0.0.0:8080->80/tcp` */
export function describe(b: PortBinding): string {
  const ip = familyOf(b.hostIp) === 6 ? `[${b.hostIp}]` : b.hostIp
  const range = (first: number) => (b.count > 1 ? `${first}-${first + b.count - 1}` : `${first}`)
  return `${ip}:${range(b.hostPort)}->${range(b.containerPort)}/${b.proto}`
}

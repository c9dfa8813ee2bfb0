/**
 * Lines to the LAN for DHCP clients: one tap for each interface, open while somebody waits for an answer there, so that an idle lease
 * costs nothing and the interface is promiscuous for moments only.
 */
import { NetError } from '../../base/errors.ts'
import type { Logger } from '../../base/ports.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { Netns } from '../../sys/netns.ts'
import { openPacketTap, type PacketTap, udpPortFilter } from '../../sys/packet-tap.ts'
import type { Reactor, Subscription } from '../../sys/reactor.ts'
import { DHCP_CLIENT_PORT } from '../../wire/dhcp.ts'
import type { Line } from './client.ts'

interface OpenTap {
  readonly ifindex: number
  readonly tap: PacketTap
  readonly subscription: Subscription
  readonly receivers: Set<(frame: Uint8Array) => void>
}

export class Lines {
  readonly #parts: { rtnl: Rtnl; reactor: Reactor; ns: Netns; log: Logger }
  /** By interface. */
  readonly #open = new Map<string, OpenTap>()
  /** Taps whose descriptors are open: a descriptor is closed once. */
  readonly #live = new Set<OpenTap>()

  constructor(parts: { rtnl: Rtnl; reactor: Reactor; ns: Netns; log: Logger }) {
    this.#parts = parts
  }

  /** A line on `dev`; what comes in is given to `receive` until it is released. Throws `not-found` or `unavailable` when it cannot be used. */
  open(dev: string, receive: (frame: Uint8Array) => void): Line {
    const { rtnl } = this.#parts
    const link = rtnl.link(dev)
    if (link === undefined) throw new NetError('not-found', `there is no interface ${dev} to ask for addresses on`, { subject: dev })
    if (!link.up) throw new NetError('unavailable', `interface ${dev} is down: no DHCP server can be asked on it`, { subject: dev })
    const open = this.#tap(dev, link.index)
    open.receivers.add(receive)
    return {
      send: (frame) => {
        if (!this.#live.has(open)) throw new NetError('unavailable', `the line on interface ${dev} was cut`, { subject: dev })
        open.tap.send(frame)
      },
      release: () => {
        open.receivers.delete(receive)
        if (open.receivers.size === 0) this.#close(dev, open)
      },
    }
  }

  close(): void {
    this.#open.clear()
    for (const open of [...this.#live]) this.#close('', open)
  }

  #tap(dev: string, ifindex: number): OpenTap {
    const there = this.#open.get(dev)
    if (there?.ifindex === ifindex) return there
    const { reactor, ns, log } = this.#parts
    const tap = openPacketTap(ns, ifindex, udpPortFilter(DHCP_CLIENT_PORT))
    const receivers = new Set<(frame: Uint8Array) => void>()
    const subscription = reactor.onPackets(
      tap.fd,
      (frames) => {
        for (const frame of frames) for (const receive of [...receivers]) receive(frame)
      },
      (why) => {
        // ENETDOWN when the link goes down or away: whoever asks next opens another tap
        log.debug('the line to DHCP servers was cut', { interface: dev, why })
        this.#close(dev, open)
      },
    )
    const open: OpenTap = { ifindex, tap, subscription, receivers }
    this.#open.set(dev, open)
    this.#live.add(open)
    return open
  }

  #close(dev: string, open: OpenTap): void {
    if (this.#open.get(dev) === open) this.#open.delete(dev)
    if (!this.#live.delete(open)) return
    open.subscription.close()
    open.tap.close()
  }
}

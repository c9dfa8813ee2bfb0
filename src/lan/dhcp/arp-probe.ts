/**
 * Asks the LAN whether somebody has an address before a container gets it: a server may not know of machines that were configured by
 * hand. RFC 5227 wants three questions in several seconds; two in a third of one find whoever is awake and cost a start little.
 */
import type { Ip, Mac } from '../../base/address.ts'
import { messageOf } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { Netns } from '../../sys/netns.ts'
import { arpFilter, openPacketTap } from '../../sys/packet-tap.ts'
import type { Reactor } from '../../sys/reactor.ts'
import { decodeArpSender, encodeArpProbe } from '../../wire/arp.ts'

const WAIT_MS = 300
const SECOND_MS = 120

export interface ProbeParts {
  readonly rtnl: Rtnl
  readonly reactor: Reactor
  readonly ns: Netns
  readonly clock: Clock
  readonly log: Logger
}

/**
 * The MAC of a machine on the LAN of `dev` that has `ip`, or undefined when nobody says so. `mac` asks, and is not taken for somebody
 * else. An interface that cannot be asked on knows of nobody. Never rejects.
 */
export function ownerOnLan(parts: ProbeParts, dev: string, mac: Mac, ip: Ip): Promise<Mac | undefined> {
  const { rtnl, reactor, ns, clock, log } = parts
  return new Promise((resolve) => {
    const cleanups: (() => void)[] = []
    const finish = (owner: Mac | undefined) => {
      for (const cleanup of cleanups.splice(0)) cleanup()
      resolve(owner)
    }
    try {
      const link = rtnl.link(dev)
      if (link === undefined) return finish(undefined)
      const tap = openPacketTap(ns, link.index, arpFilter())
      cleanups.push(() => tap.close())
      const subscription = reactor.onPackets(
        tap.fd,
        (frames) => {
          const owner = frames.map(decodeArpSender).find((sender) => sender?.ip === ip && sender.mac !== mac)
          if (owner !== undefined) finish(owner.mac)
        },
        () => finish(undefined),
      )
      cleanups.unshift(() => subscription.close())
      const probe = encodeArpProbe(mac, ip)
      tap.send(probe)
      cleanups.push(clock.after(SECOND_MS, () => sendQuietly(() => tap.send(probe))))
      cleanups.push(clock.after(WAIT_MS, () => finish(undefined)))
    } catch (error) {
      log.debug('nobody can be asked for an address now', { interface: dev, ip, error: messageOf(error) })
      finish(undefined)
    }
  })
}

/** The first question may have found the link up and the second not: then the first was all. */
function sendQuietly(send: () => void): void {
  try {
    send()
  } catch {
    // the tap reports its end itself
  }
}

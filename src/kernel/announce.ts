/** Tells the neighbours where an address lives now: first message within milliseconds, the others later, as Docker does. */
import type { Ip, Mac } from '../base/address.ts'
import type { Clock } from '../base/ports.ts'
import type { Netns } from '../sys/netns.ts'
import { type FrameSender, openFrameSender } from '../sys/packet-socket.ts'
import { encodeGratuitousArp, encodeUnsolicitedNa } from '../wire/announce.ts'
import type { Rtnl } from './types.ts'

export interface Announcement {
  readonly ifname: string
  readonly mac: Mac | ''
  readonly ips: readonly Ip[]
  readonly count: number
  readonly intervalMs: number
}

/** A bridge port learns of its carrier from a kernel worker, a moment after the link came up; until then it drops what it receives. */
const FIRST_WAIT_MS = 1
const READY_WITHIN_MS = 200

/**
 * Announces all addresses of freshly configured interfaces. Failing to announce is never an error of the attachment.
 * `isReady` says whether the other end of the link passes frames on already; the first message waits for it, at most 200 ms.
 */
export function announce(
  kernel: { ns: Netns; rtnl: Rtnl },
  list: readonly Announcement[],
  clock: Clock,
  isReady: () => boolean = () => true,
): void {
  const due = list.filter((a) => a.count > 0 && a.mac !== '' && a.ips.length > 0)
  if (due.length === 0) return
  let sender: FrameSender | undefined
  try {
    const frames: { ifindex: number; frame: Uint8Array }[] = []
    for (const { ifname, mac, ips } of due) {
      const ifindex = kernel.rtnl.indexOf(ifname)
      if (ifindex === 0 || mac === '') continue
      for (const ip of ips) frames.push({ ifindex, frame: ip.includes(':') ? encodeUnsolicitedNa(mac, ip) : encodeGratuitousArp(mac, ip) })
    }
    sender = openFrameSender(kernel.ns)
    const socket = sender
    const sendAll = () => {
      for (const { ifindex, frame } of frames) socket.send(ifindex, frame)
    }
    let left = Math.max(...due.map((a) => a.count))
    const again = () => {
      sendAll()
      if (--left > 0) clock.after(due[0]?.intervalMs ?? 1000, again)
      else socket.close()
    }
    const ready = () => {
      try {
        return isReady()
      } catch {
        return true // the engine stops
      }
    }
    const whenReady = (wait: number) => {
      if (wait > READY_WITHIN_MS || ready()) again()
      else clock.after(wait, () => whenReady(wait * 2))
    }
    // a broadcast walks through every port of the bridge before it returns: whoever waits for the attachment need not wait for that
    clock.after(0, () => whenReady(FIRST_WAIT_MS))
  } catch {
    sender?.close()
  }
}

/** Raw Ethernet frames out of an interface of some namespace (AF_PACKET). Sending only. */
import { AF_PACKET, closeSoon, errno, kernelError, raw, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW } from './libc.ts'
import { inNetns, type Netns } from './netns.ts'

export interface FrameSender {
  /** Sends a whole frame, Ethernet header included. A link that is down or gone drops it silently. */
  send(ifindex: number, frame: Uint8Array): void
  close(): void
}

/** Opens a sender inside `ns`. The descriptor keeps the namespace alive until it is closed. */
export function openFrameSender(ns: Netns): FrameSender {
  // protocol 0: the socket receives nothing
  const fd = inNetns(ns, () => raw.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) as number)
  if (fd < 0) throw kernelError('open packet socket in', ns.path, errno())
  return {
    send(ifindex, frame) {
      const address = new Uint8Array(20)
      const view = new DataView(address.buffer)
      view.setUint16(0, AF_PACKET, true)
      view.setInt32(4, ifindex, true)
      raw.sendto(fd, frame, frame.length, 0, address, address.length)
    },
    close() {
      closeSoon(fd) // packet_release() waits for an RCU grace period
    },
  }
}

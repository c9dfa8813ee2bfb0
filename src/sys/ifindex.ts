/**
 * Names and indexes of links, asked through any netlink socket: it passes interface ioctls on to its own namespace
 * (net/socket.c sock_do_ioctl). Takes no lock in the kernel and about a microsecond.
 */
import { raw } from './libc.ts'

const SIOCGIFNAME = 0x8910
const SIOCGIFINDEX = 0x8933
const SIOCGIFFLAGS = 0x8913
const IFF_RUNNING = 0x40
const IFNAMSIZ = 16
const IFREQ_BYTES = 40

/** Index of the link of this name (or altname up to 15 bytes) in the socket's namespace; 0 when there is none. */
export function indexOfLink(fd: number, name: string): number {
  const bytes = Buffer.from(name)
  if (bytes.length === 0 || bytes.length >= IFNAMSIZ) return 0
  const ifreq = new Uint8Array(IFREQ_BYTES)
  ifreq.set(bytes)
  if (raw.ioctl(fd, SIOCGIFINDEX, ifreq) < 0) return 0
  return new DataView(ifreq.buffer).getInt32(IFNAMSIZ, true)
}

/** Name of the link of this index in the socket's namespace; '' when there is none. */
export function nameOfLink(fd: number, index: number): string {
  const ifreq = new Uint8Array(IFREQ_BYTES)
  new DataView(ifreq.buffer).setInt32(IFNAMSIZ, index, true)
  if (raw.ioctl(fd, SIOCGIFNAME, ifreq) < 0) return ''
  return Buffer.from(ifreq.buffer, 0, ifreq.indexOf(0)).toString()
}

/** True when the link is up and has a carrier; false also when there is none of this name. */
export function isLinkRunning(fd: number, name: string): boolean {
  const bytes = Buffer.from(name)
  const ifreq = new Uint8Array(IFREQ_BYTES)
  ifreq.set(bytes.subarray(0, IFNAMSIZ - 1))
  if (raw.ioctl(fd, SIOCGIFFLAGS, ifreq) < 0) return false
  return (new DataView(ifreq.buffer).getUint16(IFNAMSIZ, true) & IFF_RUNNING) !== 0
}

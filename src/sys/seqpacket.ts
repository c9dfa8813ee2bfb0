/** Client side of SOCK_SEQPACKET unix sockets, which Node cannot open itself. conmon's attach sockets are of this kind. */
import { closeSync, constants, openSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { AF_UNIX, check, close, EAGAIN, errno, kernelError, raw, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET } from './libc.ts'

const SHUT_WR = 1
const MSG_NOSIGNAL = 0x4000

/**
 * Connects to a socket and returns its non-blocking descriptor; the caller closes it. The path may be longer than
 * sun_path's 108 bytes. Throws `not-found` when there is no socket, `internal` when nobody listens.
 */
export function connectSeqpacket(path: string): number {
  const dir = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    const short = Buffer.from(`/proc/self/fd/${dir}/${basename(path)}\0`)
    const address = new Uint8Array(2 + short.length)
    new DataView(address.buffer).setUint16(0, AF_UNIX, true)
    address.set(short, 2)
    const fd = check(raw.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 'open socket', path)
    if (raw.connect(fd, address, address.length) < 0) {
      const error = errno()
      close(fd)
      throw kernelError('connect to', path, error)
    }
    return fd
  } finally {
    closeSync(dir)
  }
}

/** Sends one packet. False when the socket's buffer is full: try again when it is writable. Throws when the peer is gone. */
export function sendPacket(fd: number, data: Uint8Array): boolean {
  if (Number(raw.send(fd, data, data.length, MSG_NOSIGNAL)) >= 0) return true
  const error = errno()
  if (error === EAGAIN) return false
  throw kernelError('send to', `fd ${fd}`, error)
}

/** Tells the peer that nothing more will be sent; receiving goes on. */
export function endPackets(fd: number): void {
  raw.shutdown(fd, SHUT_WR)
}

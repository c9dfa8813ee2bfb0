/** The reactor's thread: one epoll loop over everything that Node's own loop cannot watch. Program of a worker; see `reactor.ts`. */
import { receiveMessageOnPort, workerData } from 'node:worker_threads'
import { messageOf } from '../base/errors.ts'
import { Doorbell, Epoll } from './epoll.ts'
import {
  close,
  EAGAIN,
  EINTR,
  ENOBUFS,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  errno,
  errnoName,
  F_GETFL,
  F_SETFL,
  MSG_DONTWAIT,
  MSG_TRUNC,
  O_NONBLOCK,
  raw,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from './libc.ts'
import { BATCHES_UNDER_WAY, type Command, Credits, type ReactorData, type Report } from './reactor-protocol.ts'

const SO_TYPE = 3
/** Longest wait without a look around; the doorbell ends it at once. */
const TURN_MS = 250
/** AF_UNIX and netlink packets stay below net.core.wmem_default (208 KiB), UDP below 64 KiB. */
const LONGEST_PACKET = 256 * 1024
const BATCH_BYTES = 256 * 1024
const BATCH_PACKETS = 256
const GAP_PACKETS_PER_TURN = 4096

interface Watched {
  readonly id: number
  readonly slot: number
  readonly fd: number
  readonly mode: Extract<Command, { op: 'add' }>['mode']
  /** SO_TYPE, 0 for what is not a socket. */
  readonly socketType: number
  /** Batches handed over so far. */
  given: number
  /** The kernel dropped packets, and the queue behind the gap is not empty yet. */
  hasGap: boolean
}

const { port, doorbellFd, credits: shared } = workerData as ReactorData
const credits = new Credits(shared)
const report = (message: Report, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer)
const epoll = new Epoll((error) => report({ op: 'failed', message: messageOf(error) }))
const watched = new Map<number, Watched>()
const stalled = new Set<Watched>()
const scratch = new Uint8Array(BATCH_BYTES + LONGEST_PACKET)
let running = true

function socketTypeOf(fd: number): number {
  const value = new Uint8Array(4)
  const length = new Uint32Array([4])
  return raw.getsockopt(fd, SOL_SOCKET, SO_TYPE, value, length) < 0 ? 0 : (value[0] as number)
}

function arm(w: Watched): void {
  if (w.mode === 'packets') epoll.add(w.fd, EPOLLIN | EPOLLRDHUP, () => drain(w))
  else
    epoll.add(w.fd, w.mode === 'writable' ? EPOLLOUT : EPOLLIN, () => {
      epoll.remove(w.fd) // hang-ups are reported whatever one asks for: only removing makes it quiet until `arm`
      report({ op: 'ready', id: w.id })
    })
}

function release(w: Watched): void {
  epoll.remove(w.fd)
  stalled.delete(w)
  watched.delete(w.id)
  close(w.fd)
}

/** Reads what is there, up to one batch, and hands it over. What remains is found by the next turn. */
function drain(w: Watched): void {
  if (w.hasGap) {
    passGap(w)
    return
  }
  const lengths: number[] = []
  let used = 0
  let end: string | undefined
  const takesPackets = w.socketType !== 0 && w.socketType !== SOCK_STREAM
  while (used < BATCH_BYTES && lengths.length < BATCH_PACKETS) {
    const room = scratch.subarray(used, takesPackets ? used + LONGEST_PACKET : BATCH_BYTES)
    // MSG_TRUNC on a TCP stream would throw the data away: tcp(7)
    const flags = MSG_DONTWAIT | (takesPackets ? MSG_TRUNC : 0)
    const got = Number(w.socketType === 0 ? raw.read(w.fd, room, room.length) : raw.recv(w.fd, room, room.length, flags))
    if (got < 0) {
      const error = errno()
      if (error === EINTR) continue
      if (error === ENOBUFS) {
        w.hasGap = true
        break
      }
      if (error !== EAGAIN) end = errnoName(error)
      break
    }
    if (got > room.length) {
      w.hasGap = true // cut off: as good as lost
      break
    }
    // A zero is the end of streams and of SEQPACKET, whose senders here never send nothing; a datagram may be empty.
    if (got === 0 && (!takesPackets || w.socketType === SOCK_SEQPACKET)) {
      end = 'eof'
      break
    }
    lengths.push(got)
    used += got
  }
  if (lengths.length > 0) {
    const data = scratch.slice(0, used)
    w.given++
    report({ op: 'packets', id: w.id, data, lengths }, [data.buffer])
  }
  if (w.hasGap) passGap(w)
  if (end !== undefined) {
    release(w)
    report({ op: 'end', id: w.id, why: end })
  } else if (isOwed(w)) {
    epoll.remove(w.fd)
    stalled.add(w)
    credits.wait(w.slot)
    wakeStalled()
  }
}

/**
 * Throws away what was queued before a gap and reports the gap when the queue is empty, no sooner: until then the kernel
 * drops in silence (netlink_overrun() says ENOBUFS once, netlink_rcv_wake() ends the congestion on an empty queue), so whoever
 * read everything again at the first error would miss what came after.
 */
function passGap(w: Watched): void {
  for (let i = 0; i < GAP_PACKETS_PER_TURN; i++) {
    if (Number(raw.recv(w.fd, scratch, scratch.length, MSG_DONTWAIT)) > 0) continue
    const error = errno()
    if (error === ENOBUFS || error === EINTR) continue
    w.hasGap = false
    report({ op: 'overrun', id: w.id })
    return
  }
}

/** True when the consumer has not taken enough of what it was given. */
const isOwed = (w: Watched): boolean => ((w.given - credits.taken(w.slot)) | 0) >= BATCHES_UNDER_WAY // both wrap at 2^32

function wakeStalled(): void {
  for (const w of stalled) {
    if (isOwed(w)) {
      credits.wait(w.slot)
      if (isOwed(w)) continue
    }
    stalled.delete(w)
    arm(w)
  }
}

function obey(command: Command): void {
  if (command.op === 'close') {
    running = false
    return
  }
  if (command.op === 'add') {
    const { id, slot, fd, mode } = command
    const w: Watched = { id, slot, fd, mode, socketType: mode === 'packets' ? socketTypeOf(fd) : 0, given: 0, hasGap: false }
    if (mode === 'packets' && w.socketType === 0) raw.fcntl(fd, F_SETFL, raw.fcntl(fd, F_GETFL, 0) | O_NONBLOCK)
    watched.set(id, w)
    try {
      arm(w)
    } catch (error) {
      release(w)
      report({ op: 'end', id, why: (error as { detail?: { errno?: string } }).detail?.errno ?? messageOf(error) })
    }
    return
  }
  const w = watched.get(command.id)
  if (command.op === 'arm' && w !== undefined) arm(w)
  if (command.op === 'remove') {
    if (w !== undefined) release(w)
    report({ op: 'removed', id: command.id })
  }
}

function attend(): void {
  for (;;) {
    const received = receiveMessageOnPort(port)
    if (received === undefined) break
    obey(received.message as Command)
  }
  wakeStalled()
}

new Doorbell(doorbellFd).watch(epoll, attend)
report({ op: 'started' })
while (running) epoll.wait(TURN_MS)
for (const w of [...watched.values()]) release(w)
epoll.close()
process.exit(0) // ends this thread only

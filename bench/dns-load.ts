/**
 * DNS load, in a process of its own: keeps a fixed number of questions on their way and measures every answer.
 * `tsx bench/dns-load.ts <ip> <port> <names> <outstanding> <seconds>` prints one line of JSON.
 */
import { parseIp } from '../src/base/address.ts'
import { openDnsListener, sockaddr, UdpBatch } from '../src/sys/dns-sockets.ts'
import { Epoll, monotonicMs } from '../src/sys/epoll.ts'
import { EPOLLIN } from '../src/sys/libc.ts'
import { CLASS_IN, encodeMessage, FLAG, TYPE } from '../src/wire/dns.ts'

export interface LoadResult {
  readonly answersPerSecond: number
  readonly p50Us: number
  readonly p99Us: number
  readonly p999Us: number
  readonly lost: number
  readonly wrong: number
}

const BUCKET_US = 2
const LOST_MS = 1000

function run(ip: string, port: number, nameCount: number, outstanding: number, seconds: number): LoadResult {
  const queries = Array.from({ length: nameCount }, (_, i) =>
    Buffer.from(
      encodeMessage({
        id: 0,
        flags: FLAG.RD,
        opcode: 0,
        rcode: 0,
        questions: [{ name: `host${i}.bench`, type: TYPE.A, class: CLASS_IN }],
        answers: [],
        authorities: [],
        additionals: [],
      }),
    ),
  )
  const { fd } = openDnsListener('udp', parseIp('127.0.0.1'), 0)
  const server = sockaddr(parseIp(ip), port)
  const batch = new UdpBatch(outstanding, 512)
  const sentAt = new Float64Array(outstanding)
  const buckets = new Uint32Array(500_000)
  let next = 0
  let answers = 0
  let wrong = 0
  let lost = 0
  let isMeasuring = false
  const ask = (slot: number, id: number, now: number): void => {
    const query = queries[next++ % nameCount] as Buffer
    const buffer = batch.slots[slot] as Buffer
    buffer.set(query)
    buffer[0] = id >> 8
    buffer[1] = id & 255
    sentAt[id] = now
    batch.setAnswer(slot, query.length)
  }
  const epoll = new Epoll((error) => {
    throw error
  })
  epoll.add(fd, EPOLLIN, () => {
    const n = batch.receive(fd)
    const now = monotonicMs()
    for (let i = 0; i < n; i++) {
      const buffer = batch.slots[i] as Buffer
      const id = ((buffer[0] as number) << 8) | (buffer[1] as number)
      // one answer record, no error: anything else is not what we measure
      if (((buffer[3] as number) & 15) !== 0 || buffer[7] !== 1) wrong++
      const bucket = Math.min(buckets.length - 1, Math.floor(((now - (sentAt[id] as number)) * 1000) / BUCKET_US))
      if (isMeasuring) {
        answers++
        buckets[bucket] = (buckets[bucket] as number) + 1
      }
      ask(i, id, now)
    }
    batch.send(fd, n)
  })
  const resendLost = (now: number, olderMs: number): number => {
    batch.receive(-1) // resets the sender fields
    let count = 0
    for (let id = 0; id < outstanding; id++) {
      batch.setAnswer(id, 0)
      if (now - (sentAt[id] as number) < olderMs) continue
      batch.peers[id]?.set(server)
      ask(id, id, now)
      count++
    }
    batch.send(fd, outstanding)
    return count
  }
  sentAt.fill(Number.NEGATIVE_INFINITY)
  resendLost(monotonicMs(), LOST_MS)
  const warm = monotonicMs() + 700
  while (monotonicMs() < warm) epoll.wait(100)
  isMeasuring = true
  const started = monotonicMs()
  const until = started + seconds * 1000
  let now = started
  while (now < until) {
    if (epoll.wait(100) === 0) lost += resendLost(monotonicMs(), LOST_MS)
    now = monotonicMs()
  }
  const percentile = (p: number): number => {
    let left = answers * p
    for (let i = 0; i < buckets.length; i++) {
      left -= buckets[i] as number
      if (left <= 0) return i * BUCKET_US
    }
    return Number.POSITIVE_INFINITY
  }
  const answersPerSecond = Math.round((answers * 1000) / (now - started))
  return { answersPerSecond, p50Us: percentile(0.5), p99Us: percentile(0.99), p999Us: percentile(0.999), lost, wrong }
}

const [ip, port, names, outstanding, seconds] = process.argv.slice(2)
console.log(JSON.stringify(run(String(ip), Number(port), Number(names), Number(outstanding), Number(seconds))))

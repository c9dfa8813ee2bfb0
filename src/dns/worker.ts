/**
 * The program of the DNS thread: one loop over epoll, never longer than 250 ms in the kernel, so that the thread can always be ended.
 * Its libuv loop does not turn while it runs: commands are read with receiveMessageOnPort after the doorbell rang.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { messageOf } from '../base/errors.ts'
import { systemRng } from '../base/rng.ts'
import { Doorbell, Epoll, monotonicMs } from '../sys/epoll.ts'
import { random32From } from './random.ts'
import { DnsServer } from './server.ts'
import type { DnsCommand, DnsQueryLogEntry, DnsReport } from './types.ts'

const MAX_WAIT_MS = 250

export interface DnsWorkerData {
  readonly doorbellFd: number
  /** One 32-bit counter: commands posted so far. */
  readonly posted: SharedArrayBuffer
  readonly queryLog: boolean
}

function run(data: DnsWorkerData): void {
  const port = parentPort
  if (port === null) throw new Error('this program runs in a worker thread only')
  const report = (message: DnsReport): void => port.postMessage(message)
  const posted = new Int32Array(data.posted)
  const log: DnsQueryLogEntry[] = []
  const onError = (error: unknown): void =>
    report({ op: 'error', message: error instanceof Error ? (error.stack ?? error.message) : messageOf(error) })
  const epoll = new Epoll(onError)
  let now = monotonicMs()
  let applied = 0
  let isOpen = true

  const applyCommands = (): void => {
    while (applied !== Atomics.load(posted, 0)) {
      const received = receiveMessageOnPort(port) as { message: DnsCommand } | undefined
      if (received === undefined) return
      applied = (applied + 1) | 0
      const command = received.message
      try {
        if (command.op === 'close') isOpen = false
        else if (command.op === 'stats') report({ op: 'stats', token: command.token, stats: server.stats() })
        else server.apply(command)
      } catch (error) {
        onError(error)
      }
    }
  }
  const server = new DnsServer({
    epoll,
    now: () => now,
    random: random32From(systemRng),
    applyCommands,
    onError,
    queryLog: data.queryLog ? (entry) => log.push(entry) : undefined,
  })
  new Doorbell(data.doorbellFd).watch(epoll, applyCommands)
  report({ op: 'ready' })
  while (isOpen) {
    now = monotonicMs()
    server.timers.runDue(now, onError)
    epoll.wait(Math.ceil(server.timers.waitMs(now, MAX_WAIT_MS)), () => {
      now = monotonicMs()
    })
    if (log.length > 0) report({ op: 'log', entries: log.splice(0) })
  }
  server.close()
  epoll.close()
  port.close()
}

run(workerData as DnsWorkerData)

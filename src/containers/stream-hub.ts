/**
 * One container's (or exec's) terminal as many clients see it: what conmon sends goes to all of them, what any of them types goes to
 * conmon. One connection to conmon serves all clients, so a client that leaves does not close the container's stdin.
 *
 * conmon's packets: the first byte says stdout (2) or stderr (3); a packet to it is stdin, at most 8192 bytes.
 */
import { Readable, Writable } from 'node:stream'
import type { Clock } from '../base/ports.ts'
import { close } from '../sys/libc.ts'
import { connectSeqpacket, endPackets, sendPacket } from '../sys/seqpacket.ts'
import type { PacketReactor, Subscription } from './deps.ts'
import { DetachScanner } from './detach-keys.ts'
import type { AttachSession } from './types.ts'

const STDIN_PACKET_BYTES = 8192
const STDERR_TAG = 3
/** Packets that one slow client may have waiting before the container has to wait for it, as with Docker. */
const WAITING_PACKETS = 512

export interface OutputChunk {
  readonly stream: 'stdout' | 'stderr'
  readonly data: Buffer
}

export interface ClientOptions {
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
  /** Undefined = the stream has no detach keys. */
  readonly detachKeys: Uint8Array | undefined
  readonly onDetach?: () => void
}

interface Client {
  readonly options: ClientOptions
  readonly output: Readable
  /** Set while the log is replayed to this client; live output waits here. */
  held: OutputChunk[] | undefined
}

interface Connection {
  readonly fd: number
  readonly subscription: Subscription
  readonly queue: { data: Uint8Array; done: () => void }[]
  waiting: boolean
  ended: boolean
}

export class StreamHub {
  readonly #reactor: PacketReactor
  readonly #clock: Clock
  readonly #tty: boolean
  /** Whether closing our side reaches the process as end of input. */
  readonly #closesStdin: boolean
  readonly #clients = new Set<Client>()
  #connection: Connection | undefined
  #ended: (() => void)[] = []
  /** Input, and its end, from clients that are here before the process: `echo x | docker run -i` attaches, sends and only then starts. */
  #early: { client: Client; data: Uint8Array; done: () => void }[] = []
  #earlyEnd = false

  constructor(reactor: PacketReactor, clock: Clock, tty: boolean, closesStdin: boolean) {
    this.#reactor = reactor
    this.#clock = clock
    this.#tty = tty
    this.#closesStdin = closesStdin
  }

  get clientCount(): number {
    return this.#clients.size
  }

  get isConnected(): boolean {
    return this.#connection !== undefined
  }

  /** Connects to conmon. Output from now on reaches the clients. Idempotent. */
  connect(socketPath: string): void {
    if (this.#connection !== undefined) return
    const fd = connectSeqpacket(socketPath)
    const subscription = this.#reactor.onPackets(
      fd,
      (packets) => this.#deliver(packets),
      () => this.#disconnect(),
    )
    const connection: Connection = { fd, subscription, queue: [], waiting: false, ended: this.#earlyEnd && this.#closesStdin }
    this.#connection = connection
    this.#earlyEnd = false
    for (const { data, done } of this.#early.splice(0)) this.#enqueue(connection, data, done)
    this.#flush(connection)
  }

  /** A new client. With `held`, live output waits until {@link release} is called with the same session. */
  attach(options: ClientOptions, held = false): AttachSession {
    const client: Client = {
      options,
      held: held ? [] : undefined,
      output: new Readable({ objectMode: true, highWaterMark: WAITING_PACKETS, read: () => this.#connection?.subscription.resume() }),
    }
    client.output.on('error', () => {})
    this.#clients.add(client)
    const scanner = options.detachKeys === undefined ? undefined : new DetachScanner(options.detachKeys)
    const leave = () => this.#leave(client)
    const stdin = new Writable({
      write: (data: Buffer, _encoding, done) => {
        const { pass, detached } = scanner === undefined ? { pass: data, detached: false } : scanner.scan(data)
        const next = () => {
          if (detached) {
            options.onDetach?.()
            leave()
          }
          done()
        }
        if (options.stdin && pass.length > 0) this.#send(client, pass, next)
        else next()
      },
      final: (done) => {
        if (options.stdin) this.#endStdin()
        done()
      },
    })
    stdin.on('error', () => {})
    const session: AttachSession = { tty: this.#tty, stdin, output: client.output, close: leave }
    this.#sessions.set(session, client)
    return session
  }

  readonly #sessions = new WeakMap<AttachSession, Client>()

  /** Gives a held client what the log said, then what has come meanwhile. */
  replay(session: AttachSession, chunk: OutputChunk): void {
    this.#sessions.get(session)?.output.push(chunk)
  }

  release(session: AttachSession): void {
    const client = this.#sessions.get(session)
    if (client === undefined) return
    const held = client.held ?? []
    client.held = undefined
    for (const chunk of held) client.output.push(chunk)
    if (!this.#clients.has(client)) client.output.push(null)
  }

  /** Ends all clients' output, as soon as everything that conmon still has to say has arrived (at most a second). */
  async finish(): Promise<void> {
    if (this.#connection !== undefined) {
      await new Promise<void>((resolve) => {
        const cancel = this.#clock.after(1000, resolve)
        this.#ended.push(() => {
          cancel()
          resolve()
        })
      })
    }
    this.abort()
  }

  /** Ends all clients at once. */
  abort(): void {
    this.#disconnect()
    for (const client of this.#clients) this.#end(client)
    this.#earlyEnd = false
  }

  #end(client: Client): void {
    this.#clients.delete(client)
    const left = this.#early.filter((each) => each.client === client)
    this.#early = this.#early.filter((each) => each.client !== client)
    for (const { done } of left) done()
    if (this.#clients.size === 0) this.#earlyEnd = false
    if (client.held === undefined && !client.output.readableEnded && !client.output.destroyed) client.output.push(null)
  }

  #leave(client: Client): void {
    if (!this.#clients.has(client)) return
    this.#end(client)
    const stay = this.#closesStdin || this.#clients.size > 0
    if (!stay) this.#disconnect()
  }

  #deliver(packets: readonly Uint8Array[]): void {
    let full = false
    for (const packet of packets) {
      if (packet.length < 2) continue
      const stream = packet[0] === STDERR_TAG ? 'stderr' : 'stdout'
      const data = Buffer.from(packet.buffer, packet.byteOffset + 1, packet.length - 1)
      for (const client of this.#clients) {
        if (!(stream === 'stderr' ? client.options.stderr : client.options.stdout)) continue
        if (client.held !== undefined) client.held.push({ stream, data })
        else if (!client.output.push({ stream, data })) full = true
      }
    }
    if (full) this.#connection?.subscription.pause()
  }

  #disconnect(): void {
    const connection = this.#connection
    if (connection === undefined) return
    this.#connection = undefined
    connection.subscription.close()
    close(connection.fd)
    for (const { done } of connection.queue.splice(0)) done()
    for (const resolve of this.#ended.splice(0)) resolve()
  }

  #send(client: Client, data: Uint8Array, done: () => void): void {
    const connection = this.#connection
    if (connection === undefined && this.#clients.has(client)) {
      this.#early.push({ client, data, done }) // not more than one per client: nothing follows before `done`
      return
    }
    if (connection === undefined || connection.ended) {
      done() // input for a process that is not there any more is dropped, as Docker does
      return
    }
    this.#enqueue(connection, data, done)
    this.#flush(connection)
  }

  #enqueue(connection: Connection, data: Uint8Array, done: () => void): void {
    for (let at = 0; at < data.length; at += STDIN_PACKET_BYTES) {
      const last = at + STDIN_PACKET_BYTES >= data.length
      // the caller may reuse its buffer once `done` was called, never before
      connection.queue.push({ data: data.subarray(at, at + STDIN_PACKET_BYTES), done: last ? done : () => {} })
    }
  }

  #flush(connection: Connection): void {
    if (connection.waiting) return
    try {
      for (let next = connection.queue[0]; next !== undefined; next = connection.queue[0]) {
        if (!sendPacket(connection.fd, next.data)) {
          connection.waiting = true
          this.#reactor.onWritableOnce(connection.fd, () => {
            connection.waiting = false
            if (this.#connection === connection) this.#flush(connection)
          })
          return
        }
        connection.queue.shift()
        next.done()
      }
      if (connection.ended) endPackets(connection.fd)
    } catch {
      this.#disconnect() // the process has ended while somebody typed
    }
  }

  #endStdin(): void {
    const connection = this.#connection
    if (connection === undefined) this.#earlyEnd = true
    if (connection === undefined || !this.#closesStdin || connection.ended) return
    connection.ended = true
    if (connection.queue.length === 0) endPackets(connection.fd)
  }
}

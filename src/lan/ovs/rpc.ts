/**
 * JSON-RPC 1.0 with a database server over a unix socket (RFC 7047 4). Every call has a bound in time; a server that says what it must
 * not ends the connection, and with it every call that waits.
 */
import { createConnection, type Socket } from 'node:net'
import { messageOf, NetError } from '../../base/errors.ts'
import type { Clock } from '../../base/ports.ts'
import { JsonStream } from './json-stream.ts'

/** A whole database of ten thousand ports is some megabytes. */
const MAX_MESSAGE_BYTES = 64 << 20

interface Waiting {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
  readonly cancel: () => void
}

export interface RpcEvents {
  /** A message that answers nothing: an update of a monitor. */
  readonly onNotification: (method: string, params: readonly unknown[]) => void
  /** The connection has ended, for whatever reason. Called once. */
  readonly onEnd: (why: string) => void
}

export class Rpc {
  readonly #socket: Socket
  readonly #clock: Clock
  readonly #events: RpcEvents
  readonly #stream = new JsonStream(MAX_MESSAGE_BYTES)
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 1
  #ended = ''

  private constructor(socket: Socket, clock: Clock, events: RpcEvents) {
    this.#socket = socket
    this.#clock = clock
    this.#events = events
    socket.on('data', (chunk: Uint8Array) => this.#receive(chunk))
    socket.on('error', (error) => this.#end(messageOf(error)))
    socket.on('close', () => this.#end('it closed the connection'))
  }

  /** Throws `unavailable` when nobody listens there or does not answer in time. */
  static open(path: string, clock: Clock, withinMs: number, events: RpcEvents): Promise<Rpc> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(path)
      const refuse = (why: string) => {
        cancel()
        socket.destroy()
        reject(new NetError('unavailable', why))
      }
      const cancel = clock.after(withinMs, () => refuse(`no connection within ${withinMs} ms`))
      socket.once('error', (error) => refuse(messageOf(error)))
      socket.once('connect', () => {
        cancel()
        socket.removeAllListeners('error')
        resolve(new Rpc(socket, clock, events))
      })
    })
  }

  /** Throws `unavailable` without an answer in time, `internal` with what the server calls an error. */
  call(method: string, params: readonly unknown[], withinMs: number): Promise<unknown> {
    if (this.#ended !== '') return Promise.reject(new NetError('unavailable', this.#ended))
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(withinMs, () => {
        this.#waiting.delete(id)
        reject(new NetError('unavailable', `no answer to ${method} within ${withinMs} ms`))
      })
      this.#waiting.set(id, { resolve, reject, cancel })
      this.#socket.write(JSON.stringify({ method, params, id }))
    })
  }

  close(): void {
    this.#end('the connection was closed by this engine')
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const message of this.#stream.push(chunk)) this.#take(message)
    } catch (error) {
      this.#end(`it speaks no OVSDB: ${messageOf(error)}`)
    }
  }

  #take(message: unknown): void {
    const { method, params, id, result, error } = message as Readonly<Record<string, unknown>>
    if (typeof method === 'string') {
      const list = Array.isArray(params) ? params : []
      // asked after a few silent seconds; without an answer the server ends the connection
      if (method === 'echo') this.#socket.write(JSON.stringify({ id, result: list, error: null }))
      else this.#events.onNotification(method, list)
      return
    }
    const waiting = typeof id === 'number' ? this.#waiting.get(id) : undefined
    if (waiting === undefined) return // answered too late: the caller has given up
    this.#waiting.delete(id as number)
    waiting.cancel()
    if (error !== null && error !== undefined) waiting.reject(new NetError('internal', `Open vSwitch's database: ${errorText(error)}`))
    else waiting.resolve(result)
  }

  #end(why: string): void {
    if (this.#ended !== '') return
    this.#ended = why
    this.#socket.destroy()
    for (const { reject, cancel } of this.#waiting.values()) {
      cancel()
      reject(new NetError('unavailable', why))
    }
    this.#waiting.clear()
    this.#events.onEnd(why)
  }
}

/** `{"error": "constraint violation", "details": "…"}` (RFC 7047 3.1 <error>) as a sentence. */
export function errorText(error: unknown): string {
  if (typeof error !== 'object' || error === null) return String(error)
  const { error: kind, details } = error as { error?: unknown; details?: unknown }
  return [kind, details].filter((part): part is string => typeof part === 'string').join(': ') || JSON.stringify(error).slice(0, 200)
}

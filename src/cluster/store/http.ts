/**
 * HTTP to the members of a store: keep-alive connections, TLS, and a bound on time and size of everything. Knows no store's protocol.
 * Answers of any status are answers; a {@link StoreFault} means that there was none.
 */
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import { Agent as TlsAgent, request as tlsRequest } from 'node:https'
import type { Clock } from '../../base/ports.ts'
import { memberText, type StoreMember } from './url.ts'

/** An attempt that failed. `members.ts` decides on the next one by these marks. */
export class StoreFault extends Error {
  override readonly name = 'StoreFault'
  /** The request may have been carried out. */
  readonly sent: boolean
  /** No other attempt can do better (credentials, certificates): the sentence says why. */
  readonly final: boolean
  /** The answer was larger than allowed. */
  readonly tooLarge: boolean
  /** Nobody answered in time: slow or stopped, but not known to be gone. Whoever has gone is known by connections that break. */
  readonly silent: boolean

  constructor(message: string, marks: { sent?: boolean; final?: boolean; tooLarge?: boolean; silent?: boolean } = {}) {
    super(message)
    this.sent = marks.sent ?? false
    this.final = marks.final ?? false
    this.tooLarge = marks.tooLarge ?? false
    this.silent = marks.silent ?? false
  }
}

export interface TlsMaterial {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** From the call to the last byte of the answer. */
  readonly timeoutMs: number
  readonly maxBytes?: number
  /** Waits for what happens later (a watch): it must not take a connection away from questions that are answered at once. */
  readonly isWatch?: boolean
}

export interface HttpAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

export interface HttpStream {
  /** No callback is called any more. */
  close(): void
}

const CONNECT_MS = 1500
/** A timer that comes later than this was kept by us: what arrived meanwhile is read before it counts. */
const LATE_MS = 250
/** Connections to one member for questions. */
const MAX_SOCKETS = 32
const MAX_BYTES = 32 << 20
/** Idle time after which the kernel begins to ask whether the other side is still there. */
const TCP_KEEPALIVE_MS = 5000
/** Reasons of TLS that no other attempt changes. */
const TLS_CODES = /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|EPROTO$)/

export class StoreHttp {
  readonly #clock: Clock
  readonly #tls: TlsMaterial | undefined
  readonly #agents = new Map<string, Agent>()
  /** How to end what is on its way. */
  readonly #running = new Set<() => void>()
  #closed = false

  constructor(clock: Clock, tls?: TlsMaterial) {
    this.#clock = clock
    this.#tls = tls
  }

  /** Throws {@link StoreFault}. */
  request(member: StoreMember, wanted: HttpRequest): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      this.ask(member, wanted, (result) => (result instanceof StoreFault ? reject(result) : resolve(result)))
    })
  }

  /** The same for a request that may be given up: after `close` nothing is called. */
  ask(member: StoreMember, wanted: HttpRequest, onResult: (result: HttpAnswer | StoreFault) => void): HttpStream {
    const maxBytes = wanted.maxBytes ?? MAX_BYTES
    const chunks: Buffer[] = []
    let size = 0
    return this.#open(member, wanted, wanted.timeoutMs, {
      onHead: () => undefined,
      onData(chunk) {
        size += chunk.length
        if (size > maxBytes) return new StoreFault(`the answer is larger than ${maxBytes} bytes`, { tooLarge: true, sent: true })
        chunks.push(chunk)
        return undefined
      },
      onEnd: (res) => onResult({ status: res.statusCode ?? 0, headers: res.headers, text: Buffer.concat(chunks).toString('utf8') }),
      onFault: onResult,
    })
  }

  /** An answer without end, in pieces. `timeoutMs` bounds the wait for its head only. `onEnd` is called once, also for an orderly end. */
  stream(
    member: StoreMember,
    wanted: HttpRequest,
    on: { onHead(status: number): void; onData(chunk: Buffer): void; onEnd(fault: StoreFault | undefined): void },
  ): HttpStream {
    return this.#open(member, wanted, wanted.timeoutMs, {
      onHead(res, cancelTimer) {
        cancelTimer()
        on.onHead(res.statusCode ?? 0)
      },
      onData(chunk) {
        on.onData(chunk)
        return undefined
      },
      onEnd: () => on.onEnd(undefined),
      onFault: (fault) => on.onEnd(fault),
    })
  }

  close(): void {
    this.#closed = true
    for (const end of [...this.#running]) end()
    for (const agent of this.#agents.values()) agent.destroy()
    this.#agents.clear()
  }

  #open(
    member: StoreMember,
    wanted: HttpRequest,
    timeoutMs: number,
    on: {
      onHead(res: IncomingMessage, cancelTimer: () => void): void
      onData(chunk: Buffer): StoreFault | undefined
      onEnd(res: IncomingMessage): void
      onFault(fault: StoreFault): void
    },
  ): HttpStream {
    let over = false
    let connected = false
    let cancelTimer = () => {}
    let cancelConnect = () => {}
    const finish = (report: () => void) => {
      if (over) return
      over = true
      this.#running.delete(endNow)
      cancelTimer()
      cancelConnect()
      report()
    }
    let destroy = () => {}
    const endNow = () => {
      fail(new StoreFault('the store was closed', { final: true }))
      destroy()
    }
    const fail = (fault: StoreFault) =>
      finish(() => {
        if (!fault.tooLarge) this.#distrust(member)
        on.onFault(fault)
      })
    if (this.#closed) {
      queueMicrotask(() => fail(new StoreFault('the store was closed', { final: true })))
      return { close: () => finish(() => {}) }
    }
    const make = this.#tls === undefined ? request : tlsRequest
    const headers = {
      ...wanted.headers,
      ...(wanted.body === undefined ? {} : { 'content-length': String(Buffer.byteLength(wanted.body)) }),
    }
    const req = make({
      host: member.host,
      port: member.port,
      method: wanted.method,
      path: wanted.path,
      headers,
      agent: this.#agentOf(member, wanted.isWatch === true),
    })
    destroy = () => void req.destroy()
    this.#running.add(endNow)
    cancelTimer = this.#deadline(timeoutMs, () => {
      fail(new StoreFault(`no answer within ${timeoutMs} ms`, { sent: connected, silent: true }))
      req.destroy()
    })
    req.on('socket', (socket) => {
      const ready = () => {
        connected = true
        cancelConnect()
        socket.setKeepAlive(true, TCP_KEEPALIVE_MS)
      }
      if (!socket.connecting) return ready()
      cancelConnect = this.#deadline(Math.min(CONNECT_MS, timeoutMs), () => {
        fail(new StoreFault(`no connection within ${Math.min(CONNECT_MS, timeoutMs)} ms`, { silent: true }))
        req.destroy()
      })
      socket.once(this.#tls === undefined ? 'connect' : 'secureConnect', ready)
    })
    req.on('error', (error: NodeJS.ErrnoException) => fail(faultOf(error, connected)))
    req.on('response', (res) => {
      on.onHead(res, cancelTimer)
      res.on('data', (chunk: Buffer) => {
        if (over) return
        const fault = on.onData(chunk)
        if (fault === undefined) return
        fail(fault)
        req.destroy()
      })
      res.on('error', (error: NodeJS.ErrnoException) => fail(faultOf(error, true)))
      res.on('end', () => finish(() => on.onEnd(res)))
      res.on('close', () => fail(new StoreFault('the connection was closed in the middle of an answer', { sent: true })))
    })
    req.end(wanted.body)
    return {
      close() {
        finish(() => {})
        req.destroy()
      },
    }
  }

  /**
   * Calls `fn` after `ms`. When this process had no processor for a while (or the machine slept), timers come before the answers that have
   * long arrived: then it waits a little more.
   */
  #deadline(ms: number, fn: () => void): () => void {
    const due = this.#clock.now() + ms
    let cancel = this.#clock.after(ms, () => {
      if (this.#clock.now() - due <= LATE_MS) return fn()
      cancel = this.#clock.after(LATE_MS, fn)
    })
    return () => cancel()
  }

  /** Idle connections to this member may be as dead as the one that failed: later requests make new ones. Running ones go on. */
  #distrust(member: StoreMember): void {
    const key = memberText(member)
    const agent = this.#agents.get(key)
    if (agent === undefined) return
    this.#agents.delete(key)
    agent.maxFreeSockets = 0
    for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
  }

  /** Watches have connections of their own, as many as there are: a host may follow any number of networks. */
  #agentOf(member: StoreMember, isWatch: boolean): Agent {
    const key = isWatch ? `${memberText(member)} watches` : memberText(member)
    const known = this.#agents.get(key)
    if (known !== undefined) return known
    const maxSockets = isWatch ? Number.POSITIVE_INFINITY : MAX_SOCKETS
    const options = { keepAlive: true, keepAliveMsecs: TCP_KEEPALIVE_MS, maxSockets, maxFreeSockets: 4 }
    const agent = this.#tls === undefined ? new Agent(options) : new TlsAgent({ ...options, ...this.#tls })
    this.#agents.set(key, agent)
    return agent
  }
}

function faultOf(error: NodeJS.ErrnoException, sent: boolean): StoreFault {
  const code = error.code ?? ''
  if (TLS_CODES.test(code)) return new StoreFault(`TLS: ${error.message}`, { final: true })
  return new StoreFault(code === '' || error.message.includes(code) ? error.message : `${code} ${error.message}`, { sent })
}

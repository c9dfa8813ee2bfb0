/**
 * HTTP to the engine: keep-alive requests, version negotiation, JSON in and out, streams and hijacked connections.
 * Knows no route; the files beside it do. Every failure is a NetError: an answer of 400 or more carries `status` and Docker's
 * own message, a refused connection says that the engine does not run.
 */
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import http from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import { type ErrorCode, type ErrorDetail, messageOf, NetError } from '../base/errors.ts'
import { type EngineAddress, parseEngineAddress } from './address.ts'
import { readJsonTexts } from './json-lines.ts'

/** The newest API version this client was written for; 1.52 drops the legacy fields of `NetworkSettings` that people's templates use. */
export const CLIENT_API_VERSION = '1.51'

/** PEM texts. `verify` false accepts any server certificate. */
export interface TlsMaterial {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly verify: boolean
}

export interface TransportOptions {
  readonly host: string
  readonly tls?: TlsMaterial
  /** Fixed version, without negotiation. */
  readonly apiVersion?: string
  readonly headers?: Readonly<Record<string, string>>
}

export type QueryValue = string | number | boolean | readonly string[] | undefined
export type Query = Readonly<Record<string, QueryValue>>

export interface RequestOptions {
  readonly query?: Query
  readonly headers?: Readonly<Record<string, string>>
  /** A plain object is sent as JSON, a stream or bytes as they are. */
  readonly body?: object | Readable | Uint8Array
  readonly contentType?: string
  readonly signal?: AbortSignal | undefined
  /** Leaves out `/v1.xx`. */
  readonly unversioned?: boolean
}

/** Detail of an error that came as an HTTP answer. */
export interface HttpErrorDetail extends ErrorDetail {
  readonly status: number
}

/** A connection taken out of HTTP: write stdin, read output; `end()` half-closes. */
export interface Hijacked {
  readonly socket: Duplex
  readonly contentType: string
}

/** HTTP status of an engine's answer, or undefined for every other error. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof NetError ? (error.detail as Partial<HttpErrorDetail>).status : undefined
}

export class Transport {
  readonly address: EngineAddress
  readonly #options: TransportOptions
  #agent: http.Agent | undefined
  #https: typeof import('node:https') | undefined
  #version: string | undefined

  constructor(options: TransportOptions) {
    this.#options = options
    this.address = parseEngineAddress(options.host, options.tls !== undefined)
    this.#version = options.apiVersion
  }

  /** The API version in use, agreed on the first call: the lower of ours and the engine's. */
  async apiVersion(signal?: AbortSignal): Promise<string> {
    if (this.#version === undefined) {
      const reply = await this.#send('HEAD', '/_ping', { signal })
      reply.resume()
      const offered = reply.headers['api-version']
      this.#version = typeof offered === 'string' && isOlder(offered, CLIENT_API_VERSION) ? offered : CLIENT_API_VERSION
    }
    return this.#version
  }

  /** One request; resolves with the answer when its status is below 400. The caller reads or resumes the body. */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    const reply = await this.#send(method, await this.#path(path, options), options)
    if ((reply.statusCode ?? 500) >= 400) throw await errorFromReply(method, path, reply)
    return reply
  }

  /** One request with a JSON answer. An empty body gives undefined. */
  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const text = await readText(await this.request(method, path, options))
    return (text === '' ? undefined : JSON.parse(text)) as T
  }

  /** One request, the body as text exactly as sent. */
  async text(method: string, path: string, options: RequestOptions = {}): Promise<string> {
    return readText(await this.request(method, path, options))
  }

  /** A stream of JSON values, one per line or simply one after the other. Aborting the signal ends it without an error. */
  async *lines<T>(method: string, path: string, options: RequestOptions = {}): AsyncGenerator<T> {
    for await (const text of this.texts(method, path, options)) yield JSON.parse(text) as T
  }

  /** As {@link lines}, each value as the text that was sent: numbers beyond 2^53 keep their digits. */
  async *texts(method: string, path: string, options: RequestOptions = {}): AsyncGenerator<string> {
    const reply = await this.request(method, path, options)
    try {
      yield* readJsonTexts(reply)
    } catch (error) {
      if (options.signal?.aborted !== true) throw error
    }
  }

  /** Sends `Upgrade: tcp` and hands over the connection (attach, exec). Errors as for {@link request}. */
  async hijack(method: string, path: string, options: RequestOptions = {}): Promise<Hijacked> {
    const target = await this.#path(path, options)
    const headers = { Connection: 'Upgrade', Upgrade: 'tcp', ...options.headers }
    const { request, payload } = await this.#open(method, target, { ...options, headers }, false)
    return new Promise((resolve, reject) => {
      request.once('error', (cause) => reject(this.#connectError(cause)))
      request.once('upgrade', (reply: IncomingMessage, socket: Duplex, head: Buffer) => {
        if (head.length > 0) socket.unshift(head)
        resolve({ socket, contentType: String(reply.headers['content-type'] ?? '') })
      })
      request.once('response', (reply: IncomingMessage) => {
        const status = reply.statusCode ?? 500
        if (status >= 400) errorFromReply(method, path, reply).then(reject, reject)
        else reject(new NetError('internal', `unable to upgrade to tcp, received ${status}`, { op: `${method} ${path}` }))
      })
      request.end(payload)
    })
  }

  /** Closes idle connections. */
  close(): void {
    this.#agent?.destroy()
  }

  async #path(path: string, options: RequestOptions): Promise<string> {
    const base = options.unversioned === true ? '' : `/v${await this.apiVersion(options.signal)}`
    return base + path + encodeQuery(options.query)
  }

  async #send(method: string, target: string, options: RequestOptions): Promise<IncomingMessage> {
    const { request, payload, stream } = await this.#open(method, target, options, true)
    return new Promise((resolve, reject) => {
      request.once('response', resolve)
      request.once('error', (cause) => reject(this.#connectError(cause)))
      if (stream === undefined) request.end(payload)
      else {
        stream.once('error', (cause) => request.destroy(cause))
        stream.pipe(request)
      }
    })
  }

  async #open(
    method: string,
    target: string,
    options: RequestOptions,
    keepAlive: boolean,
  ): Promise<{ request: ClientRequest; payload?: string | Uint8Array; stream?: Readable }> {
    const { body } = options
    const headers: OutgoingHttpHeaders = { Host: 'causeway', 'User-Agent': 'causeway', ...this.#options.headers, ...options.headers }
    let payload: string | Uint8Array | undefined
    let stream: Readable | undefined
    if (body instanceof Uint8Array) payload = body
    else if (isReadable(body)) stream = body
    else if (body !== undefined) payload = JSON.stringify(body)
    if (body !== undefined)
      headers['Content-Type'] = options.contentType ?? (payload === undefined ? 'application/x-tar' : 'application/json')
    if (payload !== undefined) headers['Content-Length'] = Buffer.byteLength(payload)
    else if (stream === undefined && method === 'POST') headers['Content-Length'] = 0
    const common = { method, headers, ...(options.signal === undefined ? {} : { signal: options.signal }) }
    const { address } = this
    if (address.kind === 'unix') {
      const agent = keepAlive ? await this.#keepAliveAgent() : false
      return made(http.request({ ...common, socketPath: address.socketPath, path: target, agent }), payload, stream)
    }
    const to = { ...common, host: address.host, port: address.port, path: address.basePath + target }
    if (!address.tls) return made(http.request({ ...to, agent: keepAlive ? await this.#keepAliveAgent() : false }), payload, stream)
    const agent = await this.#keepAliveAgent()
    const https = this.#https as typeof import('node:https')
    return made(https.request({ ...to, ...tlsOptions(this.#options.tls), agent: keepAlive ? agent : false }), payload, stream)
  }

  async #keepAliveAgent(): Promise<http.Agent> {
    if (this.#agent === undefined) {
      if (this.address.kind === 'tcp' && this.address.tls) {
        this.#https = await import('node:https')
        this.#agent = new this.#https.Agent({ keepAlive: true })
      } else this.#agent = new http.Agent({ keepAlive: true })
    }
    return this.#agent
  }

  #connectError(cause: unknown): unknown {
    const errno = (cause as NodeJS.ErrnoException).code
    const { address } = this
    if (errno === 'EACCES' || errno === 'EPERM')
      return new NetError(
        'denied',
        `permission denied while trying to connect to the engine at ${address.text}`,
        { errno, subject: address.text },
        cause,
      )
    if (errno === 'ENOENT' || errno === 'ECONNREFUSED') {
      const advice = address.kind === 'unix' ? '`causeway up` starts it' : 'start it on that host, or give another address with -H'
      const text = `Cannot connect to the Causeway engine at ${address.text}: it is not running; ${advice}`
      return new NetError('unavailable', text, { errno, subject: address.text }, cause)
    }
    if (errno === undefined) return cause
    return new NetError(
      'unavailable',
      `Cannot talk to the engine at ${address.text}: ${messageOf(cause)}`,
      { errno, subject: address.text },
      cause,
    )
  }
}

function made(request: ClientRequest, payload: string | Uint8Array | undefined, stream: Readable | undefined) {
  return { request, ...(payload === undefined ? {} : { payload }), ...(stream === undefined ? {} : { stream }) }
}

function tlsOptions(tls: TlsMaterial | undefined): object {
  if (tls === undefined) return {}
  const { ca, cert, key, verify } = tls
  return {
    rejectUnauthorized: verify,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  }
}

function isReadable(body: object | undefined): body is Readable {
  return body !== undefined && typeof (body as Partial<Readable>).pipe === 'function'
}

/** `?a=1&b=x`; true is `1`, false and undefined are left out, lists repeat the key. */
export function encodeQuery(query: Query | undefined): string {
  const parts: string[] = []
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value === undefined || value === false) continue
    const texts = Array.isArray(value) ? (value as readonly string[]) : [value === true ? '1' : String(value)]
    for (const text of texts) parts.push(`${encodeURIComponent(key)}=${encodeURIComponent(text)}`)
  }
  return parts.length === 0 ? '' : `?${parts.join('&')}`
}

/** True when API version `a` is lower than `b` (`1.9` < `1.10`). */
export function isOlder(a: string, b: string): boolean {
  const [aMajor = 0, aMinor = 0] = a.split('.').map(Number)
  const [bMajor = 0, bMinor = 0] = b.split('.').map(Number)
  return aMajor !== bMajor ? aMajor < bMajor : aMinor < bMinor
}

async function readText(reply: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of reply) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid',
  401: 'denied',
  403: 'denied',
  404: 'not-found',
  409: 'conflict',
  501: 'not-implemented',
  503: 'unavailable',
}

async function errorFromReply(method: string, path: string, reply: IncomingMessage): Promise<NetError> {
  const status = reply.statusCode ?? 500
  const text = (await readText(reply)).trim()
  let message = text
  if (String(reply.headers['content-type'] ?? '').includes('json')) {
    try {
      const body = JSON.parse(text) as { message?: unknown }
      if (typeof body.message === 'string') message = body.message
    } catch {
      // A broken error body is shown as it came.
    }
  }
  if (message === '') message = `${method} ${path} answered ${status} ${reply.statusMessage ?? ''}`.trim()
  const detail: HttpErrorDetail = { op: `${method} ${path}`, status }
  return new NetError(CODE_OF_STATUS[status] ?? 'internal', message.trim(), detail)
}

/** One request as a handler sees it: parameters, body, answers, and a signal that fires when the client has gone. */
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import type { BodyHeaders } from './body.ts'
import { announcesBody, readJson } from './body.ts'
import type { Shape } from './decode.ts'
import { badRequest } from './errors.ts'
import type { Wire } from './hijack.ts'
import { takeSocket } from './hijack.ts'
import type { Answer, Exchange } from './types.ts'

export class Context {
  readonly exchange: Exchange
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  /** Minor number of the API version: 51 for `1.51`. */
  readonly version: number
  #abort: AbortController | undefined
  #wire: Wire | undefined

  constructor(exchange: Exchange, params: Readonly<Record<string, string>>) {
    this.exchange = exchange
    this.params = params
    this.query = new URLSearchParams(exchange.query)
    this.version = exchange.version
  }

  get res(): ServerResponse {
    return this.exchange.res
  }

  get headers(): IncomingHttpHeaders {
    return this.exchange.req.headers
  }

  param(name: string): string {
    return this.params[name] ?? ''
  }

  /** A query parameter, '' when absent. */
  q(name: string): string {
    return this.query.get(name) ?? ''
  }

  /** Aborted when the client goes away before the answer is complete. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      const abort = new AbortController()
      this.#abort = abort
      const { res } = this.exchange
      const gone = (): void => {
        if (!res.writableFinished) abort.abort(new Error('the client has gone away'))
      }
      if (res.closed || res.destroyed) gone()
      else res.once('close', gone)
    }
    return this.#abort.signal
  }

  /** The body as it comes: an archive, for example. */
  get bodyStream(): Readable {
    const { req, upgrade } = this.exchange
    return upgrade === undefined ? req : Readable.from(upgrade.body.length === 0 ? [] : [upgrade.body])
  }

  get hasBody(): boolean {
    return announcesBody(this.#bodyHeaders())
  }

  /** The JSON body in this shape; undefined when there is none. Throws `invalid`. */
  async json<T>(shape: Shape<T>): Promise<T | undefined> {
    const value = await readJson(this.bodyStream, this.#bodyHeaders())
    return value === undefined || value === null ? undefined : shape(value, '')
  }

  async requiredJson<T>(shape: Shape<T>): Promise<T> {
    const value = await this.json(shape)
    if (value === undefined) throw badRequest('invalid JSON: got EOF while reading request body')
    return value
  }

  /** Sends the head now; `write` may follow. */
  begin(status: number, headers: Readonly<Record<string, string>>): void {
    this.res.writeHead(status, headers)
    this.res.flushHeaders()
  }

  /** Writes and waits while the client is slow. Rejects when it has gone. */
  write(chunk: string | Uint8Array): Promise<void> {
    const { signal, res } = this
    if (signal.aborted) return Promise.reject(signal.reason as Error)
    if (res.write(chunk)) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const onDrain = (): void => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = (): void => {
        res.removeListener('drain', onDrain)
        reject(signal.reason as Error)
      }
      res.once('drain', onDrain)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  end(): void {
    this.res.end()
  }

  /** Leaves HTTP: the raw connection, with what the client has already sent. Read the JSON body first. */
  hijack(): Wire {
    this.#wire = takeSocket(this.exchange)
    return this.#wire
  }

  /** The raw connection, once the handler has taken it. */
  get wire(): Wire | undefined {
    return this.#wire
  }

  #bodyHeaders(): BodyHeaders {
    const headers = this.headers
    return {
      contentType: headers['content-type'],
      contentLength: headers['content-length'],
      transferEncoding: headers['transfer-encoding'],
    }
  }
}

/** 200 with a JSON body. */
export const ok = (body: unknown): Answer => ({ status: 200, body })
/** 201 with a JSON body. */
export const created = (body: unknown): Answer => ({ status: 201, body })
/** 204, as most of Docker's changes answer. */
export const noContent: Answer = { status: 204 }
/** 200 without a body. */
export const emptyOk: Answer = { status: 200 }

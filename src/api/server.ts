/**
 * The Docker Engine API over HTTP, and Causeway's own endpoints beside it.
 *
 *   const api = await createApiServer({ controller, containers, images, volumes, events, info, version, clock, log })
 *   await api.listenUnix('/run/causeway/causeway.sock', { group: 'docker' })
 *
 * Every listener serves the same routes. Handlers translate; decisions are the services'. Not here: swarm, building images,
 * plugins; those answer with a sentence that says what to use instead.
 */
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { messageOf, NetError } from '../base/errors.ts'
import { isAbortedBody } from './body.ts'
import { Context } from './context.ts'
import { pageNotFound, toHttpError } from './errors.ts'
import { serveUpgrades } from './hijack.ts'
import type { TlsOptions, UnixOptions } from './listen.ts'
import { listenTcp, listenUnix } from './listen.ts'
import { canonicalPath } from './paths.ts'
import { createRouter } from './router.ts'
import { causewayRoutes } from './routes/causeway.ts'
import { containerRoutes } from './routes/containers.ts'
import { copyRoutes } from './routes/copy.ts'
import { eventRoutes } from './routes/events.ts'
import { execRoutes } from './routes/exec.ts'
import { imageRoutes } from './routes/images.ts'
import { networkRoutes } from './routes/networks.ts'
import { refusedRoutes } from './routes/refused.ts'
import { streamRoutes } from './routes/streams.ts'
import { systemRoutes } from './routes/system.ts'
import { volumeRoutes } from './routes/volumes.ts'
import type { Answer, ApiOptions, Exchange, Route } from './types.ts'
import { isStreamed } from './types.ts'
import { commonHeaders, minorOf, splitVersion, wantsPlainErrors } from './versions.ts'

export type { TlsOptions, UnixOptions } from './listen.ts'
export type { ApiOptions, Extension, SystemInfo, VersionFacts } from './types.ts'

export interface ApiServer {
  /** Replaces a stale socket file; default mode 0660. */
  listenUnix(path: string, options?: UnixOptions): Promise<void>
  /** Port 0 chooses one; returns it. Without TLS everybody who reaches the port is root here: a warning is logged. */
  listenTcp(host: string, port: number, tls?: TlsOptions): Promise<number>
  /** Stops accepting, ends all connections (also hijacked ones) and resolves when they are gone. */
  close(): Promise<void>
}

const HTTP_OPTIONS: ServerOptions = {
  // Registry credentials travel in a header, filters in the URL.
  maxHeaderSize: 256 * 1024,
  // `docker load` may take as long as it takes.
  requestTimeout: 0,
  headersTimeout: 60_000,
  // Clients keep a pool and do not expect an idle connection to go; closing one under a POST is an error they cannot repeat.
  keepAliveTimeout: 600_000,
  // Probes on TCP, so that a client whose machine is gone does not stay attached for ever.
  keepAlive: true,
  keepAliveInitialDelay: 60_000,
}

/** Everything that is served; `close` ends what its handlers keep running. */
export function routeTable(options: ApiOptions): { readonly routes: readonly Route[]; close(): void } {
  const causeway = causewayRoutes(options)
  const routes = [
    ...systemRoutes(options),
    ...networkRoutes(options),
    ...containerRoutes(options),
    ...streamRoutes(options),
    ...copyRoutes(options),
    ...execRoutes(options),
    ...imageRoutes(options),
    ...volumeRoutes(options),
    ...eventRoutes(options),
    ...causeway.routes,
    ...refusedRoutes(),
  ]
  return { routes, close: () => causeway.close() }
}

/** The HTTP API over these services, listening nowhere yet. The caller closes it. */
export async function createApiServer(options: ApiOptions): Promise<ApiServer> {
  const { log, version: facts } = options
  const headers = Object.entries(commonHeaders(facts))
  const exchanges = new WeakMap<IncomingMessage, Exchange>()
  const servers = new Set<Server>()
  const sockets = new Set<Socket>()
  const { routes, close: closeRoutes } = routeTable(options)
  const router = createRouter(
    routes,
    (route, req, res, params) => void run(route, exchanges.get(req) ?? bareExchange(req, res), params),
    (req, res) => fail(req, res, pageNotFound()),
  )

  function bareExchange(req: IncomingMessage, res: ServerResponse): Exchange {
    return { req, res, version: splitVersion('/', facts).version, query: '' }
  }

  function serve(req: IncomingMessage, res: ServerResponse, upgrade?: Exchange['upgrade']): void {
    for (const [name, value] of headers) res.setHeader(name, value)
    const url = req.url ?? '/'
    try {
      const { version, rest } = splitVersion(url, facts)
      const mark = rest.indexOf('?')
      const path = canonicalPath(req.method ?? 'GET', mark < 0 ? rest : rest.slice(0, mark))
      const query = mark < 0 ? '' : rest.slice(mark + 1)
      exchanges.set(req, { req, res, version, query, ...(upgrade === undefined ? {} : { upgrade }) })
      req.url = path
    } catch (error) {
      fail(req, res, error, wantsPlainErrors(url))
      return
    }
    router.route(req, res)
  }

  async function run(route: Route, exchange: Exchange, params: Readonly<Record<string, string>>): Promise<void> {
    const { req, res } = exchange
    const ctx = new Context(exchange, params)
    try {
      if (route.since !== undefined && exchange.version < minorOf(route.since)) throw pageNotFound()
      const answer = await route.handler(ctx)
      if (!isStreamed(answer)) send(req, res, answer)
    } catch (error) {
      if (ctx.wire === undefined) {
        fail(req, res, error)
        return
      }
      // No HTTP any more: the stream can only be cut.
      ctx.wire.socket.destroy()
      log.warn('attached stream failed', { path: req.url, error: messageOf(error) })
    }
  }

  function fail(req: IncomingMessage, res: ServerResponse, error: unknown, plain = false): void {
    const { status, message, unexpected } = toHttpError(error)
    if (res.destroyed || res.closed || isAbortedBody(error)) {
      res.destroy()
      return
    }
    if (unexpected)
      log.error('request failed unexpectedly', { method: req.method, path: req.url, error: error instanceof Error ? error.stack : message })
    else log.debug('request refused', { method: req.method, path: req.url, status, message })
    // An answer that has begun can only be cut short.
    if (res.headersSent) {
      res.destroy()
      return
    }
    if (plain) send(req, res, { status, body: `${message}\n`, headers: { 'Content-Type': 'text/plain; charset=utf-8' } })
    else send(req, res, { status, ...(status === 304 ? {} : { body: { message } }) })
  }

  function open(tls?: TlsOptions): Server {
    const server = tls === undefined ? createServer(HTTP_OPTIONS) : createTlsServer({ ...HTTP_OPTIONS, ...tlsServerOptions(tls) })
    server.on('request', (req: IncomingMessage, res: ServerResponse) => serve(req, res))
    serveUpgrades(server, serve)
    server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
    servers.add(server)
    return server
  }

  return {
    async listenUnix(path, unix = {}) {
      await listenUnix(open(), path, unix)
      log.info('API listens', { socket: path })
    },
    async listenTcp(host, port, tls) {
      const actual = await listenTcp(open(tls), host, port)
      if (tls === undefined) {
        log.warn('API listens on TCP without TLS: whoever reaches this port has root rights on this host', { host, port: actual })
      } else if (!tls.verify) {
        log.warn('API listens on TCP with TLS but without client verification: whoever reaches this port has root rights on this host', {
          host,
          port: actual,
        })
      } else log.info('API listens', { host, port: actual, tls: true })
      return actual
    },
    async close() {
      closeRoutes()
      const closed = [...servers]
        .filter((server) => server.listening)
        .map((server) => new Promise<void>((resolve) => server.close(() => resolve())))
      for (const socket of sockets) socket.destroy()
      await Promise.all(closed)
      servers.clear()
    },
  }
}

function tlsServerOptions(tls: TlsOptions): object {
  if (tls.verify && tls.ca === undefined) throw new NetError('invalid', 'verifying clients needs a certificate authority (tlscacert)')
  return {
    cert: tls.cert,
    key: tls.key,
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    requestCert: tls.verify,
    rejectUnauthorized: tls.verify,
    minVersion: 'TLSv1.2' as const,
    // As node:http has it on plain sockets: the end of a client's input is not the end of the output it waits for.
    allowHalfOpen: true,
  }
}

/** Writes a complete answer. Strings go out as they are, other bodies as JSON. */
function send(req: IncomingMessage, res: ServerResponse, answer: Answer): void {
  if (res.destroyed || res.headersSent) return
  const { status, body } = answer
  const isText = typeof body === 'string'
  const text = body === undefined ? '' : isText ? body : `${JSON.stringify(body)}\n`
  res.statusCode = status
  if (body !== undefined && !isText) res.setHeader('Content-Type', 'application/json')
  for (const [name, value] of Object.entries(answer.headers ?? {})) res.setHeader(name, value)
  if (status !== 204 && status !== 304) res.setHeader('Content-Length', Buffer.byteLength(text))
  res.end(req.method === 'HEAD' || status === 204 || status === 304 ? undefined : text)
}

/**
 * The only file that knows Fastify. It matches method and path and nothing more: bodies, versions, errors and streams are
 * handled by `server.ts`, because Fastify's defaults refuse what Docker's clients send (empty JSON bodies, archives, upgrades).
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import Fastify from 'fastify'
import type { Route } from './types.ts'

export type RoutedHandler = (route: Route, req: IncomingMessage, res: ServerResponse, params: Readonly<Record<string, string>>) => void

export interface Router {
  route(req: IncomingMessage, res: ServerResponse): void
  close(): Promise<void>
}

/** Longer names are `page not found`; no name that any service accepts comes near. */
const MAX_PARAM_LENGTH = 4096

/** Builds the table. Throws for two routes with the same method and path. */
export async function createRouter(
  routes: readonly Route[],
  run: RoutedHandler,
  missing: (req: IncomingMessage, res: ServerResponse) => void,
): Promise<Router> {
  const app = Fastify({
    logger: false,
    exposeHeadRoutes: false,
    // Naming compilers keeps ajv and its code generator out of memory.
    schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
  })
  for (const route of routes) {
    app.route({
      method: route.method,
      url: route.path,
      // The first hook takes the request out of Fastify's hands, before it looks at the content type.
      onRequest: (request, reply) => {
        reply.hijack()
        run(route, request.raw, reply.raw, request.params as Record<string, string>)
      },
      handler: () => undefined,
    })
  }
  app.setNotFoundHandler((request, reply) => {
    reply.hijack()
    missing(request.raw, reply.raw)
  })
  // Only a path without a route gets as far as its content type.
  app.setErrorHandler((_error, request, reply) => {
    reply.hijack()
    missing(request.raw, reply.raw)
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  await app.ready()
  return { route: (req, res) => app.routing(req, res), close: () => app.close() }
}

function noSchemas(): never {
  throw new Error('routes of this server have no schemas')
}

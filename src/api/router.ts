/**
 * Matches method and path to a route, with find-my-way's radix tree, and nothing more: bodies, versions, errors and streams are
 * `server.ts`'s. A whole web framework stood here first; it cost 14 MB and 145 ms at every start for this one look-up.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import findMyWay from 'find-my-way'
import type { Route } from './types.ts'

export type RoutedHandler = (route: Route, req: IncomingMessage, res: ServerResponse, params: Readonly<Record<string, string>>) => void

export interface Router {
  route(req: IncomingMessage, res: ServerResponse): void
}

/** Longer names are `page not found`; no name that any service accepts comes near. */
const MAX_PARAM_LENGTH = 4096

/** Builds the table. Throws for two routes with the same method and path. */
export function createRouter(
  routes: readonly Route[],
  run: RoutedHandler,
  missing: (req: IncomingMessage, res: ServerResponse) => void,
): Router {
  const table = findMyWay({ maxParamLength: MAX_PARAM_LENGTH, defaultRoute: missing, onBadUrl: (_path, req, res) => missing(req, res) })
  for (const route of routes)
    table.on(route.method, route.path, (req, res, params) => run(route, req, res, params as Readonly<Record<string, string>>))
  return { route: (req, res) => table.lookup(req, res) }
}

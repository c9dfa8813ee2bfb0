/** Causeway's own endpoints, `/causeway/v1/…`: what Docker's API has no words for. JSON in, JSON out. */

import type { RepairEvent } from '../../engine/types.ts'
import type { PortBinding, PortRequest } from '../../model/endpoint.ts'
import { readJson } from '../body.ts'
import type { Context } from '../context.ts'
import { created, noContent, ok } from '../context.ts'
import { int, list, object, str } from '../decode.ts'
import { badRequest, notImplemented } from '../errors.ts'
import { streamProgress } from '../progress.ts'
import type { ApiOptions, Extension, Route } from '../types.ts'

const BASE = '/causeway/v1'
const MAX_REPAIRS = 256

const PORTS = object({
  ports: list(object({ proto: str, containerPort: int, hostIp: str, hostPort: int, hostPortEnd: int })),
})

/** `close` ends the subscription to repairs. */
export function causewayRoutes(options: ApiOptions): { routes: Route[]; close: () => void } {
  const { controller, containers, images } = options
  const repairs: RepairEvent[] = []
  const close = controller.onRepair((event) => {
    repairs.push(event)
    if (repairs.length > MAX_REPAIRS) repairs.shift()
  })
  const injected = (path: string, data: (() => unknown) | undefined): Route => ({
    method: 'GET',
    path: `${BASE}${path}`,
    async handler() {
      if (data === undefined) throw notImplemented(`this daemon was started without ${path.slice(1)}`)
      return ok(await data())
    },
  })
  const routes: Route[] = [
    {
      method: 'POST',
      path: `${BASE}/containers/:name/ports`,
      async handler(ctx) {
        const container = containers.get(ctx.param('name'))
        const added = await readPorts(ctx)
        const ports = await controller.addPorts(container.id, added)
        containers.notePorts(container.id, { added })
        return created({ ports: ports.map(bindingJson) })
      },
    },
    {
      method: 'DELETE',
      path: `${BASE}/containers/:name/ports`,
      async handler(ctx) {
        const container = containers.get(ctx.param('name'))
        const removed = await readPorts(ctx)
        await controller.removePorts(container.id, removed)
        containers.notePorts(container.id, { removed })
        return noContent
      },
    },
    {
      method: 'GET',
      path: `${BASE}/containers/:name/ports`,
      handler(ctx) {
        const container = containers.get(ctx.param('name'))
        return ok({ ports: (controller.sandboxOf(container.id)?.ports ?? []).map(bindingJson) })
      },
    },
    {
      method: 'POST',
      path: `${BASE}/images/bootstrap`,
      handler: (ctx) =>
        streamProgress(ctx, async (progress) => {
          progress({ status: 'Making busybox:latest from the busybox of this host' })
          progress({ status: 'Done', Id: await images.bootstrap() })
        }),
    },
    { method: 'GET', path: `${BASE}/repairs`, handler: () => ok({ repairs }) },
    injected('/veth', options.veth),
    injected('/debug/state', options.debugState),
    injected('/doctor', options.doctor),
    {
      method: 'POST',
      path: `${BASE}/shutdown`,
      handler(ctx) {
        const { shutdown } = options
        if (shutdown === undefined) throw notImplemented('this daemon cannot be shut down over the API: send it SIGTERM')
        ctx.res.once('finish', shutdown)
        return ok({ pid: process.pid }) // the socket closes first: whoever waits for the end waits for the process
      },
    },
    ...(options.extensions ?? []).map(extensionRoute),
  ]
  return { routes, close }
}

function extensionRoute(extension: Extension): Route {
  if (!extension.path.startsWith(`${BASE}/`)) throw new Error(`extension path "${extension.path}" is not below ${BASE}/`)
  return {
    method: extension.method,
    path: extension.path,
    async handler(ctx) {
      const { headers } = ctx
      const body = await readJson(ctx.bodyStream, {
        contentType: headers['content-type'],
        contentLength: headers['content-length'],
        transferEncoding: headers['transfer-encoding'],
      })
      const answer: unknown = await extension.handler(ctx.params, ctx.query, body, ctx.signal)
      return answer === undefined ? noContent : ok(answer)
    },
  }
}

async function readPorts(ctx: Context): Promise<PortRequest[]> {
  const { ports = [] } = await ctx.requiredJson(PORTS)
  if (ports.length === 0) throw badRequest('no ports given')
  return ports.map(({ proto = 'tcp', containerPort = 0, hostIp = '', hostPort = 0, hostPortEnd = hostPort }) => {
    if (proto !== 'tcp' && proto !== 'udp' && proto !== 'sctp')
      throw badRequest(`invalid protocol "${proto.slice(0, 20)}": expected tcp, udp or sctp`)
    if (containerPort < 1 || containerPort > 65_535) throw badRequest(`invalid port specification: "${containerPort}"`)
    if (hostPort < 0 || hostPort > 65_535 || hostPortEnd < hostPort || hostPortEnd > 65_535) {
      throw badRequest(`invalid port specification: "${hostPort}-${hostPortEnd}"`)
    }
    return { proto, containerPort, hostIp, hostPort, hostPortEnd }
  })
}

function bindingJson(binding: PortBinding): object {
  const { proto, containerPort, hostIp, hostPort, count } = binding
  return { proto, containerPort, hostIp, hostPort, count }
}

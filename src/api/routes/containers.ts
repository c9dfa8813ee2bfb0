/** Containers: everything that answers at once. Streams are in `streams.ts`, files in `copy.ts`. */

import type { Container, ContainerConfig, HostConfig } from '../../containers/types.ts'
import { selectContainers } from '../container-filters.ts'
import type { Context } from '../context.ts'
import { created, emptyOk, noContent, ok } from '../context.ts'
import { badRequest } from '../errors.ts'
import { checkPlatform } from '../platform.ts'
import { boolParam, boolParamOr, intParam, sizeParam } from '../query.ts'
import { containerJson, isLive } from '../shapes/container-shape.ts'
import { containerSummary, linkNames } from '../shapes/container-summary.ts'
import { CONTAINER_CONFIG, CREATE_CONTAINER, HOST_CONFIG, toCreateRequest } from '../shapes/create-request.ts'
import type { Answer, ApiOptions, Route, Streamed } from '../types.ts'
import { STREAMED } from '../types.ts'
import { orNull, type PruneAsk, type Pruned, pruneRoute, removeEach } from './prune.ts'

const PRUNE_FILTERS = ['until', 'label', 'label!']
const START_WITH_BODY = 'starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24'

/** What is asked of containers and answered at once: list, inspect, create, life cycle, update, rename, prune. */
export function containerRoutes(options: ApiOptions): Route[] {
  const { containers, controller, images } = options
  const post = (verb: string, act: (ref: string, ctx: Context) => Promise<Answer>): Route => ({
    method: 'POST',
    path: `/containers/:name/${verb}`,
    handler: (ctx) => act(ctx.param('name'), ctx),
  })
  const stopOptions = (ctx: Context): { timeoutSeconds?: number; signal?: string } => {
    const seconds = intParam(ctx.query, 't')
    const signal = ctx.version >= 42 ? ctx.q('signal') : ''
    return { ...(seconds === undefined ? {} : { timeoutSeconds: seconds }), ...(signal === '' ? {} : { signal }) }
  }

  return [
    {
      method: 'GET',
      path: '/containers/json',
      async handler(ctx) {
        const limit = intParam(ctx.query, 'limit') ?? 0
        const found = selectContainers({ filters: ctx.query.get('filters'), all: boolParam(ctx.query, 'all'), limit }, options)
        const names = linkNames(containers.list())
        const withSize = boolParam(ctx.query, 'size')
        const sources = { ...options, apiVersion: ctx.version }
        const summary = async (container: Container): Promise<object> => {
          if (!withSize) return containerSummary(container, sources, names)
          const size = await containers.sizeOf(container.id)
          return containerSummary(container, sources, names, { SizeRw: size.rw, SizeRootFs: size.rootFs })
        }
        return ok(await Promise.all(found.map(summary)))
      },
    },
    {
      method: 'POST',
      path: '/containers/create',
      async handler(ctx) {
        const body = await ctx.requiredJson(CREATE_CONTAINER)
        if (Object.keys(body).length === 0) throw badRequest('config cannot be empty in order to create a container')
        if (ctx.version >= 41) checkPlatform(ctx.q('platform'), body.Image ?? '', images.find(body.Image ?? ''))
        const { request, warnings } = toCreateRequest(body, ctx.q('name').replace(/^\//, ''), ctx.version, controller)
        const made = await containers.create(request)
        return created({ Id: made.id, Warnings: [...warnings, ...made.warnings] })
      },
    },
    {
      method: 'GET',
      path: '/containers/:name/json',
      async handler(ctx) {
        const container = containers.get(ctx.param('name'))
        const size = boolParam(ctx.query, 'size') ? await containers.sizeOf(container.id) : undefined
        return ok(containerJson(container, options, ctx.version, size))
      },
    },
    {
      method: 'GET',
      path: '/containers/:name/top',
      async handler(ctx) {
        const { titles, processes } = await containers.top(ctx.param('name'), ctx.q('ps_args') || '-ef')
        return ok({ Titles: titles, Processes: processes })
      },
    },
    {
      method: 'GET',
      path: '/containers/:name/changes',
      handler: async (ctx) => {
        const changes = await containers.changes(ctx.param('name'))
        return ok(changes.length === 0 ? null : changes)
      },
    },
    post('start', async (ref, ctx) => {
      const { 'content-length': length, 'transfer-encoding': encoding } = ctx.headers
      // shorter than the shortest object that says anything
      if (encoding !== undefined || Number(length ?? 0) > 7) throw badRequest(START_WITH_BODY)
      const detachKeys = ctx.q('detachKeys')
      await containers.start(ref, detachKeys === '' ? {} : { detachKeys })
      return noContent
    }),
    post('stop', async (ref, ctx) => {
      await containers.stop(ref, stopOptions(ctx))
      return noContent
    }),
    post('restart', async (ref, ctx) => {
      await containers.restart(ref, stopOptions(ctx))
      return noContent
    }),
    post('kill', async (ref, ctx) => {
      const signal = ctx.q('signal')
      await containers.kill(ref, signal === '' ? undefined : signal)
      return noContent
    }),
    post('pause', async (ref) => {
      await containers.pause(ref)
      return noContent
    }),
    post('unpause', async (ref) => {
      await containers.unpause(ref)
      return noContent
    }),
    post('rename', async (ref, ctx) => {
      await containers.rename(ref, ctx.q('name').replace(/^\//, ''))
      return noContent
    }),
    post('resize', async (ref, ctx) => {
      await containers.resize(ref, sizeParam(ctx.query, 'h'), sizeParam(ctx.query, 'w'))
      return emptyOk
    }),
    post('update', async (ref, ctx) => {
      const change = (await ctx.requiredJson(HOST_CONFIG)) as Partial<HostConfig>
      const { warnings } = await containers.update(ref, change)
      return ok({ Warnings: warnings.length === 0 ? null : warnings })
    }),
    { method: 'POST', path: '/commit', handler: (ctx) => commit(ctx, options) },
    {
      method: 'POST',
      path: '/containers/:name/wait',
      handler: (ctx) => wait(ctx, options),
    },
    {
      method: 'DELETE',
      path: '/containers/:name',
      async handler(ctx) {
        await containers.remove(ctx.param('name'), {
          force: boolParam(ctx.query, 'force'),
          volumes: boolParam(ctx.query, 'v'),
          link: boolParam(ctx.query, 'link'),
        })
        return noContent
      },
    },
    pruneRoute(options, 'container', PRUNE_FILTERS, (ask) => prune(ask, options)),
  ]
}

async function commit(ctx: Context, { containers }: ApiOptions): Promise<Answer> {
  const config = (await ctx.json(CONTAINER_CONFIG)) as ContainerConfig | undefined
  const { id } = await containers.commit(ctx.q('container'), {
    repo: ctx.q('repo'),
    tag: ctx.q('tag'),
    comment: ctx.q('comment'),
    author: ctx.q('author'),
    pause: boolParamOr(ctx.query, 'pause', true),
    changes: ctx.query.getAll('changes'),
    ...(config === undefined || Object.keys(config).length === 0 ? {} : { config }),
  })
  return created({ Id: id })
}

/** Answers when the condition is met. Since 1.30 the head goes out at once, so that a client knows the wait is registered. */
async function wait(ctx: Context, { containers }: ApiOptions): Promise<Streamed> {
  const condition = ctx.version < 30 ? 'not-running' : ctx.q('condition') || 'not-running'
  if (condition !== 'not-running' && condition !== 'next-exit' && condition !== 'removed') {
    throw badRequest(`invalid condition: "${condition.slice(0, 100)}"`)
  }
  const container = containers.get(ctx.param('name'))
  const ended = containers.wait(container.id, condition, ctx.signal)
  ended.catch(() => {}) // awaited below; the write between must not make it unhandled
  ctx.res.statusCode = 200
  ctx.res.setHeader('Content-Type', 'application/json')
  if (ctx.version >= 30) ctx.res.flushHeaders()
  let answer: object
  try {
    const { exitCode, error } = await ended
    answer = { StatusCode: exitCode, ...(error === undefined || error === '' ? {} : { Error: { Message: error } }) }
  } catch (error) {
    if (ctx.signal.aborted) return STREAMED
    answer = { StatusCode: -1, Error: { Message: error instanceof Error ? error.message : String(error) } }
  }
  ctx.res.end(`${JSON.stringify(answer)}\n`)
  return STREAMED
}

async function prune({ filters, until }: PruneAsk, { containers }: ApiOptions): Promise<Pruned> {
  const unused = containers
    .list()
    .filter(
      (container) =>
        !isLive(container.state) &&
        container.state.status !== 'removing' &&
        filters.labels(container.config.Labels ?? {}) &&
        (until === undefined || Date.parse(container.created) / 1000 <= until),
    )
  const { removed, reclaimed } = await removeEach(unused, async ({ id }) => {
    const size = await containers.sizeOf(id)
    await containers.remove(id, { force: false, volumes: false, link: false })
    return size.rw
  })
  return { reclaimed, body: { ContainersDeleted: orNull(removed.map(({ id }) => id)), SpaceReclaimed: reclaimed } }
}

/** Images: list, inspect, history, pull, import, load, save, tag, push, delete, prune. */

import type { ImageSummary, Progress } from '../../containers/types.ts'
import type { Context } from '../context.ts'
import { created, ok } from '../context.ts'
import { badRequest } from '../errors.ts'
import { selectImages } from '../image-filters.ts'
import { streamProgress } from '../progress.ts'
import { boolParam } from '../query.ts'
import { historyJson, imageJson, imageSummary, sharedSizes } from '../shapes/image-shape.ts'
import type { ApiOptions, Route, Streamed } from '../types.ts'
import { sendTar } from './copy.ts'
import { orNull, pruneRoute } from './prune.ts'

const PRUNE_FILTERS = ['dangling', 'label', 'label!', 'until']

/** List, inspect, pull, push, import, load, save, tag, remove and prune images. */
export function imageRoutes(options: ApiOptions): Route[] {
  const { images, clock } = options
  return [
    {
      method: 'GET',
      path: '/images/json',
      handler: (ctx) => {
        const found = selectImages(ctx.query.get('filters'), ctx.version < 41 ? ctx.q('filter') : '', images, clock.now())
        const shared = ctx.version >= 42 && boolParam(ctx.query, 'shared-size') ? sharedSizes(images.list()) : () => -1
        return ok(found.map((image) => ({ ...imageSummary(image, ctx.version), SharedSize: shared(image) })))
      },
    },
    { method: 'GET', path: '/images/:name/json', handler: (ctx) => ok(imageJson(images.get(ctx.param('name')), ctx.version)) },
    { method: 'GET', path: '/images/:name/history', handler: (ctx) => ok(historyJson(images.get(ctx.param('name')))) },
    { method: 'POST', path: '/images/create', handler: (ctx) => pullOrImport(ctx, options) },
    {
      method: 'POST',
      path: '/images/load',
      handler: (ctx) => {
        const isQuiet = boolParam(ctx.query, 'quiet')
        const load = (progress: Progress) =>
          images.load(ctx.bodyStream, isQuiet ? (line) => void ('progressDetail' in line || progress(line)) : progress)
        return streamProgress(ctx, load, { failsInside: true })
      },
    },
    {
      method: 'GET',
      path: '/images/get',
      handler: (ctx) => {
        const names = ctx.query
          .getAll('names')
          .flatMap((value) => value.split(','))
          .filter((name) => name !== '')
        if (names.length === 0) throw badRequest('no image names given')
        return save(ctx, options, names)
      },
    },
    { method: 'GET', path: '/images/:name/get', handler: (ctx) => save(ctx, options, [ctx.param('name')]) },
    {
      method: 'POST',
      path: '/images/:name/tag',
      async handler(ctx) {
        if (ctx.q('repo') === '') throw badRequest('invalid reference format: repo is empty')
        await images.tag(ctx.param('name'), ctx.q('repo'), ctx.q('tag') || 'latest')
        return created(undefined)
      },
    },
    {
      method: 'POST',
      path: '/images/:name/push',
      handler: (ctx) => {
        const auth = registryAuth(ctx)
        return streamProgress(ctx, (progress) => images.push(ctx.param('name'), ctx.q('tag'), auth, progress, ctx.signal))
      },
    },
    {
      method: 'DELETE',
      path: '/images/:name',
      handler: async (ctx) =>
        ok(await images.remove(ctx.param('name'), { force: boolParam(ctx.query, 'force'), noPrune: boolParam(ctx.query, 'noprune') })),
    },
    pruneRoute(options, 'image', PRUNE_FILTERS, async ({ filters, until }) => {
      const { deleted, reclaimed } = await images.prune({
        dangling: filters.bool('dangling') ?? true,
        ...(until === undefined ? {} : { until }),
        matches: (labels) => filters.labels(labels),
      })
      return { reclaimed, body: { ImagesDeleted: orNull(deleted), SpaceReclaimed: reclaimed } }
    }),
  ]
}

function save(ctx: Context, { images }: ApiOptions, names: readonly string[]): Promise<Streamed> {
  const found: readonly ImageSummary[] = names.map((name) => images.get(name)) // all or nothing, before the head goes out
  return images.save(found.length === 0 ? [] : names).then((tar) => sendTar(ctx, tar, {}))
}

async function pullOrImport(ctx: Context, { images }: ApiOptions): Promise<Streamed> {
  const source = ctx.q('fromSrc')
  if (source !== '') {
    const repo = ctx.q('repo')
    const tag = ctx.q('tag')
    const changes = ctx.query.getAll('changes')
    const request = {
      ...(repo === '' ? {} : { repo }),
      ...(tag === '' ? {} : { tag }),
      ...(changes.length === 0 ? {} : { changes }),
      message: ctx.q('message') || `Imported from ${source}`,
    }
    return streamProgress(ctx, async (progress) => {
      const id =
        source === '-' ? await images.import(ctx.bodyStream, request) : await images.importUrl(source, request, progress, ctx.signal)
      progress({ status: id })
    })
  }
  const ref = ctx.q('fromImage')
  if (ref === '') throw badRequest('invalid reference format: fromImage is empty')
  const auth = registryAuth(ctx)
  return streamProgress(ctx, (progress) => images.pull(ref, ctx.q('tag'), auth, progress, ctx.signal, ctx.q('platform')))
}

/** Credentials of `X-Registry-Auth`: JSON in base64 (either alphabet). An unreadable header means none, as in Docker. */
function registryAuth(ctx: Context): { username?: string; password?: string } | undefined {
  const header = ctx.headers['x-registry-auth']
  if (typeof header !== 'string' || header === '') return undefined
  try {
    const value = JSON.parse(Buffer.from(header, 'base64').toString('utf8')) as { username?: unknown; password?: unknown }
    const { username, password } = value ?? {}
    if (typeof username !== 'string' || username === '') return undefined
    return { username, ...(typeof password === 'string' ? { password } : {}) }
  } catch {
    return undefined // not JSON
  }
}

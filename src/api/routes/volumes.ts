import { created, noContent, ok } from '../context.ts'
import { object, str, strMap } from '../decode.ts'
import { notImplemented } from '../errors.ts'
import { Filters } from '../filters.ts'
import { boolParam } from '../query.ts'
import { volumeJson } from '../shapes/volume-shape.ts'
import type { ApiOptions, Route } from '../types.ts'
import { orNull, type PruneAsk, type Pruned, pruneRoute, removeEach } from './prune.ts'

const CREATE = object({ Name: str, Driver: str, DriverOpts: strMap, Labels: strMap })
const LIST_FILTERS = ['dangling', 'driver', 'label', 'name']
const PRUNE_FILTERS = ['all', 'label', 'label!']

/** Volumes: list, create, inspect, remove, prune; cluster volumes are refused. */
export function volumeRoutes(options: ApiOptions): Route[] {
  const { volumes } = options
  return [
    {
      method: 'GET',
      path: '/volumes',
      handler(ctx) {
        const filters = Filters.parse(ctx.query.get('filters'), LIST_FILTERS)
        const dangling = filters.bool('dangling')
        const found = volumes
          .list()
          .filter(
            (volume) =>
              filters.exact('driver', volume.driver) &&
              filters.matches('name', volume.name) &&
              filters.labels(volume.labels) &&
              (dangling === undefined || dangling === (volumes.usersOf(volume.name).length === 0)),
          )
        return ok({ Volumes: found.map(volumeJson), Warnings: null })
      },
    },
    {
      method: 'POST',
      path: '/volumes/create',
      async handler(ctx) {
        const body = (await ctx.json(CREATE)) ?? {}
        const volume = await volumes.create({
          ...(body.Name === undefined || body.Name === '' ? {} : { name: body.Name }),
          ...(body.Driver === undefined || body.Driver === '' ? {} : { driver: body.Driver }),
          ...(body.Labels === undefined ? {} : { labels: body.Labels }),
          ...(body.DriverOpts === undefined ? {} : { options: body.DriverOpts }),
        })
        return created(volumeJson(volume))
      },
    },
    { method: 'GET', path: '/volumes/:name', handler: (ctx) => ok(volumeJson(volumes.get(ctx.param('name')))) },
    {
      method: 'DELETE',
      path: '/volumes/:name',
      async handler(ctx) {
        await volumes.remove(ctx.param('name'), boolParam(ctx.query, 'force'))
        return noContent
      },
    },
    {
      method: 'PUT',
      path: '/volumes/:name',
      handler() {
        throw notImplemented('Causeway has no cluster volumes: remove the volume and create it anew')
      },
    },
    pruneRoute(options, 'volume', PRUNE_FILTERS, (ask) => prune(ask, volumes)),
  ]
}

async function prune({ filters, version }: PruneAsk, volumes: ApiOptions['volumes']): Promise<Pruned> {
  // Since 1.42 only anonymous volumes go, unless all are asked for.
  const takesNamed = version < 42 || (filters.bool('all') ?? false)
  const unused = volumes
    .list()
    .filter((volume) => (takesNamed || volume.anonymous) && volumes.usersOf(volume.name).length === 0 && filters.labels(volume.labels))
  const { removed, reclaimed } = await removeEach(unused, async ({ name }) => {
    const bytes = await volumes.sizeOf(name)
    await volumes.remove(name, false)
    return bytes
  })
  return { reclaimed, body: { VolumesDeleted: orNull(removed.map(({ name }) => name)), SpaceReclaimed: reclaimed } }
}

/** Volumes of the local driver. */
import { NetError } from '../../base/errors.ts'
import { created, noContent, ok } from '../context.ts'
import { object, str, strMap } from '../decode.ts'
import { notImplemented } from '../errors.ts'
import { Filters } from '../filters.ts'
import { boolParam } from '../query.ts'
import { volumeJson } from '../shapes/volume-shape.ts'
import type { ApiOptions, Route } from '../types.ts'

const CREATE = object({ Name: str, Driver: str, DriverOpts: strMap, Labels: strMap })
const LIST_FILTERS = ['dangling', 'driver', 'label', 'name']
const PRUNE_FILTERS = ['all', 'label', 'label!']

export function volumeRoutes({ volumes, events }: ApiOptions): Route[] {
  let pruning = false
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
    {
      method: 'POST',
      path: '/volumes/prune',
      since: '1.25',
      async handler(ctx) {
        const filters = Filters.parse(ctx.query.get('filters'), PRUNE_FILTERS)
        // Since 1.42 only anonymous volumes go, unless all are asked for.
        const named = ctx.version < 42 || (filters.bool('all') ?? false)
        if (pruning) throw new NetError('conflict', 'a prune operation is already running')
        pruning = true
        try {
          const deleted: string[] = []
          let reclaimed = 0
          for (const volume of [...volumes.list()]) {
            if (!(named || volume.anonymous) || volumes.usersOf(volume.name).length > 0 || !filters.labels(volume.labels)) continue
            try {
              const size = await volumes.sizeOf(volume.name)
              await volumes.remove(volume.name, false)
              deleted.push(volume.name)
              reclaimed += size
            } catch (error) {
              // Came into use, or was removed, since we looked.
              if (!(error instanceof NetError && ['conflict', 'not-found', 'busy'].includes(error.code))) throw error
            }
          }
          if (ctx.version >= 41)
            events.publish({ Type: 'volume', Action: 'prune', Actor: { ID: '', Attributes: { reclaimed: String(reclaimed) } } })
          return ok({ VolumesDeleted: deleted.length === 0 ? null : deleted, SpaceReclaimed: reclaimed })
        } finally {
          pruning = false
        }
      },
    },
  ]
}

/** `POST /<kind>s/prune`, which containers, networks, volumes and images have in common. */
import { type ErrorCode, NetError } from '../../base/errors.ts'
import { ok } from '../context.ts'
import { Filters } from '../filters.ts'
import type { ApiOptions, Route } from '../types.ts'

/** What a prune is asked for. */
export interface PruneAsk {
  readonly filters: Filters
  /** Unix seconds: only what was made before. */
  readonly until: number | undefined
  /** Minor API version of the client. */
  readonly version: number
}

export interface Pruned {
  /** Bytes, for the event. */
  readonly reclaimed: number
  /** The answer as Docker spells it. */
  readonly body: object
}

/**
 * The route for one kind of object. A second prune of that kind while the first runs is refused with Docker's text (409); clients from
 * 1.41 on see an event.
 */
export function pruneRoute(
  { events, clock }: Pick<ApiOptions, 'events' | 'clock'>,
  kind: 'container' | 'network' | 'volume' | 'image',
  filterNames: readonly string[],
  prune: (ask: PruneAsk) => Promise<Pruned>,
): Route {
  let isRunning = false
  return {
    method: 'POST',
    path: `/${kind}s/prune`,
    since: '1.25',
    async handler(ctx) {
      const filters = Filters.parse(ctx.query.get('filters'), filterNames)
      const until = filters.until(clock.now())
      if (isRunning) throw new NetError('conflict', 'a prune operation is already running')
      isRunning = true
      try {
        const { reclaimed, body } = await prune({ filters, until, version: ctx.version })
        if (ctx.version >= 41)
          events.publish({ Type: kind, Action: 'prune', Actor: { ID: '', Attributes: { reclaimed: String(reclaimed) } } })
        return ok(body)
      } finally {
        isRunning = false
      }
    },
  }
}

/**
 * Removes one after the other. Something that came into use, or was removed, since it was looked at is passed over, as if it had been
 * looked at later: `remove` then throws one of these codes. Returns what went, and the sum of what `remove` gave (bytes).
 */
export async function removeEach<T>(
  unused: readonly T[],
  remove: (one: T) => Promise<number>,
  inUseNow: readonly ErrorCode[] = ['conflict', 'not-found', 'busy'],
): Promise<{ removed: T[]; reclaimed: number }> {
  const removed: T[] = []
  let reclaimed = 0
  for (const one of unused) {
    try {
      reclaimed += await remove(one)
      removed.push(one)
    } catch (error) {
      if (!(error instanceof NetError && inUseNow.includes(error.code))) throw error
    }
  }
  return { removed, reclaimed }
}

/** Docker says null where nothing was removed. */
export const orNull = <T>(list: readonly T[]): readonly T[] | null => (list.length === 0 ? null : list)

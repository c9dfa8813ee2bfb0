/** `/events`: what has happened and what happens, as JSON lines. */
import type { EngineEvent } from '../../containers/types.ts'
import type { Context } from '../context.ts'
import { badRequest } from '../errors.ts'
import { eventTest } from '../event-filters.ts'
import { parseTime } from '../times.ts'
import type { ApiOptions, Route, Streamed } from '../types.ts'
import { STREAMED } from '../types.ts'

/** A client this far behind is cut off: it can come back with `since`, and no queue grows without bound. */
const MAX_QUEUED = 4096
/** Longest sleep a timer takes. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** `/events`: what has happened, and what happens until the client leaves. */
export function eventRoutes(options: ApiOptions): Route[] {
  return [{ method: 'GET', path: '/events', handler: (ctx) => stream(ctx, options) }]
}

async function stream(ctx: Context, { events, clock }: ApiOptions): Promise<Streamed> {
  const now = clock.now()
  const since = eventTime(ctx, 'since', now)
  const until = eventTime(ctx, 'until', now)
  if (until !== undefined && since !== undefined && until < since)
    throw badRequest(`\`since\` time (${ctx.q('since')}) cannot be after \`until\` time (${ctx.q('until')})`)
  const wanted = eventTest(ctx.query.get('filters'))
  const inTime = (event: EngineEvent): boolean =>
    (since === undefined || event.timeNano / 1e9 >= since) && (until === undefined || event.timeNano / 1e9 <= until)

  const queue: EngineEvent[] = []
  let wake: () => void = () => {}
  let overrun = false
  // Subscribed before the history is read, in the same turn: nothing falls between the two.
  const unsubscribe = events.subscribe((event) => {
    if (!wanted(event) || !inTime(event)) return
    if (queue.length < MAX_QUEUED) queue.push(event)
    else overrun = true
    wake()
  })
  if (since !== undefined || until !== undefined) {
    queue.push(...events.history().filter((event) => wanted(event) && inTime(event)))
  }
  let over = until !== undefined && until * 1000 <= now
  const cancelTimer =
    until === undefined || over
      ? () => {}
      : clock.after(Math.min(until * 1000 - now, MAX_TIMER_MS), () => {
          over = true
          wake()
        })
  ctx.begin(200, { 'Content-Type': 'application/json' })
  ctx.signal.addEventListener('abort', () => wake(), { once: true })
  try {
    for (;;) {
      while (queue.length > 0) await ctx.write(`${JSON.stringify(eventJson(queue.shift() as EngineEvent, ctx.version))}\n`)
      if (over || overrun || ctx.signal.aborted) break
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  } catch (error) {
    if (!ctx.signal.aborted) throw error
  } finally {
    unsubscribe()
    cancelTimer()
  }
  if (overrun) ctx.res.destroy()
  else ctx.end()
  return STREAMED
}

/** Unlike for logs, "0" is the beginning of time: all of the history. */
function eventTime(ctx: Context, name: string, nowMs: number): number | undefined {
  const text = ctx.q(name)
  return text === '' ? undefined : parseTime(name, text, nowMs)
}

/** Containers and images also carry the fields of before 1.22, which some clients still read; gone in 1.52. */
function eventJson(event: EngineEvent, version: number): object {
  const { Type, Action, Actor, scope, time, timeNano } = event
  const isOld = version < 52 && (Type === 'container' || Type === 'image')
  const from = Type === 'container' ? Actor.Attributes['image'] : undefined
  return {
    ...(isOld ? { status: Action, id: Actor.ID, ...(from === undefined ? {} : { from }) } : {}),
    Type,
    Action,
    Actor,
    scope,
    time,
    timeNano,
  }
}

/** Containers: logs, stats, attach, attach over WebSocket. */
import type { LogOptions } from '../../containers/types.ts'
import type { Context } from '../context.ts'
import { ok } from '../context.ts'
import { badRequest } from '../errors.ts'
import { frame, streamContentType } from '../frames.ts'
import { logAttributes } from '../log-attributes.ts'
import { openSession } from '../open-session.ts'
import { pumpSession } from '../pump.ts'
import { boolParam, boolParamOr } from '../query.ts'
import { statsJson } from '../shapes/stats.ts'
import { timeParam } from '../times.ts'
import type { ApiOptions, Route, Streamed } from '../types.ts'
import { STREAMED } from '../types.ts'
import { checkHandshake, encodeMessage, handshakeResponse, messageDecoder } from '../websocket.ts'

const STATS_INTERVAL_MS = 1000

/** Logs, attach and stats: answers that go on until the container ends or the client leaves. */
export function streamRoutes(options: ApiOptions): Route[] {
  const path = (verb: string): string => `/containers/:name/${verb}`
  return [
    { method: 'GET', path: path('logs'), handler: (ctx) => logs(ctx, options) },
    { method: 'GET', path: path('stats'), handler: (ctx) => stats(ctx, options) },
    { method: 'POST', path: path('attach'), handler: (ctx) => attach(ctx, options) },
    { method: 'GET', path: path('attach/ws'), handler: (ctx) => attachWebSocket(ctx, options) },
  ]
}

async function logs(ctx: Context, { containers, clock }: ApiOptions): Promise<Streamed> {
  const stdout = boolParam(ctx.query, 'stdout')
  const stderr = boolParam(ctx.query, 'stderr')
  if (!stdout && !stderr) throw badRequest('Bad parameters: you must choose at least one stream')
  const container = containers.get(ctx.param('name'))
  const since = timeParam(ctx.query, 'since', clock.now())
  const until = timeParam(ctx.query, 'until', clock.now())
  const tail = ctx.q('tail')
  const request: LogOptions = {
    stdout,
    stderr,
    follow: boolParam(ctx.query, 'follow'),
    timestamps: boolParam(ctx.query, 'timestamps'),
    ...(boolParam(ctx.query, 'details') ? { details: `${logAttributes(container)} ` } : {}),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
    // Anything that is not a number means all, as in Docker.
    ...(/^\d{1,9}$/.test(tail) ? { tail: Number(tail) } : {}),
  }
  const multiplexed = container.config.Tty !== true
  const headers = { 'Content-Type': streamContentType(multiplexed, ctx.version) }
  const chunks = containers.logs(container.id, request, ctx.signal)[Symbol.asyncIterator]()
  try {
    // Following a silent container: the head must not wait for the first line. Otherwise an early failure may still be an answer.
    if (request.follow) ctx.begin(200, headers)
    for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
      if (!ctx.res.headersSent) ctx.begin(200, headers)
      await ctx.write(multiplexed ? frame(next.value.stream, next.value.data) : next.value.data)
    }
    if (!ctx.res.headersSent) ctx.begin(200, headers)
    ctx.end()
  } catch (error) {
    if (ctx.signal.aborted) return STREAMED
    if (!ctx.res.headersSent) throw error
    const text = Buffer.from(`Error grabbing logs: ${error instanceof Error ? error.message : String(error)}\n`)
    ctx.res.end(multiplexed ? frame('systemerr', text) : text)
  } finally {
    await chunks.return?.()
  }
  return STREAMED
}

async function stats(ctx: Context, { containers, clock }: ApiOptions): Promise<Streamed | ReturnType<typeof ok>> {
  const container = containers.get(ctx.param('name'))
  const isStream = boolParamOr(ctx.query, 'stream', true)
  const isOneShot = boolParam(ctx.query, 'one-shot') && ctx.version >= 41
  if (isStream && isOneShot) throw badRequest('cannot have stream=true and one-shot=true')
  if (!isStream) {
    const first = isOneShot ? undefined : await containers.stats(container.id)
    if (first !== undefined) await clock.sleep(STATS_INTERVAL_MS, ctx.signal)
    return ok(statsJson(container, await containers.stats(container.id), first))
  }
  let previous: Record<string, unknown> | undefined
  try {
    for (;;) {
      const sample = await containers.stats(container.id)
      if (!ctx.res.headersSent) ctx.begin(200, { 'Content-Type': 'application/json' })
      await ctx.write(`${JSON.stringify(statsJson(container, sample, previous))}\n`)
      previous = sample
      await clock.sleep(STATS_INTERVAL_MS, ctx.signal)
    }
  } catch (error) {
    if (ctx.signal.aborted) return STREAMED
    if (!ctx.res.headersSent) throw error
    ctx.end() // the container is gone: that is the end of the stream
  }
  return STREAMED
}

interface AttachRequest {
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
  readonly stream: boolean
  readonly logs: boolean
  readonly detachKeys?: string
}

function attachRequest(ctx: Context): AttachRequest {
  const detachKeys = ctx.q('detachKeys')
  return {
    stdin: boolParam(ctx.query, 'stdin'),
    stdout: boolParam(ctx.query, 'stdout'),
    stderr: boolParam(ctx.query, 'stderr'),
    stream: boolParam(ctx.query, 'stream'),
    logs: boolParam(ctx.query, 'logs'),
    ...(detachKeys === '' ? {} : { detachKeys }),
  }
}

async function attach(ctx: Context, options: ApiOptions): Promise<Streamed> {
  const request = attachRequest(ctx)
  const container = options.containers.get(ctx.param('name'))
  // Taken before anything is awaited: input that follows the request must not reach the HTTP parser.
  const wire = ctx.hijack()
  const session = await openSession(wire, options, () => options.containers.attach(container.id, request))
  if (session === undefined) return STREAMED
  const multiplexed = !session.tty
  wire.accept(streamContentType(multiplexed && wire.upgraded, ctx.version))
  await pumpSession(wire, session, { multiplexed, sendInput: request.stdin && request.stream, clock: options.clock })
  return STREAMED
}

async function attachWebSocket(ctx: Context, options: ApiOptions): Promise<Streamed> {
  const request = attachRequest(ctx)
  const container = options.containers.get(ctx.param('name'))
  const key = checkHandshake(ctx.headers)
  const wire = ctx.hijack()
  const session = await openSession(wire, options, () => options.containers.attach(container.id, { ...request, stream: true }))
  if (session === undefined) return STREAMED
  wire.socket.write(handshakeResponse(key))
  const input = wire.socket.pipe(messageDecoder(wire))
  await pumpSession({ ...wire, input }, session, {
    multiplexed: false,
    sendInput: request.stdin,
    clock: options.clock,
    encode: (data) => encodeMessage(data),
  })
  return STREAMED
}

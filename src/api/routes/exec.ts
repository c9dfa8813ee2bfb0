/** Exec: create, start (hijacked or detached), resize, inspect. */
import { messageOf } from '../../base/errors.ts'
import type { ExecConfig } from '../../containers/types.ts'
import type { Context } from '../context.ts'
import { created, emptyOk, ok } from '../context.ts'
import { bool, int, list, object, str, strOrList } from '../decode.ts'
import { badRequest } from '../errors.ts'
import { frame, streamContentType } from '../frames.ts'
import { openSession } from '../open-session.ts'
import { pumpSession } from '../pump.ts'
import { sizeParam } from '../query.ts'
import type { Answer, ApiOptions, Route, Streamed } from '../types.ts'
import { STREAMED } from '../types.ts'

const CREATE = object({
  AttachStdin: bool,
  AttachStdout: bool,
  AttachStderr: bool,
  DetachKeys: str,
  Tty: bool,
  Env: list(str),
  Cmd: strOrList,
  Privileged: bool,
  User: str,
  WorkingDir: str,
  ConsoleSize: list(int),
})
const START = object({ Detach: bool, Tty: bool, ConsoleSize: list(int) })

/** `docker exec`: create, start, inspect, resize. */
export function execRoutes(options: ApiOptions): Route[] {
  const { containers } = options
  return [
    {
      method: 'POST',
      path: '/containers/:name/exec',
      async handler(ctx) {
        const { ConsoleSize, ...body } = await ctx.requiredJson(CREATE)
        if ((body.Cmd ?? []).length === 0) throw badRequest('no exec command specified')
        const size = ctx.version < 42 ? undefined : consoleSize(ConsoleSize)
        const config: ExecConfig = { ...body, ...(size === undefined ? {} : { ConsoleSize: size }) }
        return created({ Id: await containers.execCreate(ctx.param('name'), config) })
      },
    },
    { method: 'POST', path: '/exec/:id/start', handler: (ctx) => start(ctx, options) },
    {
      method: 'POST',
      path: '/exec/:id/resize',
      async handler(ctx) {
        await containers.execResize(ctx.param('id'), sizeParam(ctx.query, 'h'), sizeParam(ctx.query, 'w'))
        return emptyOk
      },
    },
    {
      method: 'GET',
      path: '/exec/:id/json',
      handler(ctx) {
        const exec = containers.execInspect(ctx.param('id'))
        const { config } = exec
        const [entrypoint = '', ...args] = config.Cmd ?? []
        return ok({
          ID: exec.id,
          Running: exec.running,
          ExitCode: exec.exitCode,
          ProcessConfig: {
            tty: config.Tty ?? false,
            entrypoint,
            arguments: args,
            privileged: config.Privileged ?? false,
            ...(config.User === undefined || config.User === '' ? {} : { user: config.User }),
          },
          OpenStdin: config.AttachStdin ?? false,
          OpenStderr: config.AttachStderr ?? false,
          OpenStdout: config.AttachStdout ?? false,
          CanRemove: false,
          ContainerID: exec.containerId,
          DetachKeys: config.DetachKeys ?? '',
          Pid: exec.pid,
        })
      },
    },
  ]
}

async function start(ctx: Context, options: ApiOptions): Promise<Answer | Streamed> {
  const { containers, clock } = options
  const body = (await ctx.json(START)) ?? {}
  const exec = containers.execInspect(ctx.param('id'))
  const size = ctx.version < 42 ? undefined : consoleSize(body.ConsoleSize)
  const request = {
    detach: body.Detach ?? false,
    ...(body.Tty === undefined ? {} : { tty: body.Tty }),
    ...(size === undefined ? {} : { consoleSize: size }),
  }
  if (request.detach) {
    await containers.execStart(exec.id, request)
    return emptyOk
  }
  const wire = ctx.hijack()
  // the start's own word decides, not the terminal that the process gets: docker-py asks for frames of a terminal's output
  const multiplexed = body.Tty !== true
  // The head goes out before the process exists, as Docker's does: docker-py loses output that comes in one piece with it. A command
  // that cannot be run is then told in the stream, and by the exit code.
  let accepted = false
  const onLaunch = (): void => {
    accepted = true
    wire.accept(streamContentType(multiplexed && wire.upgraded, ctx.version))
  }
  const session = await openSession(wire, options, async () => {
    try {
      const opened = await containers.execStart(exec.id, { ...request, onLaunch })
      if (opened === undefined) throw badRequest(`exec ${exec.id} has no streams to attach to`)
      return opened
    } catch (error) {
      if (!accepted) throw error
      const text = Buffer.from(`${messageOf(error)}\r\n`)
      wire.socket.end(multiplexed ? frame('stdout', text) : text)
      wire.input.resume()
      return undefined
    }
  })
  if (session === undefined) return STREAMED
  await pumpSession(wire, session, { multiplexed, sendInput: exec.config.AttachStdin ?? false, clock })
  return STREAMED
}

/** Rows and columns; Docker sends `[0, 0]` for "unknown". Throws `invalid` when it is not a pair. */
function consoleSize(given: readonly number[] | undefined): [number, number] | undefined {
  if (given === undefined || given.length === 0) return undefined
  const [rows = 0, columns = 0] = given
  if (given.length !== 2 || rows < 0 || columns < 0 || rows > 65_535 || columns > 65_535) throw badRequest('invalid console size')
  return rows === 0 && columns === 0 ? undefined : [rows, columns]
}

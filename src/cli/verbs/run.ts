/** `run` and `create`. */
import { existsSync, writeFileSync } from 'node:fs'
import { messageOf, NetError } from '../../base/errors.ts'
import { statusOf } from '../../client/transport.ts'
import type { ContainerCreateBody } from '../../client/types.ts'
import { CONTAINER_OPTIONS, type ContainerOptions } from '../args/container-options.ts'
import { type Attached, attachedStreams, createBody } from '../args/create-body.ts'
import { defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { fail } from '../fail.ts'
import { withTag } from '../image-name.ts'
import { flag, flagOn, text } from '../options.ts'
import { checkTty, followWindowSize, forwardSignals, interact } from '../session/streams.ts'
import { pullImage } from './image-transfer.ts'

/** Docker's code for "the engine could not do it", and for a command that cannot be run or found. */
const FAILED = 125
const CANNOT_RUN = 126
const NOT_FOUND = 127

const PULLS = ['always', 'missing', 'never']

export const create = defineCommand({
  path: 'create',
  aliases: ['container create'],
  summary: 'Create a new container without starting it',
  usage: '[OPTIONS] IMAGE [COMMAND] [ARG...]',
  args: [1, Number.POSITIVE_INFINITY],
  passThrough: true,
  failureCode: FAILED,
  options: CONTAINER_OPTIONS,
  examples: [{ line: 'causeway create --name web -p 8080:80 --network front busybox httpd -f' }],
  run: async (context, [image = '', ...command], options) => {
    const body = createBody(image, command, options, attachedStreams(options, false), context.env)
    context.print(await createContainer(context, image, body, options))
    return 0
  },
})

export const run = defineCommand({
  path: 'run',
  aliases: ['container run'],
  summary: 'Create and run a new container from an image',
  usage: '[OPTIONS] IMAGE [COMMAND] [ARG...]',
  args: [1, Number.POSITIVE_INFINITY],
  passThrough: true,
  failureCode: FAILED,
  options: {
    ...CONTAINER_OPTIONS,
    detach: flag('d', 'Run in the background and print the container ID'),
    'detach-keys': text('', 'Keys that let go of the container (default "ctrl-p,ctrl-q")'),
    'sig-proxy': flagOn('', 'Pass the signals we get to the container'),
  },
  examples: [
    { line: 'causeway run --rm -it busybox sh', why: 'A shell in a new container that is gone afterwards' },
    {
      line: 'causeway run -d --name web --network front -p 8080:80 busybox httpd -f -p 80',
      why: 'A server on a network of its own, published on port 8080',
    },
    {
      line: 'causeway run -d --network name=front,ip=10.1.0.5,alias=db --network name=back,gw-priority=1 busybox sleep 1d',
      why: 'On two networks; "back" gives the default route',
    },
    {
      line: 'causeway run -p 127.0.0.1:5300:53/udp -p [::1]:8000-8010:8000-8010 busybox sleep 1d',
      why: 'Published on loopback only, and a range',
    },
  ],
  run: async (context, [image = '', ...command], options) => {
    if (options.detach && options.attach.length > 0)
      throw fail('conflicting options: cannot specify both --attach and --detach', { bare: true, exitCode: 1 })
    const attached = attachedStreams(options, options.detach)
    if (!options.detach) checkTty(context, attached.stdin, options.tty)
    const body = createBody(image, command, options, attached, context.env)
    if (options.tty && context.stdout.rows !== undefined)
      body.HostConfig['ConsoleSize'] = [context.stdout.rows, context.stdout.columns ?? 0]
    const id = await createContainer(context, image, body, options)
    return options.detach ? startDetached(context, id, options['detach-keys']) : runAttached(context, id, attached, options)
  },
})

interface RunOptions extends ContainerOptions {
  readonly 'detach-keys': string | undefined
  readonly 'sig-proxy': boolean
}

async function createContainer(context: Context, image: string, body: ContainerCreateBody, options: ContainerOptions): Promise<string> {
  const pull = options.pull ?? 'missing'
  if (!PULLS.includes(pull)) throw fail(`invalid pull option: '${pull}': must be one of "always", "missing" or "never"`)
  if (options.cidfile !== undefined && existsSync(options.cidfile))
    throw fail(`container ID file found, make sure the other container isn't running or delete ${options.cidfile}`)
  const { client } = context
  const send = () => client.containers.create(body, { name: options.name, platform: options.platform })
  const fetchImage = () => pullImage(context, withTag(image), { quiet: options.quiet, platform: options.platform, out: context.stderr })
  if (pull === 'always') await fetchImage()
  let created: { Id: string; Warnings: string[] | null }
  try {
    created = await send()
  } catch (error) {
    // Docker words this `No such image: x`; a missing network or volume is a 404 too, and no reason to pull.
    if (pull !== 'missing' || statusOf(error) !== 404 || !/no such image/i.test(messageOf(error))) throw error
    if (!options.quiet) context.warn(`Unable to find image '${withTag(image)}' locally`)
    try {
      await fetchImage()
    } catch (cause) {
      if (!/^busybox(:latest)?$/.test(image) || !(cause instanceof NetError)) throw cause
      const hint = '`causeway image bootstrap` makes busybox:latest from what this machine has'
      throw new NetError(cause.code, `${cause.message}\n${hint}`, cause.detail, cause)
    }
    created = await send()
  }
  for (const warning of created.Warnings ?? []) context.warn(`WARNING: ${warning}`)
  if (options.cidfile !== undefined) writeFileSync(options.cidfile, created.Id)
  return created.Id
}

async function startDetached(context: Context, id: string, detachKeys: string | undefined): Promise<number> {
  await start(context, id, detachKeys)
  context.print(id)
  return 0
}

async function start(context: Context, id: string, detachKeys: string | undefined): Promise<void> {
  try {
    await context.client.containers.start(id, { detachKeys })
  } catch (error) {
    throw error instanceof NetError
      ? new NetError(error.code, error.message, { ...error.detail, exitCode: startFailureCode(error.message) } as object, error)
      : error
  }
}

/** 127 when there is no such command in the container, 126 when it cannot be executed, else 125. */
function startFailureCode(message: string): number {
  if (/executable file not found|no such file or directory|system cannot find the file/.test(message)) return NOT_FOUND
  if (/permission denied|is a directory/.test(message)) return CANNOT_RUN
  return FAILED
}

async function runAttached(context: Context, id: string, attached: Attached, options: RunOptions): Promise<number> {
  const { containers } = context.client
  const usesStreams = attached.stdin || attached.stdout || attached.stderr
  const stopSignals = options['sig-proxy'] ? forwardSignals(context, (signal) => containers.kill(id, signal)) : () => {}
  const stopAll = new AbortController()
  let stopResize = () => {}
  try {
    const detachKeys = options['detach-keys']
    // Attach and wait before the start: otherwise the first output or a quick exit is lost.
    const hijacked = usesStreams ? await containers.attach(id, { stream: true, ...attached, detachKeys }) : undefined
    const waiting = new Promise<() => Promise<{ exitCode: number; error?: string }>>((opened, failed) => {
      const result = containers.wait(id, options.rm ? 'removed' : 'next-exit', {
        signal: stopAll.signal,
        opened: () => opened(() => result),
      })
      result.catch(failed)
    })
    waiting.catch(() => undefined)
    await openedSoon(waiting, context)
    const session =
      hijacked === undefined
        ? undefined
        : interact(hijacked, {
            tty: options.tty,
            stdin: attached.stdin ? context.stdin : undefined,
            outputs: { stdout: attached.stdout ? context.stdout : undefined, stderr: attached.stderr ? context.stderr : undefined },
            detachKeys,
          })
    session?.catch(() => undefined)
    try {
      await start(context, id, detachKeys)
    } catch (error) {
      hijacked?.socket.destroy()
      await session?.catch(() => undefined)
      throw error
    }
    if (options.tty && context.stdout.isTTY === true)
      stopResize = followWindowSize(context, (rows, columns) => containers.resize(id, rows, columns))
    if (session !== undefined && (await session) === 'detached') return 0
    const { exitCode, error } = await (await waiting)()
    if (error !== undefined && error !== '') context.warn(`error waiting for container: ${error}`)
    return exitCode
  } finally {
    stopAll.abort()
    stopResize()
    stopSignals()
  }
}

/**
 * The wait request must be known to the engine before the start. Engines send its head at once; one that does not
 * (it may hold the head back until there is a body) is given 200 ms.
 */
async function openedSoon(waiting: Promise<unknown>, context: Context): Promise<void> {
  const enough = new AbortController()
  const patience = context.clock.sleep(200, enough.signal).catch(() => undefined)
  await Promise.race([waiting, patience])
  enough.abort()
}

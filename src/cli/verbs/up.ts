/** `up`, `down`, `status`: the engine in the background. */
import { readFileSync } from 'node:fs'
import { DEFAULT_HOST } from '../../client/address.ts'
import { Client } from '../../client/client.ts'
import { statusOf } from '../../client/transport.ts'
import { defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { describe, fail } from '../fail.ts'
import { bytesSize } from '../format/human.ts'
import { flag, integer, text } from '../options.ts'
import { complaints, DEFAULT_LOG, DEFAULT_PIDFILE, isAlive, lengthOf, readPid, startEngine } from '../process.ts'

const DEFAULT_CONFIG = '/etc/causeway/daemon.json'
const POLL_MS = 25
const START_SECONDS = 60
const STOP_SECONDS = 30

export const up = defineCommand({
  path: 'up',
  summary: 'Start the engine in the background and wait until it answers',
  usage: '[ENGINE OPTIONS]',
  args: [0, Number.POSITIVE_INFINITY],
  options: {},
  raw: true,
  notes:
    'Everything behind "up" goes to the engine (`causeway daemon --help` lists it). The log is /var/log/causeway.log, or CAUSEWAY_LOG.',
  examples: [
    { line: 'causeway up' },
    { line: 'causeway up --bip 10.200.0.1/16 --default-address-pool base=10.201.0.0/16,size=24' },
    { line: 'causeway -H unix:///tmp/a.sock up --exec-root /tmp/a --data-root /tmp/a-data', why: 'A second engine beside the first' },
  ],
  run: async (context, args) => {
    const where = places(context, args)
    if (await answers(where.client)) {
      context.print(`The engine is already running at ${where.host}`)
      return 0
    }
    if (process.getuid?.() !== 0) throw fail('the engine needs root: run `sudo causeway up`')
    const log = context.env['CAUSEWAY_LOG'] ?? DEFAULT_LOG
    const begun = context.clock.now()
    const logged = lengthOf(log)
    const engine = await startEngine(context, where.args, log)
    const ended = { code: undefined as number | null | undefined }
    void engine.ended.then(({ code }) => {
      ended.code = code
    })
    while (!(await answers(where.client))) {
      if (ended.code !== undefined || context.clock.now() - begun > START_SECONDS * 1000) {
        const why =
          ended.code === undefined
            ? `does not answer at ${where.host} after ${START_SECONDS} s`
            : `ended at once (exit code ${ended.code ?? 'unknown'})`
        for (const line of complaints(log, logged, 15)) context.warn(`  ${line}`)
        throw fail(`The engine ${why}; its log is ${log}`)
      }
      await context.clock.sleep(POLL_MS)
    }
    engine.release()
    context.print(`The engine is running (pid ${engine.pid}, ready in ${((context.clock.now() - begun) / 1000).toFixed(1)} s)`)
    context.print(`  address  ${where.host}`)
    context.print(`  log      ${log}`)
    return 0
  },
})

interface Places {
  readonly host: string
  readonly args: readonly string[]
  readonly client: Client
}

/** Where the engine of these options and of its configuration file will listen, and the options with that place in them. */
function places(context: Context, args: readonly string[]): Places {
  const file = configured(optionOf(args, '--config-file') ?? DEFAULT_CONFIG)
  const root = optionOf(args, '--exec-root') ?? file.execRoot
  const given = optionOf(args, '--host', '-H')
  const asked = context.global.host ?? context.env['CAUSEWAY_HOST']
  if (given === undefined && asked !== undefined && !asked.startsWith('unix://'))
    throw fail(`cannot start an engine at ${asked}: \`up\` starts it on this machine`)
  const host = given ?? asked ?? file.host ?? (root === undefined ? DEFAULT_HOST : `unix://${root}/causeway.sock`)
  const extra = given === undefined && asked !== undefined ? ['-H', asked] : []
  return { host, args: [...extra, ...args], client: host === context.host ? context.client : new Client({ host }) }
}

function optionOf(args: readonly string[], long: string, short?: string): string | undefined {
  for (const [i, word] of args.entries()) {
    if (word === long || word === short) return args[i + 1]
    for (const name of [long, short ?? long]) if (word.startsWith(`${name}=`)) return word.slice(name.length + 1)
  }
  return undefined
}

/** What the configuration file says of it. One that cannot be read is the engine's to complain about. */
function configured(path: string): { host?: string | undefined; execRoot?: string | undefined } {
  try {
    const file = JSON.parse(readFileSync(path, 'utf8')) as { hosts?: string[]; 'exec-root'?: string }
    const hosts = file.hosts ?? []
    return { host: hosts.find((host) => host.startsWith('unix://')) ?? hosts[0], execRoot: file['exec-root'] }
  } catch {
    return {}
  }
}

async function answers(client: Client): Promise<boolean> {
  try {
    await client.system.ping(AbortSignal.timeout(2000))
    return true
  } catch {
    return false // whatever the reason: not ready
  }
}

export const down = defineCommand({
  path: 'down',
  summary: 'Stop the engine. Containers and their networks go on; with --all they are stopped first',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: {
    all: flag('a', 'Stop all containers too'),
    pidfile: text('', `Pid file, used when the engine does not answer (default ${DEFAULT_PIDFILE})`),
    timeout: integer('t', 'Seconds to wait for each container with --all'),
  },
  examples: [{ line: 'causeway down' }, { line: 'causeway down --all' }],
  run: async (context, _args, options) => {
    const { client } = context
    const pidfile = options.pidfile ?? DEFAULT_PIDFILE
    if (!(await answers(client))) {
      const stuck = context.host === DEFAULT_HOST || options.pidfile !== undefined ? readPid(pidfile) : undefined
      if (stuck === undefined) {
        context.print(`The engine is not running at ${context.host}`)
        return 0
      }
      process.kill(stuck, 'SIGTERM')
      await goneAfter(context, () => !isAlive(stuck))
      context.print(`The engine (pid ${stuck}) did not answer and was told to end`)
      return 0
    }
    let code = 0
    if (options.all) code = await stopContainers(context, options.timeout)
    const pid = await shutDown(context, pidfile)
    // it stops answering first and gives back what it made afterwards; on another machine only its silence can be seen
    const isHere = context.host.startsWith('unix://')
    const gone = await goneAfter(context, async () => (isHere && pid !== undefined ? !isAlive(pid) : !(await answers(client))))
    if (!gone) throw fail(`the engine still runs after ${STOP_SECONDS} s`)
    context.print(options.all ? 'The engine and its containers are stopped' : 'The engine is stopped; containers go on')
    return code
  },
})

/** Asks the engine to end. Its pid, when it can be known. */
async function shutDown(context: Context, pidfile: string): Promise<number | undefined> {
  try {
    return (await context.client.transport.json<{ pid?: number }>('POST', '/causeway/v1/shutdown', { unversioned: true })).pid
  } catch (error) {
    if (statusOf(error) !== 501 && statusOf(error) !== 404) throw error
    const pid = readPid(pidfile)
    if (pid === undefined) throw error
    process.kill(pid, 'SIGTERM')
    return pid
  }
}

async function stopContainers(context: Context, seconds: number | undefined): Promise<number> {
  const { containers } = context.client
  const running = await containers.list()
  const outcomes = await Promise.allSettled(running.map((c) => containers.stop(c.Id, { seconds })))
  const failed = outcomes.flatMap((o) => (o.status === 'rejected' ? [o.reason as unknown] : []))
  for (const error of failed) context.warn(describe(error))
  return failed.length === 0 ? 0 : 1
}

async function goneAfter(context: Context, isGone: () => boolean | Promise<boolean>): Promise<boolean> {
  const begun = context.clock.now()
  while (context.clock.now() - begun < STOP_SECONDS * 1000) {
    if (await isGone()) return true
    await context.clock.sleep(POLL_MS)
  }
  return false
}

export const status = defineCommand({
  path: 'status',
  summary: 'Show whether the engine runs, and where',
  usage: '',
  args: [0, 0],
  options: {},
  notes: 'Exit code 0 when it runs, 1 when not.',
  examples: [{ line: 'causeway status' }],
  run: async (context) => {
    const { client } = context
    if (!(await answers(client))) {
      context.print(`The engine is not running at ${context.host}; \`causeway up\` starts it`)
      return 1
    }
    const [version, info, networks] = await Promise.all([client.system.version(), client.system.info(), client.networks.list()])
    const pid = context.host === DEFAULT_HOST ? readPid(DEFAULT_PIDFILE) : undefined
    context.print(`The engine is running${pid === undefined ? '' : ` (pid ${pid}${memoryOf(info)})`}`)
    context.print(`  address     ${context.host}`)
    context.print(`  version     ${version.Version}, API ${version.ApiVersion}`)
    context.print(`  containers  ${String(info['ContainersRunning'] ?? 0)} running of ${String(info['Containers'] ?? 0)}`)
    context.print(`  networks    ${networks.length}`)
    context.print(`  images      ${String(info['Images'] ?? 0)}`)
    return 0
  },
})

function memoryOf(info: Record<string, unknown>): string {
  const resident = info['ResidentBytes']
  return typeof resident === 'number' ? `, ${bytesSize(resident)}` : ''
}

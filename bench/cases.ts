/** What is measured. Every case leaves the engine as it found it. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine } from './engines.ts'
import { IMAGE } from './image.ts'

/** Takes milliseconds (or whatever the row's unit is) under the name of a row. */
export type Take = (row: string, value: number) => void

export interface Case {
  readonly name: string
  /** One round on one engine. `round` is unique within a run. */
  round(engine: Engine, round: string, record: Take, quick: boolean): Promise<void>
  readonly rounds: { readonly full: number; readonly quick: number }
  /** Also measured beside many networks and endpoints. */
  readonly underLoad: boolean
}

/** Rows and how to read them. */
export const ROWS: { readonly [row: string]: { readonly unit: string; readonly better: 'lower' | 'higher' } } = {
  'network create': { unit: 'ms', better: 'lower' },
  'network remove': { unit: 'ms', better: 'lower' },
  'connect running container': { unit: 'ms', better: 'lower' },
  'disconnect running container': { unit: 'ms', better: 'lower' },
  'container create + start': { unit: 'ms', better: 'lower' },
  'container kill + remove': { unit: 'ms', better: 'lower' },
  'start with a published port': { unit: 'ms', better: 'lower' },
  'remove with a published port': { unit: 'ms', better: 'lower' },
  'TCP container to container': { unit: 'Gbit/s', better: 'higher' },
  'TCP outside to published port': { unit: 'Gbit/s', better: 'higher' },
  'DNS answers': { unit: '1/s', better: 'higher' },
  'DNS latency p50': { unit: 'us', better: 'lower' },
  'DNS latency p99': { unit: 'us', better: 'lower' },
  'memory idle, resident': { unit: 'MB', better: 'lower' },
  'memory idle, proportional': { unit: 'MB', better: 'lower' },
}

async function timed<T>(record: Take, row: string, action: () => Promise<T>): Promise<T> {
  const started = performance.now()
  const result = await action()
  record(row, performance.now() - started)
  return result
}

interface ContainerOptions {
  readonly network: string
  readonly cmd?: readonly string[]
  readonly port?: number
}

async function create(engine: Engine, name: string, { network, cmd = ['sleep', '3600'], port }: ContainerOptions): Promise<string> {
  const key = `${port}/tcp`
  const { Id } = await engine.api.call<{ Id: string }>('POST', `/containers/create?name=${name}`, {
    Image: IMAGE,
    Cmd: cmd,
    ...(port === undefined ? {} : { ExposedPorts: { [key]: {} } }),
    HostConfig: { NetworkMode: network, ...(port === undefined ? {} : { PortBindings: { [key]: [{ HostIp: '0.0.0.0', HostPort: '' }] } }) },
    NetworkingConfig: {},
  })
  return Id
}

const start = (engine: Engine, id: string) => engine.api.call('POST', `/containers/${id}/start`)
const remove = (engine: Engine, id: string) => engine.api.call('DELETE', `/containers/${id}?force=1`)
const createNetwork = (engine: Engine, name: string) =>
  engine.api.call('POST', '/networks/create', { Name: name, CheckDuplicate: true, Driver: 'bridge' })
const removeNetwork = (engine: Engine, name: string) => engine.api.call('DELETE', `/networks/${name}`)

interface Inspect {
  readonly State: { readonly Pid: number }
  readonly NetworkSettings: {
    readonly Networks: { readonly [name: string]: { readonly IPAddress: string } }
    readonly Ports: { readonly [key: string]: readonly { readonly HostPort: string }[] | null }
  }
}
const inspect = (engine: Engine, id: string) => engine.api.call<Inspect>('GET', `/containers/${id}/json`)

/** Runs `body` and then takes everything away that `track` was told of, newest first. */
async function cleaned(body: (track: (undo: () => Promise<unknown>) => void) => Promise<void>): Promise<void> {
  const undo: (() => Promise<unknown>)[] = []
  try {
    await body((action) => undo.push(action))
  } finally {
    for (const action of undo.reverse()) await action()
  }
}

/** A program of this machine inside a network namespace. */
function inNetns(netns: string, command: string, args: readonly string[]): string {
  const done = spawnSync('nsenter', [`--net=${netns}`, command, ...args], { encoding: 'utf8', timeout: 60_000 })
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${done.stderr.trim() || done.stdout.trim()}`)
  return done.stdout
}

const gbitsOf = (json: string) =>
  (JSON.parse(json) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received.bits_per_second / 1e9

async function waitForPort(netns: string, address: string, port: number): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (spawnSync('nsenter', [`--net=${netns}`, 'nc', '-z', '-w', '1', address, String(port)]).status === 0) return
    await sleep(50)
  }
  throw new Error(`${address}:${port} does not answer`)
}

const network: Case = {
  name: 'network',
  rounds: { full: 25, quick: 8 },
  underLoad: true,
  async round(engine, round, record) {
    await timed(record, 'network create', () => createNetwork(engine, `n-${round}`))
    await timed(record, 'network remove', () => removeNetwork(engine, `n-${round}`))
  },
}

const connect: Case = {
  name: 'connect',
  rounds: { full: 20, quick: 6 },
  underLoad: true,
  round: (engine, round, record) =>
    cleaned(async (track) => {
      for (const name of [`a-${round}`, `b-${round}`]) {
        await createNetwork(engine, name)
        track(() => removeNetwork(engine, name))
      }
      const id = await create(engine, `c-${round}`, { network: `a-${round}` })
      track(() => remove(engine, id))
      await start(engine, id)
      const body = { Container: id, Force: false }
      await timed(record, 'connect running container', () => engine.api.call('POST', `/networks/b-${round}/connect`, body))
      await timed(record, 'disconnect running container', () => engine.api.call('POST', `/networks/b-${round}/disconnect`, body))
    }),
}

const startCase = (name: string, rows: readonly [string, string], port?: number): Case => ({
  name,
  rounds: { full: 20, quick: 6 },
  underLoad: true,
  round: (engine, round, record) =>
    cleaned(async (track) => {
      await createNetwork(engine, `s-${round}`)
      track(() => removeNetwork(engine, `s-${round}`))
      const id = await timed(record, rows[0], async () => {
        const made = await create(engine, `s-${round}`, { network: `s-${round}`, ...(port === undefined ? {} : { port }) })
        await start(engine, made)
        return made
      })
      await timed(record, rows[1], () => remove(engine, id))
    }),
})

const throughput: Case = {
  name: 'throughput',
  rounds: { full: 5, quick: 2 },
  underLoad: false,
  round: (engine, round, record, quick) =>
    cleaned(async (track) => {
      const seconds = quick ? '2' : '4'
      const net = `t-${round}`
      await createNetwork(engine, net)
      track(() => removeNetwork(engine, net))
      const server = await create(engine, `ts-${round}`, { network: net, cmd: ['iperf3', '-s'], port: 5201 })
      track(() => remove(engine, server))
      await start(engine, server)
      const client = await create(engine, `tc-${round}`, { network: net })
      track(() => remove(engine, client))
      await start(engine, client)
      const { NetworkSettings: serverNet } = await inspect(engine, server)
      const address = serverNet.Networks[net]?.IPAddress as string
      const inside = `/proc/${(await inspect(engine, client)).State.Pid}/ns/net`
      await waitForPort(inside, address, 5201)
      record('TCP container to container', gbitsOf(inNetns(inside, 'iperf3', ['-c', address, '-t', seconds, '-J'])))
      const published = serverNet.Ports['5201/tcp']?.[0]?.HostPort as string
      const { netns, address: host } = engine.outside
      await waitForPort(netns, host, Number(published))
      record('TCP outside to published port', gbitsOf(inNetns(netns, 'iperf3', ['-c', host, '-p', published, '-t', seconds, '-J'])))
    }),
}

const dns: Case = {
  name: 'dns',
  rounds: { full: 5, quick: 2 },
  underLoad: true,
  round: (engine, round, record, quick) =>
    cleaned(async (track) => {
      const net = `d-${round}`
      await createNetwork(engine, net)
      track(() => removeNetwork(engine, net))
      const ids: string[] = []
      for (const name of [`d1-${round}`, `d2-${round}`]) {
        const id = await create(engine, name, { network: net })
        track(() => remove(engine, id))
        await start(engine, id)
        ids.push(id)
      }
      const inside = `/proc/${(await inspect(engine, ids[0] as string)).State.Pid}/ns/net`
      const script = new URL('./dns-probe.mjs', import.meta.url).pathname
      const probe = JSON.parse(
        inNetns(inside, process.execPath, [script, '127.0.0.11', `d2-${round}`, quick ? '1000' : '4000']),
      ) as number[]
      record('DNS latency p50', probe[0] as number)
      record('DNS latency p99', probe[1] as number)
      const folder = mkdtempSync(join(tmpdir(), 'causeway-bench-dns-'))
      track(async () => rmSync(folder, { recursive: true }))
      const queries = join(folder, 'queries')
      writeFileSync(queries, `d2-${round} A\n`.repeat(100)) // dnsperf reads it again and again, which a pipe cannot do
      const args = ['-s', '127.0.0.11', '-d', queries, '-l', quick ? '2' : '4', '-c', '4', '-q', '100']
      const query = spawnSync('nsenter', [`--net=${inside}`, 'dnsperf', ...args], { encoding: 'utf8', timeout: 60_000 })
      const rate = /Queries per second:\s+([\d.]+)/.exec(query.stdout)?.[1]
      const done = /Queries completed:\s+(\d+)/.exec(query.stdout)?.[1]
      if (rate === undefined || done === '0') throw new Error(`dnsperf: ${(query.stderr || query.stdout).trim()}`)
      record('DNS answers', Number(rate))
    }),
}

const memory: Case = {
  name: 'memory',
  rounds: { full: 1, quick: 1 },
  underLoad: true,
  async round(engine, _round, record) {
    await sleep(10_000) // idle: what the image left behind has been collected
    const { rss, pss, processes } = engine.memory()
    process.stdout.write(
      `(${engine.label}: ${Object.entries(processes)
        .map(([name, n]) => `${n} ${name}`)
        .join(', ')}) `,
    )
    record('memory idle, resident', rss / 1024)
    record('memory idle, proportional', pss / 1024)
  },
}

export const CASES: readonly Case[] = [
  memory,
  network,
  connect,
  startCase('start', ['container create + start', 'container kill + remove']),
  startCase('port', ['start with a published port', 'remove with a published port'], 80),
  throughput,
  dns,
]

const PER_CONTAINER = 50

/** Fills an engine with `count` networks and as many endpoints; returns how to take them away. */
export async function load(engine: Engine, count: number, progress: (done: number) => void): Promise<() => Promise<void>> {
  const ids: string[] = []
  for (let i = 0; i < count; i++) {
    await createNetwork(engine, `load-${i}`)
    const at = Math.floor(i / PER_CONTAINER)
    if (i % PER_CONTAINER === 0) {
      const id = await create(engine, `load-${at}`, { network: `load-${i}` })
      await start(engine, id)
      ids.push(id)
    } else await engine.api.call('POST', `/networks/load-${i}/connect`, { Container: ids[at] })
    if (i % 50 === 49) progress(i + 1)
  }
  return async () => {
    for (const id of ids) await remove(engine, id)
    for (let i = 0; i < count; i++) await removeNetwork(engine, `load-${i}`)
  }
}

/** What the cases need and this machine has not, so that it is said before anything starts. */
export function missingTools(): string[] {
  return ['iperf3', 'dnsperf', 'nsenter', 'nc'].filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0)
}

export const machine = () => ({
  kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
  cpus: readFileSync('/proc/cpuinfo', 'utf8').match(/^processor/gm)?.length ?? 0,
  cpu: /^model name\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '',
  node: process.version,
})

/**
 * Starts and stops the engines that are compared, each in a network and mount namespace of its own with its own folders, so that neither
 * sees the machine or the other one. The peer is Debian 12's docker.io 20.10 with its containerd, unpacked and never installed.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { killMarked, MARK } from '../tools/leaks.ts'
import { Api } from './http.ts'

export type EngineKind = 'causeway' | 'peer'

/** Where packages of peers are kept, outside of the repository. */
const CACHE = process.env['CAUSEWAY_PEERS'] ?? '/var/tmp/causeway-peers'
const WORK = '/var/tmp'
/** The same for both: 500 networks need more than the classic pools. */
const POOL = ['--default-address-pool', 'base=10.128.0.0/10,size=24']

export interface Engine {
  readonly label: string
  readonly kind: EngineKind
  readonly version: string
  readonly api: Api
  /** Path of its unix socket. */
  readonly socket: string
  /** A process inside the engine's network namespace. */
  readonly pid: number
  /** An address of the engine's host that a client outside reaches, and the client's namespace as /proc/<pid>/ns/net. */
  readonly outside: { readonly address: string; readonly netns: string }
  /** Resident and proportional memory in kB of the engine and its helpers, without what runs in containers. */
  memory(): Memory
  stop(): Promise<void>
}

export interface Memory {
  readonly rss: number
  readonly pss: number
  readonly processes: Readonly<Record<string, number>>
}

/** Runs a program to its end. Throws with its output when it fails. */
export function run(command: string, args: readonly string[], options: { cwd?: string; input?: string } = {}): string {
  const done = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 2 ** 28, ...options })
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${done.error?.message ?? done.stderr.trim()}`)
  return done.stdout
}

/** Unpacks Debian's packages into the cache and returns the root folder. */
export function unpackPeer(): string {
  const root = join(CACHE, 'docker.io-20.10')
  if (existsSync(join(root, '.complete'))) return root
  mkdirSync(CACHE, { recursive: true })
  for (const name of ['docker.io', 'containerd']) {
    const find = () => readdirSync(CACHE).find((file) => file.startsWith(`${name}_`) && file.endsWith('.deb'))
    if (find() === undefined) run('apt-get', ['download', '-q', name], { cwd: CACHE })
    run('dpkg', ['-x', join(CACHE, find() as string), root])
  }
  writeFileSync(join(root, '.complete'), '')
  return root
}

function commandOf(kind: EngineKind, dir: string, socket: string): { argv: string[]; path: string } {
  const common = [
    '-H',
    `unix://${socket}`,
    '--data-root',
    join(dir, 'data'),
    '--exec-root',
    join(dir, 'run'),
    '--pidfile',
    join(dir, 'pid'),
  ]
  const path = process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin'
  if (kind === 'causeway') return { argv: [join(import.meta.dirname, '../bin/causeway'), 'daemon', ...common, ...POOL], path }
  const root = unpackPeer()
  // the key that 20.10 wants would otherwise be written to /etc/docker
  writeFileSync(join(dir, 'daemon.json'), JSON.stringify({ 'deprecated-key-path': join(dir, 'key.json') }))
  return {
    argv: [join(root, 'usr/sbin/dockerd'), '--config-file', join(dir, 'daemon.json'), ...common, ...POOL],
    path: `${join(root, 'usr/sbin')}:${join(root, 'usr/bin')}:${path}`,
  }
}

/** Starts an engine and waits until it answers. */
export async function startEngine(kind: EngineKind, label: string): Promise<Engine> {
  const dir = mkdtempSync(join(WORK, `causeway-bench-${label}-`))
  const socket = join(dir, 'engine.sock')
  const { argv, path } = commandOf(kind, dir, socket)
  const mark = dir.slice(WORK.length + 1)
  const log = openSync(join(dir, 'log'), 'w')
  const env = { ...process.env, PATH: path, [MARK]: mark, NODE_ENV: 'production' }
  const inside = [
    '--net',
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-c',
    'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"',
    'sh',
  ]
  const child = spawn('unshare', [...inside, ...argv], { env, detached: true, stdio: ['ignore', log, log] })
  closeSync(log)
  // a client outside: a namespace of its own, joined by a cable to the engine's
  const holder = spawn('unshare', ['--net', 'sleep', 'infinity'], { env, detached: true, stdio: 'ignore' })
  const api = new Api(socket)
  const stop = async () => {
    // Causeway's containers outlive their engine, so they go first; whatever an engine in trouble leaves is ended by hand
    await removeContainers(api).catch(() => {})
    api.close()
    await end(child)
    killInside(dir)
    holder.kill('SIGKILL')
    killMarked(mark)
    await sleep(300)
    unmountBelow(dir)
    rmSync(dir, { recursive: true, force: true })
  }
  try {
    const version = await waitUntilUp(api, child, dir)
    const address = plugCable(child.pid as number, holder.pid as number)
    return {
      label,
      kind,
      version,
      api,
      socket,
      pid: child.pid as number,
      outside: { address, netns: `/proc/${holder.pid}/ns/net` },
      memory: () => memoryOf(mark, holder.pid as number),
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function waitUntilUp(api: Api, child: ChildProcess, dir: string): Promise<string> {
  let gone = false
  child.on('exit', () => (gone = true))
  for (const until = Date.now() + 60_000; Date.now() < until; ) {
    try {
      const info = await api.call<{ Version: string; ApiVersion: string }>('GET', '/version')
      return `${info.Version} (API ${info.ApiVersion})`
    } catch {
      if (gone) break
      await sleep(100)
    }
  }
  throw new Error(`the engine did not come up:\n${readFileSync(join(dir, 'log'), 'utf8').slice(-3000)}`)
}

function plugCable(engine: number, client: number): string {
  run('ip', ['link', 'add', 'ext0', 'netns', String(engine), 'type', 'veth', 'peer', 'name', 'ext1', 'netns', String(client)])
  const within = (pid: number, ...args: string[]) => run('nsenter', ['-t', String(pid), '-n', 'ip', ...args])
  within(engine, 'addr', 'add', '198.51.100.1/24', 'dev', 'ext0')
  within(engine, 'link', 'set', 'ext0', 'up')
  within(client, 'addr', 'add', '198.51.100.2/24', 'dev', 'ext1')
  within(client, 'link', 'set', 'ext1', 'up')
  return '198.51.100.1'
}

async function removeContainers(api: Api): Promise<void> {
  for (const { Id } of await api.call<{ Id: string }[]>('GET', '/containers/json?all=1'))
    await api.call('DELETE', `/containers/${Id}?force=1`)
}

/** Ends what runs in a mount namespace in which the engine's folder is mounted: nobody else's does. */
function killInside(dir: string): void {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue
    try {
      if (readlinkSync(`/proc/${name}/ns/mnt`) === readlinkSync('/proc/self/ns/mnt')) continue
      if (readFileSync(`/proc/${name}/mountinfo`, 'utf8').includes(`${dir}/`)) process.kill(Number(name), 'SIGKILL')
    } catch {
      // gone meanwhile
    }
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.on('exit', resolve))
  child.kill('SIGTERM')
  await Promise.race([gone, sleep(15_000)])
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  await Promise.race([gone, sleep(2000)])
}

/** Mounts that an engine made in the machine's mount namespace (there should be none). */
function unmountBelow(dir: string): void {
  const paths = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
  for (const path of paths.filter((p) => p.startsWith(`${dir}/`)).reverse()) spawnSync('umount', ['-l', path])
}

function memoryOf(mark: string, except: number): Memory {
  let rss = 0
  let pss = 0
  const processes: Record<string, number> = {}
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === except) continue
    try {
      if (!readFileSync(`/proc/${name}/environ`, 'latin1').includes(`${MARK}=${mark}`)) continue
      const rollup = readFileSync(`/proc/${name}/smaps_rollup`, 'utf8')
      const kb = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(rollup)?.[1] ?? 0)
      rss += kb('Rss')
      pss += kb('Pss')
      const command = readFileSync(`/proc/${name}/comm`, 'utf8').trim()
      processes[command] = (processes[command] ?? 0) + 1
    } catch {
      // gone meanwhile
    }
  }
  return { rss, pss, processes }
}

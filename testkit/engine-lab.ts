/**
 * A whole engine for a test: `causeway daemon` as a process of its own with folders of its own, in the test file's namespaces
 * (call `isolate()` first). Everything goes through its socket or through the `docker` and `causeway` commands.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const ROOT = new URL('..', import.meta.url).pathname
/** An emulated processor (vm.ts) needs ten seconds for what takes a fraction of one, and more when the machine is busy. */
const START_MS = process.env['CAUSEWAY_IN_VM'] === '1' ? 200_000 : 60_000

export interface Reply {
  readonly status: number
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: answers of the API are looked into freely by tests
  readonly json: any
}

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

export interface EngineLab {
  readonly dir: string
  readonly socket: string
  /** Pid of the engine now. */
  pid(): number
  /** One API call; never throws on a status. */
  api(method: string, path: string, body?: unknown): Promise<Reply>
  /** `docker ...` against this engine. */
  docker(...args: string[]): Promise<Ran>
  /** `causeway ...` against this engine. */
  causeway(...args: string[]): Promise<Ran>
  /** A command in the engine's own namespace. */
  sh(command: string): Promise<Ran>
  /** Creates and starts a busybox container with the plain API; returns its id. */
  run(
    name: string,
    options?: { cmd?: string[]; networks?: string[]; body?: Record<string, unknown>; host?: Record<string, unknown> },
  ): Promise<string>
  /** Command inside a container, through exec; stdout and stderr joined. */
  exec(container: string, ...cmd: string[]): Promise<Ran>
  log(): string
  /** kill -9 of the engine process alone. */
  kill9(): Promise<void>
  /** Ends the engine with SIGTERM and waits; containers go on. */
  stop(): Promise<number>
  /** Starts the engine (again) on the same folders; resolves when its socket answers. */
  start(): Promise<void>
  /** Removes all containers, stops the engine, removes its folders. Returns what was left behind, which should be nothing. */
  close(): Promise<string[]>
}

function run(file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(file, args, { env: { ...process.env, ...env }, timeout: 60_000, maxBuffer: 32 << 20 }, (error, out, err) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 255
      resolve({ code, out, err })
    })
  })
}

export interface EngineLabOptions {
  /** argv that runs a command where the engine shall live, for example a host of `lab-net.ts`; absent: in the test's own namespaces. */
  readonly enter?: (...argv: string[]) => string[]
  /** The words of `causeway` that run the engine, `daemon` unless given. */
  readonly verb?: readonly string[]
}

/** Starts an engine with `flags` besides its folders and socket, and makes busybox:latest in it. */
export async function startEngineLab(flags: readonly string[] = [], options: EngineLabOptions = {}): Promise<EngineLab> {
  const enter = options.enter ?? ((...argv: string[]) => argv)
  const there = (...argv: string[]) => {
    const [file = '', ...args] = enter(...argv)
    return spawnSync(file, args).stdout.toString()
  }
  const dir = mkdtempSync(join(tmpdir(), 'causeway-test-'))
  const socket = `${dir}/causeway.sock`
  const host = `unix://${socket}`
  let child: ChildProcess | undefined
  let log = ''
  let agent = new Agent({ keepAlive: true })

  const api = (method: string, path: string, body?: unknown): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
      const headers = payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
      const req = request({ socketPath: socket, agent, method, path, headers }, (res) => {
        const chunks: Buffer[] = []
        res.on('data', (chunk: Buffer) => chunks.push(chunk))
        res.on('error', reject)
        res.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          let json: unknown
          try {
            json = JSON.parse(text)
          } catch {
            json = undefined
          }
          resolve({ status: res.statusCode ?? 0, text, json })
        })
      })
      req.on('error', reject)
      req.end(payload)
    })

  const start = async (): Promise<void> => {
    agent.destroy()
    agent = new Agent({ keepAlive: true })
    const argv = [
      `${ROOT}bin/causeway`,
      ...(options.verb ?? ['daemon']),
      '--data-root',
      `${dir}/data`,
      '--exec-root',
      `${dir}/run`,
      '-H',
      host,
      ...flags,
    ]
    // flags by which this process compiles less are the engine's too (vm.ts)
    const nodeFlags = process.execArgv.filter((flag) => flag.startsWith('--no-'))
    const [file = '', ...args] = enter(process.execPath, ...nodeFlags, ...argv)
    const started = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    child = started
    for (const stream of [started.stdout, started.stderr])
      stream.on('data', (chunk: Buffer) => {
        log += chunk.toString()
      })
    const until = Date.now() + START_MS
    for (;;) {
      if (started.exitCode !== null || started.signalCode !== null) throw new Error(`the engine ended with ${started.exitCode}: ${log}`)
      const ping = existsSync(socket) ? await api('GET', '/_ping').catch(() => undefined) : undefined
      if (ping?.status === 200) return
      if (Date.now() > until) throw new Error(`the engine does not answer: ${log}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  const ended = (): Promise<number> =>
    new Promise((resolve) => {
      const process = child
      if (process === undefined || process.exitCode !== null || process.signalCode !== null) return resolve(process?.exitCode ?? 0)
      process.once('exit', (code) => resolve(code ?? 255))
    })

  const lab: EngineLab = {
    dir,
    socket,
    pid: () => child?.pid ?? 0,
    api,
    docker: (...args) => run('docker', ['-H', host, ...args], { DOCKER_CONFIG: `${dir}/docker` }),
    causeway: (...args) => run(process.execPath, [`${ROOT}bin/causeway`, '-H', host, ...args]),
    sh(command) {
      const [file = '', ...args] = enter('sh', '-c', command)
      return run(file, args)
    },
    async run(name, options = {}) {
      const [first, ...rest] = options.networks ?? []
      const created = await api('POST', `/containers/create?name=${name}`, {
        Image: 'busybox',
        Cmd: options.cmd ?? ['sleep', '3600'],
        StopSignal: 'SIGKILL',
        ...options.body,
        HostConfig: { ...(first === undefined ? {} : { NetworkMode: first }), ...options.host },
      })
      if (created.status !== 201) throw new Error(`create ${name}: ${created.status} ${created.text}`)
      for (const network of rest) {
        const connected = await api('POST', `/networks/${network}/connect`, { Container: name })
        if (connected.status !== 200) throw new Error(`connect ${name} to ${network}: ${connected.status} ${connected.text}`)
      }
      const started = await api('POST', `/containers/${name}/start`)
      if (started.status !== 204) throw new Error(`start ${name}: ${started.status} ${started.text}`)
      return created.json.Id as string
    },
    exec: (container, ...cmd) => lab.docker('exec', container, ...cmd),
    log: () => log,
    async kill9() {
      const gone = ended()
      child?.kill('SIGKILL')
      await gone
    },
    async stop() {
      const gone = ended()
      child?.kill('SIGTERM')
      return gone
    },
    start,
    async close() {
      const list = await api('GET', '/containers/json?all=1').catch(() => undefined)
      for (const { Id } of (list?.json ?? []) as { Id: string }[]) await api('DELETE', `/containers/${Id}?force=1&v=1`)
      await lab.stop()
      agent.destroy()
      const left: string[] = []
      const links = there('ip', '-o', 'link')
      for (const line of links.split('\n')) if (/causeway:|veth[0-9a-f]{7}@|br-[0-9a-f]{12}|docker0/.test(line)) left.push(`link: ${line}`)
      const tables = there('nft', 'list', 'tables')
      if (tables.includes('causeway')) left.push(`nft: ${tables}`)
      const mounts = there('cat', '/proc/self/mountinfo')
        .split('\n')
        .filter((line) => line.includes(dir))
      left.push(...mounts.map((line) => `mount: ${line}`))
      for (const line of mounts) there('umount', '-l', line.split(' ')[4] as string)
      rmSync(dir, { recursive: true, force: true })
      return left
    },
  }
  await start()
  const made = await api('POST', '/causeway/v1/images/bootstrap')
  if (made.status !== 200) throw new Error(`bootstrap: ${made.status} ${made.text}`)
  return lab
}

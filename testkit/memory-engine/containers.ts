/**
 * Small in-memory services behind the API server's tests: enough life (state changes, events, echoing processes, logs) for real
 * clients to talk to. They decide nothing that the real services decide; where those have documented texts, so have these.
 * This file: containers, their logs, archives and execs.
 */
import { PassThrough, Readable } from 'node:stream'
import { NetError } from '../../src/base/errors.ts'
import type { AttachSession, Container, ContainerService, EventBus, ExecInfo, ExecStartOptions } from '../../src/containers/types.ts'
import type { MemoryController } from './controller.ts'
import { idOf } from './ids.ts'
import { echoSession } from './sessions.ts'

const ZERO_TIME = '0001-01-01T00:00:00Z'

interface Waiter {
  readonly id: string
  readonly condition: string
  readonly done: (result: { exitCode: number }) => void
}

/** Containers whose process is an echo: what goes in comes out, and it ends with its input. */
export class MemoryContainers implements ContainerService {
  readonly all: Container[] = []
  readonly execs = new Map<string, ExecInfo>()
  readonly logLines = new Map<string, { stream: 'stdout' | 'stderr'; data: Buffer }[]>()
  readonly sessions: AttachSession[] = []
  waiters: Waiter[] = []
  /** Archives put, by `container:path`. */
  readonly archives = new Map<string, Buffer>()
  readonly #controller: MemoryController
  readonly #events: EventBus
  readonly #doneBeforeStart = new Set<string>()
  #made = 0

  constructor(controller: MemoryController, events: EventBus) {
    this.#controller = controller
    this.#events = events
  }

  #emit(container: Container, action: string): void {
    const Attributes = { name: container.name, image: container.config.Image ?? '', ...(container.config.Labels ?? {}) }
    this.#events.publish({ Type: 'container', Action: action, Actor: { ID: container.id, Attributes } })
  }
  #change(container: Container, change: Partial<Container>): Container {
    const next = { ...container, ...change }
    this.all[this.all.findIndex((c) => c.id === container.id)] = next
    return next
  }
  #wake(id: string, conditions: readonly string[], exitCode: number): void {
    const due = this.waiters.filter((w) => w.id === id && conditions.includes(w.condition))
    this.waiters = this.waiters.filter((w) => !due.includes(w))
    for (const waiter of due) waiter.done({ exitCode })
  }

  async create(request: Parameters<ContainerService['create']>[0]): Promise<{ id: string; warnings: string[] }> {
    const name = request.name ?? `container${this.#made}`
    const clash = this.all.find((c) => c.name === name)
    if (clash !== undefined) {
      throw new NetError(
        'conflict',
        `Conflict. The container name "/${name}" is already in use by container "${clash.id}". You have to remove (or rename) that container to be able to reuse that name.`,
      )
    }
    const id = idOf(`container ${name} ${this.#made++}`)
    const mode = request.hostConfig.NetworkMode ?? 'bridge'
    const endpoints = Object.keys(request.endpoints).length > 0 ? request.endpoints : mode.startsWith('container:') ? {} : { [mode]: {} }
    const [path = 'sh', ...args] = (request.config.Cmd ?? ['sh']) as string[]
    this.all.unshift({
      id,
      name,
      created: new Date().toISOString(),
      config: { Hostname: id.slice(0, 12), ...request.config },
      hostConfig: request.hostConfig,
      endpoints,
      imageId: `sha256:${idOf('image busybox')}`,
      path,
      args,
      state: { status: 'created', pid: 0, exitCode: 0, oomKilled: false, error: '', startedAt: ZERO_TIME, finishedAt: ZERO_TIME },
      restartCount: 0,
      mounts: [],
      logPath: `/logs/${id}`,
      execIds: [],
      files: { hosts: '', resolvConf: '', hostname: '' },
      graph: {},
    })
    this.logLines.set(id, [])
    this.#emit(this.get(id), 'create')
    return { id, warnings: [] }
  }
  async start(ref: string): Promise<void> {
    const container = this.get(ref)
    if (container.state.status === 'running') throw new NetError('not-modified', '')
    for (const network of Object.keys(container.endpoints)) {
      if (this.#controller.findNetwork(network) === undefined) {
        throw new NetError('not-found', `failed to set up container networking: network ${network} not found`)
      }
    }
    for (const network of Object.keys(container.endpoints)) await this.#controller.connect(container.id, network)
    const ports = Object.entries(container.hostConfig.PortBindings ?? {}).flatMap(([key, list]) =>
      (list ?? []).map((b) => ({
        proto: 'tcp' as const,
        containerPort: Number.parseInt(key, 10),
        hostIp: b.HostIp ?? '',
        hostPort: Number(b.HostPort ?? 0),
        hostPortEnd: 0,
      })),
    )
    if (ports.length > 0) await this.#controller.addPorts(container.id, ports)
    this.#change(container, { state: { ...container.state, status: 'running', pid: 4711, startedAt: new Date().toISOString() } })
    this.#emit(container, 'start')
    if (this.#doneBeforeStart.delete(container.id)) setImmediate(() => void this.#end(this.get(container.id), 0))
  }
  async stop(ref: string): Promise<void> {
    const container = this.get(ref)
    if (container.state.status !== 'running' && container.state.status !== 'paused') throw new NetError('not-modified', '')
    await this.#end(container, 137)
  }
  async #end(container: Container, exitCode: number): Promise<void> {
    await this.#controller.closeSandbox(container.id)
    this.#change(container, { state: { ...container.state, status: 'exited', pid: 0, exitCode, finishedAt: new Date().toISOString() } })
    this.#emit(container, 'die')
    this.#wake(container.id, ['not-running', 'next-exit'], exitCode)
    if (container.hostConfig.AutoRemove === true) await this.remove(container.id)
  }
  async restart(ref: string): Promise<void> {
    if (this.get(ref).state.status === 'running') await this.stop(ref)
    await this.start(ref)
  }
  async kill(ref: string, signal?: string): Promise<void> {
    const container = this.get(ref)
    if (signal !== undefined && !/^(SIG)?[A-Z]+\d?$|^\d+$/.test(signal)) throw new NetError('invalid', `invalid signal: ${signal}`)
    if (container.state.status !== 'running') throw new NetError('conflict', `container ${container.id} is not running`)
    await this.#end(container, 137)
  }
  async pause(ref: string): Promise<void> {
    const container = this.get(ref)
    if (container.state.status !== 'running') throw new NetError('conflict', `container ${container.id} is not running`)
    this.#change(container, { state: { ...container.state, status: 'paused' } })
  }
  async unpause(ref: string): Promise<void> {
    const container = this.get(ref)
    if (container.state.status !== 'paused') throw new NetError('conflict', `Container ${container.id} is not paused`)
    this.#change(container, { state: { ...container.state, status: 'running' } })
  }
  wait(ref: string, condition: string, signal: AbortSignal): Promise<{ exitCode: number }> {
    const container = this.get(ref)
    if (condition === 'not-running' && container.state.status !== 'running') return Promise.resolve({ exitCode: container.state.exitCode })
    return new Promise((resolve, reject) => {
      const waiter = { id: container.id, condition, done: resolve }
      this.waiters.push(waiter)
      signal.addEventListener('abort', () => {
        this.waiters = this.waiters.filter((w) => w !== waiter)
        reject(signal.reason as Error)
      })
    })
  }
  notePorts(): void {} // no start here publishes anything

  async rename(ref: string, name: string): Promise<void> {
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name))
      throw new NetError('invalid', `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`)
    this.#change(this.get(ref), { name })
  }
  async update(ref: string, change: object): Promise<{ warnings: string[] }> {
    const container = this.get(ref)
    this.#change(container, { hostConfig: { ...container.hostConfig, ...change } })
    return { warnings: [] }
  }
  async remove(ref: string, options: { force?: boolean; link?: boolean } = {}): Promise<void> {
    const container = this.get(ref)
    if (container.state.status === 'running') {
      if (options.force !== true)
        throw new NetError(
          'conflict',
          `cannot remove container "/${container.name}": container is running: stop the container before removing or force remove`,
        )
      await this.#end(container, 137)
    }
    this.all.splice(
      this.all.findIndex((c) => c.id === container.id),
      1,
    )
    this.#emit(container, 'destroy')
    this.#wake(container.id, ['removed', 'next-exit', 'not-running'], container.state.exitCode)
  }
  list(): readonly Container[] {
    return this.all
  }
  find(ref: string): Container | undefined {
    return this.all.find((c) => c.id === ref || c.name === ref) ?? this.all.find((c) => ref !== '' && c.id.startsWith(ref))
  }
  get(ref: string): Container {
    const found = this.find(ref)
    if (found === undefined) throw new NetError('not-found', `No such container: ${ref}`)
    return found
  }
  async sizeOf(): Promise<{ rw: number; rootFs: number }> {
    return { rw: 10, rootFs: 1_000_010 }
  }
  async top(ref: string): Promise<{ titles: string[]; processes: string[][] }> {
    const container = this.get(ref)
    if (container.state.status !== 'running') throw new NetError('conflict', `container ${container.id} is not running`)
    return { titles: ['PID', 'CMD'], processes: [['1', container.path]] }
  }
  #samples = 0
  async stats(ref: string): Promise<Record<string, unknown>> {
    this.get(ref)
    this.#samples++
    return {
      read: new Date().toISOString(),
      cpu_stats: { cpu_usage: { total_usage: this.#samples * 1000 }, system_cpu_usage: 5, online_cpus: 2 },
      memory_stats: { usage: 1 },
    }
  }
  async *logs(ref: string, options: { follow: boolean; stdout: boolean; stderr: boolean; tail?: number }, signal: AbortSignal) {
    const lines = this.logLines.get(this.get(ref).id) ?? []
    const tail = options.tail === undefined ? lines : lines.slice(Math.max(0, lines.length - options.tail))
    for (const line of tail) if (line.stream === 'stdout' ? options.stdout : options.stderr) yield line
    if (!options.follow) return
    const bus = new PassThrough({ objectMode: true })
    const watch = setInterval(() => {
      while (lines.length > seen) bus.write(lines[seen++])
    }, 5)
    let seen = lines.length
    signal.addEventListener('abort', () => bus.end())
    try {
      for await (const line of bus) yield line as { stream: 'stdout' | 'stderr'; data: Buffer }
    } finally {
      clearInterval(watch)
    }
  }
  async attach(ref: string, options: { stdin: boolean }): Promise<AttachSession> {
    const container = this.get(ref)
    const session = echoSession(container.config.Tty === true)
    this.sessions.push(session)
    // The process is the echo: with its end the container ends. Input may have ended before the start, as `run -i` does it.
    if (options.stdin) {
      session.output.once('end', () => {
        if (this.find(container.id)?.state.status === 'running') void this.#end(this.get(container.id), 0)
        else this.#doneBeforeStart.add(container.id)
      })
    }
    return session
  }
  async resize(ref: string): Promise<void> {
    this.get(ref)
  }
  async changes(ref: string): Promise<{ Path: string; Kind: 0 | 1 | 2 }[]> {
    this.get(ref)
    return [{ Path: '/tmp/x', Kind: 1 }]
  }
  async commit(ref: string): Promise<{ id: string }> {
    return { id: `sha256:${idOf(`commit ${this.get(ref).id}`)}` }
  }
  async export(ref: string): Promise<Readable> {
    this.get(ref)
    return Readable.from([Buffer.alloc(1024, 'e')])
  }
  async archiveStat(ref: string, path: string) {
    this.get(ref)
    if (path.includes('missing')) throw new NetError('not-found', `Could not find the file ${path} in container ${ref}`)
    return { name: path.split('/').at(-1) ?? '', size: 5, mode: 0o644, mtime: '2026-01-01T00:00:00Z', linkTarget: '' }
  }
  async archiveGet(ref: string, path: string): Promise<Readable> {
    return Readable.from([this.archives.get(`${ref}:${path}`) ?? Buffer.alloc(512)])
  }
  async archivePut(ref: string, path: string, tar: Readable): Promise<void> {
    this.get(ref)
    const chunks: Buffer[] = []
    for await (const chunk of tar) chunks.push(chunk as Buffer)
    this.archives.set(`${ref}:${path}`, Buffer.concat(chunks))
  }
  async execCreate(ref: string, config: ExecInfo['config']): Promise<string> {
    const container = this.get(ref)
    if (container.state.status !== 'running') throw new NetError('conflict', `container ${container.id} is not running`)
    const id = idOf(`exec ${this.execs.size}`)
    this.execs.set(id, { id, containerId: container.id, config, running: false, exitCode: null, pid: 0 })
    return id
  }
  async execStart(execId: string, options: ExecStartOptions): Promise<AttachSession | undefined> {
    const exec = this.execInspect(execId)
    if (exec.exitCode !== null || exec.running) throw new NetError('conflict', `exec command ${execId} has already run`)
    this.execs.set(execId, { ...exec, running: true, pid: 99 })
    options.onLaunch?.()
    // no process starts at once, and docker-py reads away output that comes together with the head of the answer
    await new Promise((resolve) => setTimeout(resolve, 20))
    if (exec.config.Cmd?.[0] === 'no-such-program') {
      this.execs.set(execId, { ...exec, running: false, exitCode: 127 })
      throw new NetError('invalid', 'OCI runtime exec failed: exec: "no-such-program": executable file not found in $PATH: unknown')
    }
    if (options.detach) return undefined
    const words = (exec.config.Cmd ?? []).slice(1).join(' ')
    const session = echoSession(exec.config.Tty === true, [
      { stream: 'stdout', text: `${words}\n` },
      { stream: 'stderr', text: 'to stderr\n' },
    ])
    session.output.once('end', () => this.execs.set(execId, { ...exec, running: false, exitCode: 7 }))
    if (exec.config.AttachStdin !== true) session.stdin.end()
    this.sessions.push(session)
    return session
  }
  execInspect(execId: string): ExecInfo {
    const exec = this.execs.get(execId)
    if (exec === undefined) throw new NetError('not-found', `No such exec instance: ${execId}`)
    return exec
  }
  async execResize(execId: string): Promise<void> {
    this.execInspect(execId)
  }
  async connectNetwork(ref: string, network: string, settings: Container['endpoints'][string]): Promise<void> {
    const container = this.get(ref)
    if (container.state.status === 'running') await this.#controller.connect(container.id, network)
    this.#change(container, { endpoints: { ...container.endpoints, [this.#controller.findNetwork(network)?.name ?? network]: settings } })
  }
  async disconnectNetwork(ref: string, network: string, _force: boolean): Promise<void> {
    const container = this.get(ref)
    if (container.state.status === 'running') await this.#controller.disconnect(container.id, network)
    const { [this.#controller.findNetwork(network)?.name ?? network]: _gone, ...endpoints } = container.endpoints
    this.#change(container, { endpoints })
  }
}

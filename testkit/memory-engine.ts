/**
 * Small in-memory services behind the API server's tests: enough life (state changes, events, echoing processes, logs) for real
 * clients to talk to. They decide nothing that the real services decide; where those have documented texts, so have these.
 */
import { createHash } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import type { Cidr, Ip, Mac } from '../src/base/address.ts'
import { NetError } from '../src/base/errors.ts'
import type {
  AttachSession,
  Container,
  ContainerService,
  EngineEvent,
  EventBus,
  ExecInfo,
  ExecStartOptions,
  ImageService,
  ImageSummary,
  LoginAnswer,
  LoginRequest,
  Volume,
  VolumeService,
} from '../src/containers/types.ts'
import type { NetworkController, NetworkEvent, RepairEvent } from '../src/engine/types.ts'
import type { EndpointInfo, PortBinding, SandboxInfo } from '../src/model/endpoint.ts'
import type { Network, NetworkSpec } from '../src/model/network.ts'

const ZERO_TIME = '0001-01-01T00:00:00Z'

/** A 64-digit id that depends on `seed` only. */
export function idOf(seed: string): string {
  return createHash('sha256').update(seed).digest('hex')
}

export class MemoryEvents implements EventBus {
  readonly #history: EngineEvent[] = []
  readonly listeners = new Set<(event: EngineEvent) => void>()

  publish(event: Omit<EngineEvent, 'time' | 'timeNano' | 'scope'>): void {
    const now = Date.now()
    const full: EngineEvent = { ...event, scope: 'local', time: Math.floor(now / 1000), timeNano: now * 1e6 }
    this.#history.push(full)
    for (const listener of [...this.listeners]) listener(full)
  }
  history(): readonly EngineEvent[] {
    return this.#history
  }
  subscribe(listener: (event: EngineEvent) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }
}

export class MemoryController implements NetworkController {
  readonly networks = new Map<string, Network>()
  readonly sandboxes = new Map<string, SandboxInfo>()
  readonly repairListeners = new Set<(event: RepairEvent) => void>()
  readonly #events: EventBus

  constructor(events: EventBus) {
    this.#events = events
    this.#add({ name: 'bridge', driver: 'bridge' }, true, '172.17.0.0/16', '172.17.0.1')
    this.#add({ name: 'host', driver: 'host' }, true)
    this.#add({ name: 'none', driver: 'null' }, true)
  }

  #add(spec: NetworkSpec, predefined: boolean, subnet?: string, gateway?: string): Network {
    const network: Network = {
      id: idOf(`network ${spec.name}`),
      name: spec.name,
      created: new Date().toISOString(),
      driver: spec.driver || 'bridge',
      scope: 'local',
      enableIpv4: spec.enableIpv4 ?? true,
      enableIpv6: spec.enableIpv6 ?? false,
      internal: spec.internal ?? false,
      attachable: spec.attachable ?? false,
      ingress: false,
      configOnly: spec.configOnly ?? false,
      configFrom: spec.configFrom ?? '',
      ipamDriver: 'default',
      ipamOptions: spec.ipam?.options ?? null,
      pools:
        subnet === undefined ? [] : [{ subnet: subnet as Cidr, ...(gateway === undefined ? {} : { gateway: gateway as Ip }), aux: {} }],
      options: spec.options ?? {},
      labels: spec.labels ?? {},
      predefined,
    }
    this.networks.set(network.id, network)
    return network
  }
  #emit(action: NetworkEvent['action'], network: Network, attributes: Record<string, string> = {}): void {
    const Attributes = { name: network.name, type: network.driver, ...attributes }
    this.#events.publish({ Type: 'network', Action: action, Actor: { ID: network.id, Attributes } })
  }

  async createNetwork(spec: NetworkSpec): Promise<{ network: Network; warning: string }> {
    if (this.listNetworks().some((n) => n.name === spec.name))
      throw new NetError('conflict', `network with name ${spec.name} already exists`)
    const pool = spec.ipam?.config?.[0]
    const octet = 17 + this.networks.size
    const network = this.#add(spec, false, pool?.subnet ?? `172.${octet}.0.0/16`, pool?.gateway ?? `172.${octet}.0.1`)
    this.#emit('create', network)
    return { network, warning: '' }
  }
  getNetwork(ref: string): Network {
    const found = this.findNetwork(ref)
    if (found === undefined) throw new NetError('not-found', `network ${ref} not found`)
    return found
  }
  findNetwork(ref: string): Network | undefined {
    const all = this.listNetworks()
    return this.networks.get(ref) ?? all.find((n) => n.name === ref) ?? all.find((n) => ref !== '' && n.id.startsWith(ref))
  }
  listNetworks(): readonly Network[] {
    return [...this.networks.values()]
  }
  async removeNetwork(ref: string): Promise<void> {
    const network = this.getNetwork(ref)
    if (network.predefined) throw new NetError('denied', `${network.name} is a pre-defined network and cannot be removed`)
    if (this.endpointsOf(network.id).length > 0)
      throw new NetError('denied', `error while removing network: network ${network.name} has active endpoints`)
    this.networks.delete(network.id)
    this.#emit('destroy', network)
  }
  remoteEndpointsOf(): readonly never[] {
    return []
  }

  endpointsOf(networkId: string): readonly EndpointInfo[] {
    return [...this.sandboxes.values()].flatMap((s) => s.endpoints.filter((e) => e.networkId === networkId))
  }
  usageOf(networkId: string): readonly { subnet: string; ipsInUse: bigint; dynamicAvailable: bigint }[] {
    return (this.networks.get(networkId)?.pools ?? []).map((p) => ({ subnet: p.subnet, ipsInUse: 4n, dynamicAvailable: 2n ** 80n }))
  }
  validateEndpoint(): void {}
  async openSandbox(): Promise<SandboxInfo> {
    throw new Error('the memory containers open their sandbox themselves')
  }
  async closeSandbox(containerId: string): Promise<void> {
    const sandbox = this.sandboxes.get(containerId)
    this.sandboxes.delete(containerId)
    for (const endpoint of sandbox?.endpoints ?? [])
      this.#emit('disconnect', this.getNetwork(endpoint.networkId), { container: containerId })
  }
  sandboxOf(containerId: string): SandboxInfo | undefined {
    return this.sandboxes.get(containerId)
  }
  async connect(containerId: string, ref: string): Promise<EndpointInfo> {
    const network = this.getNetwork(ref)
    const sandbox = this.sandboxes.get(containerId) ?? {
      id: idOf(`sandbox ${containerId}`),
      key: `/run/causeway/netns/${containerId.slice(0, 12)}`,
      containerId,
      endpoints: [],
      ports: [],
    }
    if (sandbox.endpoints.some((e) => e.networkId === network.id))
      throw new NetError('denied', `endpoint with name x already exists in network ${network.name}`)
    const pool = network.pools[0]
    const prefix = (pool?.subnet ?? '0.0.0.0/0').split('.').slice(0, 3).join('.')
    const endpoint: EndpointInfo = {
      id: idOf(`endpoint ${containerId} ${network.id}`),
      networkId: network.id,
      networkName: network.name,
      containerId,
      ifname: `eth${sandbox.endpoints.length}`,
      hostIfname: `veth${containerId.slice(0, 7)}`,
      mac: '02:42:ac:11:00:02' as Mac,
      ipv4: pool === undefined ? '' : (`${prefix}.${2 + this.endpointsOf(network.id).length}` as Ip),
      ipv4Length: pool === undefined ? 0 : 16,
      gateway4: pool?.gateway ?? '',
      ipv6: '',
      ipv6Length: 0,
      gateway6: '',
      dnsNames: network.predefined ? [] : ['c', containerId.slice(0, 12)],
      gwPriority: 0,
    }
    this.sandboxes.set(containerId, { ...sandbox, endpoints: [...sandbox.endpoints, endpoint] })
    this.#emit('connect', network, { container: containerId })
    return endpoint
  }
  async disconnect(containerId: string, ref: string): Promise<void> {
    const network = this.getNetwork(ref)
    const sandbox = this.sandboxes.get(containerId)
    if (sandbox === undefined || !sandbox.endpoints.some((e) => e.networkId === network.id)) {
      throw new NetError('internal', `container ${containerId} is not connected to network ${network.name}`)
    }
    this.sandboxes.set(containerId, { ...sandbox, endpoints: sandbox.endpoints.filter((e) => e.networkId !== network.id) })
    this.#emit('disconnect', network, { container: containerId })
  }
  async renameContainer(): Promise<void> {}
  declareAddresses(): void {}

  async addPorts(containerId: string, ports: Parameters<NetworkController['addPorts']>[1]): Promise<readonly PortBinding[]> {
    const sandbox = this.sandboxes.get(containerId)
    if (sandbox === undefined) throw new NetError('conflict', `container ${containerId} is not running`)
    const added = ports.map((p) => ({
      proto: p.proto,
      containerPort: p.containerPort,
      hostIp: (p.hostIp || '0.0.0.0') as Ip,
      hostPort: p.hostPort || 49_153,
      count: 1,
    }))
    this.sandboxes.set(containerId, { ...sandbox, ports: [...sandbox.ports, ...added] })
    return added
  }
  async removePorts(containerId: string, ports: Parameters<NetworkController['removePorts']>[1]): Promise<void> {
    const sandbox = this.sandboxes.get(containerId)
    if (sandbox === undefined) throw new NetError('conflict', `container ${containerId} is not running`)
    const kept = sandbox.ports.filter((b) => !ports.some((p) => p.proto === b.proto && p.containerPort === b.containerPort))
    this.sandboxes.set(containerId, { ...sandbox, ports: kept })
  }
  async restore(): Promise<void> {}
  onEvent(): () => void {
    return () => {}
  }
  onRepair(listener: (event: RepairEvent) => void): () => void {
    this.repairListeners.add(listener)
    return () => this.repairListeners.delete(listener)
  }
  filesOf(): undefined {
    return undefined
  }
  async close(): Promise<void> {}
}

/** A process that answers every input with the same bytes on stdout, and ends with its stdin. */
export function echoSession(tty: boolean, greeting: readonly { stream: 'stdout' | 'stderr'; text: string }[] = []): AttachSession {
  const output = new Readable({ objectMode: true, highWaterMark: 4, read() {} })
  const stdin = new PassThrough()
  for (const { stream, text } of greeting) output.push({ stream, data: Buffer.from(text) })
  stdin.on('data', (data: Buffer) => {
    // Backpressure as a real process has it: no more input is read while its output is not taken.
    if (!output.push({ stream: 'stdout', data })) stdin.pause()
  })
  output._read = () => void stdin.resume()
  stdin.on('end', () => output.push(null))
  return { tty, stdin, output, close: () => output.push(null) }
}

interface Waiter {
  readonly id: string
  readonly condition: string
  readonly done: (result: { exitCode: number }) => void
}

/** Containers whose process is an echo. A name or command decides behaviour: `Cmd: ['silent']` never writes. */
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

export class MemoryImages implements ImageService {
  readonly all: ImageSummary[] = [
    {
      id: `sha256:${idOf('image busybox')}`,
      parentId: '',
      repoTags: ['busybox:latest'],
      repoDigests: [],
      created: '2026-01-01T00:00:00Z',
      size: 1_000_000,
      architecture: 'amd64',
      os: 'linux',
      author: '',
      config: { Cmd: ['sh'], Env: ['PATH=/bin'] },
      layers: [`sha256:${idOf('layer')}`],
      comment: '',
      history: [{ created: '2026-01-01T00:00:00Z', created_by: 'import' }],
    },
  ]
  readonly received: Buffer[] = []
  readonly credentials: unknown[] = []
  list(): readonly ImageSummary[] {
    return this.all
  }
  find(ref: string): ImageSummary | undefined {
    const tagged = /:[^/]*$/.test(ref) ? ref : `${ref}:latest`
    return (
      this.all.find((i) => i.id === ref || i.repoTags.includes(tagged)) ??
      this.all.find((i) => ref.length > 3 && i.id.startsWith(`sha256:${ref}`))
    )
  }
  get(ref: string): ImageSummary {
    const found = this.find(ref)
    if (found === undefined) throw new NetError('not-found', `No such image: ${ref}`)
    return found
  }
  async pull(ref: string, tag: string, auth: unknown, progress: (line: Record<string, unknown>) => void): Promise<void> {
    this.credentials.push(auth)
    if (ref === 'nowhere') throw new NetError('not-found', 'pull access denied for nowhere, repository does not exist')
    progress({ status: `Pulling from ${ref}`, id: tag })
    if (ref === 'broken') throw new NetError('internal', 'connection cut')
    progress({ status: 'Downloading', progressDetail: { current: 1, total: 2 }, id: 'abc' })
  }
  async push(ref: string, _tag: string, auth: unknown, progress: (line: Record<string, unknown>) => void): Promise<void> {
    this.get(ref)
    this.credentials.push(auth)
    progress({ status: 'Pushed' })
  }
  async login({ username, password }: LoginRequest): Promise<LoginAnswer> {
    return password === 'right' ? { granted: true, status: `Login Succeeded for ${username}` } : { granted: false, status: 'unauthorized' }
  }
  async load(tar: Readable, progress: (line: Record<string, unknown>) => void): Promise<void> {
    for await (const chunk of tar) this.received.push(chunk as Buffer)
    progress({ stream: 'Loaded image: busybox:latest\n' })
  }
  async save(): Promise<Readable> {
    return Readable.from([Buffer.alloc(2048, 's')])
  }
  async import(tar: Readable, options: { repo?: string; tag?: string }): Promise<string> {
    for await (const chunk of tar) this.received.push(chunk as Buffer)
    const id = `sha256:${idOf(`import ${this.all.length}`)}`
    const template = this.all[0] as ImageSummary
    this.all.push({ ...template, id, repoTags: options.repo === undefined ? [] : [`${options.repo}:${options.tag ?? 'latest'}`] })
    return id
  }
  async importUrl(): Promise<string> {
    throw new NetError('not-implemented', 'nothing is fetched here')
  }
  async commit(): Promise<{ id: string; ref: string }> {
    throw new NetError('not-implemented', 'containers are not committed here')
  }
  async bootstrap(): Promise<string> {
    return (this.all[0] as ImageSummary).id
  }
  async tag(ref: string, repo: string, tag: string): Promise<void> {
    const image = this.get(ref)
    this.all[this.all.indexOf(image)] = { ...image, repoTags: [...image.repoTags, `${repo}:${tag}`] }
  }
  async remove(ref: string): Promise<({ Untagged: string } | { Deleted: string })[]> {
    const image = this.get(ref)
    this.all.splice(this.all.indexOf(image), 1)
    return [{ Untagged: ref }, { Deleted: image.id }]
  }
  async prune(): Promise<{ deleted: { Deleted: string }[]; reclaimed: number }> {
    return { deleted: [], reclaimed: 0 }
  }
}

export class MemoryVolumes implements VolumeService {
  readonly all = new Map<string, Volume>()
  async create(options: Parameters<VolumeService['create']>[0]): Promise<Volume> {
    const name = options.name ?? idOf(`volume ${this.all.size}`)
    const found = this.all.get(name)
    if (found !== undefined) return found
    const volume: Volume = {
      name,
      driver: options.driver ?? 'local',
      mountpoint: `/volumes/${name}/_data`,
      createdAt: '2026-01-01T00:00:00Z',
      labels: options.labels ?? {},
      options: options.options ?? {},
      scope: 'local',
      anonymous: options.name === undefined,
    }
    this.all.set(name, volume)
    return volume
  }
  list(): readonly Volume[] {
    return [...this.all.values()]
  }
  get(name: string): Volume {
    const volume = this.all.get(name)
    if (volume === undefined) throw new NetError('not-found', `get ${name}: no such volume`)
    return volume
  }
  usersOf(): readonly string[] {
    return []
  }
  async remove(name: string, force: boolean): Promise<void> {
    if (!force) this.get(name)
    this.all.delete(name)
  }
  async sizeOf(): Promise<number> {
    return 42
  }
}

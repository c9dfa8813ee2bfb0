/**
 * Containers: the face that the API talks to. It finds the container, checks what is allowed in its state, and hands the work to the
 * part that does it: `lifecycle.ts` (start, stop), `execs.ts`, `stream-hub.ts` (attach), `logs.ts`, `network.ts`.
 *
 * Refuses to know about networks, images and layers: those are ports given to the constructor. Containers outlive this object:
 * {@link Containers.restore} takes up those of an earlier engine.
 */
import { existsSync, rmSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { messageOf, NetError } from '../base/errors.ts'
import { type Cgroups, openCgroups } from '../sys/cgroup.ts'
import { commitContainer } from './commit.ts'
import { Connections } from './connections.ts'
import { createContainer } from './creation.ts'
import type { ContainerDeps } from './deps.ts'
import { parseDetachKeys } from './detach-keys.ts'
import { Execs } from './execs.ts'
import { Lifecycle } from './lifecycle.ts'
import { limitsOf, mergeUpdate } from './limits.ts'
import { changedPorts, type PortChange } from './live-ports.ts'
import { type LogPosition, logEnd } from './log-files.ts'
import { readLog } from './logs.ts'
import { findMonitor, Monitor, writeWindowSize } from './monitor.ts'
import { checkName } from './names.ts'
import { ContainerNetwork, filesIn } from './network.ts'
import { orderedEndpoints } from './network-plan.ts'
import { type ContainerRecord, containerDir, isRunning, logPathOf, snapshot } from './record.ts'
import { Entry, Registry } from './registry.ts'
import { Restorer } from './restore.ts'
import type { RootfsChange } from './rootfs-types.ts'
import { Runtimes } from './runtimes.ts'
import { parseSignal, SIGKILL, SIGTERM } from './signals.ts'
import { cgroupPathOf } from './spec.ts'
import { processTable, statsJson } from './stats.ts'
import { StreamHub } from './stream-hub.ts'
import { byTime } from './time.ts'
import type {
  AttachOptions,
  AttachSession,
  CommitOptions,
  Container,
  ContainerService,
  CreateRequest,
  EndpointSettingsJson,
  ExecConfig,
  ExecInfo,
  ExecStartOptions,
  HostConfig,
  LogOptions,
  WaitCondition,
} from './types.ts'

const DEFAULT_STOP_SECONDS = 10

export class Containers implements ContainerService {
  readonly #deps: ContainerDeps
  readonly #registry: Registry
  readonly #monitor: Monitor
  readonly #runtimes: Runtimes
  readonly #cgroups: Cgroups
  readonly #network: ContainerNetwork
  readonly #connections: Connections
  readonly #lifecycle: Lifecycle
  readonly #execs: Execs
  readonly #restorer: Restorer

  /** Throws `unavailable` when the OCI runtime or conmon is missing. */
  constructor(deps: ContainerDeps) {
    this.#deps = deps
    this.#registry = new Registry(deps.store, (id, endpoints) => deps.controller.declareAddresses(id, orderedEndpoints('', endpoints)))
    this.#runtimes = deps.runtimes ?? new Runtimes({ run: deps.run })
    this.#monitor = new Monitor(findMonitor(this.#runtimes.default))
    this.#cgroups = openCgroups()
    this.#network = new ContainerNetwork(deps, this.#registry)
    this.#connections = new Connections(deps.controller, this.#registry)
    const emit = (entry: Entry, action: string, attributes: Readonly<Record<string, string>> = {}) => this.#emit(entry, action, attributes)
    const parts = {
      deps,
      registry: this.#registry,
      monitor: this.#monitor,
      runtimes: this.#runtimes,
      cgroups: this.#cgroups,
      network: this.#network,
      emit,
    }
    this.#execs = new Execs(parts)
    this.#lifecycle = new Lifecycle({
      ...parts,
      onEnded: (entry) => this.#execs.forgetUnstarted(entry),
      onAutoRemove: (entry) => this.#removeEntry(entry, { force: true, volumes: true }),
    })
    this.#restorer = new Restorer({
      ...parts,
      lifecycle: this.#lifecycle,
      newEntry: (record) => this.#newEntry(record),
      remove: (entry) => this.#removeEntry(entry, { force: true, volumes: false }),
    })
  }

  /**
   * Takes up the containers of an earlier engine. Returns the ids of those that live (with the owners of shared sandboxes), which the
   * controller keeps. Call once, before anything else; then `controller.restore(ids)`, then {@link startPending}.
   */
  async restore(): Promise<Set<string>> {
    const alive = await this.#restorer.restore()
    this.#execs.restore()
    return alive
  }

  /** Starts what restart policies want running, after the networks are there. Failures are logged, not thrown. */
  startPending(): Promise<void> {
    this.#connections.followSandboxes()
    return this.#restorer.startPending()
  }

  /** Stops watching and restarting. Containers go on. */
  close(): void {
    this.#lifecycle.close()
    this.#execs.close()
  }

  #newEntry(record: ContainerRecord): Entry {
    const { Tty, OpenStdin, StdinOnce } = record.config
    return new Entry(
      record,
      new StreamHub(this.#deps.reactor, this.#deps.clock, Tty === true, OpenStdin === true && StdinOnce === true && Tty !== true),
    )
  }

  #emit(entry: Entry, action: string, attributes: Readonly<Record<string, string>> = {}): void {
    const { id, name, config } = entry.record
    this.#deps.events.publish({
      Type: 'container',
      Action: action,
      Actor: { ID: id, Attributes: { ...config.Labels, ...attributes, image: config.Image ?? '', name } },
    })
  }

  async create(request: CreateRequest): Promise<{ id: string; warnings: string[] }> {
    const { entry, warnings } = await createContainer(request, { ...this.#deps, runtimes: this.#runtimes }, this.#registry, (record) =>
      this.#newEntry(record),
    )
    this.#emit(entry, 'create')
    return { id: entry.record.id, warnings }
  }

  start(ref: string, _options?: { detachKeys?: string }): Promise<void> {
    return this.#lifecycle.start(this.#registry.get(ref))
  }

  async stop(ref: string, options: { timeoutSeconds?: number; signal?: string } = {}): Promise<void> {
    const entry = this.#registry.get(ref)
    await entry.exclusive(async () => {}) // a start in progress first comes to its end
    if (!isRunning(entry.record.state)) throw new NetError('not-modified', `container ${entry.record.id} is not running`)
    await this.#stopEntry(entry, options)
    this.#emit(entry, 'stop')
  }

  #stopEntry(entry: Entry, options: { timeoutSeconds?: number; signal?: string }): Promise<void> {
    const { StopSignal, StopTimeout } = entry.record.config
    const signal = options.signal || StopSignal
    return this.#lifecycle.stop(
      entry,
      signal ? parseSignal(signal) : SIGTERM,
      options.timeoutSeconds ?? StopTimeout ?? DEFAULT_STOP_SECONDS,
    )
  }

  async restart(ref: string, options: { timeoutSeconds?: number; signal?: string } = {}): Promise<void> {
    const entry = this.#registry.get(ref)
    await entry.exclusive(async () => {})
    if (isRunning(entry.record.state)) {
      // keep an auto-remove container through its own restart
      const { AutoRemove, ...hostConfig } = entry.record.hostConfig
      if (AutoRemove) this.#registry.update(entry, { hostConfig })
      try {
        await this.#stopEntry(entry, options)
        this.#emit(entry, 'stop')
      } finally {
        if (AutoRemove) this.#registry.update(entry, { hostConfig: { ...entry.record.hostConfig, AutoRemove } })
      }
    }
    await this.#lifecycle.start(entry)
    this.#emit(entry, 'restart')
  }

  async kill(ref: string, signal?: string): Promise<void> {
    const entry = this.#registry.get(ref)
    const number = signal ? parseSignal(signal) : SIGKILL
    const { config } = entry.record
    if (entry.record.state.status === 'restarting')
      throw new NetError('conflict', `cannot kill container: ${ref}: container ${entry.record.id} is not running`)
    // only what is meant to end it keeps the restart policy away
    if (number === SIGKILL || number === (config.StopSignal ? parseSignal(config.StopSignal) : SIGTERM)) {
      if (entry.record.live !== undefined) this.#registry.update(entry, { manuallyStopped: true })
    }
    const gone = number === SIGKILL ? entry.wait('not-running') : undefined
    await this.#lifecycle.signal(entry, number)
    if (gone !== undefined) await Promise.race([gone, this.#deps.clock.sleep(10_000)])
  }

  async pause(ref: string): Promise<void> {
    const entry = this.#registry.get(ref)
    await entry.exclusive(async () => {
      const { id, state } = entry.record
      if (state.status === 'paused') throw new NetError('conflict', `Container ${id} is already paused`)
      if (state.status === 'restarting')
        throw new NetError('conflict', `Container ${id} is restarting, wait until the container is running`)
      if (entry.record.live === undefined) throw new NetError('conflict', `Container ${id} is not running`)
      await this.#lifecycle.freeze(entry)
      this.#emit(entry, 'pause')
    })
  }

  async unpause(ref: string): Promise<void> {
    const entry = this.#registry.get(ref)
    await entry.exclusive(async () => {
      if (entry.record.state.status !== 'paused') throw new NetError('internal', `Container ${entry.record.id} is not paused`)
      await this.#lifecycle.thaw(entry)
      this.#emit(entry, 'unpause')
    })
  }

  wait(ref: string, condition: WaitCondition, signal: AbortSignal): Promise<{ exitCode: number; error?: string }> {
    return this.#registry.get(ref).wait(condition, signal)
  }

  notePorts(ref: string, change: PortChange): void {
    const entry = this.#registry.get(ref)
    const left = this.#deps.controller.sandboxOf(entry.record.id)?.ports ?? []
    this.#registry.update(entry, { hostConfig: changedPorts(entry.record.hostConfig, change, left) })
  }

  async rename(ref: string, name: string): Promise<void> {
    const entry = this.#registry.get(ref)
    if (name === '') throw new NetError('invalid', 'Neither old nor new names may be empty')
    const next = checkName(name)
    await entry.exclusive(async () => {
      const { id, name: previous } = entry.record
      if (next === previous) throw new NetError('invalid', 'Renaming a container with the same name as its current name')
      try {
        this.#registry.reserve(next, id)
      } catch (error) {
        throw new NetError('conflict', `Error when allocating new name: ${messageOf(error)}`)
      }
      try {
        if (entry.record.live !== undefined) await this.#deps.controller.renameContainer(id, next)
      } catch (error) {
        this.#registry.release(next, id)
        throw error
      }
      this.#registry.update(entry, { name: next })
      this.#emit(entry, 'rename', { oldName: `/${previous}` })
    })
  }

  async update(ref: string, change: Partial<HostConfig>): Promise<{ warnings: string[] }> {
    const entry = this.#registry.get(ref)
    await entry.exclusive(async () => {
      const { record } = entry
      if (record.state.status === 'removing') throw new NetError('conflict', `Container is marked for removal and cannot be "update".`)
      const { given, next } = mergeUpdate(record.hostConfig, change)
      if (record.live !== undefined) {
        try {
          this.#cgroups.update(cgroupPathOf(record), limitsOf(given))
        } catch (cause) {
          throw new NetError('internal', `Cannot update container ${record.id}: ${messageOf(cause)}`, {}, cause)
        }
      }
      this.#registry.update(entry, { hostConfig: next })
      this.#emit(entry, 'update')
    })
    return { warnings: [] }
  }

  async remove(ref: string, options: { force: boolean; volumes: boolean; link: boolean }): Promise<void> {
    if (options.link) return this.#removeLink(ref)
    await this.#removeEntry(this.#registry.get(ref), options)
  }

  async #removeEntry(entry: Entry, options: { force: boolean; volumes: boolean }): Promise<void> {
    const { deps, registry } = { deps: this.#deps, registry: this.#registry }
    await entry.exclusive(async () => {})
    const { id, name, state } = entry.record
    if (registry.find(id) !== entry) throw new NetError('not-found', `No such container: ${id}`)
    if (state.status === 'removing') throw new NetError('conflict', `removal of container ${id} is already in progress`)
    if (isRunning(state)) {
      if (!options.force) {
        const why =
          state.status === 'paused'
            ? 'container is paused and must be unpaused first'
            : `container is ${state.status}: stop the container before removing or force remove`
        throw new NetError('conflict', `cannot remove container "/${name}": ${why}`)
      }
      await this.#lifecycle.stop(entry, SIGKILL, 10)
    }
    const again = await entry.exclusive(async () => {
      if (registry.find(id) !== entry) return false // an auto-remove was faster
      if (isRunning(entry.record.state)) return true // somebody started it between our stop and our turn
      registry.update(entry, { state: { ...entry.record.state, status: 'removing' } })
      try {
        await deps.rootfs.remove(id)
        rmSync(containerDir(deps.root, id), { recursive: true, force: true })
      } catch (cause) {
        // "dead" can be removed again; whoever waits for the removal hears that it failed
        registry.update(entry, { state: { ...entry.record.state, status: 'dead' } })
        entry.notify('removed', messageOf(cause))
        throw cause
      }
      registry.drop(entry)
      if (options.volumes) {
        for (const mount of entry.record.mounts) {
          if (mount.anonymous && mount.Name !== undefined) {
            await deps.volumes.remove(mount.Name, false).catch((e) => deps.log.warn(messageOf(e), { volume: mount.Name }))
          }
        }
      }
      entry.hub.abort()
      this.#emit(entry, 'destroy')
      entry.notify('removed')
      return false
    })
    if (again) await this.#removeEntry(entry, options)
  }

  /** `DELETE /containers/self/alias?link=1`. */
  #removeLink(ref: string): void {
    const [self = '', alias = ''] = ref.replace(/^\//, '').split('/')
    const entry = this.#registry.get(self)
    const links = entry.record.links.filter((l) => l.alias !== alias)
    if (links.length === entry.record.links.length) throw new NetError('not-found', `No such link: /${self}/${alias}`)
    this.#registry.update(entry, { links })
  }

  list(): readonly Container[] {
    return this.#registry
      .all()
      .map((entry) => this.#snapshot(entry))
      .reverse() // of two made in the same millisecond the later one comes first
      .sort((a, b) => byTime(b.created, a.created))
  }

  get(ref: string): Container {
    return this.#snapshot(this.#registry.get(ref))
  }

  find(ref: string): Container | undefined {
    const entry = this.#registry.find(ref)
    return entry === undefined ? undefined : this.#snapshot(entry)
  }

  #snapshot(entry: Entry): Container {
    const { root, controller } = this.#deps
    const owner = this.#network.ownerIdOf(entry.record)
    return snapshot(entry.record, {
      root,
      nameOf: (id) => this.#registry.nameOf(id),
      execIds: [...entry.execIds],
      files: controller.filesOf(owner) ?? filesIn(containerDir(root, owner)),
    })
  }

  sizeOf(ref: string): Promise<{ rw: number; rootFs: number }> {
    return this.#deps.rootfs.sizeOf(this.#registry.get(ref).record.id)
  }

  async top(ref: string, psArgs: string): Promise<{ titles: string[]; processes: string[][] }> {
    const { record } = this.#registry.get(ref)
    if (record.state.status === 'restarting')
      throw new NetError('conflict', `Container ${record.id} is restarting, wait until the container is running`)
    if (record.live === undefined) throw new NetError('conflict', `container ${record.id} is not running`)
    return processTable(this.#cgroups.pids(cgroupPathOf(record)), psArgs)
  }

  async stats(ref: string): Promise<Record<string, unknown>> {
    const { record } = this.#registry.get(ref)
    const usage = record.live === undefined ? undefined : this.#cgroups.usage(cgroupPathOf(record))
    const networks = usage === undefined ? undefined : this.#deps.interfaceCounters?.(this.#network.ownerIdOf(record))
    return statsJson({ id: record.id, name: record.name, now: this.#deps.clock.now(), usage, networks })
  }

  logs(ref: string, options: LogOptions, signal: AbortSignal): AsyncIterable<{ stream: 'stdout' | 'stderr'; data: Buffer }> {
    return this.#log(this.#registry.get(ref), options, signal)
  }

  #log(
    entry: Entry,
    options: LogOptions,
    signal: AbortSignal,
    end?: LogPosition,
  ): AsyncIterable<{ stream: 'stdout' | 'stderr'; data: Buffer }> {
    const { LogConfig } = entry.record.hostConfig
    if (LogConfig?.Type === 'none') throw new NetError('not-implemented', 'configured logging driver does not support reading')
    const stopped = options.follow ? entry.wait('stopped', signal).catch(() => {}) : Promise.resolve()
    const following = { isLive: () => isRunning(entry.record.state), stopped }
    return readLog(logPathOf(this.#deps.root, entry.record.id), options, following, signal, end)
  }

  async attach(ref: string, options: AttachOptions): Promise<AttachSession> {
    const entry = this.#registry.get(ref)
    const { id, state, config } = entry.record
    if (state.status === 'paused') throw new NetError('conflict', `container ${id} is paused, unpause the container before attach`)
    if (state.status === 'restarting') throw new NetError('conflict', `container ${id} is restarting, wait until the container is running`)
    const detachKeys = parseDetachKeys(options.detachKeys)
    const session = entry.hub.attach(
      {
        stdin: options.stdin && options.stream && config.OpenStdin === true,
        stdout: options.stdout,
        stderr: options.stderr,
        detachKeys: config.Tty ? detachKeys : undefined,
        onDetach: () => this.#emit(entry, 'detach'),
      },
      true,
    )
    this.#emit(entry, 'attach')
    if (options.stream && entry.record.live !== undefined) entry.hub.connect(`${this.#lifecycle.paths(id).bundle}/attach`)
    // taken after the connection: what is logged from here on comes as live output
    const end = logEnd(logPathOf(this.#deps.root, id))
    void this.#replay(entry, session, options, end).catch((error) => this.#deps.log.warn(messageOf(error), { container: id }))
    return session
  }

  async #replay(entry: Entry, session: AttachSession, options: AttachOptions, end: LogPosition): Promise<void> {
    try {
      if (options.logs) {
        const log = { stdout: options.stdout, stderr: options.stderr, follow: false, timestamps: false }
        for await (const chunk of this.#log(entry, log, new AbortController().signal, end)) entry.hub.replay(session, chunk)
      }
    } finally {
      if (!options.stream) session.close()
      entry.hub.release(session)
    }
  }

  async resize(ref: string, rows: number, columns: number): Promise<void> {
    const entry = this.#registry.get(ref)
    if (entry.record.live === undefined) throw new NetError('conflict', `container ${entry.record.id} is not running`)
    writeWindowSize(this.#lifecycle.paths(entry.record.id).bundle, rows, columns)
    this.#emit(entry, 'resize', { height: String(rows), width: String(columns) })
  }

  changes(ref: string): Promise<RootfsChange[]> {
    return this.#deps.rootfs.changes(this.#registry.get(ref).record.id)
  }

  commit(ref: string, options: CommitOptions): Promise<{ id: string }> {
    const entry = this.#registry.get(ref)
    return commitContainer(entry, options, {
      deps: this.#deps,
      pause: () => this.pause(entry.record.id),
      unpause: () => this.unpause(entry.record.id),
      emit: (action, attributes) => this.#emit(entry, action, attributes),
    })
  }

  export(ref: string): Promise<Readable> {
    return this.#deps.rootfs.export(this.#registry.get(ref).record.id)
  }

  archiveStat(ref: string, path: string): Promise<{ name: string; size: number; mode: number; mtime: string; linkTarget: string }> {
    return this.#deps.rootfs.archiveStat(this.#registry.get(ref).record.id, path)
  }

  archiveGet(ref: string, path: string): Promise<Readable> {
    return this.#deps.rootfs.archiveGet(this.#registry.get(ref).record.id, path)
  }

  archivePut(ref: string, path: string, tar: Readable, options: { noOverwriteDirNonDir: boolean; copyUidGid: boolean }): Promise<void> {
    return this.#deps.rootfs.archivePut(this.#registry.get(ref).record.id, path, tar, options)
  }

  async execCreate(ref: string, config: ExecConfig): Promise<string> {
    return this.#execs.create(this.#registry.get(ref), config)
  }

  execStart(execId: string, options: ExecStartOptions): Promise<AttachSession | undefined> {
    return this.#execs.start(execId, options)
  }

  execInspect(execId: string): ExecInfo {
    return this.#execs.inspect(execId)
  }

  async execResize(execId: string, rows: number, columns: number): Promise<void> {
    this.#execs.resize(execId, rows, columns)
  }

  connectNetwork(ref: string, network: string, settings: EndpointSettingsJson): Promise<void> {
    return this.#connections.connect(ref, network, settings)
  }

  disconnectNetwork(ref: string, network: string, force: boolean): Promise<void> {
    return this.#connections.disconnect(ref, network, force)
  }

  /** True when the engine still holds files of a container: for tests and `doctor`. */
  hasBundle(id: string): boolean {
    return existsSync(this.#lifecycle.paths(id).bundle)
  }
}

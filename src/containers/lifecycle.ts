/**
 * Starting and ending: what happens between `created` and `exited`, and back.
 *
 * Start: network and root file system at the same time, then the OCI spec, then conmon and runc prepare the process, then clients are
 * connected, then it runs. A failure at any point takes everything back. The exit is conmon's word (a file) or, failing that, its death.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { messageOf, NetError } from '../base/errors.ts'
import type { Cgroups } from '../sys/cgroup.ts'
import { ownCapabilities, sendSignal, startTimeOf } from '../sys/process.ts'
import type { ContainerDeps } from './deps.ts'
import { type Exit, ExitWatch } from './exit-watch.ts'
import { text } from './fields.ts'
import { startHealth } from './health.ts'
import { goArch } from './images-bootstrap.ts'
import { monitorBound } from './log-files.ts'
import { type LogBounds, logBounds } from './log-options.ts'
import { LogRotation } from './log-rotation.ts'
import { exitCodeOf, type Monitor, type MonitorOptions, type MonitorPaths, writeWindowSize } from './monitor.ts'
import type { ContainerNetwork } from './network.ts'
import { containerDir, isRunning, type LiveProcess, logPathOf } from './record.ts'
import type { Entry, Registry } from './registry.ts'
import { nextDelayMs, restartPolicyOf, shouldRestart } from './restart.ts'
import type { Runtimes } from './runtimes.ts'
import { sharedNamespaces } from './shared-namespaces.ts'
import { SIGKILL } from './signals.ts'
import { buildSpec, cgroupPathOf, specJson } from './spec.ts'
import { devicesOf, groupAddOf, initProgram, userIn } from './start-facts.ts'
import { rfc3339, secondsOf } from './time.ts'
import { populateVolume } from './volumes-fill.ts'

export interface LifecycleParts {
  readonly deps: ContainerDeps
  readonly registry: Registry
  readonly monitor: Monitor
  readonly runtimes: Runtimes
  readonly cgroups: Cgroups
  readonly network: ContainerNetwork
  /** Publishes a container event with Docker's attributes. */
  readonly emit: (entry: Entry, action: string, attributes?: Readonly<Record<string, string>>) => void
  /** Called when a run has ended and is cleaned up. */
  readonly onEnded: (entry: Entry) => void
  /** Removes a container that wants to be removed when it ends. */
  readonly onAutoRemove: (entry: Entry) => Promise<void>
}

/** Exit code of a container whose monitor died without a word, or that ended with the host. */
const UNKNOWN_EXIT = 255

export class Lifecycle {
  readonly #p: LifecycleParts
  readonly #exits: ExitWatch
  readonly #rotation: LogRotation
  readonly exitDir: string
  #closed = false

  constructor(parts: LifecycleParts) {
    this.#p = parts
    this.exitDir = `${parts.deps.run}/exits`
    this.#exits = new ExitWatch(this.exitDir, parts.deps.reactor)
    this.#rotation = new LogRotation(parts.deps.clock, parts.deps.log)
  }

  paths(id: string): MonitorPaths {
    const { deps, registry, runtimes } = this.#p
    const runtime = runtimes.of(text(registry.find(id)?.record.hostConfig ?? {}, 'Runtime'))
    return { runtime, bundle: `${deps.run}/bundles/${id}`, exitDir: this.exitDir }
  }

  /** Starts a container that does not run. Throws Docker's texts; on failure nothing is left but the error in its state. */
  async start(entry: Entry): Promise<void> {
    await entry.exclusive(async () => {
      const { status } = entry.record.state
      if (status === 'paused') throw new NetError('conflict', 'cannot start a paused container, try unpause instead')
      if (status === 'running') throw new NetError('not-modified', `container ${entry.record.id} is already running`)
      if (status === 'removing' || status === 'dead') {
        throw new NetError('conflict', 'container is marked for removal and cannot be started')
      }
      entry.cancelRestart?.()
      entry.cancelRestart = undefined
      entry.restartDelayMs = 0
      this.#p.registry.update(entry, { restartCount: 0, manuallyStopped: false })
      await this.#startNow(entry)
    })
  }

  async #startNow(entry: Entry): Promise<void> {
    const { deps, registry, monitor } = this.#p
    const { id } = entry.record
    const paths = this.paths(id)
    const before = entry.record.state
    try {
      const live = await this.#launch(entry, paths)
      registry.update(entry, {
        live,
        state: {
          status: 'running',
          pid: live.pid,
          exitCode: 0,
          oomKilled: false,
          error: '',
          startedAt: rfc3339(deps.clock.now()),
          finishedAt: before.finishedAt,
        },
      })
      this.#p.emit(entry, 'start')
      this.#watch(entry, live)
      this.#startHealth(entry)
    } catch (cause) {
      const error = cause instanceof NetError ? cause : new NetError('internal', messageOf(cause), {}, cause)
      await this.#takeBack(entry, monitor, paths)
      const exitCode = exitCodeOfFailure(error)
      const status = before.status === 'restarting' ? 'exited' : before.status
      registry.update(entry, { state: { ...before, status, pid: 0, exitCode, error: error.message } })
      entry.hub.abort()
      // what never ran has not ended: only those who saw it between two runs hear of it, as under Docker
      if (before.status === 'restarting') entry.notify('stopped')
      this.#autoRemove(entry)
      throw error
    }
  }

  async #launch(entry: Entry, paths: MonitorPaths): Promise<LiveProcess> {
    const { deps, registry, monitor, network, cgroups } = this.#p
    const { record } = entry
    rmSync(paths.bundle, { recursive: true, force: true })
    rmSync(`${paths.exitDir}/${record.id}`, { force: true })
    mkdirSync(paths.bundle, { recursive: true })
    mkdirSync(containerDir(deps.root, record.id), { recursive: true })
    const [net, rootfs] = await both(network.open(entry), deps.rootfs.mount(record.id))
    if (!record.copiedUp) {
      await this.#copyUp(entry, rootfs)
      registry.update(entry, { copiedUp: true })
    }
    const shared = sharedNamespaces(record, registry)
    const { config, hostConfig } = record
    const spec = buildSpec(record, {
      ...net,
      ...shared,
      rootfs,
      user: userIn(rootfs, config.User ?? '', groupAddOf(record)),
      devices: devicesOf(hostConfig),
      init: hostConfig.Init === true ? initProgram() : undefined,
      cgroupVersion: cgroups.version,
      cgroupPath: cgroupPathOf(record),
      availableCapabilities: ownCapabilities(),
      machine: { arch: goArch(), kernel: release() },
    })
    writeFileSync(`${paths.bundle}/config.json`, specJson(spec))
    const started = await monitor.create(record.id, paths, this.#monitorOptions(entry))
    if (entry.hub.clientCount > 0) entry.hub.connect(`${paths.bundle}/attach`)
    const size = hostConfig['ConsoleSize']
    if (config.Tty && Array.isArray(size) && size[0] > 0) writeWindowSize(paths.bundle, Number(size[0]), Number(size[1]))
    await deps.hostReady?.()
    await monitor.release(record.id, paths)
    return {
      pid: started.pid,
      startTime: startTimeOf(started.pid) ?? 0,
      monitorPid: started.monitorPid,
      monitorStartTime: startTimeOf(started.monitorPid) ?? 0,
    }
  }

  #monitorOptions(entry: Entry): MonitorOptions {
    const { config, hostConfig } = entry.record
    const maxBytes = monitorBound(this.#logBounds(entry))
    return {
      terminal: config.Tty === true,
      stdin: config.OpenStdin === true,
      leaveStdinOpen: config.StdinOnce !== true || config.Tty === true,
      logPath: hostConfig.LogConfig?.Type === 'none' ? undefined : logPathOf(this.#p.deps.root, entry.record.id),
      ...(maxBytes === undefined ? {} : { logMaxBytes: maxBytes }),
    }
  }

  /** An empty volume is filled with what the image has at its place, once. */
  async #copyUp(entry: Entry, rootfs: string): Promise<void> {
    for (const mount of entry.record.mounts) {
      if (mount.Type !== 'volume' || mount.copyUp !== true) continue
      await populateVolume({ root: rootfs, path: mount.Destination, target: mount.Source }).catch((cause) => {
        throw new NetError('internal', `failed to populate volume: ${messageOf(cause)}`, {}, cause)
      })
    }
  }

  #watch(entry: Entry, live: LiveProcess): void {
    this.#exits.expect(entry.record.id, live.monitorPid, (exit) => {
      void this.ended(entry, live, exit).catch((error) => this.#warn(entry, error))
    })
    const { id, hostConfig } = entry.record
    const bounds = this.#logBounds(entry)
    if (bounds === undefined || hostConfig.LogConfig?.Type === 'none') return
    this.#rotation.watch(id, { path: logPathOf(this.#p.deps.root, id), bundle: this.paths(id).bundle, bounds })
  }

  /** Create refuses wrong options; a container that an earlier version made with some starts all the same, and keeps all of its output. */
  #logBounds(entry: Entry): LogBounds | undefined {
    try {
      return logBounds(entry.record.hostConfig)
    } catch (error) {
      this.#p.deps.log.warn(`the log is not bounded: ${messageOf(error)}`, { container: entry.record.id })
      return undefined
    }
  }

  /** Takes up a container that an earlier engine started and that still runs. */
  adopt(entry: Entry, live: LiveProcess): void {
    this.#watch(entry, live)
    this.#startHealth(entry)
  }

  /**
   * Records an exit and cleans up; starts the container again when its policy says so, unless `wasAway` (the engine was not running:
   * restore decides). A repeated or outdated call does nothing.
   */
  ended(entry: Entry, live: LiveProcess, exit: Exit, wasAway = false): Promise<void> {
    return entry.exclusive(async () => {
      const { deps, registry, cgroups } = this.#p
      const { record } = entry
      if (record.live?.pid !== live.pid || record.live.startTime !== live.startTime) return
      entry.stopHealth?.()
      entry.stopHealth = undefined
      this.#rotation.forget(record.id)
      const oomKilled = cgroups.oomKills(cgroupPathOf(record)) > 0
      const exitCode = exit.code ?? UNKNOWN_EXIT
      // the kernel's file times are up to a tick behind the clock
      const started = secondsOf(record.state.startedAt) * 1000
      const finished = Math.max(exit.at > 0 ? exit.at : deps.clock.now(), started)
      const ranMs = finished - started
      const restart = !this.#closed && !wasAway && shouldRestart(restartPolicyOf(record.hostConfig), { ...record, exitCode })
      const { live: _live, ...rest } = record
      entry.record = rest
      registry.update(entry, {
        restartCount: restart ? record.restartCount + 1 : record.restartCount,
        state: {
          ...record.state,
          status: restart ? 'restarting' : 'exited',
          pid: 0,
          exitCode,
          oomKilled,
          error: exit.code === undefined ? 'the monitor of the container was killed' : '',
          finishedAt: rfc3339(finished),
        },
      })
      const streams = entry.hub.finish()
      await this.#cleanUp(entry)
      await streams
      this.#p.onEnded(entry)
      if (oomKilled) this.#p.emit(entry, 'oom')
      this.#p.emit(entry, 'die', { exitCode: String(exitCode), execDuration: String(Math.max(0, Math.floor(ranMs / 1000))) })
      entry.notify(restart ? 'restarting' : 'stopped')
      if (restart) this.#scheduleRestart(entry, ranMs)
      else this.#autoRemove(entry)
    })
  }

  #scheduleRestart(entry: Entry, ranMs: number): void {
    entry.restartDelayMs = nextDelayMs(entry.restartDelayMs, ranMs)
    entry.cancelRestart = this.#p.deps.clock.after(entry.restartDelayMs, () => {
      entry.cancelRestart = undefined
      void entry
        .exclusive(async () => {
          if (entry.record.state.status === 'restarting' && !this.#closed) await this.#startNow(entry)
        })
        .catch((error) => this.#warn(entry, error))
    })
  }

  /** Ends the waiting of a container between two runs. True when it was waiting. */
  giveUpRestart(entry: Entry): boolean {
    if (entry.record.state.status !== 'restarting') return false
    entry.cancelRestart?.()
    entry.cancelRestart = undefined
    this.#p.registry.update(entry, { manuallyStopped: true, state: { ...entry.record.state, status: 'exited' } })
    entry.notify('stopped')
    this.#autoRemove(entry)
    return true
  }

  /** Takes away what a run leaves: group, runtime state, network, mounts, bundle. Collects errors into the log. */
  async #cleanUp(entry: Entry): Promise<void> {
    const { deps, monitor, network, cgroups } = this.#p
    const { id } = entry.record
    const paths = this.paths(id)
    const forgetRuntime = async () => {
      // an empty group is removed with rmdir; only a container that shares pids can leave processes, which the runtime then kills
      if (cgroups.remove(cgroupPathOf(entry.record))) await monitor.forget(id, paths.runtime)
      else {
        await monitor.delete(id, paths.runtime)
        cgroups.remove(cgroupPathOf(entry.record)) // the runtime may have known nothing of it any more
      }
    }
    const results = await Promise.allSettled([forgetRuntime().then(() => deps.rootfs.unmount(id)), network.close(entry)])
    rmSync(paths.bundle, { recursive: true, force: true })
    rmSync(`${paths.exitDir}/${id}`, { force: true })
    for (const result of results) if (result.status === 'rejected') this.#warn(entry, result.reason)
  }

  async #takeBack(entry: Entry, monitor: Monitor, paths: MonitorPaths): Promise<void> {
    this.#exits.forget(entry.record.id)
    await monitor.delete(entry.record.id, paths.runtime).catch((error) => this.#warn(entry, error))
    await this.#cleanUp(entry)
  }

  /** Removes every trace of a run that an engine left half-made. Called at restore for containers that do not run. */
  async discard(entry: Entry): Promise<void> {
    await this.#takeBack(entry, this.#p.monitor, this.paths(entry.record.id))
  }

  /** Sends a signal to the first process. Throws `conflict` when it does not run. */
  async signal(entry: Entry, signal: number): Promise<void> {
    const { record } = entry
    const notRunning = () =>
      new NetError('conflict', `cannot kill container: ${record.name}: container ${record.id} is not running`, { subject: record.id })
    if (record.live === undefined || !isRunning(record.state)) throw notRunning()
    if (!sendSignal(record.live.pid, signal)) throw notRunning()
    this.#p.emit(entry, 'kill', { signal: String(signal) })
    if (record.state.status === 'paused') await this.thaw(entry)
  }

  async freeze(entry: Entry): Promise<void> {
    await this.#p.cgroups.freeze(cgroupPathOf(entry.record), true)
    this.#p.registry.update(entry, { state: { ...entry.record.state, status: 'paused' } })
  }

  async thaw(entry: Entry): Promise<void> {
    await this.#p.cgroups.freeze(cgroupPathOf(entry.record), false)
    if (entry.record.state.status === 'paused') this.#p.registry.update(entry, { state: { ...entry.record.state, status: 'running' } })
  }

  /** Signal, wait, SIGKILL, wait. `timeoutSeconds` < 0 waits for ever. Returns when everything of the run is cleaned up. */
  async stop(entry: Entry, signal: number, timeoutSeconds: number): Promise<void> {
    if (this.giveUpRestart(entry)) return
    if (!isRunning(entry.record.state)) return
    this.#p.registry.update(entry, { manuallyStopped: true })
    const gone = entry.wait('not-running')
    await this.signal(entry, signal).catch(ignoreConflict)
    if (await this.#within(gone, timeoutSeconds)) return
    await this.signal(entry, SIGKILL).catch(ignoreConflict)
    if (await this.#within(gone, 10)) return
    throw new NetError('internal', `cannot stop container: ${entry.record.id}: tried to kill container, but did not receive an exit event`)
  }

  async #within(gone: Promise<unknown>, seconds: number): Promise<boolean> {
    if (seconds < 0) return gone.then(() => true)
    let cancel = () => {}
    const timeout = new Promise<boolean>((resolve) => {
      cancel = this.#p.deps.clock.after(seconds * 1000, () => resolve(false))
    })
    const result = await Promise.race([gone.then(() => true), timeout])
    cancel()
    return result
  }

  /** Later, because the caller still holds the container. */
  #autoRemove(entry: Entry): void {
    if (!entry.record.hostConfig.AutoRemove) return
    setImmediate(() => void this.#p.onAutoRemove(entry).catch((error) => this.#warn(entry, error)))
  }

  #startHealth(entry: Entry): void {
    entry.stopHealth?.()
    entry.stopHealth = startHealth(entry, { ...this.#p, paths: this.paths(entry.record.id) })
  }

  #warn(entry: Entry, error: unknown): void {
    this.#p.deps.log.warn(messageOf(error), { container: entry.record.id })
  }

  /** Stops watching and restarting; the containers go on. */
  close(): void {
    this.#closed = true
    this.#exits.close()
    this.#rotation.close()
    for (const entry of this.#p.registry.all()) {
      entry.cancelRestart?.()
      entry.stopHealth?.()
      entry.hub.abort()
    }
  }
}

function ignoreConflict(error: unknown): void {
  if (!(error instanceof NetError && error.code === 'conflict')) throw error
}

/** Waits for both, so that neither is still at work when the other's failure is cleaned up. */
async function both<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  const [first, second] = await Promise.allSettled([a, b])
  if (first.status === 'rejected') throw first.reason
  if (second.status === 'rejected') throw second.reason
  return [first.value, second.value]
}

function exitCodeOfFailure(error: NetError): number {
  return error.detail.op === 'create container' ? exitCodeOf(error.detail.kernel ?? '') : 128
}

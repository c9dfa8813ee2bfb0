/** `docker exec`: more processes in a running container. conmon holds each of them as it holds a container's first process. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { messageOf, NetError } from '../base/errors.ts'
import { newId } from '../base/ids.ts'
import { isProcess, isProcessNamed } from '../sys/process.ts'
import type { ContainerDeps } from './deps.ts'
import { parseDetachKeys } from './detach-keys.ts'
import { ExitWatch, readExit } from './exit-watch.ts'
import { text } from './fields.ts'
import { exitCodeOf, type Monitor, writeWindowSize } from './monitor.ts'
import type { ContainerNetwork } from './network.ts'
import type { Entry, Registry } from './registry.ts'
import type { Runtimes } from './runtimes.ts'
import { buildExecProcess, specJson } from './spec.ts'
import { execFacts } from './start-facts.ts'
import { StreamHub } from './stream-hub.ts'
import type { AttachSession, ExecConfig, ExecInfo, ExecStartOptions } from './types.ts'

interface Exec {
  readonly id: string
  readonly entry: Entry
  readonly config: ExecConfig
  readonly hub: StreamHub
  state: 'created' | 'running' | 'ended'
  exitCode: number | null
  pid: number
  watch: ExitWatch | undefined
}

/** Name and content of the file by which a later engine knows what an exec is. */
const NOTE = 'exec.json'
interface Note {
  readonly containerId: string
  readonly config: ExecConfig
}

function readNote(bundle: string): Note | undefined {
  try {
    return JSON.parse(readFileSync(`${bundle}/${NOTE}`, 'utf8')) as Note
  } catch {
    return undefined // an exec that never came to its process
  }
}

export interface ExecParts {
  readonly deps: ContainerDeps
  readonly registry: Registry
  readonly monitor: Monitor
  readonly runtimes: Runtimes
  readonly network: ContainerNetwork
  readonly emit: (entry: Entry, action: string, attributes?: Readonly<Record<string, string>>) => void
}

export class Execs {
  readonly #p: ExecParts
  readonly #byId = new Map<string, Exec>()

  constructor(parts: ExecParts) {
    this.#p = parts
  }

  #dir(id: string): string {
    return `${this.#p.deps.run}/execs/${id}`
  }

  /** Throws `conflict` when the container does not run or is paused, `invalid` without a command. */
  create(entry: Entry, config: ExecConfig): string {
    const { id, state } = entry.record
    this.#checkRunning(entry)
    if (state.status === 'paused') throw new NetError('conflict', `container ${id} is paused, unpause the container before exec`)
    if (!config.Cmd?.length) throw new NetError('invalid', 'No exec command specified')
    parseDetachKeys(config.DetachKeys)
    const exec = this.#add(newId(this.#p.deps.rng), entry, config, 'created')
    this.#p.emit(entry, `exec_create: ${config.Cmd.join(' ')}`, { execID: exec.id })
    return exec.id
  }

  #add(id: string, entry: Entry, config: ExecConfig, state: Exec['state']): Exec {
    const hub = new StreamHub(this.#p.deps.reactor, this.#p.deps.clock, config.Tty === true, config.Tty !== true)
    const exec: Exec = { id, entry, config, hub, state, exitCode: null, pid: 0, watch: undefined }
    this.#byId.set(id, exec)
    entry.execIds.add(id)
    return exec
  }

  /**
   * Takes up the execs that an earlier engine started: watches those that run, tells the end of those that ended meanwhile. Output of a
   * time without an engine is lost, as that of a detached exec.
   */
  restore(): void {
    const root = `${this.#p.deps.run}/execs`
    for (const id of existsSync(root) ? readdirSync(root) : []) {
      const note = readNote(this.#dir(id))
      const entry = note === undefined ? undefined : this.#p.registry.find(note.containerId)
      if (note === undefined || entry === undefined) {
        rmSync(this.#dir(id), { recursive: true, force: true })
        continue
      }
      const exec = this.#add(id, entry, note.config, 'running')
      const { exitDir, monitorPid, pid } = this.#traces(id)
      const exit = readExit(exitDir, entry.record.id)
      if (exit === undefined && isProcessNamed(monitorPid, id)) {
        exec.pid = pid
        exec.watch = new ExitWatch(exitDir, this.#p.deps.reactor)
        exec.watch.expect(entry.record.id, monitorPid, (end) => this.#finish(exec, end.code ?? 255))
      } else this.#finish(exec, exit?.code ?? 255)
    }
  }

  /** What conmon has written of an exec; zeros for what is not there. */
  #traces(id: string): { exitDir: string; monitorPid: number; pid: number } {
    const bundle = this.#dir(id)
    const number = (file: string) => (existsSync(file) ? Number(readFileSync(file, 'utf8')) || 0 : 0)
    return { exitDir: `${bundle}/exit`, monitorPid: number(`${bundle}/conmon.pid`), pid: number(`${bundle}/pidfile`) }
  }

  #checkRunning(entry: Entry): void {
    const { id, state } = entry.record
    if (state.status === 'restarting') throw new NetError('conflict', `Container ${id} is restarting, wait until the container is running`)
    if (entry.record.live === undefined) throw new NetError('conflict', `container ${id} is not running`)
  }

  #get(id: string): Exec {
    const exec = this.#byId.get(id) ?? [...this.#byId.values()].find((e) => id.length >= 12 && e.id.startsWith(id))
    if (exec === undefined) throw new NetError('not-found', `No such exec instance: ${id}`, { subject: id })
    return exec
  }

  inspect(id: string): ExecInfo {
    const { id: full, entry, config, state, exitCode, pid } = this.#get(id)
    return { id: full, containerId: entry.record.id, config, running: state === 'running', exitCode, pid }
  }

  /** Starts it; a session unless detached. Throws `conflict` when it ran before. */
  async start(id: string, options: ExecStartOptions): Promise<AttachSession | undefined> {
    const exec = this.#get(id)
    const { entry, config } = exec
    if (exec.state !== 'created')
      throw new NetError(
        'conflict',
        `Error: Exec command ${exec.id} ${exec.state === 'running' ? 'is already running' : 'has already run'}`,
      )
    this.#checkRunning(entry)
    if (entry.record.state.status === 'paused') {
      throw new NetError('conflict', `container ${entry.record.id} is paused, unpause the container before exec`)
    }
    exec.state = 'running'
    const session = options.detach
      ? undefined
      : exec.hub.attach({
          stdin: config.AttachStdin === true,
          stdout: config.AttachStdout === true || config.Tty === true,
          stderr: config.AttachStderr === true,
          detachKeys: config.Tty ? parseDetachKeys(config.DetachKeys) : undefined,
          onDetach: () => this.#p.emit(entry, 'exec_detach', { execID: exec.id }),
        })
    this.#p.emit(entry, `exec_start: ${(config.Cmd ?? []).join(' ')}`, { execID: exec.id })
    options.onLaunch?.()
    try {
      await this.#launch(exec, session !== undefined, options.consoleSize ?? config.ConsoleSize ?? undefined)
      return session
    } catch (cause) {
      const error = cause instanceof NetError ? cause : new NetError('internal', messageOf(cause), {}, cause)
      this.#finish(exec, error.detail.op === 'create container' ? exitCodeOf(error.detail.kernel ?? '') : 126)
      const { live } = entry.record
      // the runtime only says that it could not enter
      if (live === undefined || !isProcess(live.pid, live.startTime))
        throw new NetError('conflict', `container ${entry.record.id} is not running`, {}, error)
      throw error.detail.op === 'create container'
        ? new NetError(
            error.code,
            `OCI runtime exec failed: exec failed: ${(error.detail.kernel ?? error.message).replace(/^exec failed: /, '')}: unknown`,
            error.detail,
          )
        : error
    }
  }

  async #launch(exec: Exec, attached: boolean, size: [number, number] | undefined): Promise<void> {
    const { deps, monitor, runtimes, network } = this.#p
    const { record } = exec.entry
    const bundle = this.#dir(exec.id)
    const exitDir = `${bundle}/exit`
    mkdirSync(exitDir, { recursive: true })
    writeFileSync(`${bundle}/${NOTE}`, JSON.stringify({ containerId: record.id, config: exec.config } satisfies Note))
    const rootfs = await deps.rootfs.mount(record.id)
    const facts = execFacts(record, rootfs, exec.config.User ?? '', network.linkEnv(record))
    const config = size === undefined ? exec.config : { ...exec.config, ConsoleSize: size }
    writeFileSync(`${bundle}/process.json`, specJson(buildExecProcess(record, config, facts)))
    exec.watch = new ExitWatch(exitDir, deps.reactor)
    const tty = exec.config.Tty === true
    const options = { terminal: tty, stdin: attached && exec.config.AttachStdin === true, leaveStdinOpen: tty, logPath: undefined }
    const paths = { runtime: runtimes.of(text(record.hostConfig, 'Runtime')), bundle, exitDir }
    const started = await monitor.exec(record.id, exec.id, paths, options, () => {
      if (attached) exec.hub.connect(`${bundle}/attach`)
    })
    exec.pid = started.pid
    if (tty && size !== undefined) writeWindowSize(bundle, size[0], size[1])
    exec.watch.expect(record.id, started.monitorPid, (exit) => this.#finish(exec, exit.code ?? 255))
  }

  #finish(exec: Exec, exitCode: number): void {
    if (exec.state === 'ended') return
    exec.state = 'ended'
    exec.exitCode = exitCode // before the streams end: clients inspect as soon as they see the end
    exec.pid = 0
    exec.watch?.close()
    exec.entry.execIds.delete(exec.id)
    rmSync(this.#dir(exec.id), { recursive: true, force: true })
    this.#p.emit(exec.entry, 'exec_die', { execID: exec.id, exitCode: String(exitCode) })
    void exec.hub.finish()
    // clients ask for the exit code after the end; Docker keeps it about five minutes
    this.#p.deps.clock.after(300_000, () => this.#byId.delete(exec.id))
  }

  resize(id: string, rows: number, columns: number): void {
    const exec = this.#get(id)
    if (exec.state !== 'running') throw new NetError('conflict', `exec ${exec.id} is not running`)
    writeWindowSize(this.#dir(exec.id), rows, columns)
  }

  /** The container has ended: execs that never ran are gone; of those that ran, conmon reports the end. */
  forgetUnstarted(entry: Entry): void {
    for (const exec of [...this.#byId.values()]) {
      if (exec.entry !== entry || exec.state !== 'created') continue
      entry.execIds.delete(exec.id)
      this.#byId.delete(exec.id)
    }
  }

  close(): void {
    for (const exec of this.#byId.values()) {
      exec.watch?.close()
      exec.hub.abort()
    }
  }
}

/**
 * conmon and runc: the programs that make a container's processes. conmon stays as the container's parent and holds its terminal,
 * its log and its exit code, so that containers outlive the engine. Everything that can be done without starting a program
 * (signals, freezing, starting the prepared process, removing groups) is done without.
 *
 * conmon's files in a bundle: `attach` (SEQPACKET socket), `ctl` (FIFO for window sizes and for opening the log anew), `pidfile`, `conmon.pid`; it writes the exit
 * code to `<exits>/<name>` when the process has ended and everything it printed is in the log.
 */
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, readSync, rmSync, unlinkSync, writeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { NetError } from '../base/errors.ts'
import { findProgram, type PipedProcess, run, startPiped } from '../sys/process.ts'
import { idsIn, programOf, type Runtime } from './runtimes.ts'

export interface MonitorPaths {
  readonly runtime: Runtime
  readonly bundle: string
  readonly exitDir: string
}

export interface MonitorOptions {
  readonly terminal: boolean
  readonly stdin: boolean
  /** Keep the container's stdin open when an attached client goes away. */
  readonly leaveStdinOpen: boolean
  readonly logPath: string | undefined
  /** Bytes after which conmon begins its log anew by itself; undefined = never. */
  readonly logMaxBytes?: number
}

export interface Started {
  readonly pid: number
  readonly monitorPid: number
}

/** conmon, when it and the default runtime are there. Throws `unavailable` and says what to install. */
export function findMonitor(runtime: Runtime): string {
  const need = (name: string, hint: string): string => {
    const path = findProgram(name)
    if (path === undefined)
      throw new NetError('unavailable', `Cannot run containers: program "${name}" is missing, expected package ${hint}`)
    return path
  }
  need(runtime.path ?? runtime.name, 'runc')
  return need('conmon', 'conmon')
}

interface SyncReport {
  readonly data: number
  readonly message?: string
}

export class Monitor {
  readonly #conmon: string

  /** `conmon`: path of the program. */
  constructor(conmon: string) {
    this.#conmon = conmon
  }

  #arguments(id: string, name: string, paths: MonitorPaths, options: MonitorOptions, runtimeLog: string): string[] {
    const { runtime } = paths
    const runtimeArgs = [...runtime.args, '--root', runtime.root, '--log-format=json', '--log', runtimeLog]
    return [
      this.#conmon,
      ...['--api-version', '1', '-c', id, '-u', name, '-n', name, '-r', programOf(runtime), '-b', paths.bundle],
      ...['-p', `${paths.bundle}/pidfile`, '--conmon-pidfile', `${paths.bundle}/conmon.pid`, '--exit-dir', paths.exitDir],
      ...['--full-attach', '--no-sync-log', '--log-level', 'error'],
      ...(options.logPath === undefined ? ['-l', 'none'] : ['-l', `k8s-file:${options.logPath}`]),
      ...(options.logMaxBytes === undefined ? [] : ['--log-size-max', String(options.logMaxBytes)]),
      ...(options.terminal ? ['-t'] : []),
      ...(options.stdin ? ['-i'] : []),
      ...(options.stdin && options.leaveStdinOpen ? ['--leave-stdin-open'] : []),
      ...runtimeArgs.flatMap((arg) => ['--runtime-arg', arg]),
    ]
  }

  /**
   * conmon and `runc create`: the container's process exists and waits for {@link release}.
   * Throws {@link runtimeError} with what the runtime said.
   */
  async create(id: string, paths: MonitorPaths, options: MonitorOptions): Promise<Started> {
    mkdirSync(paths.exitDir, { recursive: true })
    const runtimeLog = `${paths.bundle}/runtime.log`
    const argv = this.#arguments(id, id, paths, options, runtimeLog)
    const child = startPiped(argv, 1, { cwd: paths.bundle, env: { ...environment(), _OCI_SYNCPIPE: '3' } })
    const [sync] = child.pipes as [Socket]
    const report = await firstReport(sync)
    sync.destroy()
    if (report === undefined || report.data <= 0) {
      const said = lastLogMessage(runtimeLog) ?? report?.message ?? (child.stderr().trim() || 'conmon ended without a word')
      throw runtimeError(paths.runtime, said)
    }
    return { pid: report.data, monitorPid: await monitorPid(child, paths) }
  }

  /**
   * Lets the prepared process run its program. This is what `runc start` does: reading the FIFO on which the process waits, and
   * removing it (runc libcontainer/container_linux.go, exec); doing it here saves a program start of 15 ms. crun has a FIFO of that name
   * too, but there the process reads: only runc keeps a state.json beside it.
   */
  async release(id: string, paths: MonitorPaths): Promise<void> {
    const own = `${paths.runtime.root}/${id}`
    const fifo = `${own}/exec.fifo`
    if (!existsSync(fifo) || !existsSync(`${own}/state.json`)) {
      const started = await run([...command(paths.runtime), 'start', id], { timeoutMs: COMMAND_TIMEOUT_MS })
      if (started.code !== 0) throw runtimeError(paths.runtime, started.stderr.trim())
      return
    }
    const fd = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const byte = Buffer.alloc(1)
      for (let n = 0; ; n++) {
        if (readOne(fd, byte)) break
        if (n > 2000) throw runtimeError(paths.runtime, 'the prepared process did not start')
        await new Promise((resolve) => (n < 20 ? setImmediate(resolve) : setTimeout(resolve, 1)))
      }
      unlinkSync(fifo)
    } finally {
      closeSync(fd)
    }
  }

  /**
   * conmon and `runc exec`. `beforeRun` runs when the attach socket is there and the process does not run yet.
   * Throws {@link runtimeError}.
   */
  async exec(id: string, execId: string, paths: MonitorPaths, options: MonitorOptions, beforeRun: () => void): Promise<Started> {
    mkdirSync(paths.exitDir, { recursive: true })
    const runtimeLog = `${paths.bundle}/runtime.log`
    const argv = [
      ...this.#arguments(id, execId, paths, options, runtimeLog),
      ...['-e', '--exec-attach', '--exec-process-spec', `${paths.bundle}/process.json`],
    ]
    const env = { ...environment(), _OCI_SYNCPIPE: '3', _OCI_STARTPIPE: '4', _OCI_ATTACHPIPE: '5' }
    const child = startPiped(argv, 3, { cwd: paths.bundle, env })
    const [sync, start, attach] = child.pipes as [Socket, Socket, Socket]
    try {
      start.write('\0') // we put conmon in no group of its own: it may go on at once
      const ready = await Promise.race([firstReport(attach), firstReport(sync)])
      if (ready === undefined || ready.data < 0)
        throw runtimeError(paths.runtime, ready?.message ?? (child.stderr().trim() || 'conmon ended without a word'))
      beforeRun()
      start.write('\0')
      const report = await firstReport(sync)
      if (report === undefined || report.data <= 0) {
        const said = lastLogMessage(runtimeLog) ?? report?.message ?? (child.stderr().trim() || 'conmon ended without a word')
        throw runtimeError(paths.runtime, said)
      }
      return { pid: report.data, monitorPid: await monitorPid(child, paths) }
    } finally {
      for (const pipe of child.pipes) pipe.destroy()
    }
  }

  /** The command that runs a process in a container with our own descriptors as its stdio, without a monitor. */
  execCommand(id: string, runtime: Runtime, processFile: string): string[] {
    return [...command(runtime), 'exec', '--process', processFile, id]
  }

  /** Ends and removes whatever the runtime knows of a container. Idempotent. A runtime that is gone leaves only its folder. */
  async delete(id: string, runtime: Runtime): Promise<void> {
    if (!idsIn(runtime.root).includes(id)) return
    if (runtime.path !== undefined && findProgram(runtime.path) !== undefined)
      await run([...command(runtime), 'delete', '--force', id], { timeoutMs: COMMAND_TIMEOUT_MS })
    rmSync(`${runtime.root}/${id}`, { recursive: true, force: true })
  }

  /** Removes what is known of a container whose processes and group are gone: of runc and crun that is a folder, others are told. */
  async forget(id: string, runtime: Runtime): Promise<void> {
    const own = `${runtime.root}/${id}`
    if (!existsSync(`${own}/state.json`) && !existsSync(`${own}/status`)) await this.delete(id, runtime)
    rmSync(own, { recursive: true, force: true })
  }
}

const COMMAND_TIMEOUT_MS = 20_000

function command(runtime: Runtime): string[] {
  return [programOf(runtime), ...runtime.args, '--root', runtime.root]
}

function environment(): Record<string, string> {
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', XDG_RUNTIME_DIR: '' }
}

/** False while the process has not written its byte yet (nobody there: end of file; not written: EAGAIN). */
function readOne(fd: number, byte: Buffer): boolean {
  try {
    return readSync(fd, byte, 0, 1, null) === 1
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false
    throw error
  }
}

/**
 * The first line of JSON on a pipe of conmon's; undefined when it closes without one. More may follow in the same read: for an exec,
 * conmon also reports the exit code there.
 */
function firstReport(pipe: Socket): Promise<SyncReport | undefined> {
  return new Promise((resolve) => {
    let text = ''
    const done = (report: SyncReport | undefined) => {
      pipe.removeListener('data', onData)
      pipe.removeListener('end', onEnd)
      pipe.removeListener('close', onEnd)
      resolve(report)
    }
    const parse = (): SyncReport | undefined => {
      try {
        return JSON.parse(text.split('\n', 1)[0] ?? '') as SyncReport
      } catch {
        return undefined
      }
    }
    const onData = (chunk: Buffer) => {
      text += chunk.toString()
      if (text.includes('\n')) done(parse())
    }
    const onEnd = () => done(parse())
    pipe.on('data', onData)
    pipe.once('end', onEnd)
    pipe.once('close', onEnd)
  })
}

/** conmon's parent half writes this file and ends; on a busy machine its child may report before that. */
async function monitorPid(child: PipedProcess, paths: MonitorPaths): Promise<number> {
  const file = `${paths.bundle}/conmon.pid`
  if (!existsSync(file)) await child.exited
  return Number(readFileSync(file, 'utf8'))
}

/** The runtime's own last error from its JSON log. */
function lastLogMessage(file: string): string | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
  for (const line of text.trim().split('\n').reverse()) {
    try {
      const entry = JSON.parse(line) as { level?: string; msg?: string }
      if (entry.level === 'error' && entry.msg !== undefined) return entry.msg
    } catch {
      // a line cut by a dying runtime
    }
  }
  return undefined
}

/**
 * What went wrong in the runtime, in the form that Docker's clients match on (`executable file not found in $PATH` makes their exit
 * code 127). `invalid` when the command is at fault, else `internal`.
 */
function runtimeError({ name }: Runtime, message: string): NetError {
  const inner = inWordsOfRunc(message.replace(/^container_linux\.go:\d+: /, ''))
  const said = name !== 'runc' || inner.startsWith('runc ') ? inner : `runc create failed: ${inner}`
  return new NetError(
    exitCodeOf(inner) === 128 ? 'internal' : 'invalid',
    `failed to create task for container: failed to create shim task: OCI runtime create failed: ${said}: unknown`,
    { op: 'create container', kernel: inner },
  )
}

/** crun's sentences for a program that is not there: clients only know runc's. */
function inWordsOfRunc(message: string): string {
  return message
    .replace(/executable file `([^`]*)` not found in \$PATH: No such file or directory/, 'exec: "$1": executable file not found in $PATH')
    .replace(/executable file `([^`]*)` not found: No such file or directory/, 'exec: "$1": stat $1: no such file or directory')
    .replace(/the path `([^`]*)` is not a regular file: Operation not permitted/, 'exec: "$1": is a directory: permission denied')
    .replace(/: (Permission denied|No such file or directory|Exec format error|Is a directory|Not a directory)$/, (text) =>
      text.toLowerCase(),
    )
}

/** Docker's exit code for a start that failed: 127 command not found, 126 not executable, else 128. */
export function exitCodeOf(message: string): 126 | 127 | 128 {
  if (/executable file not found|no such file or directory|system cannot find the file/.test(message) && !/mount/.test(message)) return 127
  if (/permission denied|not a directory|is a directory|exec format error/.test(message) && !/mount/.test(message)) return 126
  return 128
}

/** Tells conmon the new size of the terminal. A monitor that is gone is fine. */
export function writeWindowSize(bundle: string, rows: number, columns: number): void {
  control(bundle, `1 ${rows} ${columns}\n`)
}

/** Has conmon close its log and open one of the same name. A monitor that is gone is fine. */
export function reopenLog(bundle: string): void {
  control(bundle, '2 0 0\n')
}

/** One message to conmon: `<kind> <number> <number>`, see conmon's ctrl.c. */
function control(bundle: string, message: string): void {
  let fd: number
  try {
    fd = openSync(`${bundle}/ctl`, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENXIO' || code === 'ENOENT') return // nobody reads: the process has just ended
    throw error
  }
  try {
    writeSync(fd, message)
  } finally {
    closeSync(fd)
  }
}

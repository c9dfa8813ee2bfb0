/**
 * Processes: starting programs, signals, and what /proc says about them. The only file that starts programs.
 *
 * A child inherits the network namespace of the main thread, so nothing here may be called inside `inNetns`.
 */
import { spawn } from 'node:child_process'
import { accessSync, constants as fsConstants, readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { constants as osConstants } from 'node:os'
import { NetError } from '../base/errors.ts'

export interface RunResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly input?: string
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** The program gets SIGKILL after this time; the result's code is then 137. */
  readonly timeoutMs?: number
  /** An abort ends the program in the same way. */
  readonly signal?: AbortSignal
}

/** Runs a program to its end and collects what it prints. Throws `unavailable` when it cannot be started; any exit code is a result. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const [program = '', ...args] = argv
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: 'SIGKILL' as const }),
    })
    const abort = (): void => void child.kill('SIGKILL')
    options.signal?.addEventListener('abort', abort, { once: true })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.stdin.on('error', () => {}) // the program may end without reading its input
    child.once('error', (cause) =>
      reject(new NetError('unavailable', `Cannot run "${program}": ${cause.message}`, { subject: program }, cause)),
    )
    child.once('close', (code, signal) => {
      options.signal?.removeEventListener('abort', abort)
      resolve({
        code: code ?? 128 + (signal === null ? 0 : (osConstants.signals[signal] ?? 0)),
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString(),
      })
    })
    child.stdin.end(options.input ?? '')
  })
}

/** A program that talks to us on extra descriptors (3, 4, …) and outlives us. */
export interface PipedProcess {
  readonly pipes: readonly Socket[]
  /** Exit code of the process that was started (which may have forked and gone). */
  readonly exited: Promise<number>
  /** What it wrote to stderr until it went; bounded. */
  stderr(): string
}

/** Starts a program in a session of its own with `pipes` socket pairs as descriptors 3 and up. Its stdin and stdout are /dev/null. */
export function startPiped(
  argv: readonly string[],
  pipes: number,
  options: { cwd?: string; env: Readonly<Record<string, string>> },
): PipedProcess {
  const [program = '', ...args] = argv
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'pipe', ...new Array<'pipe'>(pipes).fill('pipe')],
    detached: true,
    env: options.env,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  const sockets = (child.stdio.slice(3) as unknown as Socket[]).map((socket) => {
    socket.on('error', () => {}) // the other side closing early is seen as end of stream
    return socket
  })
  let text = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    if (text.length < 16384) text += chunk.toString()
  })
  const exited = new Promise<number>((resolve) => {
    child.once('error', (cause) => {
      text += cause.message
      resolve(127)
    })
    child.once('exit', (code, signal) => resolve(code ?? (signal === null ? 0 : 128 + (osConstants.signals[signal] ?? 0))))
  })
  return { pipes: sockets, exited, stderr: () => text }
}

/** Full path of a program, looked up in PATH and the sbin folders. Undefined when there is none. */
export function findProgram(name: string): string | undefined {
  if (name.includes('/')) return isExecutable(name) ? name : undefined
  const dirs = [...(process.env['PATH'] ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin']
  for (const dir of dirs) {
    if (dir !== '' && isExecutable(`${dir}/${name}`)) return `${dir}/${name}`
  }
  return undefined
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, fsConstants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Sends a signal. Returns false when the process is gone. */
export function sendSignal(pid: number, signal: number): boolean {
  if (pid <= 0) return false
  try {
    process.kill(pid, signal)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}

/** Start time in clock ticks since boot, which together with the pid names a process for good. Undefined when it is gone or a zombie. */
export function startTimeOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ') // the name may hold blanks and parentheses
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined
    return Number(fields[19])
  } catch {
    return undefined
  }
}

/** True when `pid` still is the process that had `startTime`. */
export function isProcess(pid: number, startTime: number): boolean {
  return pid > 0 && startTimeOf(pid) === startTime
}

/** True when `pid` is a process that has `word` in its command line: for one whose start time nobody noted. */
export function isProcessNamed(pid: number, word: string): boolean {
  try {
    return pid > 0 && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(word)
  } catch {
    return false // gone
  }
}

/** Path of one of a process's namespaces. */
export function namespacePath(pid: number, kind: 'net' | 'ipc' | 'pid' | 'uts'): string {
  return `/proc/${pid}/ns/${kind}`
}

/** The process's root directory as seen from outside. */
export function rootPath(pid: number): string {
  return `/proc/${pid}/root`
}

/** USER_HZ: the unit of /proc/stat on Linux. */
const TICK_NS = 1e7

/** Nanoseconds of all CPUs since boot as Docker counts them: the first eight fields of /proc/stat's first line. */
export function hostCpuNs(): number {
  const fields = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').split(/\s+/).slice(1, 9)
  return fields.reduce((sum, f) => sum + Number(f), 0) * TICK_NS
}

/** How many descriptors this process may hold (RLIMIT_NOFILE, soft); Infinity when there is no limit. */
export function openFilesLimit(): number {
  const limit = /Max open files\s+(\S+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? '0'
  return limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit)
}

/** The machine's memory in bytes. */
export function hostMemoryBytes(): number {
  return Number(/MemTotal:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0) * 1024
}

/** Capabilities that this process can hand on to its children, as a bit mask. */
export function ownCapabilities(): bigint {
  const mask = /CapBnd:\s+([0-9a-f]+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return mask === undefined ? ~0n : BigInt(`0x${mask}`)
}

/**
 * The client's few dealings with this machine: starting the engine, and running a program in a namespace.
 * They are here, in one file, because the command must work before there is an engine to ask.
 */
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Context, StartedProgram } from './context.ts'
import { fail } from './fail.ts'

export const NETNS_FOLDER = '/run/causeway/netns'
export const DEFAULT_PIDFILE = '/run/causeway/causeway.pid'
export const DEFAULT_LOG = '/var/log/causeway.log'

const CANNOT_RUN = 126

/**
 * What `ip netns exec` does too: programs that read /sys (brctl, ls /sys/class/net) see the namespace's devices, in a mount namespace of
 * their own. Where that cannot be mounted they see the host's.
 */
const WITH_OWN_SYS = 'mount -t sysfs sysfs /sys 2>/dev/null; exec "$@"'

/** Runs a command in a network namespace with our own streams. Resolves with its exit code, 128+n after a signal. */
export async function runInNetns(context: Context, path: string, command: readonly string[]): Promise<number> {
  // The terminal sends its signals to the child as well: only the child decides.
  const off = context.onSignals(['SIGINT', 'SIGQUIT'], () => undefined)
  try {
    const program = await context.startProgram(
      'nsenter',
      [`--net=${path}`, '--', 'unshare', '--mount', '--propagation', 'slave', '--', 'sh', '-c', WITH_OWN_SYS, 'sh', ...command],
      'inherit',
    )
    const { code, signal, error } = await program.ended
    if (error !== undefined) throw fail(`cannot run nsenter: ${error}`, { exitCode: CANNOT_RUN })
    return code ?? 128 + (SIGNALS[signal ?? ''] ?? 0)
  } finally {
    off()
  }
}

const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
}

/** A small young generation and one helper thread: a third less memory for the engine, which allocates little (docs/decisions). */
const ENGINE_FLAGS = ['--max-semi-space-size=2', '--v8-pool-size=1']

/** Starts the engine in a session of its own, its output appended to `log`. */
export async function startEngine(context: Context, args: readonly string[], log: string): Promise<StartedProgram> {
  mkdirSync(dirname(log), { recursive: true })
  const out = openSync(log, 'a', 0o640)
  try {
    return await context.startProgram(process.execPath, [...ENGINE_FLAGS, '--', context.launcher, 'daemon', ...args], { background: out })
  } finally {
    closeSync(out)
  }
}

/** The process of a pid file, when it is alive. */
export function readPid(path: string): number | undefined {
  let pid: number
  try {
    pid = Number(readFileSync(path, 'utf8').trim())
  } catch {
    return undefined // no file: not started this way
  }
  return Number.isInteger(pid) && pid > 1 && isAlive(pid) ? pid : undefined
}

/** True while a process runs. One that has ended and that its parent has not collected (a zombie) does not. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2)) // the name before it may hold anything
  } catch {
    return false
  }
}

/** Length of the log now: what a start adds comes behind it. */
export function lengthOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

const WARNING = 40

/** Why a start failed: what the log says behind byte `from`, warnings and errors in words, each once, `count` lines at most. */
export function complaints(path: string, from: number, count: number): string[] {
  let lines: string[]
  try {
    lines = readFileSync(path).subarray(from).toString().trimEnd().split('\n')
  } catch {
    return []
  }
  const said = new Set(lines.flatMap(inWords))
  return (said.size > 0 ? [...said] : lines).slice(-count)
}

/** A line of the engine's log as a person reads it; nothing for what is only told. */
function inWords(line: string): string[] {
  let entry: { level?: number; msg?: string; error?: string }
  try {
    entry = JSON.parse(line) as typeof entry
  } catch {
    return line === '' ? [] : [line]
  }
  if ((entry.level ?? WARNING) < WARNING) return []
  return [`${entry.msg ?? line}${entry.error === undefined ? '' : `: ${entry.error}`}`]
}

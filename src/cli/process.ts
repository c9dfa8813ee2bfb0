/**
 * The client's few dealings with this machine: starting the engine, and running a program in a namespace.
 * They are here, in one file, because the command must work before there is an engine to ask.
 */
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fail } from './fail.ts'

export const NETNS_FOLDER = '/run/causeway/netns'
export const DEFAULT_PIDFILE = '/run/causeway/causeway.pid'
export const DEFAULT_LOG = '/var/log/causeway.log'

const NOT_FOUND = 127
const CANNOT_RUN = 126

/** Runs a command in a network namespace with our own streams. Resolves with its exit code, 128+n after a signal. */
export function runInNetns(path: string, command: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', [`--net=${path}`, '--', ...command], { stdio: 'inherit' })
    // The terminal sends its signals to the child as well: only the child decides.
    const ignore = () => undefined
    process.on('SIGINT', ignore)
    process.on('SIGQUIT', ignore)
    child.once('error', (cause) => reject(fail(`cannot run nsenter: ${cause.message}`, { exitCode: CANNOT_RUN })))
    child.once('exit', (code, signal) => {
      process.off('SIGINT', ignore)
      process.off('SIGQUIT', ignore)
      resolve(code ?? (signal === null ? NOT_FOUND : 128 + signalNumber(signal)))
    })
  })
}

function signalNumber(name: string): number {
  return { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGPIPE: 13, SIGTERM: 15 }[name] ?? 0
}

/** Starts the engine in a session of its own, its output appended to `log`. `ended` resolves when it exits early. */
export function startEngine(
  launcher: string,
  args: readonly string[],
  log: string,
): { pid: number; ended: Promise<number | null>; release: () => void } {
  mkdirSync(dirname(log), { recursive: true })
  const out = openSync(log, 'a', 0o640)
  const child = spawn(process.execPath, ['--', launcher, 'daemon', ...args], { detached: true, stdio: ['ignore', out, out], cwd: '/' })
  closeSync(out)
  const ended = new Promise<number | null>((resolve) => {
    child.once('exit', resolve)
    child.once('error', () => resolve(null))
  })
  if (child.pid === undefined) throw fail(`cannot start ${launcher}`)
  return { pid: child.pid, ended, release: () => child.unref() }
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

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The last lines of the log, to show why a start failed. */
export function lastLines(path: string, count: number): string[] {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-count)
  } catch {
    return []
  }
}

/** Runs the `causeway` and the `docker` command as people do: as programs. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export const LAUNCHER = fileURLToPath(new URL('../../bin/causeway', import.meta.url))

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly input?: string | undefined
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly timeoutMs?: number
}

/** Runs a program to its end; killed (code -1) after the time is up, 30 s unless told. */
export function runProgram(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, ...options.env }, cwd: options.cwd, stdio: 'pipe' })
    let stdout = ''
    let stderr = ''
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 30_000)
    child.stdout.on('data', (chunk) => {
      stdout += String(chunk)
    })
    child.stderr.on('data', (chunk) => {
      stderr += String(chunk)
    })
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code: code ?? -1, stdout, stderr })
    })
    child.stdin.on('error', () => undefined) // a program need not read its input
    child.stdin.end(options.input ?? '')
  })
}

export function causeway(host: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return runProgram(LAUNCHER, ['-H', host, ...args], options)
}

export function docker(host: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return runProgram('docker', ['-H', host, ...args], { ...options, env: { ...options.env, DOCKER_CONFIG: '/nonexistent' } })
}

/** Where the docker client is, or undefined. */
export function hasDocker(): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => existsSync(`${folder}/docker`))
}

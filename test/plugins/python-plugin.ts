/** The fixture plugin as a process: start, faults, calls that it has seen. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'

const SCRIPT = new URL('fixtures/plugin.py', import.meta.url).pathname

export interface Call {
  readonly method: string
  // biome-ignore lint/suspicious/noExplicitAny: bodies of calls are looked into freely by tests
  readonly body: any
  readonly accept: string
}

export interface Fault {
  readonly delay?: number
  readonly status?: number
  readonly raw?: string
  readonly body?: unknown
  readonly drop?: boolean
  readonly die?: boolean
  /** For so many calls only. */
  readonly times?: number
}

export interface PythonPlugin {
  /** First line it prints: its port when it listens on TCP. */
  readonly said: string
  faults(faults: Readonly<Record<string, Fault>>): void
  calls(method?: string): Call[]
  // biome-ignore lint/suspicious/noExplicitAny: the plugin's own memory
  state(): any
  hasEnded(): boolean
  kill(): Promise<void>
}

/** Starts the plugin and waits until it listens. `folder` is its memory: the same one for a plugin that starts again. */
export async function startPlugin(address: string, folder: string, ...flags: string[]): Promise<PythonPlugin> {
  const child: ChildProcess = spawn('python3', [SCRIPT, address, folder, ...flags], { stdio: ['ignore', 'pipe', 'inherit'] })
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null
  const said = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString().trim()))
    child.once('exit', () => reject(new Error('the plugin did not start')))
  })
  return {
    said,
    faults: (faults) => writeFileSync(`${folder}/faults`, JSON.stringify(faults)),
    calls(method) {
      const lines = existsSync(`${folder}/calls`) ? readFileSync(`${folder}/calls`, 'utf8').trim().split('\n') : []
      return lines.map((line) => JSON.parse(line) as Call).filter((call) => method === undefined || call.method === method)
    },
    state: () => (existsSync(`${folder}/state`) ? JSON.parse(readFileSync(`${folder}/state`, 'utf8')) : {}),
    hasEnded,
    async kill() {
      if (hasEnded()) return
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
    },
  }
}

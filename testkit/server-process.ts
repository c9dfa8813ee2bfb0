/** A server program that a test starts, pauses, kills and starts again; in a network namespace when one is given. */
import { type ChildProcess, spawn } from 'node:child_process'

export interface ServerProcess {
  /** 0 while it does not run. */
  pid(): number
  /** Starts it when it does not run. Does not wait for it to answer. */
  start(): void
  /** SIGTERM, and SIGKILL when that does not end it within 5 s. */
  stop(): Promise<void>
  kill9(): Promise<void>
  /** SIGSTOP: it holds its connections and answers nothing, as a partitioned or frozen machine does. */
  pause(): void
  resume(): void
  /** Everything it has said, of all its lives. */
  log(): string
}

/** `argv` is asked at every start. `netns`: a namespace file, entered with nsenter (which becomes the program, so the pid is its own). */
export function serverProcess(argv: () => readonly string[], netns?: string): ServerProcess {
  let child: ChildProcess | undefined
  let log = ''
  const alive = () => child !== undefined && child.exitCode === null && child.signalCode === null
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const running = child
    if (running === undefined || !alive()) return
    const gone = new Promise((resolve) => running.once('exit', resolve))
    running.kill('SIGCONT')
    running.kill(signal)
    const timer = setTimeout(() => running.kill('SIGKILL'), 5000)
    await gone
    clearTimeout(timer)
  }
  // a test file that ends without closing leaves nothing behind
  process.on('exit', () => child?.kill('SIGKILL'))
  return {
    pid: () => (alive() ? (child?.pid ?? 0) : 0),
    start() {
      if (alive()) return
      const [file, ...args] = netns === undefined ? argv() : ['nsenter', `--net=${netns}`, ...argv()]
      const started = spawn(file as string, args, { stdio: ['ignore', 'pipe', 'pipe'] })
      started.on('error', (error) => (log += `${error}\n`))
      for (const stream of [started.stdout, started.stderr]) {
        stream.on('data', (chunk: Buffer) => {
          log = (log + chunk.toString()).slice(-400_000)
        })
      }
      child = started
    },
    stop: () => end('SIGTERM'),
    kill9: () => end('SIGKILL'),
    pause: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
    log: () => log,
  }
}

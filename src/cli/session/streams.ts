/** Bytes between a container and this terminal: raw or multiplexed output, standard input, detach keys, window size. */
import type { Readable, Writable } from 'node:stream'
import type { StreamName } from '../../client/demux.ts'
import { Demultiplexer } from '../../client/demux.ts'
import type { Hijacked } from '../../client/transport.ts'
import type { Context, Input, Output } from '../context.ts'
import { fail } from '../fail.ts'
import { DetachWatcher, parseDetachKeys } from './detach-keys.ts'

/** Writes and waits while the other side is slow. */
async function writeTo(out: Writable, data: Uint8Array | string): Promise<void> {
  if (out.write(data) || out.destroyed) return
  await new Promise<void>((resolve) => {
    const done = () => {
      out.off('drain', done)
      out.off('close', done)
      out.off('error', done)
      resolve()
    }
    out.on('drain', done)
    out.on('close', done)
    out.on('error', done)
  })
}

export interface Outputs {
  readonly stdout?: Writable | undefined
  readonly stderr?: Writable | undefined
}

/** Copies until the source ends. A connection that the engine cuts is an end, as for Docker's client. */
export async function copyOutput(source: Readable, tty: boolean, to: Outputs): Promise<void> {
  const demultiplexer = tty ? undefined : new Demultiplexer()
  const outOf = (stream: StreamName) => (stream === 'stderr' ? to.stderr : to.stdout)
  try {
    for await (const chunk of source) {
      if (demultiplexer === undefined) {
        if (to.stdout !== undefined) await writeTo(to.stdout, chunk as Uint8Array)
        continue
      }
      for (const frame of demultiplexer.push(chunk as Uint8Array)) {
        const out = outOf(frame.stream)
        if (out !== undefined) await writeTo(out, frame.data)
      }
    }
  } catch (error) {
    if (!['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ABORT_ERR'].includes((error as NodeJS.ErrnoException).code ?? ''))
      throw error
  }
}

export interface InteractOptions {
  readonly tty: boolean
  /** Undefined: nothing is sent, and the container sees no end of input either. */
  readonly stdin: Input | undefined
  readonly outputs: Outputs
  readonly detachKeys: string | undefined
}

/**
 * Both directions of a hijacked connection. Resolves `ended` when the container's side closed, `detached` when the keys were typed.
 * The end of our input half-closes the connection; the output goes on.
 */
export async function interact(hijacked: Hijacked, options: InteractOptions): Promise<'ended' | 'detached'> {
  const { socket } = hijacked
  const { stdin, tty } = options
  socket.on('error', () => undefined) // reported by the copy below, or meaningless after the end
  let stopInput = () => {}
  const detached = new Promise<'detached'>((resolve) => {
    if (stdin === undefined) return
    const watcher = tty ? new DetachWatcher(parseDetachKeys(options.detachKeys ?? '')) : undefined
    const onData = (chunk: Buffer | string) => {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      const passed = watcher === undefined ? { data: bytes, detached: false } : watcher.push(bytes)
      if (passed.data.length > 0 && socket.writable && !socket.write(passed.data)) {
        stdin.pause()
        socket.once('drain', () => stdin.resume())
      }
      if (passed.detached) resolve('detached')
    }
    const onEnd = () => {
      if (socket.writable) socket.end()
    }
    stdin.on('data', onData)
    stdin.on('end', onEnd)
    stdin.on('error', onEnd)
    stopInput = () => {
      stdin.off('data', onData)
      stdin.off('end', onEnd)
      stdin.off('error', onEnd)
      stdin.pause()
    }
  })
  const restore = tty && stdin?.isTTY === true ? rawMode(stdin) : () => {}
  try {
    return await Promise.race([copyOutput(socket, tty, options.outputs).then(() => 'ended' as const), detached])
  } finally {
    restore()
    stopInput()
    // A terminal or pipe that still could be read keeps the process alive.
    ;(stdin as { unref?: () => void } | undefined)?.unref?.()
    socket.destroy()
  }
}

function rawMode(stdin: Input): () => void {
  stdin.setRawMode?.(true)
  return () => stdin.setRawMode?.(false)
}

/** Throws when a terminal was asked for and standard input is none. */
export function checkTty(context: Context, attachStdin: boolean, tty: boolean): void {
  if (attachStdin && tty && context.stdin.isTTY !== true) throw fail('the input device is not a TTY', { bare: true, exitCode: 1 })
}

/** Keeps the container's window as large as ours: now, shortly again when that failed, and at every SIGWINCH. Returns the stop function. */
export function followWindowSize(context: Context, resize: (rows: number, columns: number) => Promise<void>): () => void {
  const stdout: Output = context.stdout
  const send = async (): Promise<void> => {
    const { rows, columns } = stdout
    if (rows !== undefined && columns !== undefined && rows > 0 && columns > 0) await resize(rows, columns)
  }
  const stop = new AbortController()
  const first = async (): Promise<void> => {
    // The process may not have its terminal yet: Docker's client tries for about half a second too.
    for (let attempt = 0; attempt < 10 && !stop.signal.aborted; attempt++) {
      try {
        return await send()
      } catch {
        await context.clock.sleep(10 * (attempt + 1), stop.signal).catch(() => undefined)
      }
    }
  }
  void first()
  const off = context.onSignals(['SIGWINCH'], () => void send().catch(() => undefined))
  return () => {
    stop.abort()
    off()
  }
}

const FORWARDED = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGTERM',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGCONT',
  'SIGTSTP',
  'SIGTTIN',
  'SIGTTOU',
  'SIGIO',
  'SIGXCPU',
]

/** Sends the signals we get on to the container. Returns the stop function. */
export function forwardSignals(context: Context, kill: (signal: string) => Promise<void>): () => void {
  return context.onSignals(FORWARDED, (name) => void kill(name.replace(/^SIG/, '')).catch(() => undefined))
}

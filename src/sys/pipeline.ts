/**
 * Programs as stages of a stream (`zstd -dc`) and programs whose output is progress (`skopeo copy`). Like everything that starts
 * a program: never inside `inNetns`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { NetError } from '../base/errors.ts'

const MAX_STDERR = 16384

/** Bytes of `source` as `argv` turns them out. Throws `unavailable` when the program is missing, `invalid` when it refuses its input. */
export async function* filterThrough(argv: readonly string[], source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const [program = '', ...args] = argv
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  let stderr = ''
  let failure: unknown
  child.once('error', (cause) => {
    failure = new NetError('unavailable', `Cannot run "${program}": ${cause.message}`, { subject: program }, cause)
  })
  child.stdin.on('error', () => {}) // it ended before its input did: the exit code says why
  child.stderr.on('data', (chunk: Buffer) => {
    if (stderr.length < MAX_STDERR) stderr += chunk.toString()
  })
  const closed = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)))
  const fed = (async () => {
    for await (const chunk of source) {
      if (child.stdin.destroyed) return
      if (!child.stdin.write(chunk)) await Promise.race([once(child.stdin, 'drain'), closed])
    }
    child.stdin.end()
  })().catch((error: unknown) => {
    failure ??= error
    child.kill('SIGKILL')
  })
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk
    const code = await closed
    if (failure !== undefined) throw failure
    if (code !== 0) throw new NetError('invalid', `Cannot read the stream: ${program} says "${stderr.trim()}"`, { subject: program })
    await fed
  } finally {
    child.kill('SIGKILL')
  }
}

export interface LinesResult {
  readonly code: number
  /** The end of what it wrote to stderr. */
  readonly stderr: string
}

/**
 * Runs a program and gives every line of its standard output to `onLine` as it comes. An abort kills it and rejects with the
 * signal's reason. Throws `unavailable` when it cannot be started; any exit code is a result.
 */
export async function runLines(argv: readonly string[], onLine: (line: string) => void, signal?: AbortSignal): Promise<LinesResult> {
  signal?.throwIfAborted()
  const [program = '', ...args] = argv
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const abort = (): void => {
    child.kill('SIGKILL')
  }
  signal?.addEventListener('abort', abort, { once: true })
  try {
    let stderr = ''
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-MAX_STDERR)
    })
    createInterface({ input: child.stdout }).on('line', onLine)
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', (cause) =>
        reject(new NetError('unavailable', `Cannot run "${program}": ${cause.message}`, { subject: program }, cause)),
      )
      child.once('close', (value) => resolve(value ?? -1))
    })
    signal?.throwIfAborted()
    return { code, stderr }
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

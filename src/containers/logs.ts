/**
 * Reads conmon's k8s-file logs: `<time> <stdout|stderr> <F|P> <text>`, where P is a part of a line and F its end.
 * A tail is found by reading backwards from the end, so its cost does not grow with the log.
 */
import { type FSWatcher, statSync, watch } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { secondsOf } from './time.ts'
import type { LogOptions } from './types.ts'

export interface LogLine {
  readonly time: string
  readonly stream: 'stdout' | 'stderr'
  /** False when more of the same line follows. */
  readonly isEnd: boolean
  readonly text: Buffer
}

const CHUNK_BYTES = 65_536
const NEWLINE = 10
const SPACE = 32

/** One line of the file without its newline; undefined for anything malformed (a line cut by a full disk). */
function parseLogLine(line: Buffer): LogLine | undefined {
  const first = line.indexOf(SPACE)
  const second = line.indexOf(SPACE, first + 1)
  if (first < 0 || second < 0 || line[second + 2] !== SPACE) return undefined
  const stream = line.toString('latin1', first + 1, second)
  const tag = line[second + 1]
  if ((stream !== 'stdout' && stream !== 'stderr') || (tag !== 0x46 && tag !== 0x50)) return undefined
  return { time: line.toString('latin1', 0, first), stream, isEnd: tag === 0x46, text: line.subarray(second + 3) }
}

/** conmon's local time as UTC with nanoseconds, the form of `docker logs -t`. */
function utcStamp(time: string): string {
  if (time.endsWith('+00:00')) return `${time.slice(0, -6)}Z`
  const match = /^(.{19})(\.\d+)?(.*)$/.exec(time)
  if (!match) return time
  return new Date(`${match[1]}${match[3]}`).toISOString().replace(/\.\d+Z$/, `${match[2] ?? ''}Z`)
}

/** Offset at which the last `count` whole lines of the wanted streams begin. */
async function tailOffset(file: FileHandle, size: number, count: number, wants: (line: LogLine) => boolean): Promise<number> {
  let rest = Buffer.alloc(0)
  let end = size
  let left = count
  let start = size
  while (end > 0) {
    const at = Math.max(0, end - CHUNK_BYTES)
    const chunk = Buffer.alloc(end - at)
    await file.read(chunk, 0, chunk.length, at)
    const data = Buffer.concat([chunk, rest])
    // every line that surely is whole: after the first newline, or from the very beginning
    let lineEnd = data.length
    for (;;) {
      const newline = lineEnd === 0 ? -1 : data.lastIndexOf(NEWLINE, lineEnd - 1)
      if (newline < 0 && at > 0) break
      if (newline < lineEnd - 1) {
        const line = parseLogLine(data.subarray(newline + 1, lineEnd))
        if (line !== undefined && wants(line)) {
          if (line.isEnd && left-- === 0) return start
          start = at + newline + 1
        }
      }
      if (newline < 0) return start
      lineEnd = newline
    }
    rest = data.subarray(0, lineEnd)
    end = at
  }
  return start
}

export interface Following {
  /** Whether more may come; read once all that is there has been delivered. */
  readonly isLive: () => boolean
  /** Resolves when that may have changed. */
  readonly stopped: Promise<unknown>
}

/** Size of a log now, 0 when there is none. */
export function logSize(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

/** Yields the log as chunks for a client; with `follow` until the container ends or the signal aborts. A missing log is empty. */
export async function* readLog(
  path: string,
  options: LogOptions,
  following: Following,
  signal: AbortSignal,
  /** Not beyond this offset: what comes later reaches the client another way. */
  end = Number.POSITIVE_INFINITY,
): AsyncGenerator<{ stream: 'stdout' | 'stderr'; data: Buffer }> {
  const wants = (line: LogLine) => (line.stream === 'stdout' ? options.stdout : options.stderr)
  const changes = options.follow ? new ChangeFlag(path, signal, following.stopped) : undefined
  const middle = { stdout: false, stderr: false }
  let file: FileHandle | undefined
  try {
    file = await open(path, 'r').catch(() => undefined)
    let position = 0
    let rest: Buffer = Buffer.alloc(0)
    if (file !== undefined && options.tail !== undefined && options.tail >= 0) {
      position = await tailOffset(file, (await file.stat()).size, options.tail, wants)
    }
    const buffer = Buffer.alloc(CHUNK_BYTES)
    for (;;) {
      if (signal.aborted) return
      const wasLive = options.follow && following.isLive()
      changes?.reset()
      const room = Math.min(buffer.length, end - position)
      const { bytesRead } = file === undefined || room <= 0 ? { bytesRead: 0 } : await file.read(buffer, 0, room, position)
      position += bytesRead
      if (bytesRead > 0) {
        const data: Buffer = Buffer.concat([rest, buffer.subarray(0, bytesRead)])
        let from = 0
        for (let to = data.indexOf(NEWLINE); to >= 0; to = data.indexOf(NEWLINE, from)) {
          const line = parseLogLine(data.subarray(from, to))
          from = to + 1
          if (line === undefined || !wants(line)) continue
          const seconds = options.since === undefined && options.until === undefined ? 0 : secondsOf(line.time)
          if (options.since !== undefined && seconds < options.since) continue
          if (options.until !== undefined && seconds > options.until) {
            if (options.follow) return
            continue
          }
          const stamp = options.timestamps && !middle[line.stream] ? `${utcStamp(line.time)} ` : ''
          middle[line.stream] = !line.isEnd
          yield { stream: line.stream, data: Buffer.concat([Buffer.from(stamp), line.text, Buffer.from(line.isEnd ? '\n' : '')]) }
        }
        rest = Buffer.from(data.subarray(from))
        continue
      }
      if (position >= end) return
      // conmon starts a new file when the log has reached its bound
      const now = await stat(path).catch(() => undefined)
      const old = await file?.stat()
      if (now !== undefined && (old === undefined || now.ino !== old.ino || now.size < position)) {
        await file?.close()
        file = await open(path, 'r').catch(() => undefined)
        position = 0
        rest = Buffer.alloc(0)
        if (file !== undefined) continue
      }
      if (!wasLive) return
      await changes?.wait()
    }
  } finally {
    changes?.close()
    await file?.close()
  }
}

/** Wakes a follower when the log's folder changes, the container stops or the client leaves. */
class ChangeFlag {
  readonly #watcher: FSWatcher | undefined
  readonly #signal: AbortSignal
  #changed = false
  #wake = () => {}
  readonly #set = () => {
    this.#changed = true
    this.#wake()
  }

  constructor(path: string, signal: AbortSignal, stopped: Promise<unknown>) {
    this.#signal = signal
    signal.addEventListener('abort', this.#set, { once: true })
    stopped.then(this.#set, this.#set)
    // the folder, not the file: a bounded log is replaced by a new file of the same name
    this.#watcher = watch(path.slice(0, path.lastIndexOf('/')), this.#set)
    this.#watcher.on('error', this.#set)
  }

  reset(): void {
    this.#changed = false
  }

  wait(): Promise<void> {
    if (this.#changed || this.#signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  close(): void {
    this.#watcher?.close()
    this.#signal.removeEventListener('abort', this.#set)
  }
}

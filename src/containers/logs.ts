/**
 * Reads conmon's k8s-file logs: `<time> <stdout|stderr> <F|P> <text>`, where P is a part of a line and F its end.
 * A log is several files (log-files.ts), read as one. A tail is found by reading backwards from the end, so its cost does not grow
 * with the log.
 */
import { type FSWatcher, statSync, watch } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { compressedLog, openCompressed } from './log-compress.ts'
import { type LogPosition, logFiles } from './log-files.ts'
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

interface TailStart {
  readonly offset: number
  /** Lines that are missing: they are in older files. Negative when there are none. */
  readonly left: number
}

/** Where the last `count` whole lines of the wanted streams begin in a file. */
async function tailStart(file: FileHandle, size: number, count: number, wants: (line: LogLine) => boolean): Promise<TailStart> {
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
          if (line.isEnd && left-- === 0) return { offset: start, left }
          start = at + newline + 1
        }
      }
      if (newline < 0) return { offset: start, left }
      lineEnd = newline
    }
    rest = data.subarray(0, lineEnd)
    end = at
  }
  return { offset: start, left }
}

export interface Following {
  /** Whether more may come; read once all that is there has been delivered. */
  readonly isLive: () => boolean
  /** Resolves when that may have changed. */
  readonly stopped: Promise<unknown>
}

/** An open file of a log, and how far it has been read. */
interface Reading {
  readonly file: FileHandle
  readonly inode: number
  position: number
}

/** A file may be renamed between the look and the opening: its inode tells. */
async function openFile(path: string, inode: number): Promise<Reading | undefined> {
  if (path.endsWith('.gz')) {
    const isSame = inode < 0 ? statSync(path, { throwIfNoEntry: false })?.ino === -inode : compressedLog(path)?.inode === inode
    const copy = isSame ? await openCompressed(path) : undefined
    return copy === undefined ? undefined : { file: copy, inode, position: 0 }
  }
  const file = await open(path, 'r').catch(() => undefined)
  if (file === undefined) return undefined
  if ((await file.stat()).ino === inode) return { file, inode, position: 0 }
  await file.close()
  return undefined
}

/** The oldest file that is there. Files may be shifted while we look, so it is tried again; undefined when there is no log. */
async function oldestFile(path: string): Promise<Reading | undefined> {
  for (let n = 0; n < 10; n++) {
    const [first] = logFiles(path)
    if (first === undefined) return undefined
    const reading = await openFile(first.path, first.inode)
    if (reading !== undefined) return reading
  }
  return undefined
}

/** The file after the one that is read; the oldest, when that one has been dropped. Undefined when it is the newest. */
async function nextFile(path: string, inode: number): Promise<Reading | undefined> {
  for (let n = 0; n < 10; n++) {
    const files = logFiles(path)
    const next = files[files.findLastIndex((file) => file.inode === inode) + 1]
    if (next === undefined) return undefined
    const reading = await openFile(next.path, next.inode)
    if (reading !== undefined) return reading
  }
  return undefined
}

/** The place where the last `count` lines begin, looking at the newest file first. Tried again when files are shifted meanwhile. */
async function tailFile(path: string, count: number, wants: (line: LogLine) => boolean): Promise<Reading | undefined> {
  let found: Reading | undefined
  for (let n = 0; n < 10; n++) {
    let left = count
    let isWhole = true
    for (const { path: name, inode } of logFiles(path).reverse()) {
      const reading = await openFile(name, inode)
      if (reading === undefined) {
        isWhole = false
        break
      }
      await found?.file.close()
      found = reading
      const start = await tailStart(reading.file, (await reading.file.stat()).size, left, wants)
      reading.position = start.offset
      left = start.left
      if (left < 0) break
    }
    if (isWhole) break
  }
  return found
}

/** Picks the lines that a client asked for, and writes them as the client sees them. */
class LinePrinter {
  readonly #options: LogOptions
  /** The line before was a part: no stamp belongs before the next. */
  readonly #middle = { stdout: false, stderr: false }
  #rest: Buffer = Buffer.alloc(0)
  /** A follower's last line has come: nothing later is wanted. */
  isOver = false

  constructor(options: LogOptions) {
    this.#options = options
  }

  wants(line: LogLine): boolean {
    return line.stream === 'stdout' ? this.#options.stdout : this.#options.stderr
  }

  /** Another file begins: what is left of the last one is no whole line. */
  startFile(): void {
    this.#rest = Buffer.alloc(0)
  }

  /** The wanted lines that end in `bytes`. */
  *print(bytes: Buffer): Generator<LogChunk> {
    const data = Buffer.concat([this.#rest, bytes])
    let from = 0
    for (let to = data.indexOf(NEWLINE); to >= 0 && !this.isOver; to = data.indexOf(NEWLINE, from)) {
      const line = parseLogLine(data.subarray(from, to))
      from = to + 1
      if (line !== undefined && this.wants(line) && this.#isInTime(line)) yield this.#chunk(line)
    }
    this.#rest = Buffer.from(data.subarray(from))
  }

  #isInTime(line: LogLine): boolean {
    const { since, until, follow } = this.#options
    if (since === undefined && until === undefined) return true
    const seconds = secondsOf(line.time)
    const isLate = until !== undefined && seconds > until
    if (isLate && follow) this.isOver = true
    return !isLate && (since === undefined || seconds >= since)
  }

  #chunk(line: LogLine): LogChunk {
    const { timestamps, details = '' } = this.#options
    const stamp = this.#middle[line.stream] ? '' : `${timestamps ? `${utcStamp(line.time)} ` : ''}${details}`
    this.#middle[line.stream] = !line.isEnd
    return { stream: line.stream, data: Buffer.concat([Buffer.from(stamp), line.text, Buffer.from(line.isEnd ? '\n' : '')]) }
  }
}

/** Part of a log as a client gets it. */
interface LogChunk {
  readonly stream: 'stdout' | 'stderr'
  readonly data: Buffer
}

/** Yields the log as chunks for a client; with `follow` until the container ends or the signal aborts. A missing log is empty. */
export async function* readLog(
  path: string,
  options: LogOptions,
  following: Following,
  signal: AbortSignal,
  /** Not beyond this place: what comes later reaches the client another way. */
  end?: LogPosition,
): AsyncGenerator<LogChunk> {
  const printer = new LinePrinter(options)
  const changes = options.follow ? new ChangeFlag(path, signal, following.stopped) : undefined
  const buffer = Buffer.alloc(CHUNK_BYTES)
  let reading: Reading | undefined
  let isDrained = false
  try {
    const isTail = options.tail !== undefined && options.tail >= 0
    reading = isTail ? await tailFile(path, options.tail ?? 0, (line) => printer.wants(line)) : await oldestFile(path)
    while (!signal.aborted && !printer.isOver && end?.inode !== 0) {
      const wasLive = options.follow && following.isLive()
      changes?.reset()
      const room = reading !== undefined && reading.inode === end?.inode ? end.offset - reading.position : buffer.length
      if (room <= 0) return
      const bytesRead = reading === undefined ? 0 : await readMore(reading, buffer, Math.min(room, buffer.length))
      if (bytesRead > 0) {
        isDrained = false
        yield* printer.print(buffer.subarray(0, bytesRead))
        continue
      }
      const next: Reading | undefined = reading === undefined ? await oldestFile(path) : await nextFile(path, reading.inode)
      if (next === undefined) {
        if (!wasLive) return
        await changes?.wait()
      } else if (reading !== undefined && !isDrained) {
        // a file that has a successor is complete; it may have grown since we read its end
        isDrained = true
        await next.file.close()
      } else {
        await reading?.file.close()
        reading = next
        isDrained = false
        printer.startFile()
      }
    }
  } finally {
    changes?.close()
    await reading?.file.close()
  }
}

/** Bytes read from where the last call ended; a file that somebody has emptied begins anew. */
async function readMore(reading: Reading, buffer: Buffer, length: number): Promise<number> {
  const { bytesRead } = await reading.file.read(buffer, 0, length, reading.position)
  if (bytesRead === 0 && (await reading.file.stat()).size < reading.position) reading.position = 0
  reading.position += bytesRead
  return bytesRead
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

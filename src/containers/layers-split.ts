/**
 * What an unpacked layer needs to become the same tar archive again, byte for byte: every byte that is not the body of a file,
 * and the places where bodies go. (The idea is tar-split's; the format is our own.)
 *
 * Gzipped records: `r` + u32 length + bytes, or `f` + u32 length + JSON `[path, size]`, big-endian. Files are numbered from 0 as they
 * come. When a layer replaces a file or directory of its own, the old one is moved to `kept/<n>`, n counting the moves.
 */
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { createGunzip, createGzip } from 'node:zlib'
import { NetError } from '../base/errors.ts'
import { closeFd, O_NOFOLLOW, openInRoot } from '../sys/rooted.ts'
import { readExactly } from './archive-pack.ts'

const RAW = 0x72
const FILE = 0x66
const FLUSH_BYTES = 1 << 16

/** Collects the record while an archive is read. {@link SplitWriter.finish} must be awaited. */
export class SplitWriter {
  readonly #gzip = createGzip({ level: 1 })
  readonly #file: ReturnType<typeof createWriteStream>
  #pending: Buffer[] = []
  #pendingBytes = 0
  #failure: Error | undefined

  constructor(path: string) {
    this.#file = createWriteStream(path, { mode: 0o600 })
    this.#file.on('error', (error) => {
      this.#failure = error
    })
    this.#gzip.pipe(this.#file)
  }

  raw(bytes: Buffer): void {
    if (bytes.length === 0) return
    this.#pending.push(Buffer.from(bytes)) // a copy: the reader's chunk is reused or large
    this.#pendingBytes += bytes.length
    if (this.#pendingBytes >= FLUSH_BYTES) this.#flush()
  }

  file(path: string, size: number): void {
    this.#flush()
    this.#record(FILE, Buffer.from(JSON.stringify([path, size])))
  }

  /** Waits while the disk is behind. */
  async drained(): Promise<void> {
    if (this.#gzip.writableNeedDrain && this.#failure === undefined) await once(this.#gzip, 'drain')
  }

  async finish(): Promise<void> {
    this.#flush()
    this.#gzip.end()
    if (this.#failure === undefined && !this.#file.closed) await once(this.#file, 'close')
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Gives up. When it returns the file is closed: one still being opened would come to be after its directory was emptied. */
  async destroy(): Promise<void> {
    this.#gzip.destroy()
    this.#file.destroy()
    if (!this.#file.closed) await new Promise<void>((resolve) => this.#file.once('close', () => resolve()))
  }

  #flush(): void {
    if (this.#pendingBytes === 0) return
    this.#record(RAW, Buffer.concat(this.#pending))
    this.#pending = []
    this.#pendingBytes = 0
  }

  #record(kind: number, bytes: Buffer): void {
    const head = Buffer.alloc(5)
    head[0] = kind
    head.writeUInt32BE(bytes.length, 1)
    this.#gzip.write(head)
    this.#gzip.write(bytes)
  }
}

/** Something the layer itself replaced: where it was, and how many files had been written by then. */
export interface Move {
  readonly path: string
  readonly before: number
}

/** Where file number `index`, written to `path`, is now: below `kept`, or still where it was written (undefined). */
function movedTo(moves: readonly Move[], path: string, index: number): string | undefined {
  const n = moves.findIndex((move) => index < move.before && (path === move.path || path.startsWith(`${move.path}/`)))
  return n < 0 ? undefined : `${n}${path.slice((moves[n] as Move).path.length)}`
}

/** The archive again: the record at `splitPath` with bodies from the trees `fs` and `kept` (descriptors, closed by the caller). */
export async function* joinSplit(splitPath: string, fs: number, kept: number, moves: readonly Move[]): AsyncGenerator<Buffer> {
  let index = 0
  const input = createReadStream(splitPath).pipe(createGunzip())
  let buffer: Buffer = Buffer.alloc(0)
  for await (const chunk of input as AsyncIterable<Buffer>) {
    buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk])
    let at = 0
    while (buffer.length - at >= 5) {
      const end = at + 5 + buffer.readUInt32BE(at + 1)
      if (buffer.length < end) break
      const bytes = buffer.subarray(at + 5, end)
      if (buffer[at] === RAW) yield bytes
      else {
        const [path, size] = JSON.parse(bytes.toString()) as [string, number]
        const moved = movedTo(moves, path, index++)
        const fd = moved === undefined ? openInRoot(fs, path, O_NOFOLLOW) : openInRoot(kept, moved, O_NOFOLLOW)
        try {
          yield* readExactly(fd, size)
        } finally {
          closeFd(fd)
        }
      }
      at = end
    }
    buffer = buffer.subarray(at)
  }
  if (buffer.length > 0) throw new NetError('internal', `Cannot read "${splitPath}": it ends within a record`)
}

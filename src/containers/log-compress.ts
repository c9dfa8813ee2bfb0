/**
 * Full log files as gzip (`compress=true`): `container.log.2.gz`. Such a file begins with an empty gzip member whose comment says which
 * inode the log had before, so that somebody who was reading it, or noted a place in it, finds what comes after. Any gunzip reads it.
 * Source of the format: RFC 1952.
 */
import { closeSync, createReadStream, createWriteStream, fstatSync, openSync, readSync, renameSync, rmSync, unlinkSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip } from 'node:zlib'

const MAGIC = [0x1f, 0x8b, 8]
const FCOMMENT = 16
const HEAD_BYTES = 10
/** Deflate's empty block, checksum and length of nothing. */
const NOTHING = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0]
const COMMENT = /^inode (\d+)$/
const MAX_COMMENT_BYTES = 64
const LENGTH_BYTES = 4

let copies = 0

/** What is known of a compressed file without reading it. */
export interface CompressedLog {
  /** Of the file before. */
  readonly inode: number
  /** Bytes before. */
  readonly size: number
}

function mark(inode: number): Buffer {
  return Buffer.from([...MAGIC, FCOMMENT, 0, 0, 0, 0, 0, 0xff, ...Buffer.from(`inode ${inode}\0`), ...NOTHING])
}

/** Undefined for a file that is not there or was not made here. */
export function compressedLog(path: string): CompressedLog | undefined {
  const fd = openNow(path) // shifted or dropped between the listing and now
  if (fd === undefined) return undefined
  try {
    const head = Buffer.alloc(HEAD_BYTES + MAX_COMMENT_BYTES)
    const got = head.subarray(0, readSync(fd, head, 0, head.length, 0))
    const end = got.indexOf(0, HEAD_BYTES)
    const inode = COMMENT.exec(end < 0 ? '' : got.toString('latin1', HEAD_BYTES, end))?.[1]
    const length = Buffer.alloc(LENGTH_BYTES)
    if (inode === undefined || got[3] !== FCOMMENT) return undefined
    readSync(fd, length, 0, LENGTH_BYTES, fstatSync(fd).size - LENGTH_BYTES)
    return { inode: Number(inode), size: length.readUInt32LE() }
  } catch {
    return undefined
  } finally {
    closeSync(fd)
  }
}

/** Opened now: under its name there may be another file a moment later. Undefined when there is none. */
function openNow(path: string): number | undefined {
  try {
    return openSync(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** The log that was compressed, in a file without a name; the caller closes it. Undefined when `path` is not there any more. */
export async function openCompressed(path: string): Promise<FileHandle | undefined> {
  const fd = openNow(path)
  if (fd === undefined) return undefined
  const source = createReadStream('', { fd })
  const name = `${path}.${process.pid}-${copies++}.read`
  const copy = await open(name, 'wx+')
  unlinkSync(name)
  try {
    await pipeline(source, createGunzip(), createWriteStream('', { fd: copy.fd, autoClose: false }))
    return copy
  } catch (error) {
    await copy.close()
    throw error
  }
}

/**
 * Compresses one full file; `place` says what it is called when that is done, as files are shifted meanwhile, undefined when it has been
 * dropped. Until then nothing is changed; a crash leaves both files or `<path>.part`, which the next call overwrites.
 */
export async function compressLog(log: string, file: string, place: (inode: number) => string | undefined): Promise<void> {
  const fd = openNow(file)
  if (fd === undefined) return
  const { ino } = fstatSync(fd)
  const part = `${log}.part`
  const out = createWriteStream(part)
  out.write(mark(ino))
  await pipeline(createReadStream('', { fd }), createGzip(), out)
  const name = place(ino)
  if (name === undefined) return rmSync(part, { force: true })
  renameSync(part, `${name}.gz`)
  rmSync(name, { force: true })
}

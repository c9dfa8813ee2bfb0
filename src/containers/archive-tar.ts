/**
 * The tar format: ustar, pax and GNU headers to entries and back. No files, no decisions about paths: an entry's name is what the
 * archive says, hostile or not.
 *
 * Own code rather than tar-stream, because a layer must come back byte for byte (its digest is its name) and because pax values
 * may be binary (`security.capability`), which that package turns into text.
 *
 * Formats: POSIX.1-2017 pax, section "pax Interchange Format"; GNU tar manual, appendix "Basic Tar Format".
 */
import { NetError } from '../base/errors.ts'

export type TarType = 'file' | 'link' | 'symlink' | 'char' | 'block' | 'directory' | 'fifo'

export interface TarEntry {
  readonly name: string
  readonly type: TarType
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Bytes of the body; 0 for everything but a file. */
  readonly size: number
  /** Seconds since the epoch, with fraction. */
  readonly mtime: number
  readonly linkName: string
  readonly devMajor: number
  readonly devMinor: number
  readonly xattrs: ReadonlyMap<string, Buffer>
}

export const BLOCK = 512
/** A pax or GNU long-name header larger than this is an attack, not a name. */
const MAX_EXTENDED_BYTES = 1 << 20
const XATTR = 'SCHILY.xattr.'

const TYPE_OF_FLAG: Readonly<Record<string, TarType>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
}
const FLAG_OF_TYPE: Readonly<Record<TarType, string>> = {
  file: '0',
  link: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
}

function broken(why: string): NetError {
  return new NetError('invalid', `invalid tar archive: ${why}`)
}

/** Reads whole pieces from a stream of chunks. */
class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array>
  #buffer: Buffer = Buffer.alloc(0)
  #ended = false

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]()
  }

  async #fill(): Promise<boolean> {
    if (this.#ended) return false
    const next = await this.#chunks.next()
    if (next.done === true) {
      this.#ended = true
      return false
    }
    const chunk = Buffer.isBuffer(next.value) ? next.value : Buffer.from(next.value)
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk])
    return true
  }

  /** Exactly `n` bytes, or fewer at the end of the stream. */
  async read(n: number): Promise<Buffer> {
    while (this.#buffer.length < n && (await this.#fill())) {
      // until there is enough
    }
    const out = this.#buffer.subarray(0, n)
    this.#buffer = this.#buffer.subarray(out.length)
    return out
  }

  /** What is there, at most `max` bytes; empty at the end of the stream. */
  async some(max: number): Promise<Buffer> {
    while (this.#buffer.length === 0 && (await this.#fill())) {
      // an empty chunk is not the end
    }
    const out = this.#buffer.subarray(0, max)
    this.#buffer = this.#buffer.subarray(out.length)
    return out
  }

  async cancel(): Promise<void> {
    this.#ended = true
    await this.#chunks.return?.()
  }
}

/** Takes every byte that is not the body of a delivered entry, in order: what is needed to write the same archive again. */
export type RawSink = (bytes: Buffer) => void

/**
 * Pulls entries out of a tar stream. Use: `while ((entry = await reader.next()))`, and read `body()` or leave it, then go on.
 * Errors are NetError `invalid`. {@link TarReader.finish} drains what follows the end mark.
 */
export class TarReader {
  readonly #source: ByteSource
  readonly #raw: RawSink | undefined
  #bodyLeft = 0
  #padding = 0
  readonly #global = new Map<string, Buffer>()

  constructor(source: AsyncIterable<Uint8Array>, raw?: RawSink) {
    this.#source = new ByteSource(source)
    this.#raw = raw
  }

  /** The next entry, or undefined at the end mark or the end of the stream. */
  async next(): Promise<TarEntry | undefined> {
    await this.#skipBody()
    let pax = new Map<string, Buffer>(this.#global)
    let longName: string | undefined
    let longLink: string | undefined
    let isExtended = false
    for (;;) {
      const block = await this.#source.read(BLOCK)
      if (block.length === 0) {
        if (isExtended) throw broken('unexpected end of file in a header')
        return undefined // without an end mark: GNU tar takes that too
      }
      this.#raw?.(block)
      if (block.length < BLOCK) throw broken('unexpected end of file in a header')
      if (isZero(block)) {
        const second = await this.#source.read(BLOCK)
        this.#raw?.(second)
        return undefined
      }
      checkSum(block)
      const flag = String.fromCharCode(block[156] as number)
      const size = number(block, 124, 12)
      if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
        const data = await this.#extended(size)
        isExtended = true
        if (flag === 'L') longName = cString(data, 0, data.length)
        else if (flag === 'K') longLink = cString(data, 0, data.length)
        else {
          for (const [key, value] of paxRecords(data)) {
            pax.set(key, value)
            if (flag === 'g') this.#global.set(key, value)
          }
        }
        continue
      }
      const entry = decode(block, flag, size, pax, longName, longLink)
      if (entry === undefined) {
        // a kind we do not know (volume label, multi-volume): its data belongs to the raw bytes
        await this.#raws(padded(paxNumber(pax, 'size') ?? size))
        pax = new Map(this.#global)
        longName = longLink = undefined
        isExtended = false
        continue
      }
      // only files have a body, whatever the size field of the other kinds says (as Go's archive/tar reads it)
      this.#bodyLeft = entry.size
      this.#padding = padded(entry.size) - entry.size
      return entry
    }
  }

  /** The body of the entry that `next` gave last. Throws when the stream ends before it does. */
  async *body(): AsyncGenerator<Buffer> {
    while (this.#bodyLeft > 0) {
      const chunk = await this.#source.some(this.#bodyLeft)
      if (chunk.length === 0) throw broken('unexpected end of file')
      this.#bodyLeft -= chunk.length
      yield chunk
    }
  }

  /** Reads the rest of the stream, which for a digest counts as much as the entries do. */
  async finish(): Promise<void> {
    for (;;) {
      const rest = await this.#source.some(1 << 16)
      if (rest.length === 0) return
      this.#raw?.(rest)
    }
  }

  /** Stops reading: the stream behind is told to close. */
  async cancel(): Promise<void> {
    await this.#source.cancel()
  }

  async #skipBody(): Promise<void> {
    for await (const chunk of this.body()) this.#raw?.(chunk)
    await this.#raws(this.#padding)
    this.#padding = 0
  }

  async #raws(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) {
      const chunk = await this.#source.some(left)
      if (chunk.length === 0) throw broken('unexpected end of file')
      left -= chunk.length
      this.#raw?.(chunk)
    }
  }

  async #extended(size: number): Promise<Buffer> {
    if (size > MAX_EXTENDED_BYTES) throw broken(`a header of ${size} bytes`)
    const data = await this.#source.read(padded(size))
    this.#raw?.(data)
    if (data.length < padded(size)) throw broken('unexpected end of file in a header')
    return data.subarray(0, size)
  }
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK
}

function isZero(block: Buffer): boolean {
  return block.every((byte) => byte === 0)
}

function sums(block: Buffer): { unsigned: number; signed: number } {
  let unsigned = 8 * 32
  let signed = 8 * 32
  for (let i = 0; i < BLOCK; i++) {
    if (i >= 148 && i < 156) continue
    const byte = block[i] as number
    unsigned += byte
    signed += byte < 128 ? byte : byte - 256
  }
  return { unsigned, signed }
}

function checkSum(block: Buffer): void {
  const want = number(block, 148, 8)
  const { unsigned, signed } = sums(block) // some old writers summed signed bytes
  if (want !== unsigned && want !== signed) throw broken('invalid tar header')
}

/** Octal text, or GNU's base-256 when the top bit of the first byte is set. */
function number(block: Buffer, offset: number, length: number): number {
  const first = block[offset] as number
  if ((first & 0x80) !== 0) {
    let value = first === 0xff ? -1n : BigInt(first & 0x7f)
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[offset + i] as number)
    const n = Number(value)
    if (!Number.isSafeInteger(n)) throw broken('a number in a header is too large')
    return n
  }
  const text = block
    .toString('latin1', offset, offset + length)
    .replace(/[\0 ]+$/, '')
    .trimStart()
  if (text === '') return 0
  if (!/^[0-7]+$/.test(text)) throw broken('invalid tar header')
  return Number.parseInt(text, 8)
}

function cString(bytes: Buffer, offset: number, length: number): string {
  const end = bytes.indexOf(0, offset)
  return bytes.toString('utf8', offset, end < 0 || end > offset + length ? offset + length : end)
}

/** `<length> <key>=<value>\n`, the length counting the whole record. */
function paxRecords(data: Buffer): [string, Buffer][] {
  const out: [string, Buffer][] = []
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(0x20, at)
    const text = space < 0 ? '' : data.toString('latin1', at, space)
    const length = /^\d{1,8}$/.test(text) ? Number(text) : 0
    const equals = space < 0 ? -1 : data.indexOf(0x3d, space)
    const end = at + length
    if (length === 0 || end > data.length || equals < 0 || equals >= end || data[end - 1] !== 0x0a) throw broken('invalid pax header')
    out.push([data.toString('utf8', space + 1, equals), data.subarray(equals + 1, end - 1)])
    at = end
  }
  return out
}

function paxText(pax: ReadonlyMap<string, Buffer>, key: string): string | undefined {
  const value = pax.get(key)
  return value === undefined || value.length === 0 ? undefined : value.toString('utf8')
}

function paxNumber(pax: ReadonlyMap<string, Buffer>, key: string): number | undefined {
  const text = paxText(pax, key)
  if (text === undefined) return undefined
  const value = Number(text)
  if (!/^-?\d+(\.\d*)?$/.test(text) || Math.abs(value) > Number.MAX_SAFE_INTEGER) throw broken(`invalid pax header: ${key}`)
  return value
}

function decode(
  block: Buffer,
  flag: string,
  headerSize: number,
  pax: ReadonlyMap<string, Buffer>,
  longName: string | undefined,
  longLink: string | undefined,
): TarEntry | undefined {
  if (flag === 'S' || pax.has('GNU.sparse.major') || pax.has('GNU.sparse.map')) throw broken('sparse files are not supported')
  let type = TYPE_OF_FLAG[flag]
  if (type === undefined) return undefined
  let name = cString(block, 0, 100)
  // only POSIX ustar has a prefix; GNU's old format keeps times there
  if (block.toString('latin1', 257, 263) === 'ustar\0') {
    const prefix = cString(block, 345, 155)
    if (prefix !== '') name = `${prefix}/${name}`
  }
  name = paxText(pax, 'path') ?? longName ?? name
  if (type === 'file' && name.endsWith('/')) type = 'directory' // before ustar, a slash was all that told them apart
  const size = paxNumber(pax, 'size') ?? headerSize
  if (size < 0 || !Number.isInteger(size)) throw broken('negative size')
  const linkName = paxText(pax, 'linkpath') ?? longLink ?? cString(block, 157, 100)
  if (name.includes('\0') || linkName.includes('\0')) throw broken('a zero byte in a name')
  const xattrs = new Map<string, Buffer>()
  for (const [key, value] of pax) if (key.startsWith(XATTR)) xattrs.set(key.slice(XATTR.length), value)
  const device = type === 'char' || type === 'block'
  return {
    name,
    type,
    mode: number(block, 100, 8) & 0o7777,
    uid: Math.trunc(paxNumber(pax, 'uid') ?? number(block, 108, 8)),
    gid: Math.trunc(paxNumber(pax, 'gid') ?? number(block, 116, 8)),
    size: type === 'file' ? size : 0,
    mtime: paxNumber(pax, 'mtime') ?? number(block, 136, 12),
    linkName,
    devMajor: device ? number(block, 329, 8) : 0,
    devMinor: device ? number(block, 337, 8) : 0,
    xattrs,
  }
}

/** What {@link encodeHeader} needs to know; the rest has the usual defaults (mode 0644 or 0755, root, epoch). */
export type TarHeader = Pick<TarEntry, 'name' | 'type'> & Partial<TarEntry>

/** Header blocks of an entry: ustar, preceded by a pax header where ustar cannot say it. */
export function encodeHeader(header: TarHeader): Buffer {
  const entry: TarEntry = {
    mode: header.type === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: 0,
    linkName: '',
    devMajor: 0,
    devMinor: 0,
    xattrs: new Map(),
    ...header,
  }
  const records: Buffer[] = []
  const name = Buffer.from(entry.name)
  const link = Buffer.from(entry.linkName)
  if (name.length > 100 || !isAscii(entry.name)) records.push(paxRecord('path', name))
  if (link.length > 100 || !isAscii(entry.linkName)) records.push(paxRecord('linkpath', link))
  if (entry.size > 0o77777777777) records.push(paxRecord('size', Buffer.from(String(entry.size))))
  if (entry.uid > 0o7777777) records.push(paxRecord('uid', Buffer.from(String(entry.uid))))
  if (entry.gid > 0o7777777) records.push(paxRecord('gid', Buffer.from(String(entry.gid))))
  const seconds = Math.floor(entry.mtime)
  if (seconds !== entry.mtime || seconds < 0 || seconds > 0o77777777777) {
    records.push(paxRecord('mtime', Buffer.from(String(Math.round(entry.mtime * 1e6) / 1e6))))
  }
  for (const [key, value] of entry.xattrs) records.push(paxRecord(`${XATTR}${key}`, value))
  const main = ustar(entry, name, link)
  if (records.length === 0) return main
  const data = Buffer.concat(records)
  const head = ustar({ ...entry, type: 'file', size: data.length, mode: 0o644 }, Buffer.from('PaxHeader'), Buffer.alloc(0), 'x')
  return Buffer.concat([head, data, Buffer.alloc(padded(data.length) - data.length), main])
}

function isAscii(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text)
}

function paxRecord(key: string, value: Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')])
  let length = rest.length + 1
  while (length !== rest.length + String(length).length) length = rest.length + String(length).length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function ustar(entry: TarEntry, name: Buffer, link: Buffer, flag = FLAG_OF_TYPE[entry.type]): Buffer {
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, offset: number, length: number): void => {
    const max = 8 ** (length - 1) - 1 // what does not fit stands in a pax record
    block.write(
      `${Math.min(Math.max(0, Math.floor(value)), max)
        .toString(8)
        .padStart(length - 1, '0')}\0`,
      offset,
      'latin1',
    )
  }
  name.copy(block, 0, 0, 100)
  octal(entry.mode & 0o7777, 100, 8)
  octal(entry.uid, 108, 8)
  octal(entry.gid, 116, 8)
  octal(entry.size, 124, 12)
  octal(entry.mtime, 136, 12)
  block.write(flag, 156, 'latin1')
  link.copy(block, 157, 0, 100)
  block.write('ustar\u000000', 257, 'latin1')
  octal(entry.devMajor, 329, 8)
  octal(entry.devMinor, 337, 8)
  block.write(`${sums(block).unsigned.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}

/** Zero bytes that fill a body of `size` bytes up to whole blocks. */
export function paddingOf(size: number): Buffer {
  return Buffer.alloc(padded(size) - size)
}

/** The end mark. */
export const TAR_END: Buffer = Buffer.alloc(2 * BLOCK)

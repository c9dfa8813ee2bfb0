/**
 * The layer store: every layer of every image unpacked once, named by the digest of its uncompressed tar (diff id).
 *
 *   <root>/layers/<hex>/fs          the tree, ready to be an overlayfs lower directory
 *   <root>/layers/<hex>/layer.json  LayerInfo
 *   <root>/layers/<hex>/split.gz    how to write the tar again (layers-split.ts)
 *   <root>/layers/<hex>/kept/       bodies of files that the layer itself replaced, needed only for that
 *   <root>/l/<short>                link to fs: the option string of mount(2) is one page, 127 layers must fit
 *   <root>/tmp/                     work in progress; emptied at start, so a kill -9 leaves nothing
 *
 * A layer appears by one rename, so it is complete or absent.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NetError } from '../base/errors.ts'
import { closeFd, deleteTree, openRoot } from '../sys/rooted.ts'
import { decompress } from './archive-compress.ts'
import { extractTar } from './archive-extract.ts'
import { TarReader } from './archive-tar.ts'
import { joinSplit, type Move, SplitWriter } from './layers-split.ts'

export interface LayerInfo {
  /** `sha256:<hex>` of the uncompressed tar. */
  readonly diffId: string
  /** Bytes of the files in it. */
  readonly size: number
  /** Bytes of the uncompressed tar. */
  readonly tarSize: number
  /** Name below `<root>/l`. */
  readonly link: string
  /** What the layer replaced of its own; see layers-split.ts. */
  readonly moves: readonly Move[]
}

const DIFF_ID = /^sha256:[0-9a-f]{64}$/

/** `sha256:` and 64 digits: safe as a file name. */
export function isDigest(text: string): boolean {
  return DIFF_ID.test(text)
}

export class LayerStore {
  readonly root: string
  readonly #layers: string
  readonly #links: string
  readonly #tmp: string
  readonly #known = new Map<string, LayerInfo>()
  /** Diff ids that somebody is about to refer to, with how many do: not to be collected. */
  readonly #pins = new Map<string, number>()

  /** Opens the store, makes its directories, and removes what a crashed run left. */
  constructor(root: string) {
    this.root = root
    this.#layers = join(root, 'layers')
    this.#links = join(root, 'l')
    this.#tmp = join(root, 'tmp')
    rmSync(this.#tmp, { recursive: true, force: true })
    for (const path of [this.#layers, this.#links, this.#tmp]) mkdirSync(path, { recursive: true, mode: 0o700 })
    const links = new Set<string>()
    for (const hex of readdirSync(this.#layers)) {
      const info = readInfo(join(this.#layers, hex))
      if (info === undefined) continue
      this.#known.set(info.diffId, info)
      links.add(info.link)
      this.#ensureLink(info)
    }
    for (const link of readdirSync(this.#links)) if (!links.has(link)) rmSync(join(this.#links, link), { force: true })
  }

  has(diffId: string): boolean {
    return this.#known.has(diffId)
  }

  /** Throws `not-found`. */
  get(diffId: string): LayerInfo {
    const info = this.#known.get(diffId)
    if (info === undefined) throw new NetError('not-found', `layer does not exist: ${diffId}`, { subject: diffId })
    return info
  }

  list(): readonly string[] {
    return [...this.#known.keys()]
  }

  /** The unpacked tree. */
  pathOf(diffId: string): string {
    this.get(diffId)
    return join(this.#layers, diffId.slice(7), 'fs')
  }

  /** The same tree by its short name. */
  linkOf(diffId: string): string {
    return join(this.#links, this.get(diffId).link)
  }

  /** A new directory for work in progress on the same file system. The caller removes it; the next start does so at the latest. */
  scratch(prefix: string): string {
    return mkdtempSync(join(this.#tmp, `${prefix}-`))
  }

  /** Keeps a layer from {@link collect} until the returned function is called. */
  pin(diffId: string): () => void {
    this.#pins.set(diffId, (this.#pins.get(diffId) ?? 0) + 1)
    let held = true
    return () => {
      if (!held) return
      held = false
      const left = (this.#pins.get(diffId) ?? 1) - 1
      if (left > 0) this.#pins.set(diffId, left)
      else this.#pins.delete(diffId)
    }
  }

  /**
   * Unpacks a layer tar, compressed or not, and returns it pinned: call `release` once something stored refers to it.
   * A layer that is there already is not unpacked again when `expected` says so beforehand. Throws `invalid` for a broken or hostile
   * archive and when the digest is not `expected`.
   */
  async add(tar: AsyncIterable<Uint8Array>, expected?: string): Promise<{ info: LayerInfo; release: () => void }> {
    if (expected !== undefined && this.has(expected)) return { info: this.get(expected), release: this.pin(expected) }
    const work = this.scratch('layer')
    try {
      const made = await this.#unpack(tar, work)
      if (expected !== undefined && made.diffId !== expected) {
        throw new NetError('invalid', `layers from manifest don't match image configuration: expected ${expected}, got ${made.diffId}`)
      }
      const release = this.pin(made.diffId)
      try {
        return { info: this.#publish(work, made), release }
      } catch (error) {
        release()
        throw error
      }
    } finally {
      rmSync(work, { recursive: true, force: true })
    }
  }

  /** The layer's tar as it came in, byte for byte. Fails at the end when the tree was changed behind our back. */
  async *tar(diffId: string): AsyncGenerator<Buffer> {
    const directory = join(this.#layers, this.get(diffId).diffId.slice(7))
    const unpin = this.pin(diffId)
    const hash = createHash('sha256')
    const root = openRoot(join(directory, 'fs'))
    const kept = openRoot(join(directory, 'kept'))
    try {
      for await (const chunk of joinSplit(join(directory, 'split.gz'), root, kept, this.get(diffId).moves)) {
        hash.update(chunk)
        yield chunk
      }
    } finally {
      closeFd(root)
      closeFd(kept)
      unpin()
    }
    const digest = `sha256:${hash.digest('hex')}`
    if (digest !== diffId) throw new NetError('internal', `Cannot write layer "${diffId}": its files have changed on disk (now ${digest})`)
  }

  /** Deletes every layer for which `inUse` is false and that is not pinned. Returns their ids and the bytes freed. */
  async collect(inUse: (diffId: string) => boolean): Promise<{ removed: string[]; bytes: number }> {
    const gone: LayerInfo[] = []
    for (const info of this.#known.values()) if (!inUse(info.diffId) && !this.#pins.has(info.diffId)) gone.push(info)
    const trash: string[] = []
    for (const info of gone) {
      this.#known.delete(info.diffId)
      const path = join(this.scratch('gone'), 'layer')
      renameSync(join(this.#layers, info.diffId.slice(7)), path)
      rmSync(join(this.#links, info.link), { force: true })
      trash.push(join(path, '..'))
    }
    for (const path of trash) await deleteTree(path)
    return { removed: gone.map((info) => info.diffId), bytes: gone.reduce((sum, info) => sum + info.size, 0) }
  }

  async #unpack(tar: AsyncIterable<Uint8Array>, work: string): Promise<Omit<LayerInfo, 'link'>> {
    mkdirSync(join(work, 'fs'), { mode: 0o755 })
    mkdirSync(join(work, 'kept'), { mode: 0o700 })
    const hash = createHash('sha256')
    let tarSize = 0
    let files = 0
    const moves: Move[] = []
    const split = new SplitWriter(join(work, 'split.gz'))
    async function* counted(): AsyncGenerator<Buffer> {
      for await (const chunk of decompress(tar)) {
        hash.update(chunk)
        tarSize += chunk.length
        await split.drained()
        yield chunk
      }
    }
    const reader = new TarReader(counted(), (bytes) => split.raw(bytes))
    const root = openRoot(join(work, 'fs'))
    try {
      const size = await extractTar(reader, root, {
        whiteouts: true,
        onFile: (path, entry) => {
          files++
          split.file(path, entry.size)
        },
        onReplace: (path, at) => {
          renameSync(at, join(work, 'kept', String(moves.length)))
          moves.push({ path, before: files })
        },
      })
      await reader.finish()
      await split.finish()
      return { diffId: `sha256:${hash.digest('hex')}`, size, tarSize, moves }
    } catch (error) {
      await split.destroy()
      await reader.cancel()
      throw error
    } finally {
      closeFd(root)
    }
  }

  #publish(work: string, made: Omit<LayerInfo, 'link'>): LayerInfo {
    const there = this.#known.get(made.diffId)
    if (there !== undefined) return there // somebody else unpacked the same meanwhile
    const info: LayerInfo = { ...made, link: this.#freeLink(made.diffId) }
    writeFileSync(join(work, 'layer.json'), JSON.stringify(info), { mode: 0o600 })
    const target = join(this.#layers, info.diffId.slice(7))
    try {
      renameSync(work, target)
    } catch (error) {
      // a directory without a readable layer.json is in the way: not ours to keep
      if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      rmSync(target, { recursive: true, force: true })
      renameSync(work, target)
    }
    this.#ensureLink(info)
    this.#known.set(info.diffId, info)
    return info
  }

  /** Eight digits of the digest, more when another layer has the same. */
  #freeLink(diffId: string): string {
    const taken = new Set([...this.#known.values()].map((info) => info.link))
    const hex = diffId.slice(7)
    for (let length = 8; ; length++) if (!taken.has(hex.slice(0, length))) return hex.slice(0, length)
  }

  #ensureLink(info: LayerInfo): void {
    try {
      symlinkSync(`../layers/${info.diffId.slice(7)}/fs`, join(this.#links, info.link))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
}

function readInfo(directory: string): LayerInfo | undefined {
  try {
    const info = JSON.parse(readFileSync(join(directory, 'layer.json'), 'utf8')) as LayerInfo
    return isDigest(info.diffId) && directory.endsWith(info.diffId.slice(7)) ? info : undefined
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

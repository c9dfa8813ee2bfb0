/**
 * One overlayfs per container: the layers of its image below, a writable layer of its own above.
 *
 *   <root>/rootfs/<container id>/{upper,work,merged}, and `view` while `docker cp` works on one that does not run
 *   <root>/init/fs    lowest of all layers: the mount points and files that every container needs (/proc, /dev/console, /etc/hosts …),
 *                     so that a runtime that makes them does not show up in `docker diff`
 *
 * The store's `rootfs/<id>` says which image and layers a container stands on; its layers are kept as long as it is there, even when
 * the image is removed by force. A directory without a record is left from a crash and goes at start.
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { NetError } from '../base/errors.ts'
import type { Store } from '../store/types.ts'
import { mount } from '../sys/libc.ts'
import { listMounts, unmountAll } from '../sys/mounts.ts'
import { closeFd, deleteTree, openRoot } from '../sys/rooted.ts'
import { exportRoot, getArchive, type Owner, putArchive, statPath } from './archive.ts'
import { inChunks, packUpper } from './archive-pack.ts'
import type { LayerStore } from './layers.ts'
import { listChanges, treeSize } from './rootfs-changes.ts'
import type { ArchiveStat, RootfsChange, RootfsService } from './rootfs-types.ts'
import { mountView, type ViewMount } from './rootfs-view.ts'

export interface RootfsOptions {
  /** Data root, for example /var/lib/causeway. */
  readonly root: string
  readonly store: Store
  readonly layers: LayerStore
  /** Layers (diff ids, lowest first) and size of an image. Throws `not-found`. */
  readonly image: (imageId: string) => { readonly layers: readonly string[]; readonly size: number }
  /** `/proc/<pid>/root` of a running container: `docker cp` then sees its volumes too, and what it mounted itself. */
  readonly liveRoot?: (containerId: string) => string | undefined
  /** Volumes and binds of a container, which `docker cp` sees while it does not run too. */
  readonly mounts?: (containerId: string) => readonly ViewMount[]
  /** The user of the container's configuration as its own passwd at `root` knows it, for `docker cp -a`; undefined when it names none. */
  readonly owner?: (containerId: string, root: string) => Owner | undefined
  /** The name to use in errors; the id when absent. */
  readonly nameOf?: (containerId: string) => string | undefined
}

interface RootfsRecord {
  readonly imageId: string
  readonly layers: readonly string[]
  readonly imageSize: number
}

/** One page, with its terminating zero: fs/namespace.c copy_mount_options(). */
const MAX_MOUNT_OPTIONS = 4095
const KEY = 'rootfs/'
const ID = /^[0-9A-Za-z][0-9A-Za-z_.-]*$/

export class OverlayRootfs implements RootfsService {
  readonly #options: RootfsOptions
  readonly #root: string
  readonly #init: string
  /** Containers that asked for their mount and have not given it back. */
  readonly #wanted = new Set<string>()
  /** Archive operations that hold a mount. */
  readonly #uses = new Map<string, number>()
  /** The last mount or unmount of each container: they never overlap, since two mounts must not share an upper directory. */
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(options: RootfsOptions) {
    this.#options = options
    this.#root = join(options.root, 'rootfs')
    this.#init = join(options.root, 'init', 'fs')
    mkdirSync(this.#root, { recursive: true, mode: 0o700 })
    makeInitLayer(this.#init)
  }

  async prepare(containerId: string, imageId: string): Promise<{ graph: Readonly<Record<string, string>> }> {
    if (!ID.test(containerId)) throw new NetError('invalid', `invalid container id "${containerId}"`)
    if (this.#options.store.get(KEY + containerId) === undefined) {
      const image = this.#options.image(imageId)
      const record: RootfsRecord = { imageId, layers: image.layers, imageSize: image.size }
      this.#options.store.put(KEY + containerId, record)
    }
    for (const name of ['upper', 'work', 'merged']) {
      mkdirSync(this.#path(containerId, name), { recursive: true, mode: name === 'work' ? 0o700 : 0o755 })
    }
    return { graph: this.graph(containerId) }
  }

  /** Docker's GraphDriver.Data. */
  graph(containerId: string): Readonly<Record<string, string>> {
    const record = this.#record(containerId)
    const lower = [...record.layers].reverse().map((diffId) => this.#options.layers.pathOf(diffId))
    return {
      LowerDir: [...lower, this.#init].join(':'),
      MergedDir: this.pathOf(containerId),
      UpperDir: this.#path(containerId, 'upper'),
      WorkDir: this.#path(containerId, 'work'),
    }
  }

  /** Where the merged tree is while it is mounted. */
  pathOf(containerId: string): string {
    return this.#path(containerId, 'merged')
  }

  /** Layers that a container stands on, for the layer store's collection. */
  layersInUse(): Set<string> {
    return new Set(this.#options.store.list<RootfsRecord>(KEY).flatMap(([, record]) => [...record.layers]))
  }

  async mount(containerId: string): Promise<string> {
    this.#record(containerId)
    this.#wanted.add(containerId)
    return this.#inTurn(containerId, async () => this.#mountNow(containerId))
  }

  async unmount(containerId: string): Promise<void> {
    this.#wanted.delete(containerId)
    await this.#unmountIdle(containerId)
  }

  async remove(containerId: string): Promise<void> {
    if (!ID.test(containerId)) return
    this.#wanted.delete(containerId)
    await this.#inTurn(containerId, async () => {
      await unmountAll(this.#path(containerId, 'view'))
      await unmountAll(this.pathOf(containerId))
      await deleteTree(join(this.#root, containerId))
      this.#options.store.remove(KEY + containerId)
    })
  }

  list(): readonly string[] {
    return this.#options.store.list<RootfsRecord>(KEY).map(([key]) => key.slice(KEY.length))
  }

  /**
   * After a restart of the engine: keeps the mounts of `running` containers, takes away all others, and deletes directories that
   * belong to no container.
   */
  async restore(running: ReadonlySet<string>): Promise<void> {
    const isKnown = (id: string): boolean => ID.test(id) && this.#options.store.get(KEY + id) !== undefined
    for (const id of running) if (isKnown(id)) this.#wanted.add(id)
    for (const path of listMounts(this.#root).reverse()) {
      const id = path.slice(this.#root.length + 1).split('/')[0] as string
      // one that was mounted since we started, by a restart policy for example, is not left over
      if ((!this.#wanted.has(id) || path === this.#path(id, 'view')) && !this.#uses.has(id)) await unmountAll(path)
    }
    for (const id of readdirSync(this.#root)) {
      if (!isKnown(id) && !running.has(id)) await deleteTree(join(this.#root, id))
    }
  }

  async sizeOf(containerId: string): Promise<{ rw: number; rootFs: number }> {
    const record = this.#record(containerId)
    const rw = await treeSize(this.#path(containerId, 'upper'))
    return { rw, rootFs: rw + record.imageSize }
  }

  async changes(containerId: string): Promise<RootfsChange[]> {
    const record = this.#record(containerId)
    const lower = [...record.layers].reverse().map((diffId) => this.#options.layers.pathOf(diffId))
    return listChanges(this.#path(containerId, 'upper'), [...lower, this.#init])
  }

  async export(containerId: string): Promise<Readable> {
    // the image and what was written, never what is mounted into the container: so not its live root
    return this.#stream(containerId, (root) => exportRoot(root), { live: false })
  }

  async *layer(containerId: string): AsyncGenerator<Buffer> {
    this.#record(containerId)
    const fd = openRoot(this.#path(containerId, 'upper'))
    try {
      yield* inChunks(packUpper(fd))
    } finally {
      closeFd(fd)
    }
  }

  async archiveStat(containerId: string, path: string): Promise<ArchiveStat> {
    return this.#withRoot(containerId, async (root) => statPath(root, path, this.#name(containerId)))
  }

  async archiveGet(containerId: string, path: string): Promise<Readable> {
    return this.#stream(containerId, (root) => getArchive(root, path, this.#name(containerId)))
  }

  async archivePut(
    containerId: string,
    path: string,
    tar: Readable,
    options: { readonly noOverwriteDirNonDir: boolean; readonly copyUidGid: boolean },
  ): Promise<void> {
    await this.#withRoot(containerId, (root) => {
      const owner = options.copyUidGid ? this.#options.owner?.(containerId, root) : undefined
      const put = { noOverwriteDirNonDir: options.noOverwriteDirNonDir, ...(owner === undefined ? {} : { owner }) }
      return putArchive(root, path, tar, put, this.#name(containerId))
    })
  }

  #path(containerId: string, name: string): string {
    return join(this.#root, containerId, name)
  }

  #name(containerId: string): string {
    return this.#options.nameOf?.(containerId) ?? containerId
  }

  #record(containerId: string): RootfsRecord {
    const record = ID.test(containerId) ? this.#options.store.get<RootfsRecord>(KEY + containerId) : undefined
    if (record === undefined) throw new NetError('not-found', `container ${containerId} has no root file system`, { subject: containerId })
    return record
  }

  #mountNow(containerId: string): string {
    const record = this.#record(containerId) // again: it may have been removed while we waited for our turn
    const merged = this.pathOf(containerId)
    if (isMounted(merged)) return merged
    const lower = [...record.layers].reverse().map((diffId) => this.#options.layers.linkOf(diffId))
    const options = [
      `lowerdir=${[...lower, this.#init].map((path) => escaped(path, true)).join(':')}`,
      `upperdir=${escaped(this.#path(containerId, 'upper'), false)}`,
      `workdir=${escaped(this.#path(containerId, 'work'), false)}`,
      // a plain upper directory, whatever the kernel's defaults: `docker diff` and a restart read it without the overlay
      'index=off,redirect_dir=off,metacopy=off',
    ].join(',')
    if (Buffer.byteLength(options) > MAX_MOUNT_OPTIONS) {
      throw new NetError(
        'invalid',
        `Cannot mount root file system: ${record.layers.length} layers below "${this.#options.root}" do not fit`,
      )
    }
    mount('overlay', merged, 'overlay', 0, options)
    return merged
  }

  async #viewNow(containerId: string): Promise<string> {
    const mounts = this.#options.mounts?.(containerId) ?? []
    const merged = this.#mountNow(containerId)
    if (mounts.length === 0) return merged
    const view = this.#path(containerId, 'view')
    if (!existsSync(view) || !isMounted(view)) await mountView(merged, view, mounts)
    return view
  }

  async #unmountIdle(containerId: string): Promise<void> {
    if (!ID.test(containerId)) return
    await this.#inTurn(containerId, async () => {
      if ((this.#uses.get(containerId) ?? 0) > 0) return
      const view = this.#path(containerId, 'view')
      if (existsSync(view)) {
        await unmountAll(view)
        rmdirSync(view)
      }
      if (!this.#wanted.has(containerId)) await unmountAll(this.pathOf(containerId))
    })
  }

  async #inTurn<T>(containerId: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(containerId)
    const turn = (before ?? Promise.resolve()).then(work, work)
    this.#turns.set(containerId, turn)
    try {
      return await turn
    } finally {
      if (this.#turns.get(containerId) === turn) this.#turns.delete(containerId)
    }
  }

  /** The tree to work on, mounted for as long as the returned `release` is not called. */
  async #acquire(containerId: string, live: boolean): Promise<{ root: string; release: () => Promise<void> }> {
    this.#record(containerId)
    const running = live ? this.#options.liveRoot?.(containerId) : undefined
    if (running !== undefined && existsSync(running)) return { root: running, release: async () => {} }
    this.#uses.set(containerId, (this.#uses.get(containerId) ?? 0) + 1)
    let held = true
    const release = async (): Promise<void> => {
      if (!held) return
      held = false
      const left = (this.#uses.get(containerId) ?? 1) - 1
      if (left > 0) this.#uses.set(containerId, left)
      else this.#uses.delete(containerId)
      await this.#unmountIdle(containerId)
    }
    try {
      const open = async () => (live ? this.#viewNow(containerId) : this.#mountNow(containerId))
      return { root: await this.#inTurn(containerId, open), release }
    } catch (error) {
      await release()
      throw error
    }
  }

  async #withRoot<T>(containerId: string, work: (root: string) => Promise<T>): Promise<T> {
    const { root, release } = await this.#acquire(containerId, true)
    try {
      return await work(root)
    } finally {
      await release()
    }
  }

  /** Like {@link #withRoot}, for a stream: the mount is given back when the stream has ended or was destroyed. */
  async #stream(containerId: string, open: (root: string) => Promise<Readable>, options = { live: true }): Promise<Readable> {
    const { root, release } = await this.#acquire(containerId, options.live)
    let stream: Readable
    try {
      stream = await open(root)
    } catch (error) {
      await release()
      throw error
    }
    stream.once('close', () => {
      release().catch(() => {}) // a mount that does not go now goes at the next start: restore()
    })
    return stream
  }
}

/** A directory on another device than its parent has something mounted on it. */
function isMounted(path: string): boolean {
  return lstatSync(path).dev !== lstatSync(join(path, '..')).dev
}

/** Commas and backslashes mean something in overlayfs options, colons only between lower directories. */
function escaped(path: string, isLower: boolean): string {
  return path.replace(isLower ? /[\\,:]/g : /[\\,]/g, (c) => `\\${c}`)
}

function makeInitLayer(root: string): void {
  if (existsSync(join(root, '.dockerenv'))) return
  for (const name of ['dev/pts', 'dev/shm', 'proc', 'sys', 'etc']) mkdirSync(join(root, name), { recursive: true, mode: 0o755 })
  for (const name of ['dev/console', 'etc/hosts', 'etc/hostname', 'etc/resolv.conf']) writeFileSync(join(root, name), '', { mode: 0o644 })
  rmSync(join(root, 'etc/mtab'), { force: true })
  symlinkSync('/proc/mounts', join(root, 'etc/mtab'))
  writeFileSync(join(root, '.dockerenv'), '', { mode: 0o755 }) // last: its presence says that the layer is whole
}

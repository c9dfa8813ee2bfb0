/**
 * The root file system of a container as the container service needs it: one writable layer per container over an image.
 * `rootfs.ts` implements it with overlayfs. Every method is safe to repeat.
 */
import type { Readable } from 'node:stream'

/** One line of `docker diff`: 0 changed, 1 added, 2 deleted. */
export interface RootfsChange {
  readonly Path: string
  readonly Kind: 0 | 1 | 2
}

export interface ArchiveStat {
  readonly name: string
  readonly size: number
  /** Go's os.FileMode bits, as Docker's X-Docker-Container-Path-Stat carries them. */
  readonly mode: number
  readonly mtime: string
  readonly linkTarget: string
}

export interface RootfsService {
  /** Makes the writable layer, once, at create. `graph` holds Docker's GraphDriver.Data (LowerDir, UpperDir, WorkDir, MergedDir). */
  prepare(containerId: string, imageId: string): Promise<{ graph: Readonly<Record<string, string>> }>
  /** Mounts it and returns the path of the merged tree. Idempotent: a mounted one is returned as it is. */
  mount(containerId: string): Promise<string>
  /** Idempotent; a rootfs that is not mounted or not known is fine. */
  unmount(containerId: string): Promise<void>
  /** Unmounts and deletes the writable layer. Idempotent. */
  remove(containerId: string): Promise<void>
  /** Ids of all prepared layers, so that half-made containers can be found after a crash. */
  list(): readonly string[]
  sizeOf(containerId: string): Promise<{ rw: number; rootFs: number }>
  changes(containerId: string): Promise<RootfsChange[]>
  export(containerId: string): Promise<Readable>
  /** The writable layer as the tar of an image layer, without its end mark; nothing when nothing was written. */
  layer(containerId: string): AsyncIterable<Buffer>
  archiveStat(containerId: string, path: string): Promise<ArchiveStat>
  archiveGet(containerId: string, path: string): Promise<Readable>
  archivePut(
    containerId: string,
    path: string,
    tar: Readable,
    options: { readonly noOverwriteDirNonDir: boolean; readonly copyUidGid: boolean },
  ): Promise<void>
}

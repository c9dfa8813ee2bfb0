/** Files and folders of this machine to and from tar, for `cp`. */
import {
  chmodSync,
  createReadStream,
  createWriteStream,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
} from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import tarStream from 'tar-stream'
import { fail } from './fail.ts'

const PERMISSIONS = 0o7777

/**
 * Writes the archive's tree to `target`: the first part of every name (the copied thing's own) becomes `target`.
 * Nothing is ever written outside of it, whatever the archive says. Returns the bytes of file content.
 */
export async function unpackTree(tar: Readable, target: string, options: { owner: boolean }): Promise<number> {
  let size = 0
  const folders: { path: string; mtime: Date | undefined; mode: number | undefined }[] = []
  const placeOf = (name: string): string => {
    const rest = normalize(name)
      .replace(/^\/+/, '')
      .split('/')
      .slice(1)
      .filter((part) => part !== '')
    if (rest.includes('..')) throw fail(`the archive holds a path that leaves its folder: ${name}`)
    return join(target, ...rest)
  }
  const extract = tarStream.extract()
  const work = async (): Promise<void> => {
    for await (const entry of extract) {
      const { name, type, mode, mtime, linkname, uid, gid } = entry.header
      const path = placeOf(name.startsWith('./') || name === '.' ? `_/${name}` : name)
      guard(target, path)
      if (type === 'directory') {
        mkdirSync(path, { recursive: true })
        folders.push({ path, mtime, mode })
      } else if (type === 'symlink') {
        rmSync(path, { force: true })
        symlinkSync(linkname ?? '', path)
        if (mtime !== undefined) lutimesSync(path, mtime, mtime)
      } else if (type === 'link') {
        rmSync(path, { force: true })
        const to = placeOf(linkname ?? '')
        guard(target, to)
        linkSync(to, path)
      } else if (type === 'file' || type === 'contiguous-file' || type === null || type === undefined) {
        await pipeline(entry, createWriteStream(path, { mode: (mode ?? 0o644) & PERMISSIONS }))
        chmodSync(path, (mode ?? 0o644) & PERMISSIONS)
        if (mtime !== undefined) utimesSync(path, mtime, mtime)
        size += entry.header.size ?? 0
      }
      if (options.owner && type !== 'link') lchownSync(path, uid ?? 0, gid ?? 0)
      entry.resume()
    }
  }
  await Promise.all([pipeline(tar, extract), work()])
  for (const { path, mtime, mode } of folders.reverse()) {
    if (mode !== undefined) chmodSync(path, mode & PERMISSIONS)
    if (mtime !== undefined) utimesSync(path, mtime, mtime)
  }
  return size
}

/** Refuses to write through a symbolic link that the archive itself brought. */
function guard(target: string, path: string): void {
  for (let folder = dirname(path); folder.length > target.length; folder = dirname(folder))
    if (lstatSync(folder, { throwIfNoEntry: false })?.isSymbolicLink() === true)
      throw fail(`the archive writes through a symbolic link: ${path}`)
}

/** An archive of `source`, whose own name in it is `rootName`. `size` is known when the archive was read. */
export function packTree(
  source: string,
  rootName: string,
  options: { owner: boolean; follow: boolean },
): { tar: Readable; size: () => number } {
  const pack = tarStream.pack()
  let size = 0
  const add = async (path: string, name: string, follow: boolean): Promise<void> => {
    const stat = follow ? statSync(path) : lstatSync(path)
    const owner = options.owner ? { uid: stat.uid, gid: stat.gid } : { uid: 0, gid: 0 }
    const header = { name, mode: stat.mode & PERMISSIONS, mtime: stat.mtime, ...owner }
    if (stat.isDirectory()) {
      pack.entry({ ...header, name: `${name}/`, type: 'directory' })
      for (const child of readdirSync(path)) await add(join(path, child), `${name}/${child}`, false)
    } else if (stat.isSymbolicLink()) pack.entry({ ...header, type: 'symlink', linkname: readlinkSync(path) })
    else if (stat.isFile()) {
      size += stat.size
      // Exactly the size of the header: a file that grows while it is read would break the archive.
      const body = stat.size === 0 ? undefined : createReadStream(path, { end: stat.size - 1 })
      const entry = pack.entry({ ...header, type: 'file', size: stat.size })
      if (body === undefined) entry.end(undefined)
      else await pipeline(body, entry)
    }
  }
  add(source, rootName, options.follow).then(
    () => pack.finalize(),
    (error: Error) => pack.destroy(error),
  )
  return { tar: pack as unknown as Readable, size: () => size }
}

/** What a writable overlay layer changed against the layers below it: `docker diff` and `docker ps -s`. Reads the directories, no mount. */
import { promises as fs, lstatSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { getXattr } from '../sys/rooted.ts'
import type { RootfsChange } from './rootfs-types.ts'

/** Bytes of the regular files in a tree, a file with several names counted once. A missing tree has none. */
export async function treeSize(root: string): Promise<number> {
  let bytes = 0
  const seen = new Set<string>()
  const walk = async (path: string): Promise<void> => {
    for (const entry of await readdir(path)) {
      const child = join(path, entry.name)
      if (entry.isDirectory()) await walk(child)
      else if (entry.isFile()) {
        const stats = lstatSync(child, { throwIfNoEntry: false })
        if (stats === undefined) continue
        const key = `${stats.dev}:${stats.ino}`
        if (stats.nlink > 1 && seen.has(key)) continue
        if (stats.nlink > 1) seen.add(key)
        bytes += stats.size
      }
    }
  }
  await walk(root)
  return bytes
}

async function readdir(path: string): Promise<import('node:fs').Dirent[]> {
  try {
    return await fs.readdir(path, { withFileTypes: true })
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR') return [] // the container deleted it while we walked
    throw error
  }
}

/**
 * Changes of `upper` against `lowers` (uppermost first), sorted by path. As Docker: a directory in which something was made or deleted
 * is listed as changed, one that was only copied up is not, and of a deleted directory only its top.
 */
export async function listChanges(upper: string, lowers: readonly string[]): Promise<RootfsChange[]> {
  const changes = new Map<string, RootfsChange>()
  const add = (path: string, kind: RootfsChange['Kind']): void => {
    changes.set(path, { Path: path, Kind: kind })
    const parent = path.slice(0, path.lastIndexOf('/'))
    // the time of a directory is too coarse to tell, and may be set back
    if (kind !== 0 && parent !== '' && !changes.has(parent)) changes.set(parent, { Path: parent, Kind: 0 })
  }
  /** `visible`: the lower trees that can still be seen at this path. */
  const walk = async (path: string, visible: readonly string[]): Promise<void> => {
    for (const entry of await readdir(join(upper, path))) {
      const child = `${path}/${entry.name}`
      const here = lstatSync(join(upper, child), { throwIfNoEntry: false })
      if (here === undefined) continue
      const below = findLower(visible, child)
      if (isWhiteout(here)) {
        if (below !== undefined) add(child, 2)
        continue
      }
      if (below === undefined) add(child, 1)
      else if (!(here.isDirectory() && below.isDirectory() && sameDirectory(here, below))) add(child, 0)
      if (here.isDirectory()) await walk(child, isOpaque(join(upper, child)) || below?.isDirectory() === false ? [] : visible)
    }
  }
  await walk('', lowers)
  return [...changes.values()].sort((a, b) => (a.Path < b.Path ? -1 : a.Path > b.Path ? 1 : 0))
}

function sameDirectory(a: Stats, b: Stats): boolean {
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && Math.floor(a.mtimeMs) === Math.floor(b.mtimeMs)
}

function isWhiteout(stats: Stats): boolean {
  return stats.isCharacterDevice() && stats.rdev === 0
}

function isOpaque(path: string): boolean {
  return getXattr(path, 'trusted.overlay.opaque')?.toString() === 'y'
}

/** What the lower layers show at `path`: each parent may be whited out, opaque, or not a directory in an upper one of them. */
function findLower(lowers: readonly string[], path: string): Stats | undefined {
  const parts = path.split('/').slice(1)
  for (const layer of lowers) {
    let at = layer
    let hidesRest = false
    for (const [i, part] of parts.entries()) {
      at = join(at, part)
      const stats = lstatSync(at, { throwIfNoEntry: false })
      if (stats === undefined) break
      if (isWhiteout(stats)) return undefined
      if (i === parts.length - 1) return stats
      if (!stats.isDirectory()) return undefined
      if (isOpaque(at)) hidesRest = true
    }
    if (hidesRest) return undefined
  }
  return undefined
}

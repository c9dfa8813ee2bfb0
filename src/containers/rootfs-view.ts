/**
 * The file system of a container that does not run, as its processes would see it: the root with its volumes and binds in their places,
 * for `docker cp`. A tree of mounts apart from the one that a start uses, so that neither ever finds the other's.
 */
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'
import { MS_BIND, MS_PRIVATE, MS_RDONLY, MS_REMOUNT, mount } from '../sys/libc.ts'
import { unmountAll } from '../sys/mounts.ts'
import { below, closeFd, O_DIRECTORY, O_PATH, openInRoot, openRoot, tryOpenInRoot } from '../sys/rooted.ts'

/** What of a container's mount points matters here. */
export interface ViewMount {
  readonly Type: string
  readonly Source: string
  readonly Destination: string
  readonly RW: boolean
}

/**
 * Builds it at `view` over the mounted tree `merged`. What is mounted below a bind's source is not shown. A source that is gone is left
 * out. Throws what mounting throws, with nothing left mounted; {@link unmountAll} on `view` takes all of it away.
 */
export async function mountView(merged: string, view: string, mounts: readonly ViewMount[]): Promise<void> {
  mkdirSync(view, { recursive: true, mode: 0o700 })
  bindPrivately(merged, view)
  try {
    const root = openRoot(view)
    try {
      const wanted = mounts.filter((m) => m.Type === 'volume' || m.Type === 'bind')
      for (const each of wanted.sort((a, b) => a.Destination.length - b.Destination.length)) bindInside(root, each)
    } finally {
      closeFd(root)
    }
  } catch (error) {
    await unmountAll(view)
    throw error
  }
}

/** Private, so that taking the view away never takes away something of the machine's. */
function bindPrivately(source: string, target: string): void {
  mount(source, target, '', MS_BIND)
  mount('', target, '', MS_PRIVATE)
}

function bindInside(root: number, { Source, Destination, RW }: ViewMount): void {
  const source = statSync(Source, { throwIfNoEntry: false })
  if (source === undefined) return
  const place = openPlace(root, posix.join('/', Destination), source.isDirectory())
  try {
    mount(Source, below(place), '', MS_BIND)
  } finally {
    closeFd(place)
  }
  // looked up again: the descriptor above is of what lies under the mount
  const mounted = openInRoot(root, Destination, O_PATH)
  try {
    mount('', below(mounted), '', MS_PRIVATE)
    if (!RW) mount('', below(mounted), '', MS_BIND | MS_REMOUNT | MS_RDONLY)
  } finally {
    closeFd(mounted)
  }
}

/** Opens where a mount goes, and makes it when the container has not run yet. Links lead nowhere out of the root. */
function openPlace(root: number, path: string, isDirectory: boolean): number {
  const found = tryOpenInRoot(root, path, O_PATH)
  if (found !== undefined) return found
  const parent = path === '/' ? openInRoot(root, '/', O_PATH) : openPlace(root, posix.dirname(path), true)
  closeFd(parent)
  const directory = openInRoot(root, posix.dirname(path), O_PATH | O_DIRECTORY)
  try {
    if (isDirectory) mkdirSync(below(directory, posix.basename(path)), { mode: 0o755 })
    else writeFileSync(below(directory, posix.basename(path)), '', { flag: 'wx', mode: 0o644 })
  } finally {
    closeFd(directory)
  }
  return openInRoot(root, path, O_PATH)
}

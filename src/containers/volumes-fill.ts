/**
 * The first filling of a volume with what the image has at its place. The copy is made beside the data and moved in when it is whole,
 * so that an engine killed in the middle leaves an empty volume (filled at the next start) or a full one, never a part:
 *
 *   <volume>/.copying-*   in the making; deleted at the next start of the engine
 *   <volume>/.whole-*     to be moved into _data; the next start of the engine completes that
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  promises as fs,
  lstatSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmdirSync,
  statSync,
  utimesSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { listMounts } from '../sys/mounts.ts'
import { deleteTree } from '../sys/rooted.ts'
import { copyDirectory } from './archive.ts'

const COPYING = '.copying-'
const WHOLE = '.whole-'

/**
 * Fills an empty volume with what a root file system holds at `path`, owner and mode of the directory itself included: what a new
 * volume gets when a container first mounts it. Links in `path` are followed inside `root`. A volume that has something mounted on it
 * is another file system and filled in place.
 * Returns whether anything was copied: false when the volume holds something, or the path is no directory there.
 */
export async function populateVolume(options: { readonly root: string; readonly path: string; readonly target: string }): Promise<boolean> {
  const { root, path, target } = options
  const names = (await fs.readdir(target)).filter((name) => name !== 'lost+found') // a fresh ext4 is empty too
  if (names.length > 0) return false
  if (basename(target) !== '_data' || listMounts(target).includes(target)) return copyDirectory(root, path, target)
  const copy = mkdtempSync(join(dirname(target), COPYING))
  try {
    if (!(await copyDirectory(root, path, copy))) return false
    const whole = join(dirname(target), `${WHOLE}${basename(copy).slice(COPYING.length)}`)
    renameSync(copy, whole)
    await moveIn(whole, target)
    return true
  } finally {
    if (existsSync(copy)) await deleteTree(copy)
  }
}

/** Completes or takes back what a crash interrupted, in the folder of one volume. Before anything is mounted on it. */
export async function finishFilling(volume: string): Promise<void> {
  for (const name of readdirSync(volume)) {
    if (name.startsWith(COPYING)) await deleteTree(join(volume, name))
    else if (name.startsWith(WHOLE)) await moveIn(join(volume, name), join(volume, '_data'))
  }
}

/** What is there already stays: somebody wrote it meanwhile, or it was moved before a crash. Safe to repeat. */
async function moveIn(whole: string, target: string): Promise<void> {
  for (const name of readdirSync(whole))
    if (lstatSync(join(target, name), { throwIfNoEntry: false }) === undefined) renameSync(join(whole, name), join(target, name))
  const { uid, gid, mode, atime, mtime } = statSync(whole)
  chownSync(target, uid, gid)
  chmodSync(target, mode & 0o7777)
  utimesSync(target, atime, mtime)
  if (readdirSync(whole).length === 0) rmdirSync(whole)
  else await deleteTree(whole) // what lost against the volume's own
}

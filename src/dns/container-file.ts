/**
 * Files that are bind-mounted into a container: changed in place (a rename would leave the container with the old one), and never
 * against the user. A hash file beside resolv.conf tells whether the text is still what was written last.
 */
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'

/** What the hash file holds for `text`. */
function hashOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`
}

/** True when the file's text is not the one that its hash was taken of. Without a hash (never written) nothing was edited. */
function isEdited(text: string | undefined, hash: string | undefined): boolean {
  return text !== undefined && hash !== undefined && hash.trim() !== hashOf(text)
}

export function hashPathOf(path: string): string {
  return `${path}.hash`
}

/** Writes `text` and its hash, unless a user has edited the file since the last time. Returns whether it was written. */
export function writeUnlessEdited(path: string, text: string): boolean {
  const present = readOptional(path)
  if (isEdited(present, readOptional(hashPathOf(path)))) return false
  if (present !== text) writeInPlace(path, text)
  writeInPlace(hashPathOf(path), hashOf(text))
  return true
}

/** Applies `change` to a file that a container may be reading; nothing is written when nothing changes. */
export function changeInPlace(path: string, change: (text: string) => string): void {
  let fd: number
  try {
    fd = openSync(path, 'r+')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    const made = change('')
    if (made !== '') writeInPlace(path, made)
    return
  }
  try {
    const bytes = readFileSync(fd)
    const text = bytes.toString()
    const changed = change(text)
    if (changed !== text) overwrite(fd, Buffer.from(changed), bytes.length)
  } finally {
    closeSync(fd)
  }
}

/** Same inode before and after, never empty in between; made with mode 0644 when missing. */
export function writeInPlace(path: string, text: string): void {
  const bytes = Buffer.from(text)
  let fd: number
  try {
    fd = openSync(path, 'r+')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    writeFileSync(path, bytes, { mode: 0o644 })
    return
  }
  try {
    overwrite(fd, bytes, fstatSync(fd).size)
  } finally {
    closeSync(fd)
  }
}

/** `before` is the file's length. */
function overwrite(fd: number, bytes: Buffer, before: number): void {
  writeSync(fd, bytes, 0, bytes.length, 0)
  if (bytes.length < before) ftruncateSync(fd, bytes.length)
}

function readOptional(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

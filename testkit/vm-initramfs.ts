/** The first file system of a virtual machine: a cpio archive ("newc") with busybox, kernel modules and a script, made in memory. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface ArchiveEntry {
  readonly path: string
  /** Absent: a folder. */
  readonly content?: Uint8Array | string
}

const FOLDER = 0o040755
const PROGRAM = 0o100755

/** Writes a cpio archive as Linux unpacks it at boot. Source: Documentation/driver-api/early-userspace/buffer-format.rst */
export function cpioArchive(entries: readonly ArchiveEntry[]): Buffer {
  const parts: Buffer[] = []
  let inode = 1
  const write = (path: string, mode: number, content: Buffer) => {
    const name = Buffer.from(`${path}\0`)
    // inode, mode, uid, gid, links, mtime, size, device and its node (four numbers), length of the name, checksum
    const numbers = [inode++, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0]
    const header = Buffer.from(`070701${numbers.map((n) => n.toString(16).padStart(8, '0')).join('')}`)
    parts.push(padded(Buffer.concat([header, name])), padded(content))
  }
  for (const { path, content } of entries)
    write(path, content === undefined ? FOLDER : PROGRAM, Buffer.from(content === undefined ? '' : content))
  write('TRAILER!!!', 0, Buffer.alloc(0))
  return Buffer.concat(parts)
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % 4
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - rest)])
}

/**
 * Files of the named kernel modules and of everything they need, in the order in which insmod takes them. `folder` is lib/modules/<version>
 * of the kernel. A module that is built in needs no file. Throws when the kernel has none of that name.
 */
export function moduleFiles(folder: string, names: readonly string[]): string[] {
  const needs = new Map<string, string[]>()
  for (const line of readFileSync(join(folder, 'modules.dep'), 'utf8').split('\n')) {
    const [file, rest] = line.split(':')
    if (file !== undefined && rest !== undefined) needs.set(file, rest.trim().split(' ').filter(Boolean))
  }
  const builtIn = existsSync(join(folder, 'modules.builtin')) ? readFileSync(join(folder, 'modules.builtin'), 'utf8').split('\n') : []
  const nameOf = (file: string) => (file.split('/').at(-1) ?? '').replace(/\.ko$/, '').replaceAll('-', '_')
  const byName = new Map([...needs.keys()].map((file) => [nameOf(file), file]))
  const ordered = new Set<string>()
  const add = (file: string) => {
    if (ordered.has(file)) return
    for (const needed of needs.get(file) ?? []) add(needed)
    ordered.add(file)
  }
  for (const name of names) {
    const plain = name.replaceAll('-', '_')
    const file = byName.get(plain)
    if (file !== undefined) add(file)
    else if (!builtIn.some((path) => nameOf(path) === plain)) throw new Error(`the kernel in ${folder} has no module "${name}"`)
  }
  return [...ordered]
}

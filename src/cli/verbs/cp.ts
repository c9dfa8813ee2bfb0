/** `cp`: Docker's rules for what a path ending means, on either side. */
import { statSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ArchiveStat } from '../../client/containers.ts'
import { statusOf } from '../../client/transport.ts'
import { defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { fail } from '../fail.ts'
import { humanSize } from '../format/human.ts'
import { flag } from '../options.ts'
import { packTree, unpackTree } from '../tar-tree.ts'

interface Place {
  /** Undefined = this machine. */
  readonly container: string | undefined
  readonly path: string
}

interface CopyOptions {
  readonly archive: boolean
  readonly 'follow-link': boolean
  readonly quiet: boolean
}

/** Go's os.ModeDir and os.ModeSymlink in the stat header. */
const MODE_DIR = 2 ** 31
const MODE_LINK = 2 ** 27

export const cp = defineCommand({
  path: 'cp',
  aliases: ['container cp'],
  summary: 'Copy files between a container and this machine',
  usage: '[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n        causeway cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH',
  notes: "'-' is a tar archive on standard input or output. A source ending in '/.' means what is in the folder.",
  args: [2, 2],
  options: {
    archive: flag('a', 'Keep user and group'),
    'follow-link': flag('L', 'Copy what a symbolic link as source points to'),
    quiet: flag('q', 'Print nothing'),
  },
  examples: [
    { line: 'causeway cp web:/etc/hosts .' },
    { line: 'causeway cp site/. web:/www' },
    { line: 'causeway cp web:/var/log - | tar tv' },
  ],
  run: async (context, [from = '', to = ''], options) => {
    const source = parsePlace(from)
    const target = parsePlace(to)
    if (source.path === '' || target.path === '')
      throw fail(source.path === '' ? 'source can not be empty' : 'destination can not be empty')
    if (source.container !== undefined && target.container !== undefined) throw fail('copying between containers is not supported')
    if (source.container === undefined && target.container === undefined) throw fail('must specify at least one container source')
    const size =
      source.container === undefined
        ? await toContainer(context, source.path, target, options)
        : await fromContainer(context, source, target.path, options)
    if (size !== undefined && !options.quiet && context.stdout.isTTY === true) {
      const shown = target.container === undefined ? resolve(target.path) : to
      context.warn(`Successfully copied ${humanSize(size, 3)} to ${shown}`)
    }
    return 0
  },
})

/** `name:path`; an absolute path or one that begins with a dot is never a container's. */
export function parsePlace(text: string): Place {
  const colon = text.indexOf(':')
  if (text.startsWith('/') || text.startsWith('.') || colon < 0) return { container: undefined, path: text }
  return { container: text.slice(0, colon), path: text.slice(colon + 1) }
}

const endsAsFolder = (path: string): boolean => path.endsWith('/') || /(^|\/)\.$/.test(path)
const meansContent = (path: string): boolean => /(^|\/)\.$/.test(path)

async function fromContainer(context: Context, source: Place, target: string, options: CopyOptions): Promise<number | undefined> {
  const { containers } = context.client
  const name = source.container as string
  let path = absolute(source.path)
  if (options['follow-link']) {
    const stat = await containers.archiveStat(name, path)
    if (isLink(stat)) path = resolve(dirname(path), stat.linkTarget)
  }
  const { tar, stat } = await containers.archiveGet(name, path)
  if (target === '-') {
    await pipeline(tar, context.stdout, { end: false })
    return undefined
  }
  const isFolder = isDirectory(stat)
  const existing = statSync(target, { throwIfNoEntry: false })
  if (existing === undefined && !isFolder && endsAsFolder(target))
    throw destroyed(tar, `open ${resolve(target)}: no such file or directory`)
  if (existing !== undefined && !existing.isDirectory() && isFolder) throw destroyed(tar, 'cannot copy directory')
  if (existing === undefined && statSync(dirname(resolve(target)), { throwIfNoEntry: false })?.isDirectory() !== true)
    throw destroyed(tar, `invalid output path: directory "${dirname(resolve(target))}" does not exist`)
  const into = existing?.isDirectory() === true && !meansContent(path) ? resolve(target, baseOf(path, stat)) : resolve(target)
  return unpackTree(tar, into, { owner: options.archive })
}

async function toContainer(context: Context, source: string, target: Place, options: CopyOptions): Promise<number | undefined> {
  const { containers } = context.client
  const name = target.container as string
  let path = absolute(target.path)
  const existing = await statOrNothing(context, name, path)
  if (existing !== undefined && isLink(existing)) path = resolve(dirname(path), existing.linkTarget)
  const final = existing !== undefined && isLink(existing) ? await statOrNothing(context, name, path) : existing
  const copyUidGid = options.archive
  if (source === '-') {
    if (final === undefined || !isDirectory(final)) throw fail(`destination "${name}:${target.path}" must be a directory`)
    await containers.archivePut(name, path, context.stdin, { copyUidGid })
    return undefined
  }
  const local = statSync(source, { throwIfNoEntry: false })
  if (local === undefined) throw fail(`lstat ${resolve(source)}: no such file or directory`)
  if (final === undefined && !local.isDirectory() && endsAsFolder(target.path)) throw fail(`no such directory`)
  if (final !== undefined && !isDirectory(final) && local.isDirectory()) throw fail('cannot copy directory')
  const intoFolder = final !== undefined && isDirectory(final)
  const folder = intoFolder ? path : dirname(path.replace(/\/+$/, ''))
  const rootName = !intoFolder ? basename(path) : meansContent(source) ? '.' : basename(resolve(source))
  const { tar, size } = packTree(resolve(source), rootName, { owner: options.archive, follow: options['follow-link'] })
  await containers.archivePut(name, folder, tar, { copyUidGid })
  return size()
}

async function statOrNothing(context: Context, name: string, path: string): Promise<ArchiveStat | undefined> {
  try {
    return await context.client.containers.archiveStat(name, path)
  } catch (error) {
    if (statusOf(error) !== 404) throw error
    await context.client.containers.inspect(name) // a HEAD has no text: let the missing container say so
    return undefined
  }
}

/** Paths are from the root of the container; `/.` at the end stays. */
function absolute(path: string): string {
  const whole = resolve('/', path)
  if (meansContent(path)) return whole === '/' ? '/.' : `${whole}/.`
  return path.endsWith('/') && whole !== '/' ? `${whole}/` : whole
}

function baseOf(path: string, stat: ArchiveStat): string {
  return basename(path) || stat.name
}
function isDirectory(stat: ArchiveStat): boolean {
  return stat.mode >= MODE_DIR
}
function isLink(stat: ArchiveStat): boolean {
  return Math.trunc(stat.mode / MODE_LINK) % 2 === 1
}
function destroyed(stream: Readable, message: string): Error {
  stream.destroy()
  return fail(message)
}

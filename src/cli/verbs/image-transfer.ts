/** `pull`, `push`, `load`, `save`, `import`. */
import { createReadStream, createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { defineCommand } from '../command.ts'
import type { Context, Output } from '../context.ts'
import { fail } from '../fail.ts'
import { fullImageName, splitImageName } from '../image-name.ts'
import { flag, list, text } from '../options.ts'
import { showProgress } from '../progress.ts'
import { registryAuth } from '../registry-auth.ts'

/** Pulls with progress on `out`; `quiet` shows nothing. */
export async function pullImage(
  context: Context,
  image: string,
  options: { quiet: boolean; platform?: string | undefined; out: Output; allTags?: boolean },
): Promise<void> {
  const { repository, tag } = splitImageName(image)
  const auth = registryAuth(repository, context.env)
  const lines = context.client.images.pull(repository, options.allTags === true ? '' : tag || 'latest', {
    auth,
    platform: options.platform,
  })
  await showProgress(lines, options.quiet ? undefined : options.out)
}

export const pull = defineCommand({
  path: 'pull',
  aliases: ['image pull'],
  summary: 'Download an image from a registry',
  usage: '[OPTIONS] NAME[:TAG|@DIGEST]',
  args: [1, 1],
  options: {
    'all-tags': flag('a', 'Download all tags'),
    'disable-content-trust': flag('', 'Accepted; images are not signed here', { hidden: true }),
    platform: text('', 'Platform of the image (os/arch)'),
    quiet: flag('q', 'Print only the name at the end'),
  },
  examples: [{ line: 'causeway pull alpine:3.20' }, { line: 'causeway pull registry.example.com:5000/team/app' }],
  run: async (context, [image = ''], options) => {
    const { tag } = splitImageName(image)
    if (options['all-tags'] && tag !== '') throw fail("tag can't be used with --all-tags/-a")
    if (tag === '' && !options['all-tags'] && !options.quiet) context.print('Using default tag: latest')
    await pullImage(context, image, { quiet: options.quiet, platform: options.platform, out: context.stdout, allTags: options['all-tags'] })
    context.print(fullImageName(image))
    return 0
  },
})

export const push = defineCommand({
  path: 'push',
  aliases: ['image push'],
  summary: 'Upload an image to a registry',
  usage: '[OPTIONS] NAME[:TAG]',
  args: [1, 1],
  options: {
    'all-tags': flag('a', 'Push all tags of the repository'),
    'disable-content-trust': flag('', 'Accepted; images are not signed here', { hidden: true }),
    quiet: flag('q', 'Print only the name at the end'),
  },
  examples: [{ line: 'causeway push registry.example.com:5000/team/app:1.2' }],
  run: async (context, [image = ''], options) => {
    const { repository, tag } = splitImageName(image)
    if (options['all-tags'] && tag !== '') throw fail("tag can't be used with --all-tags/-a")
    const shown = fullImageName(image)
    if (tag === '' && !options['all-tags'] && !options.quiet) context.print('Using default tag: latest')
    if (!options.quiet) context.print(`The push refers to repository [${splitImageName(shown).repository}]`)
    const lines = context.client.images.push(repository, options['all-tags'] ? '' : tag || 'latest', {
      auth: registryAuth(repository, context.env),
    })
    await showProgress(lines, options.quiet ? undefined : context.stdout)
    if (options.quiet) context.print(shown)
    return 0
  },
})

export const load = defineCommand({
  path: 'load',
  aliases: ['image load'],
  summary: 'Load images from a tar archive or standard input',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { input: text('i', 'Read from this file instead of standard input'), quiet: flag('q', 'No progress') },
  examples: [{ line: 'causeway load -i app.tar' }, { line: 'gzip -dc app.tar.gz | causeway load' }],
  run: async (context, _args, options) => {
    if (options.input === undefined && context.stdin.isTTY === true) throw fail('requested load from stdin, but stdin is empty')
    const tar = options.input === undefined ? context.stdin : await openFile(options.input)
    await showProgress(context.client.images.load(tar, options.quiet || context.stdout.isTTY !== true), context.stdout)
    return 0
  },
})

export const importImage = defineCommand({
  path: 'import',
  aliases: ['image import'],
  summary: 'Create an image from a tar archive of a file system',
  usage: '[OPTIONS] file|URL|- [REPOSITORY[:TAG]]',
  args: [1, 2],
  options: {
    change: list('c', 'Apply a Dockerfile instruction to the image'),
    message: text('m', 'Message of the commit'),
    platform: text('', 'Platform of the image'),
  },
  examples: [{ line: 'tar -C root -c . | causeway import -c \'CMD ["sh"]\' - tiny:1' }],
  run: async (context, [source = '', name = ''], options) => {
    const { repository, tag } = splitImageName(name)
    const isUrl = /^https?:\/\//.test(source)
    const tar = source === '-' || isUrl ? context.stdin : await openFile(source)
    const lines = context.client.images.import(tar, {
      source: isUrl ? source : '-',
      changes: options.change,
      ...(name === '' ? {} : { repo: repository, tag }),
      ...(options.message === undefined ? {} : { message: options.message }),
      platform: options.platform,
    })
    await showProgress(lines, context.stdout)
    return 0
  },
})

export const save = defineCommand({
  path: 'save',
  aliases: ['image save'],
  summary: 'Write images as a tar archive',
  usage: '[OPTIONS] IMAGE [IMAGE...]',
  args: [1, Number.POSITIVE_INFINITY],
  options: { output: text('o', 'Write to this file instead of standard output') },
  examples: [{ line: 'causeway save -o app.tar app:1.2' }, { line: 'causeway save app:1.2 | ssh host2 causeway load' }],
  run: async (context, names, options) => {
    if (options.output === undefined && context.stdout.isTTY === true)
      throw fail('cowardly refusing to save to a terminal. Use the -o flag or redirect')
    await writeOutput(context, await context.client.images.save(names), options.output)
    return 0
  },
})

/** To standard output, or to a file that appears whole or not at all. */
export async function writeOutput(context: Context, source: Readable, path: string | undefined): Promise<void> {
  if (path === undefined) {
    await pipeline(source, context.stdout, { end: false })
    return
  }
  const part = `${path}.part`
  try {
    await pipeline(source, createWriteStream(part))
    await rename(part, path)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}

async function openFile(path: string): Promise<Readable> {
  const stream = createReadStream(path)
  await new Promise<void>((resolve, reject) => {
    stream.once('open', () => resolve())
    stream.once('error', (cause: NodeJS.ErrnoException) =>
      reject(fail(cause.code === 'ENOENT' ? `open ${path}: no such file or directory` : `open ${path}: ${cause.message}`)),
    )
  })
  return stream
}

/** `images` and `history`. */
import type { ImageSummaryJson } from '../../client/types.ts'
import { defineCommand } from '../command.ts'
import { ago, ellipsis, goTime, humanSize, truncateId } from '../format/human.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { splitImageName } from '../image-name.ts'
import { filter, flag, flagOn, formatOption } from '../options.ts'

const NONE = '<none>'

const FORMAT: ListFormat = {
  headers: {
    ID: 'IMAGE ID',
    Repository: 'REPOSITORY',
    Tag: 'TAG',
    Digest: 'DIGEST',
    CreatedSince: 'CREATED',
    CreatedAt: 'CREATED AT',
    Size: 'SIZE',
    Containers: 'CONTAINERS',
    VirtualSize: 'SIZE',
    SharedSize: 'SHARED SIZE',
    UniqueSize: 'UNIQUE SIZE',
  },
  table: '{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}',
  quiet: 'ID',
}

export const images = defineCommand({
  path: 'images',
  aliases: ['image ls', 'image list'],
  summary: 'List images',
  usage: '[OPTIONS] [REPOSITORY[:TAG]]',
  args: [0, 1],
  options: {
    all: flag('a', 'Show intermediate images too'),
    digests: flag('', 'Show digests'),
    filter: filter(),
    format: formatOption(),
    'no-trunc': flag('', 'Show full IDs'),
    quiet: flag('q', 'Show only IDs'),
  },
  examples: [{ line: 'causeway images' }, { line: 'causeway images --filter dangling=true -q' }],
  run: async (context, [reference], options) => {
    const filters = reference === undefined ? options.filter : { ...options.filter, reference: [reference] }
    const found = await context.client.images.list({ all: options.all, filters })
    const rows = found.flatMap((image) =>
      rowsOf(image, !options['no-trunc'], options.digests || /\{\{[^}]*\.Digest\b/.test(options.format ?? ''), context.clock.now()),
    )
    const table = options.digests ? '{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}' : FORMAT.table
    context.stdout.write(renderList({ ...FORMAT, table }, rows, options.format, options.quiet))
    return 0
  },
})

/** One row for each name of an image. */
function rowsOf(image: ImageSummaryJson, truncate: boolean, digests: boolean, nowMs: number): Row[] {
  const tags = (image.RepoTags ?? []).filter((name) => name !== `${NONE}:${NONE}`).map(splitImageName)
  const digestOf = new Map(
    (image.RepoDigests ?? [])
      .filter((name) => !name.startsWith(NONE))
      .map((name) => [splitImageName(name).repository, splitImageName(name).tag] as const),
  )
  const named = tags.map(({ repository, tag }) => ({ repository, tag, digest: digestOf.get(repository) ?? NONE }))
  if (named.length === 0)
    named.push(
      ...(digestOf.size === 0
        ? [{ repository: NONE, tag: NONE, digest: NONE }]
        : [...digestOf].map(([repository, digest]) => ({ repository, tag: NONE, digest }))),
    )
  return named.map(({ repository, tag, digest }) => imageRow(image, repository, tag, digests ? digest : NONE, truncate, nowMs))
}

export function imageRow(image: ImageSummaryJson, repository: string, tag: string, digest: string, truncate: boolean, nowMs: number): Row {
  const count = (n: number | undefined, text: (n: number) => string) => (n === undefined || n < 0 ? 'N/A' : text(n))
  return {
    ID: truncate ? truncateId(image.Id) : image.Id,
    Repository: repository,
    Tag: tag,
    Digest: digest,
    CreatedSince: ago(image.Created * 1000, nowMs),
    CreatedAt: goTime(image.Created * 1000),
    Size: humanSize(image.Size, 3),
    Containers: count(image.Containers, String),
    VirtualSize: humanSize(image.Size),
    SharedSize: count(image.SharedSize, (n) => humanSize(n)),
    UniqueSize: image.SharedSize === undefined || image.SharedSize < 0 ? 'N/A' : humanSize(image.Size - image.SharedSize),
  }
}

const HISTORY: ListFormat = {
  headers: { ID: 'IMAGE', CreatedSince: 'CREATED', CreatedAt: 'CREATED AT', CreatedBy: 'CREATED BY', Size: 'SIZE', Comment: 'COMMENT' },
  table: '{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}',
  quiet: 'ID',
}
const CREATED_BY_WIDTH = 45

export const history = defineCommand({
  path: 'history',
  aliases: ['image history'],
  summary: 'Show the history of an image',
  usage: '[OPTIONS] IMAGE',
  args: [1, 1],
  options: {
    format: formatOption(),
    human: flagOn('H', 'Sizes and times for people'),
    'no-trunc': flag('', 'Show everything in full'),
    quiet: flag('q', 'Show only IDs'),
  },
  examples: [{ line: 'causeway history busybox' }],
  run: async (context, [name = ''], options) => {
    const truncate = !options['no-trunc']
    const entries = await context.client.images.history(name)
    const rows = entries.map((entry): Row => {
      const by = entry.CreatedBy.replaceAll('\t', ' ')
      const at = new Date(entry.Created * 1000).toISOString().replace('.000Z', 'Z')
      return {
        ID: truncate ? truncateId(entry.Id) : entry.Id,
        CreatedSince: options.human ? (entry.Created <= 0 ? 'N/A' : ago(entry.Created * 1000, context.clock.now())) : at,
        CreatedAt: at,
        CreatedBy: truncate ? ellipsis(by, CREATED_BY_WIDTH) : by,
        Size: options.human ? humanSize(entry.Size, 3) : String(entry.Size),
        Comment: entry.Comment,
      }
    })
    context.stdout.write(renderList(HISTORY, rows, options.format, options.quiet))
    return 0
  },
})

/** `system df`. */
import type { ContainerSummary, DiskUsage, ImageSummaryJson } from '../../client/types.ts'
import { defineCommand } from '../command.ts'
import { humanSize } from '../format/human.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { formatTable } from '../format/tabwriter.ts'
import { splitImageName } from '../image-name.ts'
import { flag, formatOption } from '../options.ts'
import { imageRow } from './image-ls.ts'
import { rowOf } from './ps.ts'

const FORMAT: ListFormat = {
  headers: { Type: 'TYPE', TotalCount: 'TOTAL', Active: 'ACTIVE', Size: 'SIZE', Reclaimable: 'RECLAIMABLE' },
  table: '{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}',
  quiet: 'Type',
}

export const df = defineCommand({
  path: 'system df',
  summary: 'Show disk usage',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: formatOption(), verbose: flag('v', 'Show each thing') },
  examples: [{ line: 'causeway system df -v' }],
  run: async (context, _args, options) => {
    const usage = await context.client.system.diskUsage()
    const text = options.verbose
      ? details(usage, context.clock.now())
      : renderList(FORMAT, [images(usage), containers(usage), volumes(usage), cache(usage)], options.format, false)
    context.stdout.write(text)
    return 0
  },
})

function share(part: number, whole: number): string {
  return whole > 0 ? `${humanSize(part)} (${Math.trunc((part * 100) / whole)}%)` : humanSize(part)
}

function images(usage: DiskUsage): Row {
  const all = usage.Images ?? []
  const total = usage.LayersSize ?? all.reduce((sum, i) => sum + i.Size, 0)
  const used = all
    .filter((i) => i.Containers > 0)
    .reduce((sum, i) => sum + (i.Size < 0 || (i.SharedSize ?? -1) < 0 ? 0 : i.Size - (i.SharedSize ?? 0)), 0)
  const active = all.filter((i) => i.Containers > 0).length
  return {
    Type: 'Images',
    TotalCount: String(all.length),
    Active: String(active),
    Size: humanSize(total),
    Reclaimable: share(total - used, total),
  }
}

const isActive = (c: ContainerSummary): boolean => ['running', 'paused', 'restarting'].some((word) => c.State.includes(word))

function containers(usage: DiskUsage): Row {
  const all = usage.Containers ?? []
  const size = (list: readonly ContainerSummary[]) => list.reduce((sum, c) => sum + (c.SizeRw ?? 0), 0)
  const total = size(all)
  const free = size(all.filter((c) => !isActive(c)))
  return {
    Type: 'Containers',
    TotalCount: String(all.length),
    Active: String(all.filter(isActive).length),
    Size: humanSize(total),
    Reclaimable: share(free, total),
  }
}

function volumes(usage: DiskUsage): Row {
  const all = usage.Volumes ?? []
  const size = (list: typeof all) => list.reduce((sum, v) => sum + Math.max(0, v.UsageData?.Size ?? 0), 0)
  const active = all.filter((v) => (v.UsageData?.RefCount ?? 0) > 0)
  return {
    Type: 'Local Volumes',
    TotalCount: String(all.length),
    Active: String(active.length),
    Size: humanSize(size(all)),
    Reclaimable: share(size(all) - size(active), size(all)),
  }
}

function cache(usage: DiskUsage): Row {
  const all = usage.BuildCache ?? []
  const total = all.reduce((sum, b) => sum + b.Size, 0)
  const free = all.filter((b) => !b.InUse && !b.Shared).reduce((sum, b) => sum + b.Size, 0)
  return {
    Type: 'Build Cache',
    TotalCount: String(all.length),
    Active: String(all.filter((b) => b.InUse).length),
    Size: humanSize(total),
    Reclaimable: humanSize(free),
  }
}

function details(usage: DiskUsage, nowMs: number): string {
  const imageRows = (usage.Images ?? []).flatMap((image: ImageSummaryJson) =>
    (image.RepoTags?.length ? image.RepoTags : ['<none>:<none>']).map((name) => {
      const { repository, tag } = splitImageName(name)
      const row = imageRow(image, repository, tag, '<none>', true, nowMs)
      return [
        row['Repository'],
        row['Tag'],
        row['ID'],
        row['CreatedSince'],
        row['Size'],
        row['SharedSize'],
        row['UniqueSize'],
        row['Containers'],
      ].map(String)
    }),
  )
  const containerRows = (usage.Containers ?? []).map((c) => {
    const row = rowOf(c, true, nowMs)
    return [
      row['ID'],
      row['Image'],
      row['Command'],
      row['LocalVolumes'],
      humanSize(c.SizeRw ?? 0, 3),
      row['RunningFor'],
      row['Status'],
      row['Names'],
    ].map(String)
  })
  const volumeRows = (usage.Volumes ?? []).map((v) => [
    v.Name,
    String(v.UsageData?.RefCount ?? 0),
    humanSize(Math.max(0, v.UsageData?.Size ?? 0)),
  ])
  return [
    'Images space usage:\n',
    formatTable(['REPOSITORY', 'TAG', 'IMAGE ID', 'CREATED', 'SIZE', 'SHARED SIZE', 'UNIQUE SIZE', 'CONTAINERS'], imageRows),
    '\nContainers space usage:\n',
    formatTable(['CONTAINER ID', 'IMAGE', 'COMMAND', 'LOCAL VOLUMES', 'SIZE', 'CREATED', 'STATUS', 'NAMES'], containerRows),
    '\nLocal Volumes space usage:\n',
    `${formatTable(['VOLUME NAME', 'LINKS', 'SIZE'], volumeRows)}\n`,
  ].join('\n')
}

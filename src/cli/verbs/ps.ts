/** `ps`. */
import type { ContainerSummary } from '../../client/types.ts'
import { defineCommand } from '../command.ts'
import { ago, ellipsis, goTime, humanSize, truncateId } from '../format/human.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { filter, flag, formatOption, integer } from '../options.ts'
import { displayPorts } from '../ports-text.ts'

const NAME_WIDTH = 12
const COMMAND_WIDTH = 20

const FORMAT: ListFormat = {
  headers: {
    ID: 'CONTAINER ID',
    Image: 'IMAGE',
    Command: 'COMMAND',
    CreatedAt: 'CREATED AT',
    RunningFor: 'CREATED',
    Status: 'STATUS',
    State: 'STATE',
    Ports: 'PORTS',
    Names: 'NAMES',
    Size: 'SIZE',
    Labels: 'LABELS',
    Mounts: 'MOUNTS',
    LocalVolumes: 'LOCAL VOLUMES',
    Networks: 'NETWORKS',
    Platform: 'PLATFORM',
  },
  table: '{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}',
  quiet: 'ID',
  raw: 'container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n',
}

export const ps = defineCommand({
  path: 'ps',
  aliases: ['container ls', 'container list', 'container ps'],
  summary: 'List containers',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: {
    all: flag('a', 'Show all, not only running'),
    filter: filter(),
    format: formatOption(),
    last: integer('n', 'Show the n last created, in any state'),
    latest: flag('l', 'Show the last created, in any state'),
    'no-trunc': flag('', 'Show full IDs and commands'),
    quiet: flag('q', 'Show only IDs'),
    size: flag('s', 'Show sizes'),
  },
  examples: [
    { line: 'causeway ps -a' },
    { line: 'causeway ps --filter network=front --filter status=running' },
    { line: "causeway ps --format 'table {{.Names}}\\t{{.Networks}}\\t{{.Ports}}'" },
  ],
  run: async (context, _args, options) => {
    const format = options.format
    const size = options.size || /\{\{[^}]*(\.Size\b|json\s+\.\s*[}|])/.test(format ?? '')
    const last = options.latest ? 1 : options.last
    const containers = await context.client.containers.list({
      all: options.all,
      size,
      filters: options.filter,
      ...(last === undefined || last < 0 ? {} : { limit: last }),
    })
    const rows = containers.map((c) => rowOf(c, !options['no-trunc'], context.clock.now()))
    const shape = options.size ? { ...FORMAT, table: `${FORMAT.table}\t{{.Size}}`, raw: `${FORMAT.raw}size: {{.Size}}\n` } : FORMAT
    context.stdout.write(renderList(shape, rows, format, options.quiet))
    return 0
  },
})

/** One container as columns; shared with `system df -v`. */
export function rowOf(c: ContainerSummary, truncate: boolean, nowMs: number): Row {
  const own = c.Names.map((name) => name.replace(/^\//, '')).filter((name) => !name.includes('/'))
  const names = truncate ? own : c.Names.map((name) => name.replace(/^\//, ''))
  const labels = c.Labels ?? {}
  const mounts = (c.Mounts ?? []).map((m) => (m.Name !== undefined && m.Name !== '' ? m.Name : (m.Source ?? '')))
  const command = truncate ? ellipsis(c.Command, COMMAND_WIDTH) : c.Command
  const virtual = c.SizeRootFs !== undefined && c.SizeRootFs > 0 ? ` (virtual ${humanSize(c.SizeRootFs, 3)})` : ''
  const platform = c.ImageManifestDescriptor?.platform
  return {
    ID: truncate ? truncateId(c.Id) : c.Id,
    Names: names.join(','),
    Image: imageText(c, truncate),
    Command: JSON.stringify(command),
    CreatedAt: goTime(c.Created * 1000),
    RunningFor: ago(c.Created * 1000, nowMs),
    Ports: displayPorts(c.Ports ?? []),
    State: c.State,
    Status: c.Status,
    Size: `${humanSize(c.SizeRw ?? 0, 3)}${virtual}`,
    Labels: Object.entries(labels)
      .map(([k, v]) => `${k}=${v}`)
      .join(','),
    Label: (name: unknown) => labels[String(name)] ?? '',
    Mounts: (truncate ? mounts.map((m) => ellipsis(m, NAME_WIDTH + 3)) : mounts).join(','),
    LocalVolumes: String((c.Mounts ?? []).filter((m) => m.Type === 'volume').length),
    Networks: Object.keys(c.NetworkSettings?.Networks ?? {}).join(','),
    Platform: platform == null ? null : `${platform.os ?? ''}/${platform.architecture ?? ''}`,
  }
}

function imageText(c: ContainerSummary, truncate: boolean): string {
  if (c.Image === '') return '<no image>'
  if (!truncate) return c.Image
  // An image that lost its name is shown by its id: cut that, but never a name that happens to look like one.
  if (truncateId(c.ImageID) === truncateId(c.Image)) return truncateId(c.ImageID)
  const at = c.Image.indexOf('@')
  return at < 0 ? c.Image : c.Image.slice(0, at)
}

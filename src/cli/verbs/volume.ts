/** `volume create`, `ls`, `rm`. */
import { statusOf } from '../../client/transport.ts'
import { checkLabel, pairsToRecord } from '../args/environment.ts'
import { defineCommand } from '../command.ts'
import { each } from '../each.ts'
import { fail } from '../fail.ts'
import { humanSize, naturalCompare } from '../format/human.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { filter, flag, formatOption, list, map, text } from '../options.ts'

export const create = defineCommand({
  path: 'volume create',
  summary: 'Create a volume',
  usage: '[OPTIONS] [VOLUME]',
  args: [0, 1],
  options: {
    driver: text('d', 'Driver of the volume (default "local")'),
    label: list('', 'Set a label', checkLabel),
    name: text('', 'Name of the volume', { hidden: true }),
    opt: map('o', 'Option of the driver'),
  },
  examples: [{ line: 'causeway volume create data' }],
  run: async (context, [name], options) => {
    if (name !== undefined && options.name !== undefined)
      throw fail('conflicting options: cannot specify a volume-name through both --name and as a positional arg')
    const volume = await context.client.volumes.create({
      Name: name ?? options.name ?? '',
      Driver: options.driver ?? 'local',
      DriverOpts: { ...options.opt },
      Labels: pairsToRecord(options.label),
    })
    context.print(volume.Name)
    return 0
  },
})

const FORMAT: ListFormat = {
  headers: {
    Name: 'VOLUME NAME',
    Driver: 'DRIVER',
    Scope: 'SCOPE',
    Mountpoint: 'MOUNTPOINT',
    Labels: 'LABELS',
    Links: 'LINKS',
    Size: 'SIZE',
    Availability: 'AVAILABILITY',
    Group: 'GROUP',
    Status: 'STATUS',
  },
  table: '{{.Driver}}\t{{.Name}}',
  quiet: 'Name',
}

export const ls = defineCommand({
  path: 'volume ls',
  aliases: ['volume list'],
  summary: 'List volumes',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { filter: filter(), format: formatOption(), quiet: flag('q', 'Show only names') },
  examples: [{ line: 'causeway volume ls --filter dangling=true' }],
  run: async (context, _args, options) => {
    const { Volumes } = await context.client.volumes.list(options.filter)
    const rows = (Volumes ?? [])
      .toSorted((a, b) => naturalCompare(a.Name, b.Name))
      .map((v): Row => {
        const labels = v.Labels ?? {}
        return {
          Name: v.Name,
          Driver: v.Driver,
          Scope: v.Scope,
          Mountpoint: v.Mountpoint,
          Labels: Object.entries(labels)
            .map(([k, t]) => `${k}=${t}`)
            .join(','),
          Label: (name: unknown) => labels[String(name)] ?? '',
          Links: v.UsageData === undefined ? 'N/A' : String(v.UsageData.RefCount),
          Size: v.UsageData === undefined ? 'N/A' : humanSize(v.UsageData.Size),
          Availability: 'N/A',
          Group: 'N/A',
          Status: 'N/A',
        }
      })
    context.stdout.write(renderList(FORMAT, rows, options.format, options.quiet))
    return 0
  },
})

export const rm = defineCommand({
  path: 'volume rm',
  aliases: ['volume remove'],
  summary: 'Remove one or more volumes',
  usage: '[OPTIONS] VOLUME [VOLUME...]',
  args: [1, Number.POSITIVE_INFINITY],
  options: { force: flag('f', 'No error when it does not exist') },
  examples: [{ line: 'causeway volume rm data' }],
  run: (context, names, options) =>
    each(
      context,
      names,
      async (name) => {
        try {
          await context.client.volumes.remove(name, options.force)
        } catch (error) {
          if (!options.force || statusOf(error) !== 404) throw error
        }
        return name
      },
      { oneByOne: true },
    ),
})

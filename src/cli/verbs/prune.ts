/** `prune` of containers, images, networks, volumes, and of all of it. */
import type { ImageDeletion } from '../../client/images.ts'
import { type Command, defineCommand } from '../command.ts'
import { confirm } from '../confirm.ts'
import type { Context } from '../context.ts'
import { fail } from '../fail.ts'
import { humanSize } from '../format/human.ts'
import { filter, flag } from '../options.ts'

type Filters = Readonly<Record<string, readonly string[]>>

interface Outcome {
  readonly lines: readonly string[]
  /** Undefined for things that take no space. */
  readonly reclaimed?: number
}

const SURE = 'Are you sure you want to continue?'

async function containers(context: Context, filters: Filters): Promise<Outcome> {
  const { ContainersDeleted, SpaceReclaimed } = await context.client.containers.prune(filters)
  return { lines: section('Deleted Containers:', ContainersDeleted), reclaimed: SpaceReclaimed }
}
async function networks(context: Context, filters: Filters): Promise<Outcome> {
  const { NetworksDeleted } = await context.client.networks.prune(filters)
  return { lines: section('Deleted Networks:', NetworksDeleted) }
}
async function volumes(context: Context, filters: Filters): Promise<Outcome> {
  const { VolumesDeleted, SpaceReclaimed } = await context.client.volumes.prune(filters)
  return { lines: section('Deleted Volumes:', VolumesDeleted), reclaimed: SpaceReclaimed }
}
async function images(context: Context, filters: Filters): Promise<Outcome> {
  const { ImagesDeleted, SpaceReclaimed } = await context.client.images.prune(filters)
  return { lines: section('Deleted Images:', ImagesDeleted?.map(deletionText)), reclaimed: SpaceReclaimed }
}

function deletionText(deletion: ImageDeletion): string {
  return deletion.Untagged === undefined || deletion.Untagged === '' ? `deleted: ${deletion.Deleted}` : `untagged: ${deletion.Untagged}`
}

function section(title: string, names: readonly string[] | null | undefined): string[] {
  return names === null || names === undefined || names.length === 0 ? [] : [title, ...names, '']
}

function pruneOf(path: string, what: string, warning: string, act: (context: Context, filters: Filters) => Promise<Outcome>): Command {
  return defineCommand({
    path,
    summary: `Remove ${what}`,
    usage: '[OPTIONS]',
    args: [0, 0],
    options: { filter: filter(''), force: flag('f', 'Do not ask') },
    examples: [{ line: `causeway ${path} -f` }, { line: `causeway ${path} --filter label=temporary` }],
    run: async (context, _args, options) => {
      if (!options.force && !(await confirm(context, `WARNING! ${warning}\n${SURE}`))) throw fail('', { exitCode: 1, bare: true })
      const { lines, reclaimed } = await act(context, options.filter)
      for (const line of lines) context.print(line)
      if (reclaimed !== undefined) context.print(`Total reclaimed space: ${humanSize(reclaimed)}`)
      return 0
    },
  })
}

export const pruneContainers = pruneOf('container prune', 'all stopped containers', 'This will remove all stopped containers.', containers)
export const pruneNetworks = pruneOf(
  'network prune',
  'all unused networks',
  'This will remove all custom networks not used by at least one container.',
  networks,
)

export const pruneVolumes = defineCommand({
  path: 'volume prune',
  summary: 'Remove unused anonymous volumes',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { all: flag('a', 'Remove all unused volumes, not just anonymous ones'), filter: filter(''), force: flag('f', 'Do not ask') },
  examples: [{ line: 'causeway volume prune -f' }],
  run: async (context, _args, options) => {
    const warning = `This will remove ${options.all ? 'all' : 'anonymous'} local volumes not used by at least one container.`
    if (!options.force && !(await confirm(context, `WARNING! ${warning}\n${SURE}`))) throw fail('', { exitCode: 1, bare: true })
    const { lines, reclaimed = 0 } = await volumes(context, options.all ? { ...options.filter, all: ['true'] } : options.filter)
    for (const line of lines) context.print(line)
    context.print(`Total reclaimed space: ${humanSize(reclaimed)}`)
    return 0
  },
})

export const pruneImages = defineCommand({
  path: 'image prune',
  summary: 'Remove unused images',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: {
    all: flag('a', 'Remove all unused images, not just those without a name'),
    filter: filter(''),
    force: flag('f', 'Do not ask'),
  },
  examples: [{ line: 'causeway image prune -af' }],
  run: async (context, _args, options) => {
    const warning = options.all
      ? 'This will remove all images without at least one container associated to them.'
      : 'This will remove all dangling images.'
    if (!options.force && !(await confirm(context, `WARNING! ${warning}\n${SURE}`))) throw fail('', { exitCode: 1, bare: true })
    const { lines, reclaimed = 0 } = await images(context, { ...options.filter, dangling: [options.all ? 'false' : 'true'] })
    for (const line of lines) context.print(line)
    context.print(`Total reclaimed space: ${humanSize(reclaimed)}`)
    return 0
  },
})

export const pruneSystem = defineCommand({
  path: 'system prune',
  summary: 'Remove stopped containers, unused networks and images',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: {
    all: flag('a', 'Remove all unused images, not just those without a name'),
    filter: filter(''),
    force: flag('f', 'Do not ask'),
    volumes: flag('', 'Remove unused anonymous volumes too'),
  },
  examples: [{ line: 'causeway system prune -f' }],
  run: async (context, _args, options) => {
    const what = [
      'all stopped containers',
      'all networks not used by at least one container',
      ...(options.volumes ? ['all anonymous volumes not used by at least one container'] : []),
      options.all ? 'all images without at least one container associated to them' : 'all dangling images',
    ]
    const warning = `WARNING! This will remove:\n${what.map((line) => `  - ${line}\n`).join('')}\n${SURE}`
    if (!options.force && !(await confirm(context, warning))) throw fail('', { exitCode: 1, bare: true })
    const imageFilter: Filters = { ...options.filter, dangling: [options.all ? 'false' : 'true'] }
    const steps = [
      () => containers(context, options.filter),
      () => networks(context, options.filter),
      ...(options.volumes ? [() => volumes(context, options.filter)] : []),
      () => images(context, imageFilter),
    ]
    let total = 0
    for (const step of steps) {
      const { lines, reclaimed = 0 } = await step()
      for (const line of lines) context.print(line)
      total += reclaimed
    }
    context.print(`Total reclaimed space: ${humanSize(total)}`)
    return 0
  },
})

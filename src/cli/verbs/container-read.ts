/** `top` and `diff`. */
import { defineCommand } from '../command.ts'
import { formatTable } from '../format/tabwriter.ts'

export const top = defineCommand({
  path: 'top',
  aliases: ['container top'],
  summary: 'Show the processes of a container',
  usage: 'CONTAINER [ps OPTIONS]',
  args: [1, Number.POSITIVE_INFINITY],
  passThrough: true,
  options: {},
  examples: [{ line: 'causeway top web' }, { line: 'causeway top web -o pid,comm' }],
  run: async (context, [name = '', ...psArgs]) => {
    const { Titles, Processes } = await context.client.containers.top(name, psArgs.join(' '))
    context.print(formatTable(Titles, Processes, { minWidth: 20, padding: 3 }))
    return 0
  },
})

const KIND = ['C', 'A', 'D'] as const

export const diff = defineCommand({
  path: 'diff',
  aliases: ['container diff'],
  summary: "Show what changed in a container's file system",
  usage: 'CONTAINER',
  args: [1, 1],
  options: {},
  notes: 'A is added, C is changed, D is deleted.',
  examples: [{ line: 'causeway diff web' }],
  run: async (context, [name = '']) => {
    for (const { Kind, Path } of (await context.client.containers.changes(name)) ?? []) context.print(`${KIND[Kind]} ${Path}`)
    return 0
  },
})

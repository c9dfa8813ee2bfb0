/** `export`. */
import { defineCommand } from '../command.ts'
import { fail } from '../fail.ts'
import { text } from '../options.ts'
import { writeOutput } from './image-transfer.ts'

export const exportContainer = defineCommand({
  path: 'export',
  aliases: ['container export'],
  summary: "Write a container's file system as a tar archive",
  usage: '[OPTIONS] CONTAINER',
  args: [1, 1],
  options: { output: text('o', 'Write to this file instead of standard output') },
  examples: [{ line: 'causeway export -o web.tar web' }],
  run: async (context, [name = ''], options) => {
    if (options.output === undefined && context.stdout.isTTY === true)
      throw fail('cowardly refusing to save to a terminal. Use the -o flag or redirect')
    await writeOutput(context, await context.client.containers.export(name), options.output)
    return 0
  },
})

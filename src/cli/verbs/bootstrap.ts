/** `image bootstrap`. */
import { NetError } from '../../base/errors.ts'
import { defineCommand } from '../command.ts'
import { flag } from '../options.ts'

export const bootstrap = defineCommand({
  path: 'image bootstrap',
  summary: "Make busybox:latest from this machine's static busybox, without a registry",
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { quiet: flag('q', 'Print only the image ID') },
  examples: [{ line: 'causeway image bootstrap && causeway run --rm busybox echo hello' }],
  run: async (context, _args, options) => {
    let id = ''
    for await (const line of context.client.own.bootstrapImage()) {
      const failure = line.errorDetail?.message ?? line.error ?? line.message
      if (failure !== undefined) throw new NetError('internal', failure)
      id = line.Id ?? id
      if (!options.quiet && line.status !== undefined && context.stderr.isTTY === true) context.warn(line.status)
    }
    context.print(options.quiet || id === '' ? id : `busybox:latest ${id}`)
    return 0
  },
})

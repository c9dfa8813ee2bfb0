/** `logs`. */
import { defineCommand } from '../command.ts'
import { flag, text } from '../options.ts'
import { copyOutput } from '../session/streams.ts'
import { parseWhen } from '../when.ts'

export const logs = defineCommand({
  path: 'logs',
  aliases: ['container logs'],
  summary: 'Show what a container printed',
  usage: '[OPTIONS] CONTAINER',
  args: [1, 1],
  options: {
    details: flag('', 'Show the extra details of the log'),
    follow: flag('f', 'Go on while it prints'),
    since: text('', 'From this time on: 2013-01-02T13:23:37Z, or 42m for 42 minutes ago'),
    tail: text('n', 'Number of lines from the end (default "all")'),
    timestamps: flag('t', 'Put the time before each line'),
    until: text('', 'Up to this time'),
  },
  examples: [{ line: 'causeway logs -f --tail 20 web' }, { line: 'causeway logs --since 10m -t web' }],
  run: async (context, [name = ''], options) => {
    const { containers } = context.client
    const now = context.clock.now()
    const found = await containers.inspect(name)
    const stop = new AbortController()
    const query = {
      stdout: true,
      stderr: true,
      follow: options.follow,
      timestamps: options.timestamps,
      details: options.details,
      since: options.since === undefined ? undefined : parseWhen('since', options.since, now),
      until: options.until === undefined ? undefined : parseWhen('until', options.until, now),
      tail: options.tail ?? 'all',
    }
    await copyOutput(await containers.logs(found.Id, query, stop.signal), found.Config.Tty, context)
    return 0
  },
})

/** One request per container: `stop`, `restart`, `kill`, `pause`, `unpause`, `rename`, `rm`, `wait`. */
import { statusOf } from '../../client/transport.ts'
import { defineCommand } from '../command.ts'
import { each } from '../each.ts'
import { describe, fail } from '../fail.ts'
import { flag, integer, text } from '../options.ts'

const MANY: readonly [number, number] = [1, Number.POSITIVE_INFINITY]

export const stop = defineCommand({
  path: 'stop',
  aliases: ['container stop'],
  summary: 'Stop one or more running containers',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  args: MANY,
  options: { signal: text('s', 'Signal to send'), timeout: integer('t', 'Seconds to wait before killing', { aliases: ['time'] }) },
  examples: [{ line: 'causeway stop web db' }, { line: 'causeway stop -t 1 web' }],
  run: (context, names, options) =>
    each(context, names, async (name) => {
      await context.client.containers.stop(name, { seconds: options.timeout, signal: options.signal })
      return name
    }),
})

export const restart = defineCommand({
  path: 'restart',
  aliases: ['container restart'],
  summary: 'Restart one or more containers',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  args: MANY,
  options: { signal: text('s', 'Signal to send'), timeout: integer('t', 'Seconds to wait before killing', { aliases: ['time'] }) },
  examples: [{ line: 'causeway restart web' }],
  run: (context, names, options) =>
    each(context, names, async (name) => {
      await context.client.containers.restart(name, { seconds: options.timeout, signal: options.signal })
      return name
    }),
})

export const kill = defineCommand({
  path: 'kill',
  aliases: ['container kill'],
  summary: 'Send a signal to one or more containers',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  args: MANY,
  options: { signal: text('s', 'Signal to send (default KILL)') },
  examples: [{ line: 'causeway kill web' }, { line: 'causeway kill -s HUP web' }],
  run: (context, names, options) =>
    each(context, names, async (name) => {
      await context.client.containers.kill(name, options.signal ?? 'KILL')
      return name
    }),
})

export const pause = defineCommand({
  path: 'pause',
  aliases: ['container pause'],
  summary: 'Freeze all processes of one or more containers',
  usage: 'CONTAINER [CONTAINER...]',
  args: MANY,
  options: {},
  examples: [{ line: 'causeway pause web' }],
  run: (context, names) =>
    each(context, names, async (name) => {
      await context.client.containers.pause(name)
      return name
    }),
})

export const unpause = defineCommand({
  path: 'unpause',
  aliases: ['container unpause'],
  summary: 'Thaw one or more containers',
  usage: 'CONTAINER [CONTAINER...]',
  args: MANY,
  options: {},
  examples: [{ line: 'causeway unpause web' }],
  run: (context, names) =>
    each(context, names, async (name) => {
      await context.client.containers.unpause(name)
      return name
    }),
})

export const rename = defineCommand({
  path: 'rename',
  aliases: ['container rename'],
  summary: 'Rename a container; its name on its networks follows at once',
  usage: 'CONTAINER NEW_NAME',
  args: [2, 2],
  options: {},
  examples: [{ line: 'causeway rename web web-old' }],
  run: async (context, [name = '', next = '']) => {
    if (name.trim() === '' || next.trim() === '') throw fail('Error: Neither old nor new names may be empty')
    try {
      await context.client.containers.rename(name, next)
    } catch (error) {
      context.warn(describe(error))
      throw fail(`Error: failed to rename container named ${name}`)
    }
    return 0
  },
})

export const rm = defineCommand({
  path: 'rm',
  aliases: ['container rm', 'container remove'],
  summary: 'Remove one or more containers',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  args: MANY,
  options: {
    force: flag('f', 'Kill it first when it runs; no error when it does not exist'),
    link: flag('l', 'Remove the link of this name, not the container'),
    volumes: flag('v', 'Remove its anonymous volumes too'),
  },
  examples: [{ line: 'causeway rm web' }, { line: 'causeway rm -f $(causeway ps -aq)', why: 'Every container' }],
  run: (context, names, options) =>
    each(context, names, async (name) => {
      try {
        await context.client.containers.remove(name.replace(/^\/+/, ''), options)
      } catch (error) {
        if (!options.force || statusOf(error) !== 404) throw error
        // Gone already is what --force asks for; the name is not printed, the reason is.
        context.warn(`Error response from daemon: ${(error as Error).message}`)
        return undefined
      }
      return name
    }),
})

export const wait = defineCommand({
  path: 'wait',
  aliases: ['container wait'],
  summary: 'Wait until containers stop, then print their exit codes',
  usage: 'CONTAINER [CONTAINER...]',
  args: MANY,
  options: {},
  examples: [{ line: 'causeway wait job' }],
  run: (context, names) =>
    each(
      context,
      names,
      async (name) => {
        const { exitCode, error } = await context.client.containers.wait(name, 'not-running')
        if (error !== undefined && error !== '') throw fail(error)
        return String(exitCode)
      },
      { oneByOne: true },
    ),
})

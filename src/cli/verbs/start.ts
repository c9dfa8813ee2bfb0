/** `start`, also attached. */
import { defineCommand } from '../command.ts'
import { each } from '../each.ts'
import { fail } from '../fail.ts'
import { flag, text } from '../options.ts'
import { checkTty, followWindowSize, forwardSignals, interact } from '../session/streams.ts'

export const start = defineCommand({
  path: 'start',
  aliases: ['container start'],
  summary: 'Start one or more stopped containers',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  args: [1, Number.POSITIVE_INFINITY],
  options: {
    attach: flag('a', 'Show its output and pass signals'),
    'detach-keys': text('', 'Keys that let go of the container'),
    interactive: flag('i', 'Pass standard input'),
  },
  examples: [{ line: 'causeway start web db' }, { line: 'causeway start -ai shell' }],
  run: async (context, names, options) => {
    const { containers } = context.client
    if (!options.attach && !options.interactive) {
      const failed: string[] = []
      const code = await each(context, names, async (name) => {
        await containers.start(name).catch((error: unknown) => {
          failed.push(name)
          throw error
        })
        return name
      })
      if (code !== 0) throw fail(`Error: failed to start containers: ${failed.join(', ')}`)
      return 0
    }
    if (names.length > 1) throw fail('you cannot start and attach multiple containers at once')
    const name = names[0] as string
    const found = await containers.inspect(name)
    const tty = found.Config.Tty
    const stdin = options.interactive && found.Config.OpenStdin
    checkTty(context, stdin, tty)
    const detachKeys = options['detach-keys']
    const stopSignals = tty ? () => {} : forwardSignals(context, (signal) => containers.kill(found.Id, signal))
    let stopResize = () => {}
    try {
      const hijacked = await containers.attach(found.Id, { stream: true, stdin, stdout: true, stderr: true, detachKeys })
      const waiting = containers.wait(found.Id, found.HostConfig.AutoRemove ? 'removed' : 'next-exit')
      waiting.catch(() => undefined)
      const session = interact(hijacked, { tty, stdin: stdin ? context.stdin : undefined, outputs: context, detachKeys })
      session.catch(() => undefined)
      await containers.start(found.Id, { detachKeys })
      if (tty && context.stdout.isTTY === true)
        stopResize = followWindowSize(context, (rows, columns) => containers.resize(found.Id, rows, columns))
      if ((await session) === 'detached') return 0
      return (await waiting).exitCode
    } finally {
      stopResize()
      stopSignals()
    }
  },
})

/** `attach`. */
import { defineCommand } from '../command.ts'
import { fail } from '../fail.ts'
import { flag, flagOn, text } from '../options.ts'
import { checkTty, followWindowSize, forwardSignals, interact } from '../session/streams.ts'

export const attach = defineCommand({
  path: 'attach',
  aliases: ['container attach'],
  summary: "Attach this terminal to a running container's streams",
  usage: '[OPTIONS] CONTAINER',
  args: [1, 1],
  options: {
    'detach-keys': text('', 'Keys that let go of the container (default "ctrl-p,ctrl-q")'),
    'no-stdin': flag('', 'Do not pass standard input'),
    'sig-proxy': flagOn('', 'Pass the signals we get to the container'),
  },
  examples: [{ line: 'causeway attach shell' }, { line: 'causeway attach --no-stdin web' }],
  run: async (context, [name = ''], options) => {
    const { containers } = context.client
    const found = await containers.inspect(name)
    if (!found.State.Running) throw fail('cannot attach to a stopped container, start it first')
    if (found.State.Paused) throw fail('cannot attach to a paused container, unpause it first')
    if (found.State.Restarting) throw fail('cannot attach to a restarting container, wait until it is running')
    const tty = found.Config.Tty
    const stdin = !options['no-stdin'] && found.Config.OpenStdin
    checkTty(context, stdin, tty)
    const waiting = containers.wait(found.Id, 'not-running')
    waiting.catch(() => undefined)
    const detachKeys = options['detach-keys']
    const stopSignals = options['sig-proxy'] && !tty ? forwardSignals(context, (signal) => containers.kill(found.Id, signal)) : () => {}
    let stopResize = () => {}
    try {
      const hijacked = await containers.attach(found.Id, { stream: true, stdin, stdout: true, stderr: true, detachKeys })
      if (tty && context.stdout.isTTY === true)
        stopResize = followWindowSize(context, (rows, columns) => containers.resize(found.Id, rows, columns))
      const end = await interact(hijacked, { tty, stdin: stdin ? context.stdin : undefined, outputs: context, detachKeys })
      if (end === 'detached') throw fail('read escape sequence')
      return (await waiting).exitCode
    } finally {
      stopResize()
      stopSignals()
    }
  },
})

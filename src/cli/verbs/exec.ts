/** `exec`. */
import { checkEnv, environment } from '../args/environment.ts'
import { defineCommand } from '../command.ts'
import { flag, list, text } from '../options.ts'
import { checkTty, followWindowSize, interact } from '../session/streams.ts'

export const exec = defineCommand({
  path: 'exec',
  aliases: ['container exec'],
  summary: 'Run a command in a running container',
  usage: '[OPTIONS] CONTAINER COMMAND [ARG...]',
  args: [2, Number.POSITIVE_INFINITY],
  passThrough: true,
  options: {
    detach: flag('d', 'Run in the background'),
    'detach-keys': text('', 'Keys that let go of the command'),
    env: list('e', 'Set an environment variable', checkEnv),
    'env-file': list('', 'Read environment variables from a file'),
    interactive: flag('i', 'Pass standard input'),
    privileged: flag('', 'Give all privileges'),
    tty: flag('t', 'Give it a terminal'),
    user: text('u', 'User (name|uid[:group|gid])'),
    workdir: text('w', 'Working directory inside the container'),
  },
  examples: [
    { line: 'causeway exec -it web sh' },
    { line: 'causeway exec web ip addr' },
    { line: 'causeway exec -u nobody -w /tmp -e A=1 web env' },
  ],
  run: async (context, [name = '', ...command], options) => {
    const { containers } = context.client
    const attachStdin = options.interactive && !options.detach
    if (!options.detach) checkTty(context, attachStdin, options.tty)
    const env = environment(options['env-file'], options.env, context.env)
    const { rows, columns } = context.stdout
    const consoleSize = options.tty && rows !== undefined && columns !== undefined ? ([rows, columns] as const) : undefined
    const id = await containers.execCreate(name, {
      User: options.user ?? '',
      Privileged: options.privileged,
      Tty: options.tty,
      AttachStdin: attachStdin,
      AttachStderr: !options.detach,
      AttachStdout: !options.detach,
      Detach: options.detach,
      DetachKeys: options['detach-keys'] ?? '',
      Env: env.length === 0 ? null : env,
      WorkingDir: options.workdir ?? '',
      Cmd: command,
      ...(consoleSize === undefined ? {} : { ConsoleSize: consoleSize }),
    })
    if (options.detach) {
      await containers.execStartDetached(id)
      return 0
    }
    const hijacked = await containers.execAttach(id, { tty: options.tty, consoleSize })
    const stopResize =
      options.tty && context.stdout.isTTY === true ? followWindowSize(context, (r, c) => containers.execResize(id, r, c)) : () => {}
    try {
      const stdin = attachStdin ? context.stdin : undefined
      const end = await interact(hijacked, { tty: options.tty, stdin, outputs: context, detachKeys: options['detach-keys'] })
      if (end === 'detached') return 0
    } finally {
      stopResize()
    }
    return (await containers.execInspect(id)).ExitCode ?? 0
  },
})

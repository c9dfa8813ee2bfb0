/** `plugin serve`: an engine without a default network whose drivers Docker Engines use. */
import { defineCommand } from '../command.ts'
import { fail } from '../fail.ts'

export const serve = defineCommand({
  path: 'plugin serve',
  summary: "Offer Causeway's network and IPAM drivers to the Docker Engines of this host",
  usage: '[ENGINE OPTIONS]',
  args: [0, Number.POSITIVE_INFINITY],
  options: {},
  raw: true,
  notes:
    'Runs the engine in the foreground, without a default network of its own, with the sockets of its drivers in /run/docker/plugins ' +
    '(--docker-plugins DIR for another folder). Everything behind "serve" goes to the engine. An engine that runs already offers them when it is ' +
    'started with --docker-plugins.',
  examples: [
    { line: 'causeway plugin serve' },
    { line: 'docker network create -d causeway net1', why: 'In Docker, from then on' },
    { line: 'docker network create -d causeway-macvlan -o parent=eth0 lan1' },
  ],
  run: async (context, args) => {
    if (process.getuid?.() !== 0) throw fail('the engine needs root: run `sudo causeway plugin serve`')
    // spelled without options before it, the launcher runs it itself; so they go behind it
    const host = context.global.host === undefined ? [] : ['-H', context.global.host]
    const engine = await context.startProgram(process.execPath, ['--', context.launcher, 'plugin', 'serve', ...host, ...args], 'inherit')
    // the terminal sends its signals to the engine as well; what is sent to us alone is passed on
    const off = context.onSignals(['SIGINT', 'SIGTERM'], (signal) => {
      if (engine.pid !== undefined && signal === 'SIGTERM') process.kill(engine.pid, signal)
    })
    try {
      const { code, error } = await engine.ended
      if (error !== undefined) throw fail(`cannot start the engine: ${error}`)
      return code ?? 1
    } finally {
      off()
    }
  },
})

/** `netns ls` and `netns exec`. */
import { existsSync } from 'node:fs'
import { statusOf } from '../../client/transport.ts'
import { defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { fail } from '../fail.ts'
import { truncateId } from '../format/human.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { formatOption } from '../options.ts'
import { NETNS_FOLDER, runInNetns } from '../process.ts'

const FORMAT: ListFormat = {
  headers: { Namespace: 'NAMESPACE', Path: 'PATH', Container: 'CONTAINER', ID: 'CONTAINER ID', Networks: 'NETWORKS' },
  table: '{{.Container}}\t{{.ID}}\t{{.Networks}}\t{{.Path}}',
  quiet: 'Path',
}

export const ls = defineCommand({
  path: 'netns ls',
  summary: 'List the network namespaces of running containers',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: formatOption() },
  examples: [{ line: 'causeway netns ls' }],
  run: async (context, _args, options) => {
    const running = await context.client.containers.list()
    const found = await Promise.all(
      running.map(async (c): Promise<Row[]> => {
        const inspected = await context.client.containers.inspect(c.Id).catch((error: unknown) => {
          if (statusOf(error) === 404) return undefined // ended in between
          throw error
        })
        const path = inspected?.NetworkSettings.SandboxKey ?? ''
        if (inspected === undefined || path === '') return []
        const networks = Object.keys(inspected.NetworkSettings.Networks ?? {}).join(',')
        return [
          {
            Container: inspected.Name.replace(/^\//, ''),
            ID: truncateId(c.Id),
            Networks: networks,
            Path: path,
            Namespace: path.split('/').at(-1),
          },
        ]
      }),
    )
    context.stdout.write(renderList(FORMAT, found.flat(), options.format, false))
    return 0
  },
})

export const exec = defineCommand({
  path: 'netns exec',
  summary: "Run a program of this machine inside a container's or network's namespace",
  usage: 'CONTAINER|NETWORK COMMAND [ARG...]',
  args: [2, Number.POSITIVE_INFINITY],
  options: {},
  passThrough: true,
  notes:
    "The file system, the programs and the privileges are those of this machine; only the network is the container's. Needs root here, and an engine on this host.",
  examples: [
    { line: 'causeway netns exec web ss -tlnp' },
    { line: 'causeway netns exec web tcpdump -ni eth0' },
    { line: 'causeway netns exec my-overlay bridge fdb' },
  ],
  run: async (context, [target = '', ...command]) => runInNetns(context, await namespaceOf(context, target), command),
})

/** The container's sandbox, else the namespace of an overlay network (`1-<id10>`). */
async function namespaceOf(context: Context, ref: string): Promise<string> {
  const { client } = context
  try {
    const { NetworkSettings, State } = await client.containers.inspect(ref)
    if (!State.Running) throw fail(`container ${ref} is not running: it has no network namespace`)
    const key = NetworkSettings.SandboxKey ?? ''
    if (existsSync(key)) return key
    if (State.Pid > 0) return `/proc/${State.Pid}/ns/net`
    throw fail(`the network namespace of ${ref} is not on this machine: ${key}`)
  } catch (error) {
    if (statusOf(error) !== 404) throw error
  }
  const network = await client.networks.inspect(ref)
  const path = `${NETNS_FOLDER}/1-${network.Id.slice(0, 10)}`
  if (existsSync(path)) return path
  throw fail(`network ${network.Name} (${network.Driver}) has no namespace of its own on this host: its bridge is in the host's`)
}

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
  summary: 'List the network namespaces of running containers and of overlay networks',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: formatOption() },
  notes:
    'An overlay network has a namespace named 1-ID on each host that has a container on it, with its bridge and its tunnel. To see all of them with ip netns: ln -s /run/causeway/netns /run/netns',
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
    const rows = found.flat()
    rows.push(...(await networkRows(context, folderOf(rows.map(({ Path }) => String(Path))))))
    context.stdout.write(renderList(FORMAT, rows, options.format, false))
    return 0
  },
})

/** Where the engine keeps namespaces: another folder than usual shows in the path of any container. */
const folderOf = (paths: readonly string[]): string => paths.map((path) => path.replace(/\/[^/]*$/, '')).find(existsSync) ?? NETNS_FOLDER

const networkNamespace = (id: string): string => `1-${id.slice(0, 10)}`

async function networkRows(context: Context, folder: string): Promise<Row[]> {
  return (await context.client.networks.list()).flatMap(({ Id, Name, Driver }): Row[] => {
    const namespace = networkNamespace(Id)
    const path = `${folder}/${namespace}`
    return Driver === 'overlay' && existsSync(path) ? [{ Container: '-', ID: '-', Networks: Name, Path: path, Namespace: namespace }] : []
  })
}

export const exec = defineCommand({
  path: 'netns exec',
  summary: "Run a program of this machine inside a container's or network's namespace",
  usage: 'CONTAINER|NETWORK COMMAND [ARG...]',
  args: [2, Number.POSITIVE_INFINITY],
  options: {},
  passThrough: true,
  notes:
    "The file system, the programs and the privileges are those of this machine; only the network, and with it /sys, is the container's. Needs root here, and an engine on this host.",
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
  // it is there only while a container of this host is on the network
  const members = Object.keys(network.Containers ?? {}).filter((id) => !id.startsWith('ep-'))
  const keys = await Promise.all(
    members.map(async (id) => (await client.containers.inspect(id).catch(() => undefined))?.NetworkSettings.SandboxKey),
  )
  const path = `${folderOf(keys.flatMap((key) => (key ? [key] : [])))}/${networkNamespace(network.Id)}`
  if (existsSync(path)) return path
  if (network.Driver === 'overlay')
    throw fail(
      `network ${network.Name} has no container on this host, and so no namespace here: ask a host that has one (causeway network inspect ${network.Name})`,
    )
  throw fail(`network ${network.Name} (${network.Driver}) has no namespace of its own on this host: its bridge is in the host's`)
}

/** `port`: list, and `port add` / `port rm` on a running container. */

import type { PortChange } from '../../client/own.ts'
import { parsePublish } from '../args/ports.ts'
import { defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { fail } from '../fail.ts'
import { naturalCompare } from '../format/human.ts'
import { hostPort } from '../ports-text.ts'

export const port = defineCommand({
  path: 'port',
  aliases: ['container port'],
  summary: 'List the published ports of a container, or add and remove them while it runs',
  usage:
    'CONTAINER [PRIVATE_PORT[/PROTO]]\n        causeway port add CONTAINER [[IP:]HOST_PORT:]PORT[/PROTO]...\n        causeway port rm  CONTAINER [[IP:]HOST_PORT:]PORT[/PROTO]...',
  notes: 'A container whose name is "add" or "rm" is listed with its ID.',
  args: [1, Number.POSITIVE_INFINITY],
  options: {},
  examples: [
    { line: 'causeway port web' },
    { line: 'causeway port web 80/tcp' },
    { line: 'causeway port add web 8080:80', why: 'Publish one more port, without a restart' },
    { line: 'causeway port add dns 127.0.0.1:5300:53/udp' },
    { line: 'causeway port rm web 8080:80' },
  ],
  run: async (context, [first = '', ...rest]) => {
    if ((first === 'add' || first === 'rm') && rest.length > 0) return change(context, first, rest)
    if (rest.length > 1) throw fail("causeway: 'causeway port' requires at most 2 arguments", { usage: 'run', exitCode: 1 })
    return list(context, first, rest[0])
  },
})

async function list(context: Context, name: string, wanted: string | undefined): Promise<number> {
  const { NetworkSettings } = await context.client.containers.inspect(name)
  const ports = NetworkSettings.Ports ?? {}
  const text = (binding: { HostIp: string; HostPort: string }) =>
    hostPort(binding.HostIp === '' ? '0.0.0.0' : binding.HostIp, binding.HostPort)
  if (wanted !== undefined) {
    const [number = '', protocol = 'tcp'] = wanted.split('/')
    if (!/^\d+$/.test(number)) throw fail(`Error: invalid port (${number}): strconv.ParseUint: parsing "${number}": invalid syntax`)
    const bindings = ports[`${number}/${protocol}`]
    if (bindings === undefined || bindings === null) throw fail(`Error: No public port '${wanted}' published for ${name}`)
    for (const binding of bindings) context.print(text(binding))
    return 0
  }
  const lines = Object.entries(ports).flatMap(([inside, bindings]) => (bindings ?? []).map((binding) => `${inside} -> ${text(binding)}`))
  for (const line of lines.sort(naturalCompare)) context.print(line)
  return 0
}

async function change(context: Context, verb: 'add' | 'rm', [name = '', ...specs]: readonly string[]): Promise<number> {
  if (specs.length === 0)
    throw fail(`causeway: 'causeway port ${verb}' requires a container and at least 1 port`, { usage: 'run', exitCode: 1 })
  const ports = specs.flatMap((spec) => parsePublish(spec).map(toChange))
  const { own } = context.client
  await (verb === 'add' ? own.addPorts(name, ports) : own.removePorts(name, ports))
  return verb === 'add' ? list(context, name, undefined) : 0
}

function toChange(published: { port: string; hostIp: string; hostPort: string }): PortChange {
  const [number, proto] = published.port.split('/')
  const [first, last] = published.hostPort.split('-')
  return {
    proto: proto as PortChange['proto'],
    containerPort: Number(number),
    ...(published.hostIp === '' ? {} : { hostIp: published.hostIp }),
    ...(first === undefined || first === '' ? {} : { hostPort: Number(first) }),
    ...(last === undefined ? {} : { hostPortEnd: Number(last) }),
  }
}

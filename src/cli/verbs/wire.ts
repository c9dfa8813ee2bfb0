/** `wire`: an interface plugged into a container or a namespace by hand; `wire ls` and `wire rm`. */
import type { Wire } from '../../model/own-answers.ts'
import { defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { fail } from '../fail.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { flag, formatOption, integer, list, text } from '../options.ts'

const FORMAT: ListFormat = {
  headers: {
    ID: 'WIRE',
    Place: 'PLACE',
    Interface: 'INTERFACE',
    Addresses: 'ADDRESSES',
    Gateways: 'GATEWAY',
    Bridge: 'BRIDGE',
    HostInterface: 'HOST SIDE',
    MAC: 'MAC',
    VLAN: 'VLAN',
    State: 'STATE',
  },
  table: '{{.ID}}\t{{.Place}}\t{{.Interface}}\t{{.Addresses}}\t{{.Gateways}}\t{{.Bridge}}\t{{.HostInterface}}\t{{.State}}',
  quiet: 'ID',
}

export const wire = defineCommand({
  path: 'wire',
  summary: 'Plug an interface into a container or a namespace by hand; list and remove such wires',
  usage:
    '--bridge BRIDGE [OPTIONS] CONTAINER\n        causeway wire --bridge BRIDGE [OPTIONS] --netns PATH | --pid PID\n        causeway wire ls [--format FORMAT]\n        causeway wire rm WIRE...',
  notes: `A wire goes from a bridge of this host, which is made when it is missing, into the container.
It comes back when the container or the engine starts anew, and goes with the container.
A container whose name is "ls" or "rm" is wired by its ID.`,
  args: [0, Number.POSITIVE_INFINITY],
  options: {
    bridge: text('', 'Bridge of the host'),
    ip: list('', 'Address with its prefix length, IPv4 or IPv6; may be repeated'),
    gateway: list('', 'Default gateway, one of each family at most'),
    mac: text('', 'MAC address of the interface'),
    vlan: integer('', 'VLAN whose tag frames carry on the bridge'),
    ifname: text('', 'Name inside (default the first free ethN from eth1 on)'),
    netns: text('', 'Path of a network namespace instead of a container'),
    pid: integer('', 'Process whose network namespace is meant instead of a container'),
    format: formatOption(),
    quiet: flag('q', 'Show only ids'),
  },
  examples: [
    { line: 'causeway run -d --network none --name c1 busybox sleep 1d' },
    {
      line: 'causeway wire --bridge br1 --ip 192.168.1.10/24 --gateway 192.168.1.1 c1',
      why: 'eth1 in c1, a port of br1',
    },
    { line: 'causeway wire --bridge br1 --ip 10.0.0.5/24 --ip fd00::5/64 --mac 02:00:00:00:00:05 --ifname lan0 c1' },
    { line: 'causeway wire --bridge br1 --ip 10.0.0.6/24 --netns /run/netns/blue', why: 'into any namespace of this host' },
    { line: 'causeway wire ls --format json' },
    { line: 'causeway wire rm 3f2a' },
  ],
  run: async (context, args, o) => {
    const [first, ...rest] = args
    if (first === 'ls' && rest.length === 0) return listWires(context, o.format, o.quiet)
    if (first === 'rm' && o.bridge === undefined) return removeWires(context, rest)
    if (args.length > 1) throw fail("'causeway wire' takes one container", { usage: 'run' })
    const made = await context.client.own.change<Wire>('POST', '/wires', {
      ...(first === undefined ? {} : { container: first }),
      ...(o.netns === undefined ? {} : { netns: o.netns }),
      ...(o.pid === undefined ? {} : { pid: o.pid }),
      ...(o.bridge === undefined ? {} : { bridge: o.bridge }),
      ...(o.mac === undefined ? {} : { mac: o.mac }),
      ...(o.vlan === undefined ? {} : { vlan: o.vlan }),
      ...(o.ifname === undefined ? {} : { ifname: o.ifname }),
      addresses: o.ip,
      gateways: o.gateway,
    })
    context.print(made.id)
    return 0
  },
})

async function listWires(context: Context, format: string | undefined, quiet: boolean): Promise<number> {
  const rows = (await context.client.own.wires()).map(
    (w): Row => ({
      ID: w.id,
      Place: w.container === '' ? w.netns : w.container,
      Interface: w.interface,
      Addresses: w.addresses.join(' '),
      Gateways: w.gateways.join(' '),
      Bridge: w.bridge,
      HostInterface: w.hostInterface,
      MAC: w.mac,
      VLAN: w.vlan === 0 ? '' : String(w.vlan),
      State: w.state,
    }),
  )
  context.stdout.write(renderList(FORMAT, rows, format, quiet))
  return 0
}

async function removeWires(context: Context, ids: readonly string[]): Promise<number> {
  if (ids.length === 0) throw fail("'causeway wire rm' requires at least 1 wire", { usage: 'run' })
  return each(context, ids, async (id) => {
    await context.client.own.change('DELETE', `/wires/${encodeURIComponent(id)}`)
    return id
  })
}

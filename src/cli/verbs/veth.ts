/** `veth`: what people piece together by hand from `ip link`, `bridge link` and interface indexes. */
import type { VethRow } from '../../model/own-answers.ts'
import { defineCommand } from '../command.ts'
import { fail } from '../fail.ts'
import { naturalCompare } from '../format/human.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { formatOption } from '../options.ts'

const FORMAT: ListFormat = {
  headers: {
    Container: 'CONTAINER',
    ID: 'CONTAINER ID',
    Network: 'NETWORK',
    Driver: 'DRIVER',
    Interface: 'INTERFACE',
    HostInterface: 'HOST SIDE',
    HostIndex: 'INDEX',
    Bridge: 'BRIDGE',
    State: 'STATE',
    MTU: 'MTU',
    MAC: 'MAC',
    IPv4: 'IPV4',
    IPv6: 'IPV6',
    Addresses: 'ADDRESSES',
    Sandbox: 'NAMESPACE',
  },
  table: '{{.Container}}\t{{.Network}}\t{{.Interface}}\t{{.HostInterface}}\t{{.Bridge}}\t{{.State}}\t{{.MAC}}\t{{.Addresses}}',
  quiet: 'HostInterface',
}

export const veth = defineCommand({
  path: 'veth',
  summary: 'Show which interface of a container is which port of a bridge, with its addresses',
  usage: '[OPTIONS] [CONTAINER...]',
  args: [0, Number.POSITIVE_INFINITY],
  options: { format: formatOption() },
  examples: [{ line: 'causeway veth' }, { line: "tcpdump -i $(causeway veth --format '{{.HostInterface}}' web)" }],
  run: async (context, names, options) => {
    const all = await context.client.own.veth()
    for (const name of names) if (!all.some((row) => isOf(row, name))) throw fail(`No such running container with an interface: ${name}`)
    const rows = all
      .filter((row) => names.length === 0 || names.some((name) => isOf(row, name)))
      .toSorted((a, b) => naturalCompare(a.container, b.container) || naturalCompare(a.interface, b.interface))
      .map(
        (r): Row => ({
          Container: r.container,
          ID: r.containerId.slice(0, 12),
          Network: r.network,
          Driver: r.driver,
          Interface: r.interface,
          HostInterface: r.hostInterface === '' ? '-' : r.hostInterface,
          HostIndex: String(r.hostIndex),
          Bridge: r.bridge === '' ? '-' : r.bridge,
          State: r.state,
          MTU: String(r.mtu),
          MAC: r.mac,
          IPv4: r.ipv4,
          IPv6: r.ipv6,
          Addresses: [r.ipv4, r.ipv6].filter((a) => a !== '').join(' '),
          Sandbox: r.sandbox,
        }),
      )
    context.stdout.write(renderList(FORMAT, rows, options.format, false))
    return 0
  },
})

function isOf(row: VethRow, ref: string): boolean {
  return row.container === ref || row.containerId.startsWith(ref)
}

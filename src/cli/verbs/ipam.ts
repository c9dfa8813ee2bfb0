/** `ipam ls`: the pools that the hosts of a cluster share, and who holds which address. */
import { defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { fail } from '../fail.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { flag, formatOption } from '../options.ts'

interface Pool {
  readonly subnet: string
  readonly gateway: string
  readonly networks: readonly { readonly id: string; readonly name: string; readonly host: string; readonly reserved: readonly string[] }[]
  readonly addresses: readonly { readonly ip: string; readonly name: string; readonly host: string; readonly network: string }[]
}

const POOLS: ListFormat = {
  headers: { Subnet: 'SUBNET', Gateway: 'GATEWAY', Networks: 'NETWORKS', Hosts: 'HOSTS', Addresses: 'ADDRESSES' },
  table: '{{.Subnet}}\t{{.Gateway}}\t{{.Networks}}\t{{.Hosts}}\t{{.Addresses}}',
  quiet: 'Subnet',
}

const ADDRESSES: ListFormat = {
  headers: { Address: 'ADDRESS', Holder: 'HOLDER', Network: 'NETWORK', Host: 'HOST' },
  table: '{{.Address}}\t{{.Holder}}\t{{.Network}}\t{{.Host}}',
  quiet: 'Address',
}

export const ls = defineCommand({
  path: 'ipam ls',
  summary: "List the cluster's pools of the IPAM driver causeway, or who holds the addresses of one",
  usage: '[OPTIONS] [SUBNET]',
  args: [0, 1],
  options: { format: formatOption(), quiet: flag('q', 'Show only subnets, or only addresses') },
  notes:
    'A pool is there as long as a network on any host uses it. Networks and containers of a Docker Engine are shown with the names that it tells, which may be none.',
  examples: [{ line: 'causeway ipam ls' }, { line: 'causeway ipam ls 192.168.1.0/24' }, { line: 'causeway ipam ls --format json' }],
  run: async (context, args, { format, quiet }) => {
    const pools = await context.client.own.get<readonly Pool[]>('/cluster/pools')
    const [subnet] = args
    if (subnet === undefined) {
      const rows = pools.map(
        ({ subnet: of, gateway, networks, addresses }): Row => ({
          Subnet: of,
          Gateway: gateway,
          Networks: networks.length,
          Hosts: [...new Set(networks.map(({ host }) => host))].toSorted().join(' '),
          Addresses: addresses.length,
        }),
      )
      context.stdout.write(renderList(POOLS, rows, format, quiet))
      return 0
    }
    const pool = pools.find((one) => one.subnet === subnet)
    if (pool === undefined) throw fail(`no pool ${subnet}: "causeway ipam ls" lists those that networks use`)
    return listAddresses(context, pool, format, quiet)
  },
})

function listAddresses(context: Context, { networks, addresses, gateway }: Pool, format: string | undefined, quiet: boolean): number {
  const kept = networks.flatMap(({ name, host, reserved }) =>
    reserved.map((ip): Row => ({ Address: ip, Holder: ip === gateway ? '(gateway)' : '(reserved)', Network: name, Host: host })),
  )
  const rows = addresses.map(({ ip, name, host, network }): Row => ({ Address: ip, Holder: name, Network: network, Host: host }))
  context.stdout.write(renderList(ADDRESSES, [...kept, ...rows], format, quiet))
  return 0
}

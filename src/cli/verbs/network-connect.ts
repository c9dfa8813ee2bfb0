/** `network connect` and `network disconnect`. */
import { checkLink } from '../args/environment.ts'
import { defineCommand } from '../command.ts'
import { fail } from '../fail.ts'
import { flag, integer, list, strings, text } from '../options.ts'

export const connect = defineCommand({
  path: 'network connect',
  summary: 'Connect a container to a network; a running one gets the interface at once',
  usage: '[OPTIONS] NETWORK CONTAINER',
  args: [2, 2],
  options: {
    alias: strings('', 'Further name of the container on this network'),
    'driver-opt': strings('', 'Option of the driver for this endpoint'),
    'gw-priority': integer('', 'The network with the greatest number gives the default route'),
    ip: text('', 'IPv4 address (as 172.30.100.104)'),
    ip6: text('', 'IPv6 address (as 2001:db8::33)'),
    link: list('', 'Link to another container (name[:alias])', checkLink),
    'link-local-ip': strings('', 'Link-local address'),
  },
  examples: [
    { line: 'causeway network connect front web' },
    { line: 'causeway network connect --ip 10.5.0.7 --alias www front web' },
    { line: 'causeway network connect --driver-opt com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1 front web' },
  ],
  run: async (context, [network = '', container = ''], o) => {
    const driverOpts: Record<string, string> = {}
    for (const pair of o['driver-opt']) {
      const eq = pair.indexOf('=')
      if (eq < 0) throw fail('invalid key/value pair format in driver options')
      driverOpts[pair.slice(0, eq)] = pair.slice(eq + 1)
    }
    await context.client.networks.connect(network, container, {
      IPAMConfig: {
        ...(o.ip === undefined ? {} : { IPv4Address: o.ip }),
        ...(o.ip6 === undefined ? {} : { IPv6Address: o.ip6 }),
        ...(o['link-local-ip'].length === 0 ? {} : { LinkLocalIPs: o['link-local-ip'] }),
      },
      Links: o.link.length === 0 ? null : o.link,
      Aliases: o.alias,
      DriverOpts: driverOpts,
      GwPriority: o['gw-priority'] ?? 0,
    })
    return 0
  },
})

export const disconnect = defineCommand({
  path: 'network disconnect',
  summary: 'Disconnect a container from a network',
  usage: '[OPTIONS] NETWORK CONTAINER',
  args: [2, 2],
  options: { force: flag('f', 'Also when the container or the network is gone') },
  examples: [{ line: 'causeway network disconnect front web' }],
  run: async (context, [network = '', container = ''], options) => {
    await context.client.networks.disconnect(network, container, options.force)
    return 0
  },
})

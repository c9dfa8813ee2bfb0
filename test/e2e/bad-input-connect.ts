/** Wrong requests to connect a container to a network or take it off: docker-networking reference 3 and 6. */
import { row, starting, type WrongRequest } from './bad-input-world.ts'

const LABEL = 'com.docker.network.'

const connect = (what: string, network: string, body: unknown, status: number, text: string | RegExp) =>
  row(`connect: ${what}`, 'POST', `/networks/${network}/connect`, body, status, text)
const disconnect = (what: string, network: string, body: unknown, status: number, text: string | RegExp) =>
  row(`disconnect: ${what}`, 'POST', `/networks/${network}/disconnect`, body, status, text)
/** Connecting the created container with these settings. */
const settings = (what: string, network: string, EndpointConfig: object, problem: string) =>
  connect(
    what,
    network,
    { Container: 'created1', EndpointConfig },
    400,
    `invalid config for network ${network}: invalid endpoint settings:\n${problem}`,
  )

export const CONNECT_ROWS: readonly WrongRequest[] = [
  // ---- connect
  connect('no body', 'front', undefined, 400, /EOF/),
  connect('no container', 'front', {}, 400, /container/),
  connect('container missing', 'front', { Container: 'nobody' }, 404, 'No such container: nobody'),
  connect('network missing, running container', 'nope', { Container: 'web1' }, 404, 'network nope not found'),
  connect('there already', 'front', { Container: 'web1' }, 403, 'endpoint with name web1 already exists in network front'),
  connect('there already, stopped', 'front', { Container: 'created1' }, 403, 'endpoint with name created1 already exists in network front'),
  connect(
    'host network',
    'host',
    { Container: 'web1' },
    400,
    'cannot connect container to host network - container must be created in host network mode',
  ),
  connect(
    'host network, stopped',
    'host',
    { Container: 'created1' },
    400,
    'cannot connect container to host network - container must be created in host network mode',
  ),
  connect(
    'container in host mode',
    'back',
    { Container: 'hosty' },
    400,
    'container sharing network namespace with another container or host cannot be connected to any other network',
  ),
  connect(
    'container in container mode',
    'back',
    { Container: 'member1' },
    400,
    'container sharing network namespace with another container or host cannot be connected to any other network',
  ),
  connect(
    'container in none mode',
    'back',
    { Container: 'lonely' },
    400,
    'container cannot be connected to multiple networks with one of the networks in private (none) mode',
  ),
  connect(
    'none network',
    'none',
    { Container: 'web1' },
    400,
    'container cannot be connected to multiple networks with one of the networks in private (none) mode',
  ),
  connect(
    'configuration network',
    'cfg',
    { Container: 'web1' },
    403,
    'network cfg is a configuration network and cannot be used by containers',
  ),
  connect(
    'address taken',
    'front',
    { Container: 'paused1', EndpointConfig: { IPAMConfig: { IPv4Address: '10.10.0.5' } } },
    403,
    starting('Address already in use'),
  ),
  connect(
    'address is the gateway',
    'front',
    { Container: 'paused1', EndpointConfig: { IPAMConfig: { IPv4Address: '10.10.0.1' } } },
    403,
    starting('Address already in use'),
  ),
  connect(
    'address is the broadcast address',
    'front',
    { Container: 'paused1', EndpointConfig: { IPAMConfig: { IPv4Address: '10.10.0.255' } } },
    403,
    starting('Address already in use'),
  ),
  connect(
    'network full',
    'tiny',
    { Container: 'paused1' },
    503,
    /^no available IPv4 addresses on this network's address pools: tiny \([0-9a-f]{64}\)/,
  ),
  connect(
    'interface name taken',
    'back',
    { Container: 'web1', EndpointConfig: { DriverOpts: { [`${LABEL}endpoint.ifname`]: 'eth0' } } },
    500,
    /file exists/,
  ),
  connect(
    'link-local address is not',
    'back',
    { Container: 'web1', EndpointConfig: { IPAMConfig: { LinkLocalIPs: ['8.8.8.8'] } } },
    400,
    'invalid link local IP address: 8.8.8.8',
  ),
  connect('settings are a list', 'back', { Container: 'web1', EndpointConfig: [] }, 400, /^invalid JSON: EndpointConfig: /),
  connect(
    'aliases are a text',
    'back',
    { Container: 'web1', EndpointConfig: { Aliases: 'a' } },
    400,
    /^invalid JSON: EndpointConfig.Aliases: /,
  ),
  settings(
    'address on the default bridge',
    'bridge',
    { IPAMConfig: { IPv4Address: '172.17.0.9' } },
    'user-specified IP address is supported on user-defined networks only',
  ),
  settings(
    'alias on the default bridge',
    'bridge',
    { Aliases: ['a1'] },
    'network-scoped aliases are only supported for user-defined networks',
  ),
  settings(
    'address and alias on the default bridge',
    'bridge',
    { IPAMConfig: { IPv4Address: '172.17.0.9' }, Aliases: ['a1'] },
    '* user-specified IP address is supported on user-defined networks only\n* network-scoped aliases are only supported for user-defined networks',
  ),
  settings('IPv4 address is IPv6', 'back', { IPAMConfig: { IPv4Address: 'fd00::5' } }, 'invalid IPv4 address: fd00::5'),
  settings('IPv6 address is IPv4', 'back', { IPAMConfig: { IPv6Address: '10.20.0.5' } }, 'invalid IPv6 address: 10.20.0.5'),
  settings(
    'IPv6 address is mapped IPv4',
    'back',
    { IPAMConfig: { IPv6Address: '::ffff:10.20.0.5' } },
    'invalid IPv6 address: ::ffff:10.20.0.5',
  ),
  settings(
    'address outside of the subnets',
    'back',
    { IPAMConfig: { IPv4Address: '10.99.0.5' } },
    'no configured subnet contains IP address 10.99.0.5',
  ),
  settings(
    'IPv6 address on an IPv4 network',
    'back',
    { IPAMConfig: { IPv6Address: 'fd00::5' } },
    'no configured subnet contains IP address fd00::5',
  ),
  ...[
    'net.ipv4.conf.eth0.forwarding=1',
    'net.ipv5.conf.IFNAME.x=1',
    'net.ipv4.IFNAME.x=1',
    'kernel.conf.x.IFNAME.y=1',
    'net.ipv4.conf.IFNAME.x',
  ].map((sysctl) =>
    settings(
      `sysctl ${sysctl}`,
      'back',
      { DriverOpts: { [`${LABEL}endpoint.sysctls`]: sysctl } },
      `unrecognised network interface sysctl '${sysctl}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`,
    ),
  ),
  settings(
    'interface name too long',
    'back',
    { DriverOpts: { [`${LABEL}endpoint.ifname`]: 'abcdefghijklmnop' } },
    'invalid interface name: abcdefghijklmnop',
  ),
  settings('interface name with a slash', 'back', { DriverOpts: { [`${LABEL}endpoint.ifname`]: 'a/b' } }, 'invalid interface name: a/b'),
  connect(
    'address is a word',
    'back',
    { Container: 'created1', EndpointConfig: { IPAMConfig: { IPv4Address: 'first' } } },
    400,
    'invalid config for network back: invalid endpoint settings:\ninvalid IPv4 address: first',
  ),
  // ---- disconnect
  disconnect('no body', 'front', undefined, 400, /EOF/),
  disconnect('no container', 'front', { Force: true }, 400, /container/),
  disconnect('container missing', 'front', { Container: 'nobody' }, 404, 'No such container: nobody'),
  disconnect('not attached, running', 'back', { Container: 'web1' }, 500, /^container [0-9a-f]{64} is not connected to network back$/),
  disconnect(
    'not attached, stopped',
    'back',
    { Container: 'created1' },
    500,
    /^container [0-9a-f]{64} is not connected to the network back$/,
  ),
  disconnect(
    'host network',
    'host',
    { Container: 'hosty' },
    400,
    'cannot disconnect container from host network - container was created in host network mode',
  ),
  disconnect('network missing', 'nope', { Container: 'web1' }, 404, 'network nope not found'),
  disconnect('force is text', 'front', { Container: 'web1', Force: 'yes' }, 400, /^invalid JSON: Force: /),
]

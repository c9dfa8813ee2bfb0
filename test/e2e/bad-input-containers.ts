/** Wrong requests about containers: docker-networking reference 1.6 to 1.9, and what surrounds them in the Engine API. */
import { row, starting, type WrongRequest } from './bad-input-world.ts'

const LABEL = 'com.docker.network.'
const SYSCTLS = `${LABEL}endpoint.sysctls`

/** A create of `x1` that is fine but for this. */
const create = (what: string, body: object, status: number, text: string | RegExp, prefix = '') =>
  row(
    `container create: ${what}`,
    'POST',
    `${prefix}/containers/create?name=x1`,
    { Image: 'busybox', Cmd: ['sleep', '1'], ...body },
    status,
    text,
  )
const host = (what: string, HostConfig: object, text: string | RegExp, status = 400) => create(what, { HostConfig }, status, text)
/** A conflict with `container:` mode. */
const joined = (what: string, body: { HostConfig?: object }, text: string) =>
  create(`container mode and ${what}`, { ...body, HostConfig: { NetworkMode: 'container:web1', ...body.HostConfig } }, 400, text)
const ports = (what: string, PortBindings: object, text: string | RegExp) => host(`ports: ${what}`, { PortBindings }, text)
const endpoint = (what: string, network: string, settings: object, problem: string) =>
  create(
    `endpoint: ${what}`,
    { HostConfig: { NetworkMode: network }, NetworkingConfig: { EndpointsConfig: { [network]: settings } } },
    400,
    `invalid config for network ${network}: invalid endpoint settings:\n${problem}`,
  )
const on = (what: string, method: string, path: string, status: number, text: string | RegExp, body?: unknown) =>
  row(what, method, path, body, status, text)
const filters = (value: unknown) => `?all=1&filters=${encodeURIComponent(JSON.stringify(value))}`
const id = '[0-9a-f]{64}'
const SETUP = 'failed to set up container networking: '

export const CONTAINER_ROWS: readonly WrongRequest[] = [
  // ---- the body as such
  row('container create: no body', 'POST', '/containers/create', undefined, 400, /EOF/),
  row('container create: empty object', 'POST', '/containers/create', {}, 400, /config cannot be empty/),
  row('container create: cut off', 'POST', '/containers/create', '{"Image":', 400, 'invalid JSON: unexpected EOF'),
  row('container create: two values', 'POST', '/containers/create', '{"Image":"busybox"}{}', 400, 'unexpected content after JSON'),
  create('environment is an object', { Env: { A: '1' } }, 400, /^invalid JSON: Env: /),
  create('host config is a text', { HostConfig: 'none' }, 400, /^invalid JSON: HostConfig: /),
  create('bindings are a list', { HostConfig: { PortBindings: [] } }, 400, /^invalid JSON: HostConfig.PortBindings: /),
  create(
    'host port is a number',
    { HostConfig: { PortBindings: { '80/tcp': [{ HostPort: 80 }] } } },
    400,
    /^invalid JSON: HostConfig.PortBindings/,
  ),
  create('memory is a text', { HostConfig: { Memory: '1g' } }, 400, /^invalid JSON: HostConfig.Memory: /),
  create('endpoints are a list', { NetworkingConfig: { EndpointsConfig: [] } }, 400, /^invalid JSON: NetworkingConfig.EndpointsConfig: /),
  // ---- names, image, command
  row(
    'container create: name with blank',
    'POST',
    '/containers/create?name=a%20b',
    { Image: 'busybox', Cmd: ['x'] },
    400,
    'Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed',
  ),
  row(
    'container create: name of one letter',
    'POST',
    '/containers/create?name=a',
    { Image: 'busybox', Cmd: ['x'] },
    400,
    'Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed',
  ),
  row(
    'container create: name begins with a dash',
    'POST',
    '/containers/create?name=-ab',
    { Image: 'busybox', Cmd: ['x'] },
    400,
    'Invalid container name (-ab), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed',
  ),
  row(
    'container create: name with a slash',
    'POST',
    '/containers/create?name=a%2Fb',
    { Image: 'busybox', Cmd: ['x'] },
    400,
    'Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed',
  ),
  row(
    'container create: name taken',
    'POST',
    '/containers/create?name=web1',
    { Image: 'busybox', Cmd: ['x'] },
    409,
    new RegExp(
      `^Conflict\\. The container name "/web1" is already in use by container "${id}"\\. You have to remove \\(or rename\\) that container to be able to reuse that name\\.$`,
    ),
  ),
  create('image missing', { Image: 'nope' }, 404, starting('No such image: nope')),
  create('no image', { Image: '' }, 400, 'invalid reference format'),
  create('no command', { Image: 'busybox', Cmd: [''] }, 400, 'no command specified'),
  create('hostname with blank', { Hostname: 'a b' }, 400, 'invalid hostname format: a b'),
  create('workdir is relative', { WorkingDir: 'here' }, 400, /working directory 'here' is invalid/),
  create('environment without name', { Env: ['=x'] }, 400, 'invalid environment variable: =x'),
  create('stop signal unknown', { StopSignal: 'SIGLOUD' }, 400, /SIGLOUD/),
  host('restart policy unknown', { RestartPolicy: { Name: 'sometimes' } }, /sometimes/),
  host('restart count without on-failure', { RestartPolicy: { Name: 'always', MaximumRetryCount: 3 } }, /maximum retry count/),
  host('restart count negative', { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: -1 } }, /maximum retry count/),
  host('memory below the minimum', { Memory: 1024 }, 'Minimum memory limit allowed is 6MB'),
  host(
    'swap below memory',
    { Memory: 64 << 20, MemorySwap: 32 << 20 },
    'Minimum memoryswap limit should be larger than memory limit, see usage',
  ),
  host('swap without memory', { MemorySwap: 64 << 20 }, 'You should always set the Memory limit when using Memoryswap limit, see usage'),
  host('capability unknown', { CapAdd: ['FLY'] }, /FLY/),
  host('log driver unknown', { LogConfig: { Type: 'parchment' } }, "logger: no log driver named 'parchment' is registered"),
  host('bind source relative', { Binds: ['here/x:/x'] }, /here/),
  host('bind target relative', { Binds: ['/tmp:x'] }, /x/),
  host(
    'mount source missing',
    { Mounts: [{ Type: 'bind', Source: '/no/such/place', Target: '/x' }] },
    'invalid mount config for type "bind": bind source path does not exist: /no/such/place',
  ),
  host('volumes from nobody', { VolumesFrom: ['nobody'] }, 'No such container: nobody', 404),
  // ---- network modes
  host('container mode without name', { NetworkMode: 'container:' }, 'invalid network mode: invalid container format container:<name|id>'),
  host('container mode without colon', { NetworkMode: 'container' }, 'invalid network mode: invalid container format container:<name|id>'),
  joined('hostname', { Hostname: 'h1' } as object, 'conflicting options: hostname and the network mode'),
  joined(
    'links',
    { HostConfig: { Links: ['web1'] } },
    "conflicting options: container type network can't be used with links. This would result in undefined behavior",
  ),
  joined('dns', { HostConfig: { Dns: ['1.1.1.1'] } }, 'conflicting options: dns and the network mode'),
  joined(
    'extra hosts',
    { HostConfig: { ExtraHosts: ['a:1.1.1.1'] } },
    'conflicting options: custom host-to-IP mapping and the network mode',
  ),
  joined(
    'published ports',
    { HostConfig: { PortBindings: { '80/tcp': [{}] } } },
    'conflicting options: port publishing and the container type network mode',
  ),
  joined(
    'publish-all',
    { HostConfig: { PublishAllPorts: true } },
    'conflicting options: port publishing and the container type network mode',
  ),
  joined(
    'exposed ports',
    { ExposedPorts: { '80/tcp': {} } } as object,
    'conflicting options: port exposing and the container type network mode',
  ),
  create(
    'container mode and MAC before 1.44',
    { MacAddress: '02:00:00:00:00:07', HostConfig: { NetworkMode: 'container:web1' } },
    400,
    'conflicting options: mac-address and the network mode',
    '/v1.43',
  ),
  create(
    'host mode and MAC before 1.44',
    { MacAddress: '02:00:00:00:00:07', HostConfig: { NetworkMode: 'host' } },
    400,
    'conflicting options: mac-address and the network mode',
    '/v1.43',
  ),
  create(
    'host mode and links',
    { HostConfig: { NetworkMode: 'host', Links: ['web1'] } },
    400,
    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
  ),
  create(
    'hostname and UTS host',
    { Hostname: 'h1', HostConfig: { UTSMode: 'host' } },
    400,
    'conflicting options: hostname and the UTS mode',
  ),
  create(
    'several endpoints before 1.44',
    { NetworkingConfig: { EndpointsConfig: { front: {}, back: {} } } },
    400,
    'Container cannot be created with multiple network endpoints: back, front',
    '/v1.43',
  ),
  create(
    'none and another network',
    { HostConfig: { NetworkMode: 'none' }, NetworkingConfig: { EndpointsConfig: { none: {}, front: {} } } },
    400,
    'container cannot be connected to multiple networks with one of the networks in private (none) mode',
  ),
  create(
    'host as second network',
    { HostConfig: { NetworkMode: 'front' }, NetworkingConfig: { EndpointsConfig: { front: {}, host: {} } } },
    400,
    'cannot connect container to host network - container must be created in host network mode',
  ),
  // ---- endpoints
  endpoint(
    'address on the default bridge',
    'bridge',
    { IPAMConfig: { IPv4Address: '172.17.0.9' } },
    'user-specified IP address is supported on user-defined networks only',
  ),
  endpoint(
    'alias on the default bridge',
    'bridge',
    { Aliases: ['a1'] },
    'network-scoped aliases are only supported for user-defined networks',
  ),
  endpoint('alias in none mode', 'none', { Aliases: ['a1'] }, 'network-scoped aliases are only supported for user-defined networks'),
  endpoint(
    'address in host mode',
    'host',
    { IPAMConfig: { IPv4Address: '10.0.0.9' } },
    'user-specified IP address is supported on user-defined networks only',
  ),
  endpoint('IPv4 address is IPv6', 'front', { IPAMConfig: { IPv4Address: 'fd00::1' } }, 'invalid IPv4 address: fd00::1'),
  endpoint('IPv4 address is a word', 'front', { IPAMConfig: { IPv4Address: 'five' } }, 'invalid IPv4 address: five'),
  endpoint('IPv4 address has leading zeros', 'front', { IPAMConfig: { IPv4Address: '10.010.0.6' } }, 'invalid IPv4 address: 10.010.0.6'),
  endpoint(
    'IPv6 address is mapped IPv4',
    'front',
    { IPAMConfig: { IPv6Address: '::ffff:10.10.0.6' } },
    'invalid IPv6 address: ::ffff:10.10.0.6',
  ),
  endpoint(
    'address outside of the subnet',
    'front',
    { IPAMConfig: { IPv4Address: '10.11.0.6' } },
    'no configured subnet contains IP address 10.11.0.6',
  ),
  endpoint(
    'address outside of an automatic subnet',
    'auto',
    { IPAMConfig: { IPv4Address: '10.11.0.6' } },
    'no configured subnet contains IP address 10.11.0.6',
  ),
  endpoint(
    'both addresses wrong',
    'front',
    { IPAMConfig: { IPv4Address: 'x', IPv6Address: 'y' } },
    '* invalid IPv4 address: x\n* invalid IPv6 address: y',
  ),
  endpoint('MAC address is a word', 'front', { MacAddress: 'mine' }, 'invalid MAC address: mine'),
  endpoint(
    'sysctl without IFNAME',
    'front',
    { DriverOpts: { [SYSCTLS]: 'net.ipv4.conf.eth0.log_martians=1' } },
    "unrecognised network interface sysctl 'net.ipv4.conf.eth0.log_martians=1'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'",
  ),
  // ---- MAC address, sysctls
  create('MAC address is a word', { MacAddress: 'mine' }, 400, /mine/),
  create(
    'container-wide MAC differs from the endpoint',
    {
      MacAddress: '02:00:00:00:00:07',
      HostConfig: { NetworkMode: 'front' },
      NetworkingConfig: { EndpointsConfig: { front: { MacAddress: '02:00:00:00:00:08' } } },
    },
    400,
    'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty',
  ),
  create(
    'container-wide MAC without its network before 1.44',
    { MacAddress: '02:00:00:00:00:07', HostConfig: { NetworkMode: 'front' }, NetworkingConfig: { EndpointsConfig: { back: {} } } },
    400,
    'HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks',
    '/v1.43',
  ),
  host(
    'interface sysctl since 1.48',
    { Sysctls: { 'net.ipv4.conf.eth0.log_martians': '1' } },
    `interface specific sysctl setting "net.ipv4.conf.eth0.log_martians" must be supplied using driver option '${SYSCTLS}'`,
    500,
  ),
  // ---- ports
  ports('host port is no number', { '80/tcp': [{ HostPort: 'aa80' }] }, 'invalid port specification: "aa80"'),
  ports('host port too large', { '80/tcp': [{ HostPort: '65536' }] }, 'invalid port specification: "65536"'),
  ports('host port negative', { '80/tcp': [{ HostPort: '-1' }] }, 'invalid port specification: "-1"'),
  ports('host range backwards', { '80/tcp': [{ HostPort: '8010-8000' }] }, 'invalid port specification: "8010-8000"'),
  ports('host address is a word', { '80/tcp': [{ HostIp: 'home', HostPort: '80' }] }, /home/),
  ports('key is no port', { '19039;1230': [{ HostPort: '80' }] }, "invalid JSON: invalid port '19039;1230': invalid syntax"),
  ports('key too large', { '70000/tcp': [{}] }, /^invalid JSON: invalid port '70000/),
  ports('key is empty', { '': [{}] }, "invalid JSON: invalid port '': invalid syntax"),
  ports('key range backwards', { '90-80/tcp': [{}] }, /^invalid JSON: invalid port '90-80/),
  create('exposed port is a word', { ExposedPorts: { 'http/tcp': {} } }, 400, /^invalid JSON: invalid port 'http/),
  // ---- links, hosts, dns
  host('link without target', { Links: [':db'] }, 'bad format for links: :db', 500),
  host('link with three parts', { Links: ['a:b:c'] }, 'bad format for links: a:b:c', 500),
  host('link to nobody', { Links: ['nobody:db'] }, 'could not get container for nobody: No such container: nobody'),
  host(
    'link to a container in host mode',
    { Links: ['hosty:db'] },
    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
  ),
  host('extra host without address', { ExtraHosts: ['db'] }, 'bad format for add-host: "db"'),
  host('extra host without name', { ExtraHosts: [':1.1.1.1'] }, 'bad format for add-host: ":1.1.1.1"'),
  host('extra host with a bad address', { ExtraHosts: ['db:there'] }, 'invalid IP address in add-host: "there"'),
  host('name server is a word', { Dns: ['resolver'] }, /resolver/),
  // ---- lookups
  on('inspect: missing', 'GET', '/containers/nobody/json', 404, 'No such container: nobody'),
  on('stop: missing', 'POST', '/containers/nobody/stop', 404, 'No such container: nobody'),
  on('start: missing', 'POST', '/containers/nobody/start', 404, 'No such container: nobody'),
  on('kill: missing', 'POST', '/containers/nobody/kill', 404, 'No such container: nobody'),
  on('remove: missing', 'DELETE', '/containers/nobody', 404, 'No such container: nobody'),
  on('rename: missing', 'POST', '/containers/nobody/rename?name=ab', 404, 'No such container: nobody'),
  on('exec: missing container', 'POST', '/containers/nobody/exec', 404, 'No such container: nobody', { Cmd: ['true'] }),
  on('exec inspect: missing', 'GET', '/exec/nothing/json', 404, 'No such exec instance: nothing'),
  on('logs: missing', 'GET', '/containers/nobody/logs?stdout=1', 404, 'No such container: nobody'),
  on('no such page', 'GET', '/nowhere', 404, 'page not found'),
  on('version too new', 'GET', '/v1.99/networks', 400, 'client version 1.99 is too new. Maximum supported API version is 1.51'),
  on(
    'version too old',
    'GET',
    '/v1.12/networks',
    400,
    /client version 1\.12 is too old\. Minimum supported API version is 1\.24, please upgrade your client to a newer version/,
  ),
  // ---- wrong states
  on(
    'remove: running',
    'DELETE',
    '/containers/web1',
    409,
    'cannot remove container "/web1": container is running: stop the container before removing or force remove',
  ),
  on(
    'remove: paused',
    'DELETE',
    '/containers/paused1',
    409,
    'cannot remove container "/paused1": container is paused and must be unpaused first',
  ),
  on('start: paused', 'POST', '/containers/paused1/start', 409, 'cannot start a paused container, try unpause instead'),
  on('pause: paused', 'POST', '/containers/paused1/pause', 409, new RegExp(`^Container ${id} is already paused$`)),
  on('unpause: running', 'POST', '/containers/web1/unpause', 500, new RegExp(`^Container ${id} is not paused$`)),
  on('pause: created', 'POST', '/containers/created1/pause', 409, new RegExp(`^Container ${id} is not running$`)),
  on('start: running', 'POST', '/containers/web1/start', 304, ''),
  on('stop: created', 'POST', '/containers/created1/stop', 304, ''),
  on(
    'kill: created',
    'POST',
    '/containers/created1/kill',
    409,
    new RegExp(`^cannot kill container: created1: container ${id} is not running$`),
  ),
  on('kill: signal unknown', 'POST', '/containers/web1/kill?signal=SIGLOUD', 400, /SIGLOUD/),
  on('exec: created', 'POST', '/containers/created1/exec', 409, new RegExp(`^container ${id} is not running$`), { Cmd: ['true'] }),
  on('exec: paused', 'POST', '/containers/paused1/exec', 409, /paused/, { Cmd: ['true'] }),
  on('exec: no command', 'POST', '/containers/web1/exec', 400, 'no exec command specified', { Cmd: [] }),
  on('top: created', 'GET', '/containers/created1/top', 409, new RegExp(`^container ${id} is not running$`)),
  on('resize: created', 'POST', '/containers/created1/resize?h=10&w=10', 409, new RegExp(`^container ${id} is not running$`)),
  on('resize: no number', 'POST', '/containers/web1/resize?h=tall&w=10', 400, /tall/),
  on('rename: empty', 'POST', '/containers/web1/rename?name=', 400, 'Neither old nor new names may be empty'),
  on('rename: same', 'POST', '/containers/web1/rename?name=web1', 400, 'Renaming a container with the same name as its current name'),
  on(
    'rename: taken',
    'POST',
    '/containers/web1/rename?name=hosty',
    409,
    /^Error when allocating new name: Conflict\. The container name "\/hosty" is already in use by container /,
  ),
  on('rename: bad name', 'POST', '/containers/web1/rename?name=a%20b', 400, /Invalid container name \(a b\)/),
  on('remove link: missing', 'DELETE', '/containers/web1/db?link=1', 404, /web1\/db/),
  on('update: memory too small', 'POST', '/containers/web1/update', 400, 'Minimum memory limit allowed is 6MB', { Memory: 1024 }),
  on('wait: condition unknown', 'POST', '/containers/web1/wait?condition=bored', 400, /bored/),
  on('stop: no number', 'POST', '/containers/web1/stop?t=soon', 400, /soon/),
  on('attach: missing', 'POST', '/containers/nobody/attach?stream=1', 404, 'No such container: nobody'),
  // ---- starting what cannot start: it stays `created`, with nothing left behind
  on('start: network missing', 'POST', '/containers/no-net/start', 404, `${SETUP}network no-such-net not found`),
  on(
    'start: container to join missing',
    'POST',
    '/containers/no-target/start',
    500,
    'joining network namespace of container: No such container: gone',
  ),
  on(
    'start: container to join not running',
    'POST',
    '/containers/idle-target/start',
    409,
    new RegExp(`^cannot join network namespace of a non running container: container ${id} is created$`),
  ),
  on('start: address taken', 'POST', '/containers/same-ip/start', 403, starting(`${SETUP}Address already in use`)),
  on(
    'start: network full',
    'POST',
    '/containers/full-net/start',
    503,
    new RegExp(`^${SETUP}no available IPv4 addresses on this network's address pools: tiny \\(${id}\\)`),
  ),
  on(
    'start: configuration network',
    'POST',
    '/containers/cfg-net/start',
    403,
    `${SETUP}network cfg is a configuration network and cannot be used by containers`,
  ),
  on('start: link-local address is not', 'POST', '/containers/bad-local/start', 400, `${SETUP}invalid link local IP address: 8.8.8.8`),
  on(
    'start: port taken by another container',
    'POST',
    '/containers/same-port/start',
    500,
    new RegExp(
      `^${SETUP}driver failed programming external connectivity on endpoint same-port \\(${id}\\): Bind for 0\\.0\\.0\\.0:8080 failed: port is already allocated`,
    ),
  ),
  on(
    'start: port taken by a program',
    'POST',
    '/containers/foreign-port/start',
    500,
    new RegExp(
      `^${SETUP}driver failed programming external connectivity on endpoint foreign-port \\(${id}\\): failed to bind host port 0\\.0\\.0\\.0:7777/tcp: address already in use`,
    ),
  ),
  on('start: program missing', 'POST', '/containers/no-program/start', 400, /\/no\/such\/program/),
  // ---- container list
  on('list: filter key unknown', 'GET', `/containers/json${filters({ colour: ['red'] })}`, 400, "invalid filter 'colour'"),
  on('list: status unknown', 'GET', `/containers/json${filters({ status: ['bored'] })}`, 400, /status=bored/),
  on('list: exited is no number', 'GET', `/containers/json${filters({ exited: ['well'] })}`, 400, /well/),
  on('list: publish is no port', 'GET', `/containers/json${filters({ publish: ['http'] })}`, 400, /http/),
  on('list: expose range is no range', 'GET', `/containers/json${filters({ expose: ['80-'] })}`, 400, /80-/),
  on('list: before nobody', 'GET', `/containers/json${filters({ before: ['nobody'] })}`, 404, 'No such container: nobody'),
  on('list: limit is no number', 'GET', '/containers/json?limit=few', 400, /few/),
  // ---- ports of a running container, volumes, images, events
  on('ports: none given', 'POST', '/causeway/v1/containers/web1/ports', 400, 'no ports given', {}),
  on('ports: protocol unknown', 'POST', '/causeway/v1/containers/web1/ports', 400, /quic/, {
    ports: [{ proto: 'quic', containerPort: 80 }],
  }),
  on('ports: container port 0', 'POST', '/causeway/v1/containers/web1/ports', 400, /"0"/, { ports: [{ proto: 'tcp', containerPort: 0 }] }),
  on('ports: range backwards', 'POST', '/causeway/v1/containers/web1/ports', 400, /9-8/, {
    ports: [{ proto: 'tcp', containerPort: 80, hostPort: 9, hostPortEnd: 8 }],
  }),
  on('ports: port taken', 'POST', '/causeway/v1/containers/web1/ports', 500, /port is already allocated/, {
    ports: [{ proto: 'tcp', containerPort: 81, hostPort: 8080 }],
  }),
  on('ports: container does not run', 'POST', '/causeway/v1/containers/created1/ports', 409, /not running/, {
    ports: [{ proto: 'tcp', containerPort: 80 }],
  }),
  on('ports: container missing', 'POST', '/causeway/v1/containers/nobody/ports', 404, 'No such container: nobody', {
    ports: [{ proto: 'tcp', containerPort: 80 }],
  }),
  on('volume: missing', 'GET', '/volumes/nope', 404, /nope/),
  on('volume: bad name', 'POST', '/volumes/create', 400, /a b/, { Name: 'a b' }),
  on('volume: driver unknown', 'POST', '/volumes/create', 404, /nope/, { Name: 'x1', Driver: 'nope' }),
  on('image: missing', 'GET', '/images/nope/json', 404, /No such image: nope/),
  on('image: in use', 'DELETE', '/images/busybox', 409, /conflict: unable to remove repository reference "busybox"/),
  on(
    'events: filter unknown',
    'GET',
    `/events?until=1&filters=${encodeURIComponent('{"colour":["red"]}')}`,
    400,
    "invalid filter 'colour'",
  ),
]

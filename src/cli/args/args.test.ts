import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { capabilities, checkExtraHost, checkIp, checkLink, checkSearchDomain, checkSysctl, environment, labels } from './environment.ts'
import { buildPools } from './ipam-option.ts'
import { parseDevice, parseMount, parseTmpfs, parseVolume } from './mount-option.ts'
import { buildEndpoints, type EndpointFlags, parseNetworkOption } from './network-option.ts'
import { parseExpose, parsePublish } from './ports.ts'
import { parseBytes, parseBytesOrUnlimited, parseCpus, parseDuration, parseRestartPolicy, parseUlimit } from './units.ts'

/** Text of an outcome: the value as JSON, or the error's message. */
function outcome(run: () => unknown): string {
  try {
    return JSON.stringify(run())
  } catch (error) {
    return `! ${(error as Error).message}`
  }
}

function check<T extends unknown[]>(parse: (...args: T) => unknown, cases: readonly (readonly [T, unknown])[]): void {
  for (const [args, expected] of cases) {
    const text = typeof expected === 'string' && expected.startsWith('! ') ? expected : JSON.stringify(expected)
    assert.equal(
      outcome(() => parse(...args)),
      text,
      JSON.stringify(args),
    )
  }
}

const port = (p: string, hostPort = '', hostIp = '') => ({ port: p, hostIp, hostPort })

test('-p: every spelling', () => {
  check(parsePublish, [
    [['80'], [port('80/tcp')]],
    [['80/udp'], [port('80/udp')]],
    [['80/UDP'], [port('80/udp')]],
    [['80/'], [port('80/tcp')]],
    [['8080:80'], [port('80/tcp', '8080')]],
    [['8080:80/sctp'], [port('80/sctp', '8080')]],
    [[':80'], [port('80/tcp')]],
    [['0:80'], [port('80/tcp', '0')]],
    [['127.0.0.1:8080:80'], [port('80/tcp', '8080', '127.0.0.1')]],
    [['127.0.0.1::80'], [port('80/tcp', '', '127.0.0.1')]],
    [['[::1]:8080:80'], [port('80/tcp', '8080', '::1')]],
    [['[::1]::80/udp'], [port('80/udp', '', '::1')]],
    [['::1:8080:80'], [port('80/tcp', '8080', '::1')]],
    [['[::]:80:80'], [port('80/tcp', '80', '::')]],
    [['80-82'], [port('80/tcp'), port('81/tcp'), port('82/tcp')]],
    [['8000-8001:80-81/udp'], [port('80/udp', '8000'), port('81/udp', '8001')]],
    [['7000-7010:70'], [port('70/tcp', '7000-7010')]],
    [['published=8080,target=80,protocol=udp'], [port('80/udp', '8080')]],
    [['target=80'], [port('80/tcp')]],
  ])
})

test('-p: every mistake, in the words of Docker', () => {
  check(parsePublish, [
    [['foo'], '! invalid containerPort: foo'],
    [['80:99999'], '! invalid containerPort: 99999'],
    [['80:-1'], '! invalid containerPort: -1'],
    [['85-80'], '! invalid containerPort: 85-80'],
    [['x:80'], '! invalid hostPort: x'],
    [['70000:80'], '! invalid hostPort: 70000'],
    [['80-85:80-82'], '! invalid ranges specified for container and host Ports: 80-82 and 80-85'],
    [['80:80-82'], '! invalid ranges specified for container and host Ports: 80-82 and 80'],
    [['1.2.3.4.5:80:80'], '! invalid IP address: 1.2.3.4.5'],
    [['1:2:3:4:5'], '! invalid IP address: 1:2:3'],
    [['host:80:80'], '! invalid IP address: host'],
    [['80/foo'], '! invalid proto: foo'],
    [[''], '! no port specified: <empty>'],
    [['8080:'], '! no port specified: 8080:<empty>'],
    [['a=b'], '! no port specified: :/tcp<empty>'],
    [['target=80,nonsense'], "! invalid publish opts format (should be name=value but got 'nonsense')"],
  ])
})

test('--expose: ports, ranges, mistakes', () => {
  check(parseExpose, [
    [['80'], ['80/tcp']],
    [['53/udp'], ['53/udp']],
    [['5-7/sctp'], ['5/sctp', '6/sctp', '7/sctp']],
    [['1:2'], '! invalid port format for --expose: 1:2'],
    [['foo'], '! invalid range format for --expose: foo, error: strconv.ParseUint: parsing "foo": invalid syntax'],
    [['99999'], '! invalid range format for --expose: 99999, error: strconv.ParseUint: parsing "99999": value out of range'],
    [['80/foo'], '! invalid proto: foo'],
  ])
})

const none = { aliases: [], driverOpts: {}, links: [], linkLocalIps: [] }

test('--network: short and long spelling', () => {
  check(parseNetworkOption, [
    [['front'], { name: 'front', ...none }],
    [['container:x'], { name: 'container:x', ...none }],
    [['name=a'], { name: 'a', ...none }],
    [['NAME=a,Alias=x,alias=y'], { name: 'a', ...none, aliases: ['x', 'y'] }],
    [['name=a,ip=10.0.0.5,ip6=fd00::5'], { name: 'a', ...none, ip: '10.0.0.5', ip6: 'fd00::5' }],
    [
      ['name=a,mac-address=02:00:00:00:00:01,link-local-ip=169.254.1.1'],
      { name: 'a', ...none, macAddress: '02:00:00:00:00:01', linkLocalIps: ['169.254.1.1'] },
    ],
    [['name=a,driver-opt=Foo=BAR,gw-priority=-3'], { name: 'a', ...none, driverOpts: { foo: 'bar' }, gwPriority: -3 }],
    [['name=a,"driver-opt=k=v,w"'], { name: 'a', ...none, driverOpts: { k: 'v,w' } }],
    [['name=x,foo=bar'], '! invalid field key foo'],
    [['alias=x'], '! network name/id is not specified'],
    [['name=a,driver-opt=foo'], '! invalid key value pair format in driver options'],
    [['name=a,gw-priority=foo'], '! invalid gw-priority (foo): invalid syntax'],
    [['name=a,nonsense'], '! invalid field nonsense'],
    [['name=a,"open'], '! parse error on line 1, column 13: extraneous or missing " in quoted-field'],
  ])
})

function endpoints(networks: readonly string[], flags: Partial<EndpointFlags> = {}): unknown {
  return buildEndpoints(networks.map(parseNetworkOption), { aliases: [], links: [], linkLocalIps: [], ...flags })
}

test('networks of run: what becomes the mode and what the endpoints', () => {
  check(endpoints, [
    [[[]], { mode: 'default', endpoints: { default: {} } }],
    [[['host']], { mode: 'host', endpoints: {} }],
    [[['front']], { mode: 'front', endpoints: {} }],
    [[['front'], { ip: '10.0.0.5' }], { mode: 'front', endpoints: { front: { IPAMConfig: { IPv4Address: '10.0.0.5' } } } }],
    [[['a', 'b'], { aliases: ['x'] }], { mode: 'a', endpoints: { a: { Aliases: ['x'] }, b: {} } }],
    [[[], { macAddress: '02:00:00:00:00:01' }], { mode: 'default', endpoints: { default: { MacAddress: '02:00:00:00:00:01' } } }],
    [[['n'], { links: ['a:b'] }], { mode: 'n', endpoints: { n: { Links: ['a:b'] } } }],
    [[[], { links: ['a:b'] }], { mode: 'default', endpoints: { default: {} } }],
    [[['name=a,gw-priority=3']], { mode: 'a', endpoints: { a: { GwPriority: 3 } } }],
    [[['a', 'a']], '! network "a" is specified multiple times'],
    [[['a', 'host']], '! conflicting options: cannot attach both user-defined and non-user-defined network-modes'],
    [[['bridge'], { aliases: ['x'] }], '! network-scoped aliases are only supported for user-defined networks'],
    [[[], { aliases: ['x'] }], '! network-scoped aliases are only supported for user-defined networks'],
    [[['a'], { macAddress: 'x' }], '! x is not a valid mac address'],
    [[['name=a,ip=1'], { ip: '2' }], '! conflicting options: cannot specify both --ip and per-network IPv4 address'],
    [[['name=a,alias=x'], { aliases: ['y'] }], '! conflicting options: cannot specify both --network-alias and per-network alias'],
  ])
})

test('--mount: every kind, and what does not go together', () => {
  check(parseMount, [
    [['type=bind,source=/a,target=/b,readonly'], { Type: 'bind', Source: '/a', Target: '/b', ReadOnly: true }],
    [
      ['type=bind,src=/a,dst=/b,ro=false,bind-propagation=rslave'],
      { Type: 'bind', Source: '/a', Target: '/b', BindOptions: { Propagation: 'rslave' } },
    ],
    [['source=v,destination=/d'], { Type: 'volume', Source: 'v', Target: '/d' }],
    [
      ['type=volume,source=v,target=/d,volume-label=a=b,volume-nocopy'],
      { Type: 'volume', Source: 'v', Target: '/d', VolumeOptions: { NoCopy: true, Labels: { a: 'b' }, DriverConfig: {} } },
    ],
    [
      ['type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770'],
      { Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 1048576, Mode: 1016 } },
    ],
    [['type=bind,target=/x,"source=/a,b"'], { Type: 'bind', Target: '/x', Source: '/a,b' }],
    [['foo'], "! invalid field 'foo' must be a key=value pair"],
    [['x=y'], "! unexpected key 'x' in 'x=y'"],
    [['type=bind'], '! target is required'],
    [['type=,target=/x'], '! type is required'],
    [['type=bind,volume-nocopy,target=/x'], "! cannot mix 'volume-*' options with mount type 'bind'"],
    [['type=tmpfs,target=/x,tmpfs-size=foo'], '! invalid value for tmpfs-size: foo'],
    [['type=bind,source=/x,target=/x,ro=foo'], '! invalid value for ro: foo'],
    [[''], '! EOF'],
  ])
})

test('-v, --tmpfs, --device', () => {
  check(parseVolume, [
    [['/anon'], { anonymous: '/anon' }],
    [['vol:/c'], { bind: 'vol:/c' }],
    [['/a:/b:ro'], { bind: '/a:/b:ro' }],
    [['./x:/b'], { bind: `${process.cwd()}/x:/b` }],
  ])
  check(parseTmpfs, [
    [['/run'], ['/run', '']],
    [['/run:size=1m,mode=700'], ['/run', 'size=1m,mode=700']],
  ])
  const device = (a: string, b: string, mode: string) => ({ PathOnHost: a, PathInContainer: b, CgroupPermissions: mode })
  check(parseDevice, [
    [['/dev/a'], device('/dev/a', '/dev/a', 'rwm')],
    [['/dev/a:/dev/b'], device('/dev/a', '/dev/b', 'rwm')],
    [['/dev/a:r'], device('/dev/a', '/dev/a', 'r')],
    [['/dev/a:/dev/b:rw'], device('/dev/a', '/dev/b', 'rw')],
    [['a:b:c:d'], '! invalid device specification: a:b:c:d'],
  ])
})

test('sizes, CPUs, durations, ulimits, restart policies', () => {
  check(parseBytes, [
    [['512'], 512],
    [['1b'], 1],
    [['10m'], 10485760],
    [['10MB'], 10485760],
    [['1.5GiB'], 1610612736],
    [['foo'], "! invalid size: 'foo'"],
    [['-1'], "! invalid size: '-1'"],
    [['1x'], "! invalid size: '1x'"],
  ])
  check(parseBytesOrUnlimited, [[['-1'], -1]])
  check(parseCpus, [
    [['1'], 1e9],
    [['1.5'], 1.5e9],
    [['.25'], 2.5e8],
    [['0.000000001'], 1],
    [['1.1234567891'], '! value is too precise'],
    [['foo'], '! failed to parse foo as a rational number'],
  ])
  check(parseDuration, [
    [['3s'], 3e9],
    [['1h15m30.5s'], 4530.5e9],
    [['100ms'], 1e8],
    [['0'], 0],
    [['-3s'], -3e9],
    [['3'], '! time: missing unit in duration "3"'],
    [['x'], '! time: invalid duration "x"'],
    [['3s4'], '! time: invalid duration "3s4"'],
  ])
  check(parseUlimit, [
    [['nofile=10:20'], { Name: 'nofile', Hard: 20, Soft: 10 }],
    [['core=-1'], { Name: 'core', Hard: -1, Soft: -1 }],
    [['foo'], '! invalid ulimit argument: foo'],
    [['foo=1'], '! invalid ulimit type: foo'],
    [['nofile=2:1'], '! ulimit soft limit must be less than or equal to hard limit: 2 > 1'],
    [['nofile=x'], '! strconv.ParseInt: parsing "x": invalid syntax'],
  ])
  check(parseRestartPolicy, [
    [['always'], { Name: 'always', MaximumRetryCount: 0 }],
    [['on-failure:3'], { Name: 'on-failure', MaximumRetryCount: 3 }],
    [[':'], '! invalid restart policy format: no policy provided before colon'],
    [['a:b'], '! invalid restart policy format: maximum retry count must be an integer'],
  ])
})

test('hosts, addresses, links, sysctls, domains, capabilities', () => {
  check(checkExtraHost, [
    [['h:1.2.3.4'], 'h:1.2.3.4'],
    [['h=1.2.3.4'], 'h:1.2.3.4'],
    [['h:::1'], 'h:::1'],
    [['h=[::1]'], 'h:::1'],
    [['h:host-gateway'], 'h:host-gateway'],
    [['h'], '! bad format for add-host: "h"'],
    [['h:zz'], '! invalid IP address in add-host: "zz"'],
  ])
  check(checkIp, [[['foo'], '! IP address is not correctly formatted: foo']])
  check(checkLink, [
    [['a'], 'a'],
    [['a:b'], 'a:b'],
    [['a:b:c'], '! bad format for links: a:b:c'],
    [[''], '! empty string specified for links'],
  ])
  check(checkSysctl, [
    [['net.ipv4.ip_forward=1'], 'net.ipv4.ip_forward=1'],
    [['fs.mqueue.x=1'], 'fs.mqueue.x=1'],
    [['vm.swappiness=1'], "! sysctl 'vm.swappiness=1' is not allowed"],
    [['net.ipv4.ip_forward'], "! sysctl 'net.ipv4.ip_forward' is not allowed"],
  ])
  check(checkSearchDomain, [
    [['example.com'], 'example.com'],
    [['.'], '.'],
    [['a b'], '! a b is not a valid domain'],
  ])
  check(capabilities, [
    [[[]], null],
    [[['net_raw', 'CAP_SYS_TIME', 'NET_RAW']], ['CAP_NET_RAW', 'CAP_SYS_TIME']],
  ])
})

test('environment and label files: comments, blank lines, names to look up, and what is wrong', () => {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-cli-'))
  try {
    const file = join(folder, 'env')
    writeFileSync(file, '\uFEFF# comment\n\nA=1\n  B=two words \r\nC\nD\nE=\n')
    assert.deepEqual(environment([file], ['A=2', 'C', 'NOPE'], { C: 'own' }), [
      'A=1',
      'B=two words ',
      'C=own',
      'E=',
      'A=2',
      'C=own',
      'NOPE',
    ])
    assert.deepEqual(labels([file], ['x', 'y=z=1']), { A: '1', B: 'two words ', C: '', D: '', E: '', x: '', y: 'z=1' })
    writeFileSync(file, 'A B=1\n')
    assert.throws(() => environment([file], [], {}), { message: "variable 'A B' contains whitespaces" })
    writeFileSync(file, '=1\n')
    assert.throws(() => environment([file], [], {}), { message: "no variable name on line '=1'" })
    assert.throws(() => environment([join(folder, 'nope')], [], {}), { message: `open ${join(folder, 'nope')}: no such file or directory` })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('network create: subnets, ranges, gateways and further addresses find each other', () => {
  const pools = (subnets: string[], ranges: string[] = [], gateways: string[] = [], aux: Record<string, string> = {}) =>
    buildPools({ subnets, ranges, gateways, aux })
  check(pools, [
    [[[]], []],
    [[['foo']], [{ Subnet: 'foo' }]],
    [
      [['10.9.0.0/24', 'fd00::/64'], ['10.9.0.128/25'], ['fd00::1', '10.9.0.1'], { a: '10.9.0.9', b: 'fd00::9' }],
      [
        { Subnet: '10.9.0.0/24', IPRange: '10.9.0.128/25', Gateway: '10.9.0.1', AuxiliaryAddresses: { a: '10.9.0.9' } },
        { Subnet: 'fd00::/64', Gateway: 'fd00::1', AuxiliaryAddresses: { b: 'fd00::9' } },
      ],
    ],
    [[[], [], ['10.8.0.1']], '! every ip-range or gateway must have a corresponding subnet'],
    [[['10.9.0.0/24', '10.9.0.0/25']], '! multiple overlapping subnet configuration is not supported'],
    [[['10.9.0.0/24'], [], ['10.8.0.1']], '! no matching subnet for gateway 10.8.0.1'],
    [[['10.9.0.0/24'], ['10.8.0.0/25']], '! no matching subnet for range 10.8.0.0/25'],
    [[['10.9.0.0/24'], [], [], { a: '10.8.0.1' }], '! no matching subnet for aux-address 10.8.0.1'],
    [
      [['10.9.0.0/24', '10.10.0.0/24'], [], ['10.9.0.1', '10.9.0.2']],
      '! cannot configure multiple gateways (10.9.0.2, 10.9.0.1) for the same subnet (10.9.0.0/24)',
    ],
  ])
})

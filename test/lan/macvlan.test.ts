/** macvlan networks end to end: three engines and a machine on one LAN, judged from the LAN and from inside the containers. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../e2e/site.ts'
import { type LanHost, lanReaches, startLan } from './lan-lab.ts'

isolate()
const lan = await startLan(3)
const [one, two, three] = lan.hosts as [LanHost, LanHost, LanHost]
const { machine } = lan
after(() => lan.close())

const SUBNET = ['--subnet', '10.10.126.0/24', '--gateway', '10.10.126.1']
const PARENT = ['-o', 'parent=eth0']
const macvlan = (...args: string[]) => ['-d', 'macvlan', ...args]

test('containers of three hosts are machines on the LAN: they meet, the LAN sees their MACs, their gateway is the one that was named', async () => {
  await one.network(...macvlan(...SUBNET, '--ip-range', '10.10.126.128/28', ...PARENT, 'lan'))
  await two.network(...macvlan(...SUBNET, '--ip-range', '10.10.126.144/28', ...PARENT, 'lan'))
  await three.network(...macvlan(...SUBNET, '--ip-range', '10.10.126.160/28', ...PARENT, 'lan'))
  await one.lab.run('a1', { networks: ['lan'] })
  await one.lab.run('a2', { networks: ['lan'] })
  await two.lab.run('b1', { networks: ['lan'] })
  await three.lab.run('c1', { networks: ['lan'] })
  const a1 = await one.endpoint('a1', 'lan')
  const b1 = await two.endpoint('b1', 'lan')
  assert.deepEqual([a1.IPAddress, a1.Gateway, b1.IPAddress], ['10.10.126.128', '10.10.126.1', '10.10.126.144'])
  assert.ok(await one.reaches('a1', b1.IPAddress), 'another host')
  for (const ip of ['10.10.126.128', '10.10.126.144', '10.10.126.1', one.host.ip, two.host.ip])
    assert.ok(await three.reaches('c1', ip), `from the third host: ${ip}`)
  assert.ok(await two.reaches('b1', '10.10.126.160'), 'to the third host')
  assert.equal(await three.reaches('c1', three.host.ip, 1), false, 'the kernel keeps a host and its own containers apart')
  assert.ok(await one.reaches('a1', '10.10.126.129'), 'the same host')
  assert.ok(await one.reaches('a1', two.host.ip), 'the other host itself')
  assert.ok(await lanReaches(machine, a1.IPAddress), 'from the LAN')
  assert.match((await machine.sh(`ip neigh show ${a1.IPAddress}`)).out, new RegExp(a1.MacAddress))
  assert.match(await one.inside('a1', 'ip route'), /^default via 10\.10\.126\.1 dev eth0/m)
  // names are those of the engine's own network
  assert.equal((await one.lab.exec('a1', 'ping', '-c', '1', '-W', '2', 'a2')).code, 0)
  // nothing of it is in the firewall, and no port is published
  assert.equal((await one.lab.sh('nft list ruleset')).out.includes('10.10.126.'), false)
  // the kernel keeps a host and its own containers apart
  assert.equal((await one.lab.sh(`ping -n -c 1 -W 1 ${a1.IPAddress}`)).code, 1)
  await one.remove(['a1', 'a2'], ['lan'])
  await two.remove(['b1'], ['lan'])
  await three.remove(['c1'], ['lan'])
})

test('a gateway exists only where one is named; every subnet has its own; IPv6 works the same', async () => {
  const v6 = ['--ipv6', '--subnet', 'fd10:10:126::/64']
  const more = ['--subnet', '10.20.0.0/24', '--gateway', '10.20.0.254']
  await one.network(...macvlan('--subnet', '10.10.126.0/24', ...more, ...v6, ...PARENT, 'several'))
  const { json } = await one.lab.api('GET', '/networks/several')
  assert.deepEqual(
    json.IPAM.Config.map((c: { Subnet: string; Gateway?: string }) => [c.Subnet, c.Gateway]),
    [
      ['10.10.126.0/24', undefined],
      ['10.20.0.0/24', '10.20.0.254'],
      ['fd10:10:126::/64', undefined],
    ],
  )
  const at = (ip: string, ip6: string) => ({
    body: { NetworkingConfig: { EndpointsConfig: { several: { IPAMConfig: { IPv4Address: ip, IPv6Address: ip6 } } } } },
  })
  await one.lab.run('s1', { networks: ['several'], ...at('10.10.126.50', 'fd10:10:126::50') })
  await one.lab.run('s2', { networks: ['several'], ...at('10.20.0.50', 'fd10:10:126::51') })
  assert.equal((await one.inside('s1', 'ip route')).includes('default'), false)
  assert.match(await one.inside('s2', 'ip route'), /default via 10\.20\.0\.254 dev eth0/)
  assert.match(await one.inside('s2', 'ip -4 addr show eth0'), /10\.20\.0\.50\/24/)
  assert.ok(await one.reaches('s1', 'fd10:10:126::51'))
  assert.ok(await lanReaches(machine, 'fd10:10:126::50'))
  const outside = await one.lab.docker('run', '-d', '--name', 'out', '--network', 'several', '--ip', '10.99.0.1', 'busybox', 'sleep', '9')
  assert.match(outside.err, /no configured subnet contains IP address 10\.99\.0\.1/)
  await one.lab.api('DELETE', '/containers/out?force=1')
  await one.remove(['s1', 's2'], ['several'])
})

test('networks share a parent and a subnet when each has a range, and no address is given twice', async () => {
  await one.network(...macvlan(...SUBNET.slice(0, 2), '--ip-range', '10.10.126.128/30', ...PARENT, 'left'))
  await one.network(...macvlan(...SUBNET.slice(0, 2), '--ip-range', '10.10.126.128/29', ...PARENT, 'right'))
  assert.match(
    await one.refused(...macvlan(...SUBNET.slice(0, 2), ...PARENT, 'whole')),
    /^403 .*Pool overlaps with other one on this address space/,
  )
  await one.lab.run('l1', { networks: ['left'] })
  await one.lab.run('r1', { networks: ['right'] })
  assert.deepEqual(
    [(await one.endpoint('l1', 'left')).IPAddress, (await one.endpoint('r1', 'right')).IPAddress],
    ['10.10.126.128', '10.10.126.129'],
  )
  assert.ok(await one.reaches('l1', '10.10.126.129'))
  await one.remove(['l1', 'r1'], ['left', 'right'])
})

test('modes: private keeps containers of one host apart, vepa leaves it to the switch, passthru has the parent for itself', async () => {
  await two.lab.run('far', { networks: [await two.network(...macvlan(...SUBNET, '--ip-range', '10.10.126.192/28', ...PARENT, 'other'))] })
  for (const mode of ['private', 'vepa']) {
    await one.network(...macvlan(...SUBNET, '--ip-range', '10.10.126.128/28', ...PARENT, '-o', `macvlan_mode=${mode}`, mode))
    await one.lab.run('m1', { networks: [mode] })
    await one.lab.run('m2', { networks: [mode] })
    assert.ok(await one.reaches('m1', '10.10.126.192'), `${mode}: another host`)
    assert.equal(await one.reaches('m1', '10.10.126.129', 1), false, `${mode}: the same host`)
    if (mode === 'vepa') {
      await machine.sh('bridge link set dev h0 hairpin on')
      assert.ok(await until(() => one.reaches('m1', '10.10.126.129', 1)), 'the switch sends it back')
      await machine.sh('bridge link set dev h0 hairpin off')
    }
    await one.remove(['m1', 'm2'], [mode])
  }
  await one.lab.sh('ip link add nic1 type veth peer name nic1-wire; ip link set nic1 up; ip link set nic1-wire up')
  const parent = (await one.lab.sh('cat /sys/class/net/nic1/address')).out.trim()
  const id = await one.network(...macvlan('--subnet', '10.30.0.0/24', '-o', 'parent=nic1', '-o', 'macvlan_mode=passthru', 'alone'))
  await one.lab.run('p1', { networks: ['alone'] })
  assert.match(await one.inside('p1', 'ip link show eth0'), new RegExp(parent))
  const second = await one.lab.docker('run', '-d', '--name', 'p2', '--network', 'alone', 'busybox', 'sleep', '9')
  assert.match(second.err, /failed to create the macvlan port/)
  assert.match(
    await one.refused(...macvlan('--subnet', '10.31.0.0/24', '-o', 'parent=nic1', 'beside')),
    new RegExp(`macvlan network ${id} is already using parent interface nic1 in mode passthru`),
  )
  await one.remove(['p1', 'p2'], ['alone'])
  await one.lab.sh('ip link del nic1')
  await two.remove(['far'], ['other'])
})

test('a running container is connected and disconnected; the engine dies and comes back, and the LAN does not notice', async () => {
  await one.network(...macvlan(...SUBNET, '--ip-range', '10.10.126.128/28', ...PARENT, 'live'))
  await one.lab.run('c1')
  assert.equal((await one.lab.api('POST', '/networks/live/connect', { Container: 'c1' })).status, 200)
  assert.match(await one.inside('c1', 'ip -4 addr show eth1'), /10\.10\.126\.128\/24/)
  assert.ok(await lanReaches(machine, '10.10.126.128'))
  await one.lab.kill9()
  assert.ok(await lanReaches(machine, '10.10.126.128'))
  await one.lab.start()
  assert.ok(await lanReaches(machine, '10.10.126.128'))
  await one.lab.run('c2', { networks: ['live'] })
  assert.equal((await one.endpoint('c2', 'live')).IPAddress, '10.10.126.129')
  assert.equal((await one.endpoint('c1', 'live')).IPAddress, '10.10.126.128')
  assert.equal((await one.lab.api('POST', '/networks/live/disconnect', { Container: 'c1' })).status, 200)
  assert.equal(await lanReaches(machine, '10.10.126.128', 1), false)
  assert.equal((await one.inside('c1', 'ip -o link')).includes('eth1'), false)
  await one.remove(['c1', 'c2'], ['live'])
})

test('causeway.macvlan.host=true: host and containers reach each other, also after restarts, and the LAN keeps the host where it was', async () => {
  const shim = ['-o', 'causeway.macvlan.host=true']
  const id = await one.network(...macvlan(...SUBNET, '--ip-range', '10.10.126.128/28', ...PARENT, ...shim, 'home'))
  const device = `mh-${id.slice(0, 12)}`
  await one.lab.run('h1', { networks: ['home'] })
  await one.lab.run('h2', { networks: ['home'] })
  const hostReaches = async (ip: string) => (await one.lab.sh(`ping -n -c 1 -W 1 ${ip}`)).code === 0
  assert.ok(await hostReaches('10.10.126.128'))
  assert.ok(await one.reaches('h1', one.host.ip))
  assert.ok(await one.reaches('h1', '10.10.126.129'))
  const nicMac = (await one.lab.sh('cat /sys/class/net/eth0/address')).out.trim()
  await machine.sh('ip neigh flush all')
  assert.ok(await lanReaches(machine, one.host.ip))
  assert.ok(await lanReaches(machine, '10.10.126.128'))
  assert.match((await machine.sh(`ip neigh show ${one.host.ip}`)).out, new RegExp(nicMac))
  assert.match((await machine.sh('ip neigh show 10.10.126.128')).out, new RegExp((await one.endpoint('h1', 'home')).MacAddress))
  // a container that restarts has another MAC
  assert.equal((await one.lab.api('POST', '/containers/h1/restart?t=0')).status, 204)
  assert.ok(await hostReaches('10.10.126.128'))
  // what somebody takes away while the engine is gone is back with it
  await one.lab.kill9()
  await one.lab.sh(`ip link del ${device}`)
  await one.lab.start()
  assert.ok(await hostReaches('10.10.126.129'))
  assert.ok(await one.reaches('h2', one.host.ip))
  await one.remove(['h1'], [])
  assert.equal((await one.lab.sh(`ip route show dev ${device}`)).out.includes('10.10.126.128'), false)
  await one.remove(['h2'], ['home'])
  assert.ok(await until(async () => !(await one.links()).includes(device)))
  // without an address of its own in the subnet, one must be set aside
  const elsewhere = macvlan('--subnet', '10.40.0.0/24', ...PARENT, ...shim)
  assert.match(await one.refused(...elsewhere, 'away'), /needs an address of the host in 10\.40\.0\.0\/24: eth0 has none/)
  await one.network(...elsewhere, '--aux-address', 'host=10.40.0.9', 'away')
  await one.lab.run('w1', { networks: ['away'] })
  assert.ok(await one.reaches('w1', '10.40.0.9'))
  assert.ok(await hostReaches((await one.endpoint('w1', 'away')).IPAddress))
  await one.remove(['w1'], ['away'])
  assert.ok(await until(async () => !(await one.links()).some((name) => name.startsWith('mh-'))))
})

test('bad input is refused in the documented words and changes nothing', async () => {
  const eth0 = ['-o', 'parent=eth0']
  // of both drivers
  const parents: [string[], string][] = [
    [['-o', 'parent=nope0'], 'invalid subinterface vlan name nope0, example formatting is eth0.10'],
    [['-o', 'parent=nope0.10'], '-o parent interface was not found on the host: nope0'],
    [['-o', 'parent=eth0.0'], 'vlan id must be between 1-4094, received: 0'],
    [['-o', 'parent=eth0.4095'], 'vlan id must be between 1-4094, received: 4095'],
    [[...eth0, '-o', 'vlan=0'], 'vlan id must be between 1-4094, received: 0'],
    [[...eth0, '-o', 'vlan=4095'], 'vlan id must be between 1-4094, received: 4095'],
    [[...eth0, '-o', 'vlan=ten'], 'unable to parse a valid vlan id from: ten (ex. eth0.10 for vlan 10)'],
    [['-o', 'vlan=5'], 'option vlan=5 needs a parent interface: give -o parent=NAME too'],
    [['-o', 'parent=eth0.x'], 'unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)'],
    [['-o', 'parent=eth0.1.2'], 'required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received eth0.1.2'],
    [['-o', 'parent=lo'], 'loopback interface is not a valid DRIVER parent link'],
  ]
  const modes: [string, string[], string][] = [
    ['macvlan', ['-o', 'macvlan_mode=x'], "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"],
    ['ipvlan', ['-o', 'ipvlan_mode=x'], "requested ipvlan mode 'x' is not valid, 'l2' mode is the ipvlan driver default"],
    ['ipvlan', ['-o', 'ipvlan_flag=x'], "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default"],
  ]
  const state = async () => (await one.lab.sh('ip -o addr; ip route')).out.replace(/valid_lft .*/g, '')
  const before = await state()
  for (const driver of ['macvlan', 'ipvlan'])
    for (const [args, text] of [
      ...parents,
      ...modes.flatMap(([of, more, said]) => (of === driver ? [[[...eth0, ...more], said] as const] : [])),
    ])
      assert.equal(
        await one.refused('-d', driver, '--subnet', '10.50.0.0/24', ...args, 'bad'),
        `500 ${text.replace('DRIVER', driver)}`,
        `${driver} ${args.join(' ')}`,
      )
  const vepa = macvlan('--subnet', '10.50.0.0/24', ...eth0, '-o', 'macvlan_mode=vepa', '-o', 'causeway.macvlan.host=true', 'bad')
  assert.match(await one.refused(...vepa), /^400 causeway\.macvlan\.host=true needs macvlan_mode bridge/)
  assert.match(
    await one.refused(...macvlan('--subnet', '10.50.0.0/24', '--gateway', '10.51.0.1', ...eth0, 'bad')),
    /^400 .*invalid gateway 10\.51\.0\.1: parent subnet 10\.50\.0\.0\/24 doesn't contain this address/s,
  )
  assert.match(
    await one.refused(...macvlan('--subnet', '10.50.0.0/24', '--ip-range', '10.51.0.0/28', ...eth0, 'bad')),
    /^400 .*invalid ip-range 10\.51\.0\.0\/28: parent subnet 10\.50\.0\.0\/24 doesn't contain ip-range/s,
  )
  assert.equal(await state(), before)
  const id = await one.network(...macvlan('--subnet', '10.50.0.0/24', ...PARENT, 'good'))
  const passthru = macvlan('--subnet', '10.51.0.0/24', ...PARENT, '-o', 'macvlan_mode=passthru', 'bad')
  assert.match(
    await one.refused(...passthru),
    new RegExp(`cannot use mode passthru, macvlan network ${id} is already using parent interface eth0`),
  )
  await one.remove([], ['good'])
  // its subnet is free again
  await one.network('--subnet', '10.50.0.0/24', 'plain')
  await one.remove([], ['plain'])
})

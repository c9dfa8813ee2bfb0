/** The bridge driver's options, one by one, as the kernel and the containers see them. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { Site, until } from './site.ts'

isolate()
const lab = await startEngineLab()
const site = new Site(lab)
const LAN4 = '192.0.2'
const LAN6 = '2001:db8:ff'
const lan = site.machine('lan0', LAN4, LAN6)
after(async () => {
  site.close()
  assert.deepEqual(await lab.close(), [])
})

const NET = 'com.docker.network.'
/** Creates a network with the options given; fails the test on anything but 201. */
async function network(name: string, options: Record<string, string> = {}, body: Record<string, unknown> = {}): Promise<string> {
  const reply = await lab.api('POST', '/networks/create', { Name: name, Options: options, ...body })
  assert.equal(reply.status, 201, reply.text)
  return reply.json.Id as string
}
const subnets = (...list: string[]) => ({
  EnableIPv6: list.some((s) => s.includes(':')),
  IPAM: { Config: list.map((Subnet) => ({ Subnet })) },
})

async function remove(containers: string[], networks: string[]): Promise<void> {
  for (const name of containers) await lab.api('DELETE', `/containers/${name}?force=1`)
  for (const name of networks) assert.equal((await lab.api('DELETE', `/networks/${name}`)).status, 204, name)
}

test('bridge.name names the device, and a second network with that name is refused', async () => {
  await network('named', { [`${NET}bridge.name`]: 'mybr0' }, subnets('10.90.0.0/24'))
  const [link] = await site.ip('', 'addr show mybr0')
  assert.equal(link.linkinfo.info_kind, 'bridge')
  assert.deepEqual(
    link.addr_info
      .filter((a: { family: string }) => a.family === 'inet')
      .map((a: { local: string; prefixlen: number }) => `${a.local}/${a.prefixlen}`),
    ['10.90.0.1/24'],
  )
  assert.equal(link.linkinfo.info_data.stp_state, 0)
  const again = await lab.api('POST', '/networks/create', { Name: 'named2', Options: { [`${NET}bridge.name`]: 'mybr0' } })
  assert.equal(again.status, 403)
  assert.match(again.text, /networks have same bridge name/)
  await remove([], ['named'])
  assert.ok(await until(async () => (await lab.sh('ip link show mybr0')).code !== 0), 'the device goes with its network')
  // the name is free at once
  for (let i = 0; i < 3; i++) {
    await network('named', { [`${NET}bridge.name`]: 'mybr0' }, subnets('10.90.0.0/24'))
    if (i < 2) await remove([], ['named'])
  }
  await lab.run('nm1', { networks: ['named'] })
  await new Promise((resolve) => setTimeout(resolve, 150))
  assert.equal((await lab.exec('nm1', 'ping', '-c1', '-W1', '10.90.0.1')).code, 0)
  await remove(['nm1'], ['named'])
})

test('a bridge that exists is adopted: its own address stays, ours comes and goes, the device is never deleted', async () => {
  await lab.sh(
    'ip link add theirs type bridge; ip link set theirs mtu 1450 address 02:00:00:00:00:77 up; ip addr add 10.91.7.7/24 dev theirs',
  )
  await network('adopted', { [`${NET}bridge.name`]: 'theirs' }, subnets('10.91.0.0/24'))
  const addresses = async () => (await site.ip('', '-4 addr show theirs'))[0].addr_info.map((a: { local: string }) => a.local)
  assert.deepEqual(await addresses(), ['10.91.7.7', '10.91.0.1'])
  await lab.run('ad', { networks: ['adopted'] })
  assert.equal((await lab.exec('ad', 'ping', '-c1', '-W1', '10.91.0.1')).code, 0)
  const [link] = await site.ip('', 'link show theirs')
  assert.deepEqual([link.mtu, link.address, link.ifalias], [1450, '02:00:00:00:00:77', undefined])
  await remove(['ad'], ['adopted'])
  assert.deepEqual(await addresses(), ['10.91.7.7'])
  await lab.sh('ip link del theirs')
})

test('a bridge of the host is adopted also when its name begins as ours do', async () => {
  await lab.sh('ip link add br-lan type bridge; ip link set br-lan up')
  await network('onlan', { [`${NET}bridge.name`]: 'br-lan' }, subnets('10.91.0.0/24'))
  assert.equal((await site.ip('', 'link show br-lan'))[0].ifalias, undefined)
  await remove([], ['onlan'])
  await new Promise((resolve) => setTimeout(resolve, 200)) // links of ours are deleted a moment later
  const [link] = await site.ip('', 'addr show br-lan')
  assert.deepEqual(
    link.addr_info.filter((a: { family: string }) => a.family === 'inet'),
    [],
  )
  await lab.sh('ip link del br-lan')
})

test('doctor names a network whose subnet the host has come to use otherwise', async () => {
  await network('clash', {}, subnets('10.93.0.0/16'))
  const found = async () =>
    JSON.stringify(((await lab.api('GET', '/causeway/v1/doctor')).json as { area: string }[]).filter((c) => c.area === 'subnets'))
  assert.equal(await found(), '[]')
  await lab.sh('ip link add vpn0 type bridge; ip link set vpn0 up; ip route add 10.93.4.0/24 dev vpn0')
  assert.match(await found(), /"name":"clash".*10\.93\.0\.0\/16 overlaps the route to 10\.93\.4\.0\/24 by vpn0/)
  await lab.sh('ip link del vpn0')
  await remove([], ['clash'])
})

test('an adopted bridge keeps its IPv6 addresses under an IPv4-only network, and gets its sysctls back', async () => {
  await lab.sh('ip link add theirs type bridge; ip link set theirs up; ip addr add fd91::7/64 dev theirs nodad')
  const sysctls = async () => (await lab.sh('sysctl net.ipv6.conf.theirs net.ipv4.conf.theirs')).out
  const before = await sysctls()
  await network('adopted', { [`${NET}bridge.name`]: 'theirs', [`${NET}bridge.enable_icc`]: 'false' }, subnets('10.91.0.0/24'))
  assert.ok(JSON.stringify(await site.ip('', '-6 addr show theirs')).includes('fd91::7'))
  assert.notEqual(await sysctls(), before)
  await remove([], ['adopted'])
  assert.equal(await sysctls(), before)
  await lab.sh('ip link del theirs')
})

test('IPv6 reaches a container from outside at once, on a bridge that was made a moment ago', async () => {
  await network('fresh', { [`${NET}bridge.gateway_mode_ipv6`]: 'routed' }, subnets('fd89::/64', '10.89.0.0/24'))
  await lab.run('fresh1', { networks: ['fresh'] })
  assert.equal((await site.at(lan, 'ping -c1 -W0.5 fd89::2')).code, 0)
  await remove(['fresh1'], ['fresh'])
})

test('an adopted bridge keeps an address that it had before, even when it is the gateway of the network', async () => {
  await lab.sh('ip link add theirs type bridge; ip link set theirs up; ip addr add 10.91.0.1/24 dev theirs')
  await network('adopted', { [`${NET}bridge.name`]: 'theirs' }, subnets('10.91.0.0/24'))
  await remove([], ['adopted'])
  assert.deepEqual(
    (await site.ip('', '-4 addr show theirs'))[0].addr_info.map((a: { local: string }) => a.local),
    ['10.91.0.1'],
  )
  await lab.sh('ip link del theirs')
})

test('inhibit_ipv4 leaves the bridge without the gateway address that containers still use', async () => {
  await network('inhibit', { [`${NET}bridge.inhibit_ipv4`]: 'true', [`${NET}bridge.name`]: 'inh0' }, subnets('10.92.0.0/24'))
  await lab.run('inh', { networks: ['inhibit'] })
  assert.deepEqual(
    (await site.ip('', '-4 addr show inh0')).flatMap((l) => l.addr_info ?? []),
    [],
  )
  const routes = await site.ip(await site.inside('inh'), 'route')
  assert.equal(routes.find((r) => r.dst === 'default')?.gateway, '10.92.0.1')
  await remove(['inh'], ['inhibit'])
})

test('driver.mtu is on the bridge and on both ends of the pair', async () => {
  await network('mtu', { [`${NET}driver.mtu`]: '1342', [`${NET}bridge.name`]: 'mtu0' })
  await lab.run('mtu1', { networks: ['mtu'] })
  const links = await site.ip('', 'link show master mtu0')
  const [bridge] = await site.ip('', 'link show mtu0')
  const [inner] = await site.ip(await site.inside('mtu1'), 'link show eth0')
  assert.deepEqual([bridge.mtu, links.map((l) => l.mtu), inner.mtu], [1342, [1342], 1342])
  await remove(['mtu1'], ['mtu'])
})

test('container_iface_prefix and endpoint.ifname name interfaces; a name that is taken is an error that changes nothing', async () => {
  await network('prefixed', { [`${NET}container_iface_prefix`]: 'lan' })
  await network('plain')
  const withName = (name: string) => ({ DriverOpts: { [`${NET}endpoint.ifname`]: name } })
  await lab.run('ifn', { networks: ['prefixed'] })
  const names = async () => (await site.ip(await site.inside('ifn'), 'link')).map((l) => l.ifname)
  assert.deepEqual(await names(), ['lo', 'lan0'])
  const connected = await lab.api('POST', '/networks/plain/connect', { Container: 'ifn', EndpointConfig: withName('uplink') })
  assert.equal(connected.status, 200, connected.text)
  assert.deepEqual(await names(), ['lo', 'lan0', 'uplink'])
  await network('third')
  const clash = await lab.api('POST', '/networks/third/connect', { Container: 'ifn', EndpointConfig: withName('lan0') })
  assert.equal(clash.status, 500, clash.text)
  assert.match(clash.text, /error renaming interface.*file exists/)
  assert.deepEqual(await names(), ['lo', 'lan0', 'uplink'])
  assert.equal(
    (await lab.api('GET', '/networks/third')).json.Containers &&
      Object.keys((await lab.api('GET', '/networks/third')).json.Containers).length,
    0,
  )
  await remove(['ifn'], ['prefixed', 'plain', 'third'])
})

test('endpoint.sysctls are written for the interface, whatever it is called', async () => {
  await network('sys')
  await lab.run('sys1', {
    networks: ['sys'],
    body: {
      NetworkingConfig: {
        EndpointsConfig: {
          sys: {
            DriverOpts: {
              [`${NET}endpoint.ifname`]: 'up1',
              [`${NET}endpoint.sysctls`]: 'net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.ifname.arp_ignore=2',
            },
          },
        },
      },
    },
  })
  const read = (key: string) =>
    site.at('', `true`).then(async () => (await lab.exec('sys1', 'cat', `/proc/sys/net/ipv4/conf/up1/${key}`)).out.trim())
  assert.deepEqual([await read('log_martians'), await read('arp_ignore')], ['1', '2'])
  await remove(['sys1'], ['sys'])
})

test('a MAC address that was asked for is kept over restarts; a generated one is new each time', async () => {
  await network('macs')
  await lab.run('mac1', {
    networks: ['macs'],
    body: { NetworkingConfig: { EndpointsConfig: { macs: { MacAddress: '02:11:22:33:44:55' } } } },
  })
  await lab.run('mac2', { networks: ['macs'] })
  const macOf = async (name: string) => (await site.ip(await site.inside(name), 'link show eth0'))[0].address
  const before = [await macOf('mac1'), await macOf('mac2')]
  assert.equal(before[0], '02:11:22:33:44:55')
  for (const name of ['mac1', 'mac2']) assert.equal((await lab.api('POST', `/containers/${name}/restart?t=0`)).status, 204)
  const now = [await macOf('mac1'), await macOf('mac2')]
  assert.equal(now[0], before[0])
  assert.notEqual(now[1], before[1])
  await remove(['mac1', 'mac2'], ['macs'])
})

test('link-local addresses are added beside the address; others are refused at start', async () => {
  await network('ll', {}, subnets('10.93.0.0/24', 'fd93::/64'))
  const settings = (ips: string[]) => ({ NetworkingConfig: { EndpointsConfig: { ll: { IPAMConfig: { LinkLocalIPs: ips } } } } })
  await lab.run('ll1', { networks: ['ll'], body: settings(['169.254.9.9', 'fe80::9']) })
  const [link] = await site.ip(await site.inside('ll1'), 'addr show eth0')
  const list = link.addr_info.map((a: { local: string; prefixlen: number }) => `${a.local}/${a.prefixlen}`)
  for (const wanted of ['169.254.9.9/16', 'fe80::9/64', '10.93.0.2/24']) assert.ok(list.includes(wanted), `${wanted} in ${list}`)
  await assert.rejects(
    lab.run('ll2', { networks: ['ll'], body: settings(['8.8.8.8']) }),
    /start ll2: 400.*invalid link local IP address: 8\.8\.8\.8/,
  )
  await remove(['ll1', 'll2'], ['ll'])
})

test('addresses are announced by gratuitous ARP and unsolicited neighbour advertisements, as often as asked', async () => {
  await network(
    'adv',
    { [`${NET}bridge.name`]: 'adv0', [`${NET}advertise_addr_nmsgs`]: '2', [`${NET}advertise_addr_ms`]: '100' },
    subnets('10.94.0.0/24', 'fd94::/64'),
  )
  await network('quiet', { [`${NET}bridge.name`]: 'quiet0', [`${NET}advertise_addr_nmsgs`]: '0' }, subnets('10.95.0.0/24'))
  const seen = await site.capture('', 'adv0', 'arp or icmp6', () => lab.run('adv1', { networks: ['adv'] }), 500)
  const { MacAddress } = await site.endpoint('adv1', 'adv')
  const arps = seen.split('\n').filter((l) => l.includes('who-has 10.94.0.2') && l.includes('tell 10.94.0.2'))
  const nas = seen.split('\n').filter((l) => /neighbor advertisement.*tgt is fd94::2/.test(l))
  assert.equal(arps.length, 2, seen)
  assert.equal(nas.length, 2, seen)
  assert.ok(
    [...arps, ...nas].every((l) => l.includes(`${MacAddress} >`)),
    seen,
  )
  const silent = await site.capture('', 'quiet0', 'arp', () => lab.run('adv2', { networks: ['quiet'] }), 300)
  assert.equal(silent.trim(), '')
  await remove(['adv1', 'adv2'], ['adv', 'quiet'])
})

test('networks are IPv4-only, dual or IPv6-only, and an interface without IPv6 has it disabled while lo keeps ::1', async () => {
  await network('v4', {}, subnets('10.96.4.0/24'))
  await network('dual', {}, subnets('10.96.46.0/24', 'fd96:46::/64'))
  await network('v6', {}, { EnableIPv4: false, ...subnets('fd96:6::/64') })
  const seen: Record<string, unknown> = {}
  for (const name of ['v4', 'dual', 'v6']) {
    await lab.run(`fam-${name}`, { networks: [name] })
    const place = await site.inside(`fam-${name}`)
    const [link] = await site.ip(place, 'addr show eth0')
    const [lo] = await site.ip(place, '-6 addr show lo')
    seen[name] = {
      addresses: link.addr_info.filter((a: { scope: string }) => a.scope === 'global').map((a: { local: string }) => a.local),
      disabled: (await site.at(place, 'sysctl -n net.ipv6.conf.eth0.disable_ipv6')).out.trim(),
      lo: lo?.addr_info[0].local,
      defaults: [
        (await site.ip(place, '-4 route')).filter((r) => r.dst === 'default').map((r) => r.gateway),
        (await site.ip(place, '-6 route')).filter((r) => r.dst === 'default').map((r) => r.gateway),
      ],
    }
  }
  assert.deepEqual(seen, {
    v4: { addresses: ['10.96.4.2'], disabled: '1', lo: '::1', defaults: [['10.96.4.1'], []] },
    dual: { addresses: ['10.96.46.2', 'fd96:46::2'], disabled: '0', lo: '::1', defaults: [['10.96.46.1'], ['fd96:46::1']] },
    v6: { addresses: ['fd96:6::2'], disabled: '0', lo: '::1', defaults: [[], ['fd96:6::1']] },
  })
  await remove(['fam-v4', 'fam-dual', 'fam-v6'], ['v4', 'dual', 'v6'])
})

test('what leaves a network carries the host address, the SNAT address that was asked for, or its own', async () => {
  await lab.sh('ip addr add 192.0.2.100/32 dev lan0; ip -6 addr add 2001:db8:ff::100/128 dev lan0 nodad preferred_lft 0')
  await site.serve(lan, [7])
  await network('masq', {}, subnets('10.97.0.0/24', 'fd97::/64'))
  await network(
    'snat',
    { [`${NET}host_ipv4`]: '192.0.2.100', [`${NET}host_ipv6`]: '2001:db8:ff::100' },
    subnets('10.97.1.0/24', 'fd97:1::/64'),
  )
  await network('nomasq', { [`${NET}bridge.enable_ip_masquerade`]: 'false' }, subnets('10.97.2.0/24', 'fd97:2::/64'))
  await network(
    'routed',
    { [`${NET}bridge.gateway_mode_ipv4`]: 'routed', [`${NET}bridge.gateway_mode_ipv6`]: 'routed' },
    subnets('10.97.3.0/24', 'fd97:3::/64'),
  )
  await network(
    'unprot',
    { [`${NET}bridge.gateway_mode_ipv4`]: 'nat-unprotected', [`${NET}bridge.gateway_mode_ipv6`]: 'nat-unprotected' },
    subnets('10.97.4.0/24', 'fd97:4::/64'),
  )
  const seen: Record<string, string[]> = {}
  const names = ['masq', 'snat', 'nomasq', 'routed', 'unprot']
  for (const name of names) {
    await lab.run(`out-${name}`, { networks: [name] })
    const place = await site.inside(`out-${name}`)
    seen[name] = []
    for (const ip of [`${LAN4}.2`, `${LAN6}::2`]) seen[name].push((await site.ask(place, 'tcp', ip, 7)).split(' ')[0] as string)
  }
  assert.deepEqual(seen, {
    masq: ['192.0.2.1', '2001:db8:ff::1'],
    snat: ['192.0.2.100', '2001:db8:ff::100'],
    nomasq: ['10.97.2.2', 'fd97:2::2'],
    routed: ['10.97.3.2', 'fd97:3::2'],
    unprot: ['192.0.2.1', '2001:db8:ff::1'],
  })
  await remove(
    names.map((n) => `out-${n}`),
    names,
  )
})

test('gateway modes decide who from the LAN reaches a container by its own address', async () => {
  const modes = ['nat', 'nat-unprotected', 'routed'] as const
  const seen: Record<string, unknown> = {}
  for (const [i, mode] of modes.entries()) {
    await network(
      `gm${i}`,
      { [`${NET}bridge.gateway_mode_ipv4`]: mode, [`${NET}bridge.gateway_mode_ipv6`]: mode },
      subnets(`10.98.${i}.0/24`, `fd98:${i}::/64`),
    )
    await lab.run(`gmc${i}`, { networks: [`gm${i}`], host: { PortBindings: { '80/tcp': [{ HostPort: String(8100 + i) }] } } })
    await site.serve(await site.inside(`gmc${i}`), [80, 81])
    const row: string[] = []
    for (const ip of [`10.98.${i}.2`, `fd98:${i}::2`]) {
      const [published, other, ping] = await Promise.all([
        site.ask(lan, 'tcp', ip, 80, { wait: 0.7 }),
        site.ask(lan, 'tcp', ip, 81, { wait: 0.7 }),
        site.at(lan, `ping -c1 -W1 ${ip}`),
      ])
      row.push(`published ${published !== ''} other ${other !== ''} ping ${ping.code === 0}`)
    }
    const viaHost = await site.ask(lan, 'tcp', `${LAN4}.1`, 8100 + i, { wait: 0.7 })
    row.push(`host port ${viaHost !== ''}`)
    seen[mode] = row
  }
  assert.deepEqual(seen, {
    nat: ['published false other false ping false', 'published false other false ping false', 'host port true'],
    'nat-unprotected': ['published true other true ping true', 'published true other true ping true', 'host port true'],
    routed: ['published true other false ping true', 'published true other false ping true', 'host port false'],
  })
  const { json } = await lab.api('GET', '/containers/gmc2/json')
  assert.deepEqual(json.NetworkSettings.Ports['80/tcp'], [
    { HostIp: '0.0.0.0', HostPort: '' },
    { HostIp: '::', HostPort: '' },
  ])
  await remove(['gmc0', 'gmc1', 'gmc2'], ['gm0', 'gm1', 'gm2'])
})

test('gateway mode isolated: no address on the bridge, a /31 holds two containers that reach each other and nobody else', async () => {
  const mode = { [`${NET}bridge.gateway_mode_ipv4`]: 'isolated', [`${NET}bridge.gateway_mode_ipv6`]: 'isolated' }
  const refused = await lab.api('POST', '/networks/create', { Name: 'iso', Options: mode })
  assert.deepEqual([refused.status, refused.json.message], [500, `gateway mode 'isolated' can only be used for an internal network`])
  await network('iso', { ...mode, [`${NET}bridge.name`]: 'iso0' }, { Internal: true, ...subnets('10.99.0.0/31', 'fd99::/64') })
  assert.deepEqual((await site.ip('', 'addr show iso0'))[0].addr_info, [])
  assert.equal((await lab.sh('sysctl -n net.ipv6.conf.iso0.disable_ipv6')).out.trim(), '1')
  await lab.run('iso1', { networks: ['iso'] })
  await lab.run('iso2', { networks: ['iso'] })
  const one = await site.endpoint('iso1', 'iso')
  const two = await site.endpoint('iso2', 'iso')
  assert.deepEqual([one.IPAddress, two.IPAddress], ['10.99.0.0', '10.99.0.1'])
  assert.equal((await lab.exec('iso1', 'ping', '-c1', '-W1', two.IPAddress)).code, 0)
  assert.equal((await lab.exec('iso1', 'ping', '-c1', '-W1', two.GlobalIPv6Address)).code, 0)
  assert.deepEqual(await site.ip(await site.inside('iso1'), 'route show default'), [])
  await remove(['iso1', 'iso2'], ['iso'])
})

test('an internal network has no way out or in, its host stays reachable, and ports published there are silent', async () => {
  await site.serve(lan, [71])
  await network('inner', {}, { Internal: true, ...subnets('10.100.0.0/24', 'fd10::/64') })
  await lab.run('in1', { networks: ['inner'], host: { PortBindings: { '80/tcp': [{ HostPort: '8200' }] } } })
  const place = await site.inside('in1')
  await site.serve(place, [80])
  assert.deepEqual(await site.ip(place, 'route show default'), [])
  assert.match((await lab.exec('in1', 'ping', '-c1', '-W1', `${LAN4}.2`)).err, /Network is unreachable/)
  assert.equal((await lab.exec('in1', 'ping', '-c1', '-W1', '10.100.0.1')).code, 0)
  assert.notEqual(await site.ask('', 'tcp', '10.100.0.2', 80), '')
  // even with a route of its own it gets nowhere, and nobody gets in
  await site.at(place, 'ip route add default via 10.100.0.1; ip -6 route add default via fd10::1')
  for (const ip of [`${LAN4}.2`, `${LAN6}::2`]) assert.equal(await site.ask(place, 'tcp', ip, 71, { wait: 0.5 }), '', ip)
  for (const ip of ['10.100.0.2', 'fd10::2']) assert.equal(await site.ask(lan, 'tcp', ip, 80, { wait: 0.5 }), '', ip)
  assert.equal(await site.ask('', 'tcp', '127.0.0.1', 8200, { wait: 0.5 }), '')
  await network('outer')
  assert.equal((await lab.api('POST', '/networks/outer/connect', { Container: 'in1' })).status, 200)
  assert.notEqual(await site.ask(lan, 'tcp', `${LAN4}.1`, 8200), '', 'published once a network can')
  await remove(['in1'], ['inner', 'outer'])
})

test('icc=false parts the containers of a network, by frame and by packet, and leaves them the way out', async () => {
  await site.serve(lan, [72])
  await network('closed', { [`${NET}bridge.enable_icc`]: 'false', [`${NET}bridge.name`]: 'icc0' }, subnets('10.101.0.0/24', 'fd11::/64'))
  await lab.run('icc1', { networks: ['closed'] })
  await lab.run('icc2', { networks: ['closed'] })
  const [one, two] = [await site.inside('icc1'), await site.inside('icc2')]
  await site.serve(two, [80])
  const mac2 = (await site.endpoint('icc2', 'closed')).MacAddress
  for (const ip of ['10.101.0.3', 'fd11::3']) assert.equal(await site.ask(one, 'tcp', ip, 80, { wait: 0.6 }), '', ip)
  // the same with the neighbour's MAC known: the frame itself does not pass
  await site.at(one, `ip neigh replace 10.101.0.3 lladdr ${mac2} dev eth0; ip neigh replace fd11::3 lladdr ${mac2} dev eth0`)
  const frames = await site.capture(two, 'eth0', 'tcp', async () => {
    for (const ip of ['10.101.0.3', 'fd11::3']) assert.equal(await site.ask(one, 'tcp', ip, 80, { wait: 0.6 }), '', ip)
  })
  assert.equal(frames.trim(), '')
  // and by way of the gateway
  await site.at(one, 'ip neigh flush dev eth0; ip route add 10.101.0.3/32 via 10.101.0.1; ip -6 route add fd11::3/128 via fd11::1')
  for (const ip of ['10.101.0.3', 'fd11::3']) assert.equal(await site.ask(one, 'tcp', ip, 80, { wait: 0.6 }), '', `${ip} by the gateway`)
  for (const ip of [`${LAN4}.2`, `${LAN6}::2`]) assert.notEqual(await site.ask(one, 'tcp', ip, 72), '', ip)
  await remove(['icc1', 'icc2'], ['closed'])
})

test('host_binding_ipv4 is where ports are published that name no address', async () => {
  await network('bound', { [`${NET}bridge.host_binding_ipv4`]: '127.0.0.1' })
  await lab.run('bound1', { networks: ['bound'], host: { PortBindings: { '80/tcp': [{ HostPort: '8300' }] } } })
  await site.serve(await site.inside('bound1'), [80])
  const { json } = await lab.api('GET', '/containers/bound1/json')
  assert.deepEqual(json.NetworkSettings.Ports['80/tcp'], [{ HostIp: '127.0.0.1', HostPort: '8300' }])
  assert.notEqual(await site.ask('', 'tcp', '127.0.0.1', 8300), '')
  assert.equal(await site.ask(lan, 'tcp', `${LAN4}.1`, 8300, { wait: 0.5 }), '')
  await remove(['bound1'], ['bound'])
})

test('trusted_host_interfaces lets a LAN call published ports by the container address, and only those', async () => {
  await network('trust', { [`${NET}bridge.trusted_host_interfaces`]: 'lan0:other0' }, subnets('10.102.0.0/24', 'fd12::/64'))
  await lab.run('trust1', { networks: ['trust'], host: { PortBindings: { '80/tcp': [{ HostPort: '8400' }] } } })
  await site.serve(await site.inside('trust1'), [80, 81])
  for (const ip of ['10.102.0.2', 'fd12::2']) {
    assert.notEqual(await site.ask(lan, 'tcp', ip, 80), '', ip)
    assert.equal(await site.ask(lan, 'tcp', ip, 81, { wait: 0.5 }), '', ip)
  }
  await remove(['trust1'], ['trust'])
})

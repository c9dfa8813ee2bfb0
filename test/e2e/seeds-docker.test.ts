/**
 * The tutorials in which Docker's networking is shown, replayed on one host: each passage with `docker` and with `causeway`, and with the
 * programs that the tutorials look at it with (ifconfig, ip, brctl, bridge, ethtool, jq). `docs/seeds.md` says which passage is where.
 */
import assert from 'node:assert/strict'
import { after, afterEach, test } from 'node:test'
import { type Ran, startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

afterEach(async () => {
  for (const { Id } of (await lab.api('GET', '/containers/json?all=1')).json) await lab.api('DELETE', `/containers/${Id}?force=1`)
  await lab.api('POST', '/networks/prune')
  await hostVeths(0)
})

type Cli = (...args: string[]) => Promise<Ran>
const CLIS: readonly (readonly [string, Cli])[] = [
  ['docker', (...args) => lab.docker(...args)],
  ['causeway', (...args) => lab.causeway(...args)],
]

async function out(ran: Promise<Ran>): Promise<string> {
  const { code, out, err } = await ran
  assert.equal(code, 0, `${err}${out}`)
  return out.trimEnd()
}

async function failing(ran: Promise<Ran>): Promise<Ran> {
  const done = await ran
  assert.notEqual(done.code, 0, done.out)
  return done
}

const sh = (command: string) => out(lab.sh(command))
/** Docker's line for an interactive container, kept running in the background as `-itd` does. */
const runBox = (cli: Cli, name: string, ...options: string[]) => out(cli('run', '-itd', '--name', name, ...options, 'busybox', '/bin/sh'))
const removeAll = (cli: Cli, ...names: string[]) => out(cli('rm', '-f', ...names))
/** `sh` in the lab that answers what the container's own view of its addresses is. */
const addresses = async (cli: Cli, name: string) => (await out(cli('exec', name, 'ip', 'addr'))).match(/inet [0-9.]+\/\d+/g) ?? []
const links = async (cli: Cli, name: string) => (await out(cli('exec', name, 'ifconfig', '-a'))).match(/^\S+/gm)?.sort() ?? []

/** The host's ends of containers' cables, once there are `count` of them: the kernel takes links away behind the caller's back. */
async function hostVeths(count: number): Promise<string[]> {
  for (let tries = 0; ; tries++) {
    const found = (await sh('ip -o link')).match(/veth[0-9a-f]{7}/g) ?? []
    if (found.length === count) return found.sort()
    assert.ok(tries < 40, `${found.length} veth pairs, expected ${count}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

test('an engine that was just started has three networks: bridge, host and none', async () => {
  for (const [, cli] of CLIS) {
    const table = await out(cli('network', 'ls'))
    assert.match(table, /^NETWORK ID\s+NAME\s+DRIVER\s+SCOPE\n/)
    const rows = table
      .split('\n')
      .slice(1)
      .map((line) => line.split(/\s+/))
    assert.deepEqual(
      rows.map(([, name, driver, scope]) => [name, driver, scope]),
      [
        ['bridge', 'bridge', 'local'],
        ['host', 'host', 'local'],
        ['none', 'null', 'local'],
      ],
    )
    for (const [id] of rows) assert.match(id as string, /^[0-9a-f]{12}$/)
  }
  assert.match(await sh('ifconfig docker0'), /inet 172\.17\.0\.1 {2}netmask 255\.255\.0\.0/)
})

for (const [name, cli] of CLIS) {
  test(`${name}: containers of the default bridge get 172.17.0.2, .3 …, each a veth pair on docker0 that goes with it`, async () => {
    await runBox(cli, 'tomcat01')
    await runBox(cli, 'tomcat02')
    assert.deepEqual(await addresses(cli, 'tomcat01'), ['inet 127.0.0.1/8', 'inet 172.17.0.2/16'])
    assert.deepEqual(await addresses(cli, 'tomcat02'), ['inet 127.0.0.1/8', 'inet 172.17.0.3/16'])
    assert.deepEqual(await links(cli, 'tomcat01'), ['eth0', 'lo'])
    assert.match(
      await out(cli('exec', 'tomcat01', 'ip', 'route')),
      /^default via 172\.17\.0\.1 dev eth0 *\n172\.17\.0\.0\/16 dev eth0 scope link {2}src 172\.17\.0\.2/,
    )
    assert.match(await out(cli('exec', 'tomcat01', 'ping', '-c1', '-W2', '172.17.0.3')), /1 packets received/)

    const veths = await hostVeths(2)
    const seen = await sh('ifconfig')
    for (const device of ['docker0', 'lo', ...veths]) assert.match(seen, new RegExp(`^${device}: `, 'm'))
    assert.deepEqual(
      (await sh('bridge link'))
        .split('\n')
        .map((line) => /(veth\S+?)@.* master docker0 state forwarding/.exec(line)?.[1])
        .sort(),
      veths,
    )
    const brctl = await sh('brctl show docker0')
    for (const veth of veths) assert.ok(brctl.includes(veth), brctl)

    await removeAll(cli, 'tomcat01')
    await hostVeths(1)
    await removeAll(cli, 'tomcat02')
    await hostVeths(0)
  })

  test(`${name}: which veth belongs to which container is told by index, by ethtool, and by causeway veth`, async () => {
    await runBox(cli, 'c1')
    await runBox(cli, 'c2')
    const key = await out(cli('inspect', '-f', '{{.NetworkSettings.SandboxKey}}', 'c1'))
    const iflink = Number(await out(cli('exec', 'c1', 'cat', '/sys/class/net/eth0/iflink')))
    const peer = Number(/peer_ifindex: (\d+)/.exec(await sh(`nsenter --net=${key} ethtool -S eth0`))?.[1])
    assert.equal(peer, iflink)
    const veth = /^\d+: (veth\w+)@/m.exec(await sh(`ip -o link | grep '^${iflink}:'`))?.[1] as string
    const table = await out(lab.causeway('veth', 'c1'))
    assert.match(table, new RegExp(`c1\\s.*eth0.*${veth}`))
    assert.ok(table.includes('172.17.0.2') && table.includes('docker0'), table)
    assert.match(await out(cli('exec', 'c1', 'ip', 'link')), new RegExp(`eth0@if${iflink}`))
    await removeAll(cli, 'c1', 'c2')
  })

  test(`${name}: network inspect tells subnet, gateway and containers, as jq reads them`, async () => {
    await runBox(cli, 'box1')
    const inspected = await out(cli('network', 'inspect', 'bridge'))
    const jq = (filter: string) => sh(`printf '%s' '${inspected.replaceAll("'", '')}' | jq -c '${filter}'`)
    assert.equal(await jq('.[0].IPAM.Config'), '[{"Subnet":"172.17.0.0/16","Gateway":"172.17.0.1"}]')
    const containers = JSON.parse(await jq('.[0].Containers | to_entries | map(.value)')) as Record<string, string>[]
    assert.deepEqual(
      containers.map(({ Name, IPv4Address, IPv6Address }) => [Name, IPv4Address, IPv6Address]),
      [['box1', '172.17.0.2/16', '']],
    )
    assert.match(containers[0]?.['MacAddress'] ?? '', /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/)
    assert.equal(JSON.parse(await out(cli('inspect', 'bridge')))[0].Name, 'bridge', 'a plain inspect finds networks too')
    await removeAll(cli, 'box1')
  })

  test(`${name}: on the default bridge only addresses work, until --link gives one side the other's name in /etc/hosts`, async () => {
    await runBox(cli, 'db1')
    await runBox(cli, 'plain1')
    // nobody answers on the default bridge: busybox would wait five seconds for that
    await failing(cli('exec', 'plain1', 'timeout', '1', 'ping', '-c1', 'db1'))
    assert.match(await out(cli('exec', 'plain1', 'ping', '-c1', '-W2', '172.17.0.2')), /1 packets received/)
    await runBox(cli, 'linked1', '--link', 'db1')
    assert.match(await out(cli('exec', 'linked1', 'ping', '-c1', '-W2', 'db1')), /1 packets received/)
    const id = await out(cli('inspect', '-f', '{{.Id}}', 'db1'))
    assert.match(await out(cli('exec', 'linked1', 'cat', '/etc/hosts')), new RegExp(`^172\\.17\\.0\\.2\\tdb1 ${id.slice(0, 12)}$`, 'm'))
    assert.doesNotMatch(await out(cli('exec', 'db1', 'cat', '/etc/hosts')), /linked1/)
    await failing(cli('exec', 'db1', 'timeout', '1', 'ping', '-c1', 'linked1'))
    await removeAll(cli, 'linked1', 'plain1', 'db1')
  })

  test(`${name}: own bridge networks: create with subnet and gateway, names, isolation, a container on several`, async () => {
    const created = await out(
      cli('network', 'create', '-d', 'bridge', '--subnet', '10.100.1.0/24', '--gateway', '10.100.1.254', 'bridge-net1'),
    )
    await out(cli('network', 'create', '-d', 'bridge', '--subnet', '10.100.2.0/24', '--gateway', '10.100.2.254', 'bridge-net2'))
    await runBox(cli, 'docker-net1', '--network', 'bridge-net1')
    await runBox(cli, 'docker-net2', '--network', 'bridge-net1')
    await runBox(cli, 'docker-net3', '--network', 'bridge-net2')
    const device = `br-${created.slice(0, 12)}`
    assert.match(await sh(`ifconfig ${device}`), /inet 10\.100\.1\.254 {2}netmask 255\.255\.255\.0/)
    assert.equal((await sh(`bridge link show | grep -c 'master ${device}'`)).trim(), '2')
    const shown = JSON.parse(await out(cli('network', 'inspect', 'bridge-net1')))[0]
    assert.deepEqual(shown.IPAM.Config, [{ Subnet: '10.100.1.0/24', Gateway: '10.100.1.254' }])
    assert.deepEqual(
      Object.values(shown.Containers as Record<string, { Name: string }>)
        .map((c) => c.Name)
        .sort(),
      ['docker-net1', 'docker-net2'],
    )

    assert.match(await out(cli('exec', 'docker-net1', 'ping', '-c1', '-W2', 'docker-net2')), /1 packets received/)
    assert.match(await out(cli('exec', 'docker-net2', 'ping', '-c1', '-W2', 'docker-net1')), /1 packets received/)
    assert.match((await failing(cli('exec', 'docker-net1', 'ping', '-c1', '-W1', 'docker-net3'))).err, /bad address/)
    await failing(cli('exec', 'docker-net1', 'ping', '-c1', '-W1', '10.100.2.1'))

    await out(cli('network', 'connect', 'bridge-net1', 'docker-net3'))
    assert.deepEqual(await links(cli, 'docker-net3'), ['eth0', 'eth1', 'lo'])
    assert.match(await out(cli('exec', 'docker-net1', 'ping', '-c1', '-W2', 'docker-net3')), /1 packets received/)
    await out(cli('network', 'disconnect', 'bridge-net1', 'docker-net3'))
    assert.deepEqual(await links(cli, 'docker-net3'), ['eth0', 'lo'])
    await failing(cli('exec', 'docker-net1', 'ping', '-c1', '-W1', 'docker-net3'))
    await removeAll(cli, 'docker-net1', 'docker-net2', 'docker-net3')
    await out(cli('network', 'rm', 'bridge-net1', 'bridge-net2'))
  })

  test(`${name}: the way out of a container on several networks is the first one in lexical order that is not internal`, async () => {
    for (const [network, third] of [
      ['za', 1],
      ['mb', 2],
    ] as const)
      await out(cli('network', 'create', '--subnet', `10.101.${third}.0/24`, network))
    await out(cli('network', 'create', '--internal', '--subnet', '10.101.0.0/24', 'aa'))
    const gateway = async () => /^default via (\S+)/m.exec(await out(cli('exec', 'multi', 'ip', 'route')))?.[1]
    await runBox(cli, 'multi', '--network', 'za')
    assert.equal(await gateway(), '10.101.1.1')
    await out(cli('network', 'connect', 'aa', 'multi'))
    assert.equal(await gateway(), '10.101.1.1', 'an internal network is none')
    await out(cli('network', 'connect', 'mb', 'multi'))
    assert.equal(await gateway(), '10.101.2.1')
    await out(cli('network', 'disconnect', 'mb', 'multi'))
    assert.equal(await gateway(), '10.101.1.1')
    await out(cli('network', 'disconnect', 'za', 'multi'))
    assert.equal(await gateway(), undefined)
    await removeAll(cli, 'multi')
    await out(cli('network', 'rm', 'aa', 'mb', 'za'))
  })

  test(`${name}: --network=host sees what the host sees, and competes with it for ports`, async () => {
    await runBox(cli, 'centos_host', '--network=host')
    const inside = (await out(cli('exec', 'centos_host', 'ip', '-o', 'link'))).match(/^\d+: [^:@]+/gm)
    assert.deepEqual(inside, (await sh('ip -o link')).match(/^\d+: [^:@]+/gm))
    await out(cli('exec', 'centos_host', 'httpd', '-p', '8090', '-h', '/etc'))
    assert.equal(await sh('curl -s -m 3 http://127.0.0.1:8090/hostname'), await sh('hostname'))
    const second = await failing(cli('run', '--rm', '--network=host', 'busybox', 'httpd', '-f', '-p', '8090'))
    assert.match(second.err, /Address (already )?in use/i)
    await removeAll(cli, 'centos_host')
  })

  test(`${name}: --network=container:ID is the other one's namespace, and localhost reaches it`, async () => {
    await runBox(cli, 'boxa')
    const id = (await out(cli('ps', '-q', '--filter', 'name=boxa'))).trim()
    assert.match(id, /^[0-9a-f]{12}$/)
    await runBox(cli, 'boxb', `--network=container:${id}`)
    const both = await Promise.all(['boxa', 'boxb'].map((box) => out(cli('exec', box, 'ifconfig'))))
    assert.deepEqual(both.map((text) => /HWaddr (\S+)/.exec(text)?.[1])[0], /HWaddr (\S+)/.exec(both[1] as string)?.[1])
    assert.equal(
      await out(cli('exec', 'boxa', 'readlink', '/proc/self/ns/net')),
      await out(cli('exec', 'boxb', 'readlink', '/proc/self/ns/net')),
    )
    await out(cli('exec', 'boxa', 'httpd', '-h', '/etc'))
    assert.equal(await out(cli('exec', 'boxb', 'wget', '-qO-', 'http://127.0.0.1/hostname')), await out(cli('exec', 'boxa', 'hostname')))
    await removeAll(cli, 'boxb', 'boxa')
  })

  test(`${name}: --network=none has the loopback interface and nothing else`, async () => {
    await runBox(cli, 'centos_none', '--network=none')
    assert.deepEqual(await links(cli, 'centos_none'), ['lo'])
    assert.deepEqual(await addresses(cli, 'centos_none'), ['inet 127.0.0.1/8'])
    assert.match(await out(cli('exec', 'centos_none', 'ping', '-c1', '127.0.0.1')), /1 packets received/)
    assert.equal(await out(cli('exec', 'centos_none', 'ip', 'route')), '')
    await removeAll(cli, 'centos_none')
  })

  test(`${name}: a container made with -it has a terminal, before and after it is attached to`, async () => {
    const host = `-H unix://${lab.socket}`
    const program = name === 'docker' ? `docker ${host}` : `node bin/causeway ${host}`
    const typed = await sh(`script -qec '${program} run -it --rm busybox /bin/sh -c "tty; ifconfig eth0"' /dev/null </dev/null`)
    assert.match(typed, /\/dev\/pts\/0[\s\S]*inet addr:172\.17\.0\.2 {2}Bcast:172\.17\.255\.255 {2}Mask:255\.255\.0\.0/)
    await runBox(cli, 'term1')
    const attached = await sh(`(sleep 1; echo ip route; sleep 1; echo exit; sleep 0.5) | script -qec '${program} attach term1' /dev/null`)
    assert.match(attached, /default via 172\.17\.0\.1 dev eth0/)
    await removeAll(cli, 'term1')
  })

  test(`${name}: port lists what -p published, and another host reaches it through this host's address`, async () => {
    await sh(
      'ip netns add cwseed-far 2>/dev/null; ip link add cwseed0 type veth peer name eth0 netns cwseed-far && ip addr add 192.168.99.1/24 dev cwseed0 && ip link set cwseed0 up && ip -n cwseed-far addr add 192.168.99.2/24 dev eth0 && ip -n cwseed-far link set eth0 up',
    )
    try {
      await out(cli('run', '-d', '--name', 'web1', '-p', '8080:80', 'busybox', 'httpd', '-f', '-h', '/etc'))
      assert.equal(await out(cli('port', 'web1')), '80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080')
      assert.match(await sh('ip netns exec cwseed-far curl -s -m 5 http://192.168.99.1:8080/hostname'), /^[0-9a-f]{12}$/)
      await removeAll(cli, 'web1')
      await failing(lab.sh('ip netns exec cwseed-far curl -s -m 1 http://192.168.99.1:8080/hostname'))
    } finally {
      await sh('ip link del cwseed0; ip netns del cwseed-far')
    }
  })

  test(`${name}: namespaces are listed and entered with ip netns through a symbolic link`, async () => {
    await runBox(cli, 'nsbox')
    const key = await out(cli('inspect', '-f', '{{.NetworkSettings.SandboxKey}}', 'nsbox'))
    const file = key.split('/').pop() as string
    assert.match(file, /^[0-9a-f]{12}$/)
    await sh('rmdir /run/netns 2>/dev/null; umount /run/netns 2>/dev/null; mount -t tmpfs tmpfs /run')
    try {
      await sh(`cd /var/run && ln -s ${key.slice(0, -13)} netns`)
      assert.match(await sh('ip netns'), new RegExp(`^${file}( |$)`, 'm'))
      assert.match(await sh(`ip netns exec ${file} ip a`), /inet 172\.17\.0\.2\/16/)
      assert.match(await sh(`ip netns exec ${file} ip route`), /^default via 172\.17\.0\.1/)
    } finally {
      await sh('umount /run')
    }
    assert.match(await out(lab.causeway('netns', 'ls')), new RegExp(`${file}.*nsbox|nsbox.*${file}`))
    assert.match(await out(lab.causeway('netns', 'exec', 'nsbox', 'ip', '-o', '-4', 'addr')), /172\.17\.0\.2\/16/)
    await removeAll(cli, 'nsbox')
  })
}

test('docker rmi -f $(docker images -aq) empties the machine', async () => {
  const ids = (await out(lab.docker('images', '-aq'))).split('\n')
  await out(lab.docker('rmi', '-f', ...ids))
  assert.equal(await out(lab.docker('images', '-aq')), '')
})

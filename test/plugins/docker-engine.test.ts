/** A real dockerd beside `causeway plugin serve`: bridge with its firewall, IPAM, macvlan, addresses by DHCP, restarts of either side. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { type Dockerd, findDockerd, startDockerd } from './dockerd.ts'

isolate()
const root = findDockerd()
if (root === undefined && process.env['CI'] === '1') throw new Error('no packages docker.io and containerd to unpack')
const options = root === undefined ? { skip: 'no packages docker.io and containerd to unpack' } : {}
const DIR = '/run/docker/plugins'

/** A LAN whose router and DHCP server are in a namespace of their own. */
const LAN = `ip netns add lan; ip link add lan0 type veth peer name lan1 netns lan; ip link set lan0 up; ip -n lan link set lan1 up
  ip -n lan addr add 192.168.77.1/24 dev lan1`

let lab: EngineLab
let d: Dockerd

before(async () => {
  if (root === undefined) return
  spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', '/run'])
  mkdirSync(DIR, { recursive: true })
  sh(LAN)
  lab = await startEngineLab([], { verb: ['plugin', 'serve'] })
  d = await startDockerd(root)
})

after(async () => {
  if (root === undefined) return
  await d.close()
  const left = await lab.close()
  // docker0 is dockerd's own
  assert.deepEqual(
    left.filter((line) => !line.includes('docker0')),
    [],
  )
  assert.doesNotMatch(spawnSync('ip', ['-o', 'link']).stdout.toString(), / cw[0-9a-f]{12}/)
})

const must = async (...args: string[]): Promise<string> => {
  const { code, out, err } = await d.docker(...args)
  assert.equal(code, 0, `docker ${args.join(' ')}: ${err}\n${lab.log().slice(-2000)}`)
  return out.trim()
}
/** True as soon as one of five packets is answered. */
async function pings(from: string, to: string): Promise<boolean> {
  for (let n = 0; n < 5; n++) if ((await d.docker('exec', from, 'ping', '-c1', '-W1', to)).code === 0) return true
  return false
}
function sh(command: string) {
  return spawnSync('sh', ['-c', command], { encoding: 'utf8', timeout: 20_000 })
}

test('driver causeway: one word, and Docker’s containers are on a bridge of Causeway’s', options, async () => {
  await must('network', 'create', '-d', 'causeway', 'net1')
  await must(
    'run',
    '-d',
    '--name',
    'aa',
    '--network',
    'net1',
    '-p',
    '8081:80',
    'busybox',
    'sh',
    '-c',
    'mkdir /w; echo hello >/w/index.html; httpd -f -p 80 -h /w',
  )
  await must('run', '-d', '--name', 'bb', '--network', 'net1', 'busybox', 'sleep', '3600')
  assert.ok(await pings('bb', 'aa'), 'by name')
  const gateway = await must('inspect', '-f', '{{(index .NetworkSettings.Networks "net1").Gateway}}', 'aa')
  assert.ok(await pings('aa', gateway), 'the gateway')
  assert.match(await must('exec', 'aa', 'ip', 'route'), new RegExp(`default via ${gateway} dev eth0`))
  assert.equal(sh('curl -s -m 5 http://127.0.0.1:8081/').stdout, 'hello\n', 'published on loopback')
  // the source guard: a container cannot send from an address that is not its own
  const own = await must('inspect', '-f', '{{(index .NetworkSettings.Networks "net1").IPAddress}}', 'bb')
  assert.match(sh('nft list table bridge causeway').stdout, new RegExp(own.replaceAll('.', '\\.')))
})

test('the published port is a port of the host: a second one on it is refused, and freed with its container', options, async () => {
  const second = await d.docker('run', '--rm', '--name', 'cc', '--network', 'net1', '-p', '8081:80', 'busybox', 'true')
  assert.match(second.err, /port is already allocated/)
  await must('rm', '-f', 'aa')
  assert.notEqual(sh('curl -s -m 2 http://127.0.0.1:8081/').status, 0)
  await must('run', '--rm', '--network', 'net1', '-p', '8081:80', 'busybox', 'true')
})

test('kill -9 of the plugin: connections go on, Docker’s next call finds the plugin healed', options, async () => {
  await must(
    'run',
    '-d',
    '--name',
    'dd',
    '--network',
    'net1',
    '-p',
    '8082:80',
    'busybox',
    'sh',
    '-c',
    'mkdir /w; echo still >/w/index.html; httpd -f -p 80 -h /w',
  )
  await lab.kill9()
  const reached = await pings('bb', 'dd')
  const starting = d.docker('run', '-d', '--name', 'ee', '--network', 'net1', 'busybox', 'sleep', '3600') // dockerd tries again
  await lab.start()
  assert.ok(reached, 'while the plugin was dead')
  assert.equal((await starting).code, 0)
  assert.ok(await pings('ee', 'dd'))
  assert.equal(sh('curl -s -m 5 http://127.0.0.1:8082/').stdout, 'still\n')
  await must('rm', '-f', 'dd', 'ee')
})

test('containers restart, disconnect and connect while they run', options, async () => {
  await must('restart', '-t', '0', 'bb')
  await must('run', '-d', '--name', 'ff', '--network', 'net1', 'busybox', 'sleep', '3600')
  assert.ok(await pings('ff', 'bb'))
  await must('network', 'disconnect', 'net1', 'ff')
  assert.doesNotMatch(await must('exec', 'ff', 'ip', 'link'), /eth0/)
  await must('network', 'connect', 'net1', 'ff')
  assert.ok(await pings('ff', 'bb'))
  await must('rm', '-f', 'ff', 'bb')
  await must('network', 'rm', 'net1')
  await until('the links to go', () => !/br-|veth/.test(sh('ip -o link').stdout), 10_000)
})

test('internal networks, and addresses of the IPAM causeway, which never overlap with Causeway’s own', options, async () => {
  await lab.api('POST', '/networks/create', { Name: 'own', IPAM: { Config: [{ Subnet: '10.66.0.0/24' }] } })
  const clash = await d.docker('network', 'create', '-d', 'causeway', '--ipam-driver', 'causeway', '--subnet', '10.66.0.0/24', 'bad')
  assert.match(clash.err, /[Oo]verlap/)
  const six = ['--ipv6', '--subnet', 'fd67::/64']
  await must('network', 'create', '-d', 'causeway', '--ipam-driver', 'causeway', '--internal', '--subnet', '10.67.0.0/24', ...six, 'inner')
  await must('run', '-d', '--name', 'gg', '--network', 'inner', '--ip', '10.67.0.9', 'busybox', 'sleep', '3600')
  await must('run', '-d', '--name', 'hh', '--network', 'inner', 'busybox', 'sleep', '3600')
  assert.ok(await pings('hh', '10.67.0.9'))
  assert.doesNotMatch(await must('exec', 'hh', 'ip', 'route'), /default/)
  const g6 = await must('inspect', '-f', '{{.NetworkSettings.Networks.inner.GlobalIPv6Address}}', 'gg')
  assert.match(g6, /^fd67::/)
  assert.ok(await pings('hh', g6), 'by IPv6')
  assert.match(sh('nft list table bridge causeway').stdout, new RegExp(g6), 'the source guard knows it')
  const taken = await d.docker('run', '--rm', '--network', 'inner', '--ip', '10.67.0.9', 'busybox', 'true')
  assert.match(taken.err, /[Aa]ddress already in use/)
  await must('rm', '-f', 'gg', 'hh')
  await must('network', 'rm', 'inner')
  await must('network', 'create', '-d', 'causeway', '--ipam-driver', 'causeway', '--subnet', '10.67.0.0/24', 'again')
  await must('network', 'rm', 'again')
  await lab.api('DELETE', '/networks/own')
})

test('driver causeway-macvlan: containers are machines of the LAN', options, async () => {
  const subnet = ['--subnet', '192.168.77.0/24', '--gateway', '192.168.77.1']
  await must('network', 'create', '-d', 'causeway-macvlan', '-o', 'parent=lan0', ...subnet, 'lan')
  await must('run', '-d', '--name', 'mm', '--network', 'lan', '--ip', '192.168.77.40', 'busybox', 'sleep', '3600')
  assert.ok(await pings('mm', '192.168.77.1'))
  assert.match(await must('exec', 'mm', 'ip', 'route'), /default via 192\.168\.77\.1/)
  await must('rm', '-f', 'mm')
  await must('network', 'rm', 'lan')
})

/** dnsmasq, once it listens. Right after links were made it may not find its own: then it is started again. */
async function serveDhcp(options: readonly string[]): Promise<ChildProcess> {
  const argv = ['netns', 'exec', 'lan', 'dnsmasq', '-d', '-C', '/dev/null', '-p', '0', '--user=root', '--no-ping', '--dhcp-authoritative']
  let said = ''
  for (let attempt = 0; attempt < 20; attempt++) {
    const server = spawn('ip', [...argv, ...options], { stdio: ['ignore', 'ignore', 'pipe'] })
    const listens = await new Promise<boolean>((resolve) => {
      server.once('exit', () => resolve(false))
      server.stderr.on('data', (chunk: Buffer) => {
        said += chunk.toString()
        if (said.includes('sockets bound')) resolve(true)
      })
    })
    if (listens) return server
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`dnsmasq does not listen: ${said}`)
}

test('IPAM causeway-dhcp: addresses of the LAN’s server, for our macvlan and Docker’s own, over a kill -9', options, async () => {
  const leases = `${lab.dir}/leases`
  const range = ['--dhcp-range=192.168.77.100,192.168.77.150,255.255.255.0,1h', '--dhcp-option=3,192.168.77.1']
  const own = ['--interface=lan1', '--bind-interfaces', `--dhcp-leasefile=${leases}`, `--pid-file=${lab.dir}/dnsmasq.pid`]
  const server = await serveDhcp([...own, ...range])
  const leased = () => (existsSync(leases) ? readFileSync(leases, 'utf8') : '')
  try {
    const dhcp = ['-o', 'parent=lan0', '--ipam-driver', 'causeway-dhcp']
    const without = await d.docker('network', 'create', '-d', 'causeway-macvlan', ...dhcp, 'lan')
    assert.match(without.err, /needs an interface of the LAN: give --ipam-opt parent=NIC/)
    await must('network', 'create', '-d', 'causeway-macvlan', ...dhcp, '--ipam-opt', 'parent=lan0', 'lan')
    const { Subnet, Gateway } = JSON.parse(await must('network', 'inspect', '-f', '{{json (index .IPAM.Config 0)}}', 'lan'))
    assert.deepEqual([Subnet, Gateway.replace('/24', '')], ['192.168.77.0/24', '192.168.77.1'])
    await must('run', '-d', '--name', 'nn', '--network', 'lan', 'busybox', 'sleep', '3600')
    const [ip = '', mac = ''] = (
      await must('inspect', '-f', '{{.NetworkSettings.Networks.lan.IPAddress}} {{.NetworkSettings.Networks.lan.MacAddress}}', 'nn')
    ).split(' ')
    assert.match(ip, /^192\.168\.77\.1[0-4]\d$/)
    assert.match(leased(), new RegExp(`${mac} ${ip} `))
    assert.ok(await pings('nn', '192.168.77.1'))
    await lab.kill9()
    await lab.start()
    await must('rm', '-f', 'nn')
    await until('the lease to be given back', () => !leased().includes(ip), 10_000)
    await must('network', 'rm', 'lan')
    // the host is on the LAN too
    sh('ip addr add 192.168.77.2/24 dev lan0')
    const plain = ['network', 'create', '-d', 'macvlan', ...dhcp]
    const untold = await d.docker(...plain, '--ipam-opt', 'parent=lan0', 'plain')
    assert.match(untold.err, /the host is on the LAN's subnet itself.*give --subnet 192\.168\.77\.0\/24 --gateway 192\.168\.77\.1/)
    await must(...plain, '--subnet', '192.168.77.0/24', '--gateway', '192.168.77.1', 'plain')
    const out = await must('run', '--rm', '--network', 'plain', 'busybox', 'sh', '-c', 'ip -4 addr show eth0; ping -c1 -W3 192.168.77.1')
    assert.match(out, /inet 192\.168\.77\.1[0-4]\d\/24[\s\S]* 0% packet loss/)
    await must('network', 'rm', 'plain')
    await until('every lease to be given back', () => leased().trim() === '', 10_000)
  } finally {
    server.kill('SIGKILL')
  }
})

test('kill -9 of dockerd: what its containers had goes with them', options, async () => {
  await must('network', 'create', '-d', 'causeway', 'net2')
  await must('run', '-d', '--stop-signal', 'KILL', '--name', 'kk', '--network', 'net2', 'busybox', 'sleep', '3600')
  await d.kill9()
  await d.start()
  await must('rm', '-f', 'kk')
  await must('run', '--rm', '--network', 'net2', 'busybox', 'true')
  await must('network', 'rm', 'net2')
  assert.deepEqual(
    (await lab.api('GET', '/networks')).json.filter((n: { Name: string }) => n.Name.startsWith('docker-')),
    [],
  )
})

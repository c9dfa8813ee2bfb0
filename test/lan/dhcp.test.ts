/** Addresses from the LAN's own DHCP server, with a whole engine: dnsmasq for what servers say, busybox udhcpd for leases of seconds. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'

isolate()

const LAN = `cwdhcp-lan-${process.pid}`
const dir = mkdtempSync(join(tmpdir(), 'causeway-dhcp-'))
const LEASES = `${dir}/leases`

function sh(command: string): string {
  const ran = spawnSync('sh', ['-ec', command], { encoding: 'utf8' })
  assert.equal(ran.status, 0, `${command}: ${ran.stderr}${ran.stdout}`)
  return ran.stdout.trimEnd()
}
const fromLan = (command: string) => sh(`ip netns exec ${LAN} ${command}`)

sh(`ip netns add ${LAN} && ip link add cwlan0 type veth peer name eth0 netns ${LAN}`)
sh(`ip -n ${LAN} addr add 192.168.60.1/24 dev eth0 && ip -n ${LAN} link set eth0 up && ip -n ${LAN} link set lo up`)
sh('ip addr add 192.168.60.5/24 dev cwlan0 && ip link set cwlan0 up && ip route add default via 192.168.60.1')

let server: ChildProcess | undefined
let said = ''
async function stopServer(): Promise<void> {
  const old = server
  server = undefined
  if (old === undefined || old.exitCode !== null || old.signalCode !== null) return
  const gone = new Promise((resolve) => old.once('exit', resolve))
  old.kill('SIGKILL')
  await gone
}

/** Waits until `check` holds; fails with what the server and the engine said last. */
const eventually = (what: string, check: () => boolean | Promise<boolean>, ms = 8000) =>
  until(what, check, { ms, log: () => `${said.slice(-2000)}\n${lab?.log().slice(-2000)}` })

async function serve(program: string, args: string[], ready: RegExp): Promise<void> {
  await stopServer()
  said = ''
  const child = spawn('ip', ['netns', 'exec', LAN, program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  server = child
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
  await eventually(`${program} starts`, () => ready.test(said))
}

const dnsmasq = (...more: string[]) =>
  serve(
    'dnsmasq',
    [
      '-d',
      '-C',
      '/dev/null',
      '-p',
      '0',
      '--user=root',
      '--no-ping',
      '--dhcp-authoritative',
      '--log-dhcp',
      `--dhcp-leasefile=${LEASES}`,
      ...more,
    ],
    /DHCP, sockets bound|DHCP, IP range/,
  )
const RANGE = '--dhcp-range=192.168.60.100,192.168.60.120,1h'

/** A server whose leases last `seconds`. */
async function udhcpd(seconds: number, first = 150, last = 160): Promise<void> {
  writeFileSync(
    `${dir}/udhcpd.conf`,
    `start 192.168.60.${first}\nend 192.168.60.${last}\ninterface eth0\nlease_file ${dir}/udhcpd.leases\npidfile ${dir}/udhcpd.pid\nmin_lease 1\n` +
      `option subnet 255.255.255.0\noption router 192.168.60.1\noption lease ${seconds}\n`,
  )
  writeFileSync(`${dir}/udhcpd.leases`, '')
  await serve('busybox', ['udhcpd', '-f', '-a', '0', `${dir}/udhcpd.conf`], /udhcpd: started|started, v/)
}

let lab: Awaited<ReturnType<typeof startEngineLab>> | undefined
const engine = await startEngineLab()
lab = engine
after(async () => {
  const left = await engine.close()
  await stopServer()
  spawnSync('ip', ['netns', 'del', LAN])
  rmSync(dir, { recursive: true, force: true })
  assert.deepEqual(left, [])
})

const create = (...args: string[]) => engine.docker('network', 'create', '--ipam-driver', 'dhcp', ...args)
const state = async () => (await engine.api('GET', '/causeway/v1/debug/state')).json.store
const endpointOf = async (container: string, network: string) =>
  (await engine.api('GET', `/containers/${container}/json`)).json.NetworkSettings.Networks[network]

/** A container with an address asked for by hand, which goes at once. */
const start = async (ip: string) => {
  const { json } = await engine.api('POST', '/containers/create?name=fixed', {
    Image: 'busybox',
    Cmd: ['sleep', '600'],
    StopSignal: 'SIGKILL',
    HostConfig: { NetworkMode: 'lan' },
    NetworkingConfig: { EndpointsConfig: { lan: { IPAMConfig: { IPv4Address: ip } } } },
  })
  const started = await engine.api('POST', `/containers/${json.Id}/start`)
  const { IPAddress } = await endpointOf('fixed', 'lan')
  await engine.api('DELETE', '/containers/fixed?force=1')
  return { started, IPAddress }
}

test('macvlan: subnet and router are learned, a container has a lease under its name, and gives it back', async () => {
  await dnsmasq(RANGE, '--dhcp-option=option:domain-name,lan.example')
  const made = await create('-d', 'macvlan', '-o', 'parent=cwlan0', 'lan')
  assert.equal(made.code, 0, made.err)
  const { IPAM } = (await engine.api('GET', '/networks/lan')).json
  assert.deepEqual([IPAM.Driver, IPAM.Config], ['dhcp', [{ Subnet: '192.168.60.0/24', Gateway: '192.168.60.1' }]])
  await engine.run('web1', { networks: ['lan'], cmd: ['httpd', '-f', '-h', '/etc'], body: { Hostname: 'web-one' } })
  const { IPAddress, MacAddress, Gateway } = await endpointOf('web1', 'lan')
  assert.match(IPAddress, /^192\.168\.60\.1[012]\d$/)
  assert.equal(Gateway, '192.168.60.1')
  const lease = readFileSync(LEASES, 'utf8')
  assert.match(lease, new RegExp(`${MacAddress} ${IPAddress} web-one 01:${MacAddress}`))
  assert.match((await engine.exec('web1', 'ip', 'addr', 'show', 'eth0')).out, new RegExp(`inet ${IPAddress}/24`))
  assert.match(fromLan(`curl -s -m 3 http://${IPAddress}/hostname`), /^web-one$/)
  // the same container asks under the same name again, and so gets the same address
  const restarted = await engine.api('POST', '/containers/web1/restart?t=0')
  assert.equal(restarted.status, 204, restarted.text)
  assert.equal((await endpointOf('web1', 'lan')).IPAddress, IPAddress)
  await engine.api('DELETE', '/containers/web1?force=1')
  await eventually('the lease is given back', () => readFileSync(LEASES, 'utf8').trim() === '')
})

test('an address asked for by hand is the one, or the start fails with the reason and leaves nothing', async () => {
  assert.equal((await start('192.168.60.111')).IPAddress, '192.168.60.111')
  const { started } = await start('192.168.60.200') // not in the server's range
  assert.equal(started.status, 409)
  assert.match(
    started.json.message,
    /the DHCP server 192\.168\.60\.1 gives 192\.168\.60\.1\d\d and not 192\.168\.60\.200, which was asked for/,
  )
  await eventually('no lease is left', () => readFileSync(LEASES, 'utf8').trim() === '')
})

test('an address that a machine of the LAN has already is declined, and containers get others', async () => {
  sh(`ip -n ${LAN} addr add 192.168.60.180/32 dev eth0`)
  const owner = fromLan('cat /sys/class/net/eth0/address')
  await udhcpd(60, 180, 181) // does not look itself
  const { started } = await start('192.168.60.180')
  assert.equal(started.status, 409)
  assert.match(
    started.json.message,
    new RegExp(`gives 192\\.168\\.60\\.181 and not 192\\.168\\.60\\.180, which was asked for: 192\\.168\\.60\\.180 is in use by ${owner}`),
  )
  await engine.run('polite', { networks: ['lan'] })
  assert.equal((await endpointOf('polite', 'lan')).IPAddress, '192.168.60.181')
  await engine.api('DELETE', '/containers/polite?force=1')
  sh(`ip -n ${LAN} addr del 192.168.60.180/32 dev eth0`)
})

test('short leases are renewed while the container runs, also by an engine that was killed and started again', async () => {
  await udhcpd(3)
  await engine.run('short', { networks: ['lan'] })
  const { IPAddress } = await endpointOf('short', 'lan')
  assert.match(IPAddress, /^192\.168\.60\.15\d|160$/)
  const renewals = () => said.match(/sending ACK to 192\.168\.60/g)?.length ?? 0
  await eventually('the lease is renewed', () => renewals() >= 2, 10_000)
  await engine.kill9()
  const before = renewals()
  await engine.start()
  await eventually('the next engine renews at once', () => renewals() > before)
  assert.equal((await endpointOf('short', 'lan')).IPAddress, IPAddress)
})

test('a server that gives another address: the container is attached anew, and everything says the new one', async () => {
  const old = (await endpointOf('short', 'lan')).IPAddress
  await udhcpd(3, 170, 175)
  await eventually(
    'the container has an address of the new range',
    async () => /^192\.168\.60\.17\d$/.test((await endpointOf('short', 'lan')).IPAddress),
    15_000,
  )
  const now = (await endpointOf('short', 'lan')).IPAddress
  const seen = (await engine.exec('short', 'ip', 'addr', 'show')).out
  assert.match(seen, new RegExp(`inet ${now}/24`))
  assert.doesNotMatch(seen, new RegExp(old))
  assert.match(engine.log(), new RegExp(`the DHCP server gave container short another address: ${now}, and no longer ${old}`))
  await engine.api('DELETE', '/containers/short?force=1')
  assert.equal((await engine.api('DELETE', '/networks/lan')).status, 204)
})

test('bridged NIC with addresses of the LAN: the host keeps its own, containers get leases', async () => {
  await dnsmasq(RANGE)
  // the kernel takes its time with the last macvlan on the card
  await eventually(
    'the card becomes a port',
    async () => (await create('-d', 'bridge', '-o', 'parent=cwlan0', 'br-lan')).code === 0,
    20_000,
  )
  const { Id } = (await engine.api('GET', '/networks/br-lan')).json
  assert.match(sh(`ip -4 -o addr show dev br-${Id.slice(0, 12)}`), /192\.168\.60\.5\/24/)
  await engine.run('web2', { networks: ['br-lan'], cmd: ['httpd', '-f', '-h', '/etc'] })
  const { IPAddress, MacAddress } = await endpointOf('web2', 'br-lan')
  assert.match(readFileSync(LEASES, 'utf8'), new RegExp(`${MacAddress} ${IPAddress} `))
  assert.match((await engine.exec('web2', 'ip', 'route')).out, /^default via 192\.168\.60\.1 dev eth0/)
  assert.match(fromLan(`curl -s -m 3 http://${IPAddress}/hostname`), /^[0-9a-f]{12}$/)
  // killed while a server is asked for another container, which nobody answers
  await stopServer()
  const created = await engine.api('POST', '/containers/create?name=lonely', {
    Image: 'busybox',
    Cmd: ['sleep', '600'],
    HostConfig: { NetworkMode: 'br-lan' },
  })
  const dying = assert.rejects(engine.api('POST', `/containers/${created.json.Id}/start`))
  await eventually('the server is asked', async () => Object.keys((await state()).dhcp ?? {}).length === 2)
  await engine.kill9()
  await dying
  await dnsmasq(RANGE)
  await engine.start()
  const { dhcp, sandbox } = await state()
  assert.deepEqual([Object.keys(dhcp).length, Object.keys(sandbox).length], [1, 1], 'nothing is left of the start')
  await engine.api('DELETE', '/containers/lonely?force=1')
  await eventually('renewed over the bridge', () => said.includes(`DHCPACK(eth0) ${IPAddress}`))
  await engine.api('DELETE', '/containers/web2?force=1')
  assert.equal((await engine.api('DELETE', '/networks/br-lan')).status, 204)
  await eventually('the lease is given back', () => readFileSync(LEASES, 'utf8').trim() === '')
  assert.match(sh('ip -4 -o addr show dev cwlan0'), /192\.168\.60\.5\/24/)
  assert.match(sh('ip route show default'), /via 192\.168\.60\.1 dev cwlan0/)
})

test('a bridge of the LAN that the host made itself: containers get leases, the bridge nothing of ours', async () => {
  sh('ip link add cwbr0 type bridge && ip link set cwbr0 up && ip link set cwlan0 master cwbr0 && ip addr flush dev cwlan0')
  sh('ip addr add 192.168.60.5/24 dev cwbr0 && ip route add default via 192.168.60.1')
  const before = sh("ip -o addr show dev cwbr0 scope global | sed 's/ *valid_lft.*//'")
  const made = await create('-d', 'bridge', '-o', 'com.docker.network.bridge.name=cwbr0', 'own-br')
  assert.equal(made.code, 0, made.err)
  await engine.run('web3', { networks: ['own-br'], cmd: ['httpd', '-f', '-h', '/etc'] })
  const { IPAddress } = await endpointOf('web3', 'own-br')
  assert.match(readFileSync(LEASES, 'utf8'), new RegExp(`${IPAddress} `))
  assert.match(fromLan(`curl -s -m 3 http://${IPAddress}/hostname`), /^[0-9a-f]{12}$/)
  assert.equal(sh("ip -o addr show dev cwbr0 scope global | sed 's/ *valid_lft.*//'"), before)
  await engine.api('DELETE', '/containers/web3?force=1')
  assert.equal((await engine.api('DELETE', '/networks/own-br')).status, 204)
  assert.equal(sh("ip -o addr show dev cwbr0 scope global | sed 's/ *valid_lft.*//'"), before)
})

test('what cannot be is refused with the reason', async () => {
  const refused = async (text: RegExp, ...args: string[]) => {
    const { code, err } = await create(...args, 'no')
    assert.equal(code, 1)
    assert.match(err, text)
  }
  await refused(/IPAM driver dhcp needs an interface of the LAN: -o parent=NIC/, '-d', 'bridge')
  await refused(/there is no interface nope0 to ask a DHCP server on/, '-d', 'macvlan', '-o', 'parent=nope0')
  await refused(/gives IPv4 addresses only/, '-d', 'macvlan', '--ipv6', '-o', 'parent=cwlan0')
  await refused(
    /takes no --ip-range: the server chooses/,
    '-d',
    'macvlan',
    '-o',
    'parent=cwlan0',
    '--subnet',
    '192.168.60.0/24',
    '--ip-range',
    '192.168.60.0/25',
  )
  assert.deepEqual((await engine.api('GET', '/networks?filters={"type":["custom"]}')).json, [])
})

/** Bridged NIC with a whole engine: the tutorials' br0 made by one command, on a LAN that is a namespace of its own. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()

const LAN = `cwbn-lan-${process.pid}`

function sh(command: string): string {
  const ran = spawnSync('sh', ['-ec', command], { encoding: 'utf8' })
  assert.equal(ran.status, 0, `${command}: ${ran.stderr}${ran.stdout}`)
  return ran.stdout.trimEnd()
}
const fromLan = (command: string) => sh(`ip netns exec ${LAN} ${command}`)

// the switch that cwcard0 is plugged into: the router 10.10.126.1, which is also another machine of the LAN
sh(`ip netns add ${LAN} && ip link add cwcard0 type veth peer name eth0 netns ${LAN}`)
sh(`ip -n ${LAN} addr add 10.10.126.1/24 dev eth0 && ip -n ${LAN} link set eth0 up && ip -n ${LAN} link set lo up`)
sh('ip addr add 10.10.126.101/24 dev cwcard0 && ip link set cwcard0 up && ip route add default via 10.10.126.1')
const before = layer3()
const echo = spawn('ip', ['netns', 'exec', LAN, 'socat', 'TCP-LISTEN:7000,fork,reuseaddr', 'EXEC:cat'], { stdio: 'ignore' })

const lab = await startEngineLab()
after(async () => {
  echo.kill()
  const left = await lab.close()
  const now = layer3()
  spawnSync('ip', ['netns', 'del', LAN])
  assert.deepEqual(left, [])
  assert.equal(now, before, 'an engine that ends leaves the card as it was')
})

/** What the host itself has. */
function layer3(): string {
  return `${sh("ip -4 -o addr show dev cwcard0 | sed 's/ *valid_lft.*//;s/^[0-9]*: //'")}\n${sh('ip route show dev cwcard0')}`.trim()
}

test('one command: the host stays connected, containers are in the LAN, the router is their gateway, nothing is masqueraded', async () => {
  const socket = connect({ host: '10.10.126.1', port: 7000 })
  await once(socket, 'connect')
  const made = await lab.causeway('network', 'create', '-d', 'bridge', '-o', 'parent=cwcard0', '--ip-range', '10.10.126.128/25', 'lan')
  assert.equal(made.code, 0, made.err)
  socket.write('still there\n')
  assert.equal(String((await once(socket, 'data'))[0]), 'still there\n')
  socket.destroy()
  const [network] = JSON.parse((await lab.docker('network', 'inspect', 'lan')).out)
  assert.deepEqual(network.IPAM.Config, [
    { Subnet: '10.10.126.0/24', IPRange: '10.10.126.128/25', Gateway: '10.10.126.1', AuxiliaryAddresses: { host: '10.10.126.101' } },
  ])
  const bridge = `br-${network.Id.slice(0, 12)}`
  assert.match(sh(`ip -o addr show dev ${bridge}`), /inet 10\.10\.126\.101\/24/)
  assert.match(sh('ip route show default'), new RegExp(`via 10\\.10\\.126\\.1 dev ${bridge}`))
  await lab.run('near', { networks: ['lan'], cmd: ['httpd', '-f', '-h', '/etc'] })
  assert.match((await lab.exec('near', 'ip', 'addr', 'show', 'eth0')).out, /inet 10\.10\.126\.128\/24/)
  assert.match((await lab.exec('near', 'ip', 'route')).out, /^default via 10\.10\.126\.1 dev eth0/)
  assert.match(fromLan('curl -s -m 3 http://10.10.126.128/hostname'), /^[0-9a-f]{12}$/)
  assert.match((await lab.exec('near', 'ping', '-c1', '-W2', '10.10.126.101')).out, /1 packets received/, 'and its host')
  // the LAN sees the container, not its host
  const seen = spawn('ip', ['netns', 'exec', LAN, 'tcpdump', '-nli', 'eth0', '-c1', 'tcp dst port 7000'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  await once(seen.stderr, 'data')
  const line = once(seen.stdout, 'data')
  await lab.exec('near', 'sh', '-c', 'echo hello | nc -w 2 10.10.126.1 7000')
  assert.match(String((await line)[0]), /IP 10\.10\.126\.128\.\d+ > 10\.10\.126\.1\.7000/)
  await once(seen, 'exit')
})

test('other networks of the host reach the LAN, and are published to it, as before', async () => {
  await lab.run('inner', { cmd: ['httpd', '-f', '-h', '/etc'], host: { PortBindings: { '80/tcp': [{ HostPort: '8081' }] } } })
  assert.match((await lab.exec('inner', 'ping', '-c1', '-W2', '10.10.126.1')).out, /1 packets received/)
  assert.match(fromLan('curl -s -m 3 http://10.10.126.101:8081/hostname'), /^[0-9a-f]{12}$/)
  await lab.api('DELETE', '/containers/inner?force=1')
})

test('the host is no router for its LAN: what comes in by the bridge goes to containers only', async () => {
  assert.match(sh('nft list set inet causeway opened4'), /"br-[0-9a-f]{12}"/)
  assert.equal(sh('cat /proc/sys/net/ipv4/ip_forward'), '0')
})

test('a published port of a container in the LAN answers at the host too', async () => {
  await lab.run('both', {
    networks: ['lan'],
    cmd: ['httpd', '-f', '-h', '/etc'],
    host: { PortBindings: { '80/tcp': [{ HostPort: '8082' }] } },
  })
  assert.match(fromLan('curl -s -m 3 http://10.10.126.101:8082/hostname'), /^[0-9a-f]{12}$/)
  await lab.api('DELETE', '/containers/both?force=1')
})

test('killed and started again: host and container are where they were', async () => {
  const addresses = sh("ip -4 -o addr show | grep 10.10.126.101 | sed 's/ *valid_lft.*//'")
  await lab.kill9()
  assert.match(fromLan('curl -s -m 3 http://10.10.126.128/hostname'), /^[0-9a-f]{12}$/)
  await lab.start()
  assert.equal(sh("ip -4 -o addr show | grep 10.10.126.101 | sed 's/ *valid_lft.*//'"), addresses)
  // a move that stopped half way: the address is on both, the card no port yet
  await lab.kill9()
  sh('ip link set cwcard0 nomaster && ip addr add 10.10.126.101/24 dev cwcard0 && ip route add 10.77.0.0/16 via 10.10.126.1 dev cwcard0')
  await lab.start()
  assert.equal(sh("ip -4 -o addr show | grep 10.10.126.101 | sed 's/ *valid_lft.*//'"), addresses)
  assert.match(sh('ip route show 10.77.0.0/16'), /dev br-/)
  sh('ip route del 10.77.0.0/16')
  assert.match(fromLan('curl -s -m 3 http://10.10.126.128/hostname'), /^[0-9a-f]{12}$/)
})

test('what cannot be is refused, and nothing is changed', async () => {
  const refused = async (text: RegExp, ...args: string[]) => {
    const ran = await lab.causeway('network', 'create', '-d', 'bridge', ...args, 'no')
    assert.equal(ran.code, 1)
    assert.match(ran.err, text)
  }
  const state = () => sh("ip -o link | sed 's/^[0-9]*: //' ; ip -4 route")
  const now = state()
  await refused(/parent interface nope0 does not exist/, '-o', 'parent=nope0', '--ip-range', '10.10.126.128/25')
  await refused(
    /need --ip-range, the part of 10\.10\.126\.0\/24 that nobody else uses there/,
    '-o',
    'parent=cwcard0',
    '--subnet',
    '10.10.126.0/24',
  )
  await refused(/has no IPv4 address that would tell the LAN's subnet/, '-o', 'parent=cwcard0', '--ip-range', '10.10.126.128/25')
  await refused(/it is a port of br-/, '-o', 'parent=cwcard0', '--subnet', '10.99.0.0/24', '--ip-range', '10.99.0.128/25')
  await refused(
    /cannot be internal: it is part of the LAN/,
    '--internal',
    '-o',
    'parent=docker0',
    '--subnet',
    '10.98.0.0/24',
    '--ip-range',
    '10.98.0.0/25',
  )
  assert.equal(state(), now)
})

test('removed: everything is back on the card', async () => {
  await lab.api('DELETE', '/containers/near?force=1')
  assert.equal((await lab.api('DELETE', '/networks/lan')).status, 204)
  assert.equal(layer3(), before)
  assert.equal(fromLan('ping -c1 -W2 10.10.126.101 >/dev/null && echo yes'), 'yes')
  assert.doesNotMatch(sh('nft list set inet causeway opened4'), /br-/)
})

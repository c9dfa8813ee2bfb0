/**
 * The tutorials' way to put containers into the physical network: the host's card is a port of `br0`, the engine uses that bridge and takes
 * addresses from a slice of its subnet. And their daemon flags: several `-H`, name servers, a storage driver that is not ours.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()

function sh(command: string): string {
  const ran = spawnSync('sh', ['-ec', command], { encoding: 'utf8' })
  assert.equal(ran.status, 0, `${command}: ${ran.stderr}${ran.stdout}`)
  return ran.stdout.trimEnd()
}

// the card `cwcard0` and what is plugged into the same switch: another host, 10.10.126.71
sh('ip netns del cwseed-other 2>/dev/null || true; ip netns add cwseed-other')
sh('ip link add cwcard0 type veth peer name eth0 netns cwseed-other')
sh('ip -n cwseed-other addr add 10.10.126.71/24 dev eth0 && ip -n cwseed-other link set eth0 up && ip -n cwseed-other link set lo up')
sh(
  'ip link add br0 type bridge && ip link set cwcard0 master br0 && ip addr add 10.10.126.101/24 dev br0 && ip link set cwcard0 up && ip link set br0 up',
)

const lab = await startEngineLab([
  ...['-b=br0', '--fixed-cidr', '10.10.126.128/25', '--dns', '8.8.8.8', '--dns', '8.8.4.4'],
  ...['--storage-driver=devicemapper', '-H', 'tcp://0.0.0.0:2375'],
])
after(async () => {
  assert.deepEqual(await lab.close(), [])
  assert.match(sh('ip -o addr show br0'), /10\.10\.126\.101\/24/, 'somebody else’s bridge stays as it was')
  assert.match(sh('bridge link show dev cwcard0'), /master br0/)
  sh('ip netns del cwseed-other')
})

test('containers are in the host’s own subnet, from the slice that fixed-cidr names, and other hosts reach them directly', async () => {
  assert.deepEqual((await lab.api('GET', '/networks/bridge')).json.IPAM.Config, [
    { Subnet: '10.10.126.0/24', IPRange: '10.10.126.128/25', Gateway: '10.10.126.101' },
  ])
  assert.equal((await lab.sh('ip link show docker0')).code, 1, 'br0 takes the place of docker0')
  await lab.run('near', { cmd: ['httpd', '-f', '-h', '/etc'] })
  assert.match((await lab.exec('near', 'ip', 'addr', 'show', 'eth0')).out, /inet 10\.10\.126\.128\/24/)
  assert.match((await lab.exec('near', 'ip', 'route')).out, /^default via 10\.10\.126\.101 dev eth0/)
  assert.match((await lab.exec('near', 'ping', '-c1', '-W2', '10.10.126.71')).out, /1 packets received/)
  assert.match(sh('ip netns exec cwseed-other curl -s -m 3 http://10.10.126.128/hostname'), /^[0-9a-f]{12}$/)
  const ports = sh('brctl show br0')
  assert.match(ports, /cwcard0/)
  assert.match(ports, /veth[0-9a-f]{7}/)
  await lab.api('DELETE', '/containers/near?force=1')
})

test('name servers given to the daemon are the containers’', async () => {
  await lab.run('dns1')
  assert.match((await lab.exec('dns1', 'cat', '/etc/resolv.conf')).out, /^nameserver 8\.8\.8\.8\nnameserver 8\.8\.4\.4$/m)
  await lab.api('DELETE', '/containers/dns1?force=1')
})

test('the same engine answers on its socket and, for other hosts, on TCP', async () => {
  const far = `ip netns exec cwseed-other docker -H tcp://10.10.126.101:2375`
  const names = (text: string) => text.match(/\b(bridge|host|none)\b(?=\s+(bridge|host|null)\s)/g)
  assert.deepEqual(names(sh(`${far} network ls`)), ['bridge', 'host', 'none'])
  assert.deepEqual(names((await lab.docker('network', 'ls')).out), ['bridge', 'host', 'none'])
})

test('after iptables -t nat -F and a restart on the same bridge everything is as before', async () => {
  sh('iptables -t nat -F && iptables -t filter -F')
  await lab.run('stay1', { cmd: ['httpd', '-f', '-h', '/etc'], host: { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } } })
  await lab.stop()
  await lab.start()
  assert.match(sh('ip netns exec cwseed-other curl -s -m 3 http://10.10.126.101:8080/hostname'), /^[0-9a-f]{12}$/)
  assert.match(sh('ip netns exec cwseed-other curl -s -m 3 http://10.10.126.128/hostname'), /^[0-9a-f]{12}$/)
  assert.match(sh('ip -o addr show br0'), /10\.10\.126\.101\/24/)
  await lab.api('DELETE', '/containers/stay1?force=1')
})

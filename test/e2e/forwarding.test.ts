/** A host that does not forward: what is switched on for containers must not make it a router for others. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const sh = (command: string) => {
  const run = spawnSync('sh', ['-c', command])
  assert.equal(run.status, 0, `${command}: ${run.stderr.toString()}`)
  return run.stdout.toString().trim()
}
const pid = process.pid
const [left, right] = [`cwl${pid}`, `cwr${pid}`]
sh(`ip netns add ${left} && ip netns add ${right}
ip link add up1 type veth peer name e0 netns ${left} && ip link add up2 type veth peer name e0 netns ${right}
ip addr add 192.0.2.1/24 dev up1 && ip addr add 198.51.100.1/24 dev up2 && ip link set up1 up && ip link set up2 up
ip -n ${left} addr add 192.0.2.2/24 dev e0 && ip -n ${left} link set e0 up && ip -n ${left} route add default via 192.0.2.1
ip -n ${right} addr add 198.51.100.2/24 dev e0 && ip -n ${right} link set e0 up && ip -n ${right} route add default via 198.51.100.1`)
const lab = await startEngineLab()
after(async () => {
  const leftovers = await lab.close()
  sh(`ip netns del ${left}; ip netns del ${right}`)
  assert.deepEqual(leftovers, [])
})
const ping = (ns: string, ip: string) => spawnSync('ip', ['netns', 'exec', ns, 'ping', '-c1', '-W1', ip]).status === 0

test('forwarding: a container reaches out and answers a published port, but the host forwards nothing between its own interfaces', async () => {
  assert.equal(sh('sysctl -n net.ipv4.ip_forward'), '0')
  await lab.run('web', { cmd: ['httpd', '-f', '-h', '/etc'], host: { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } } })
  assert.equal((await lab.exec('web', 'ping', '-c1', '-W1', '192.0.2.2')).code, 0)
  assert.match(sh(`ip netns exec ${right} curl -s -m 3 http://198.51.100.1:8080/hostname`), /^[0-9a-f]{12}$/)
  assert.equal(ping(left, '198.51.100.2'), false)
  assert.equal(sh('sysctl -n net.ipv4.ip_forward'), '0')
})

test('forwarding: an administrator who makes the host a router is obeyed within seconds', async () => {
  sh('sysctl -qw net.ipv4.ip_forward=1')
  const until = Date.now() + 15_000
  while (!ping(left, '198.51.100.2')) assert.ok(Date.now() < until, 'the host still does not forward')
  sh('sysctl -qw net.ipv4.ip_forward=0')
})

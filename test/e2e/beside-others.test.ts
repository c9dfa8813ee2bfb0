/** Beside another engine's and an administrator's rules, and beside virtual machines on a bridge: theirs is never touched, ours passes. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { sleep, unsettled } from './judge.ts'
import { outside } from './outside.ts'

isolate()
const sh = (command: string) => execFileSync('sh', ['-c', command], { encoding: 'utf8' })
const answers = (pid: number, ip: string) => spawnSync('nsenter', ['-t', String(pid), '-n', 'ping', '-c1', '-W1', ip]).status === 0

// a router with two machines outside, two virtual machines on a bridge, and what Docker and ufw leave in iptables
sh('echo 1 > /proc/sys/net/ipv4/ip_forward')
sh('ip link add vmbr0 type bridge; ip addr add 10.83.0.1/24 dev vmbr0; ip link set vmbr0 up')
const far = outside('cable1', 81)
const client = outside('cable2', 82)
const vms = [outside('tap1', 83, 'vmbr0', 2), outside('tap2', 83, 'vmbr0', 3)] as const
sh(`iptables -P FORWARD DROP
iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN; iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -i vmbr0 -j ACCEPT; iptables -A FORWARD -o vmbr0 -j ACCEPT
iptables -A FORWARD -i cable1 -o cable2 -j ACCEPT; iptables -A FORWARD -o cable1 -i cable2 -j ACCEPT`)
const rules = () => sh('iptables-save').replace(/^[:#].*\n/gm, '')
const sysctls = () =>
  sh('sysctl -a 2>/dev/null | grep -E "^net.(ipv4|ipv6|bridge)" | grep -vE "conf.(docker0|causeway0|br-|veth)|nf_conntrack_count" || true')
const before = { rules: rules(), sysctls: sysctls() }
const lab = await startEngineLab()
after(async () => {
  const left = await lab.close()
  for (const machine of [far, client, ...vms]) machine.close()
  assert.deepEqual(left, [])
})

const theirs = () => ({
  vmToVm: answers(vms[0].pid, vms[1].address),
  vmOut: answers(vms[0].pid, far.address),
  outToVm: answers(far.pid, vms[0].address),
  routed: answers(far.pid, client.address),
})
const ALL = { vmToVm: true, vmOut: true, outToVm: true, routed: true }

test('virtual machines and routed traffic of others pass as before', async () => {
  await lab.api('POST', '/networks/create', { Name: 'front' })
  await lab.run('web', {
    networks: ['front'],
    cmd: ['httpd', '-f', '-h', '/etc'],
    host: { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } },
  })
  assert.deepEqual(theirs(), ALL)
})

test('ours passes a FORWARD policy of DROP: outwards, and inwards to a published port', async () => {
  assert.equal((await lab.exec('web', 'ping', '-c', '1', '-W', '2', far.address)).code, 0)
  assert.match(client.sh('curl -s -m 3 http://10.82.0.1:8080/hostname'), /^[0-9a-f]{12}$/m)
  assert.match(sh('iptables -S DOCKER-USER'), /causeway.*ACCEPT/)
  assert.match(sh('iptables -S FORWARD'), /-P FORWARD DROP/, 'the policy is not ours to change')
})

test('a published port stays the only way in', () => {
  const web = sh(`nft -j list map inet causeway dnat4_any`).match(/172\.\d+\.\d+\.\d+/)?.[0] as string
  assert.equal(
    spawnSync('nsenter', ['-t', String(client.pid), '-n', 'curl', '-s', '-m', '1', `http://${web}/hostname`]).status === 0,
    false,
  )
})

test('rules that the other tool writes anew get our accept again', async () => {
  sh('iptables -F DOCKER-USER; iptables -A DOCKER-USER -j RETURN')
  await until('our rule is back', () => (/causeway/.test(sh('iptables -S DOCKER-USER')) ? true : undefined), 6000)
  assert.match(client.sh('curl -s -m 3 http://10.82.0.1:8080/hostname'), /^[0-9a-f]{12}$/m)
  assert.deepEqual(theirs(), ALL)
  assert.deepEqual(await unsettled(lab), ['bridge: vmbr0 should not be there'])
})

test('after the engine has gone nothing of theirs is different', async () => {
  await lab.api('DELETE', '/containers/web?force=1')
  await lab.stop()
  await sleep(200)
  assert.equal(rules(), before.rules)
  assert.equal(sysctls(), before.sysctls)
  assert.deepEqual(theirs(), ALL)
  await lab.start()
})

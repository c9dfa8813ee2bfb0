/** Beside ufw and firewalld, the real ones: containers reach out and are reached, isolation holds, and nothing of theirs is different afterwards. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, test } from 'node:test'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'
import { Firewalls, withoutFirewalls as skip } from '../../testkit/firewalls.ts'
import { until } from '../../testkit/until.ts'
import { outside } from './outside.ts'

const sh = (command: string) => execFileSync('sh', ['-c', command], { encoding: 'utf8' })
const far = outside('cable1', 81)
after(() => far.close())

/** What a host with containers promises, whoever guards it. */
async function judge(lab: EngineLab, when: string, { isolation = false } = {}): Promise<void> {
  await until(`a container reaches out, ${when}`, async () => (await lab.exec('web', 'ping', '-c', '1', '-W', '1', far.address)).code === 0)
  assert.match(far.sh('curl -s -m 3 http://10.81.0.1:8080/hostname'), /^[0-9a-f]{12}$/m, `published, ${when}`)
  assert.match(sh('curl -s -m 3 http://10.81.0.1:8080/hostname'), /^[0-9a-f]{12}$/m, `published and asked by the host, ${when}`)
  const byNeighbour = await lab.exec('neighbour', 'timeout', '3', 'wget', '-q', '-O', '-', 'http://10.81.0.1:8080/hostname')
  assert.match(byNeighbour.out, /^[0-9a-f]{12}$/m, `published and asked by another network, ${when}: ${byNeighbour.err}`)
  assert.equal((await lab.exec('mate', 'ping', '-c', '1', '-W', '1', 'web')).code, 0, `one network, ${when}`)
  if (!isolation) return
  const { json } = await lab.api('GET', '/containers/web/json')
  const address: string = json.NetworkSettings.Networks.front.IPAddress
  assert.notEqual((await lab.exec('neighbour', 'ping', '-c', '1', '-W', '1', address)).code, 0, `another network, ${when}`)
  assert.throws(() => far.sh(`curl -s -m 1 http://${address}/hostname`), `the address from outside, ${when}`)
}

async function populate(lab: EngineLab): Promise<void> {
  for (const Name of ['front', 'back']) assert.equal((await lab.api('POST', '/networks/create', { Name })).status, 201)
  const PortBindings = { '80/tcp': [{ HostPort: '8080' }] }
  await lab.run('web', { networks: ['front'], cmd: ['httpd', '-f', '-h', '/etc'], host: { PortBindings } })
  await lab.run('mate', { networks: ['front'] })
  await lab.run('neighbour', { networks: ['back'] })
}

async function clear(lab: EngineLab): Promise<void> {
  for (const name of ['web', 'mate', 'neighbour']) await lab.api('DELETE', `/containers/${name}?force=1`)
  for (const name of ['front', 'back']) await lab.api('DELETE', `/networks/${name}`)
}

const open: Firewalls[] = []
after(async () => {
  for (const firewalls of open) await firewalls.close()
})
function install(): Firewalls {
  const firewalls = new Firewalls()
  open.push(firewalls)
  return firewalls
}

test('ufw: enabled before, reloaded, changed and disabled while containers run', { skip }, async () => {
  const firewalls = install()
  const rules = () => sh('iptables-save; ip6tables-save').replace(/^#.*\n|\[\d+:\d+\]/gm, '')
  firewalls.run('ufw', 'default', 'deny', 'routed')
  // its first change writes its files anew, with rules that its templates lack
  firewalls.run('ufw', 'allow', '2222/tcp')
  firewalls.run('ufw', 'delete', 'allow', '2222/tcp')
  firewalls.run('ufw', '--force', 'enable')
  const before = rules()
  assert.throws(() => far.sh('nc -z -w 1 10.81.0.1 22'), 'ufw guards the host')
  const lab = await startEngineLab()
  try {
    await populate(lab)
    await judge(lab, 'ufw was there first', { isolation: true })
    firewalls.run('ufw', 'reload')
    await judge(lab, 'after ufw reload')
    firewalls.run('ufw', 'allow', '2222/tcp')
    await judge(lab, 'after ufw allow')
    firewalls.run('ufw', 'delete', 'allow', '2222/tcp')
    firewalls.run('ufw', 'disable')
    await judge(lab, 'after ufw disable')
    firewalls.run('ufw', '--force', 'enable')
    await judge(lab, 'after ufw enable', { isolation: true })
    assert.match(sh('iptables -S ufw-user-forward'), /causeway/)
    await clear(lab)
  } finally {
    assert.deepEqual(await lab.close(), [])
  }
  assert.equal(rules(), before)
  firewalls.run('ufw', 'disable')
  await firewalls.close()
  sh(
    'iptables -F; iptables -X; iptables -P FORWARD ACCEPT; iptables -P INPUT ACCEPT; ip6tables -F; ip6tables -X; ip6tables -P FORWARD ACCEPT; ip6tables -P INPUT ACCEPT',
  )
})

test('firewalld: there first, reloaded, stopped, and started again while containers run', { skip }, async () => {
  const firewalls = install()
  await firewalls.startFirewalld()
  const rules = () => sh('nft list table inet firewalld')
  const config = () => firewalls.run('sh', '-c', 'cd /etc/firewalld; find . -type f ! -name "*.old" | sort | xargs md5sum')
  const before = [rules(), config()]
  assert.throws(() => far.sh('nc -z -w 1 10.81.0.1 2222'), 'firewalld guards the host')
  const lab = await startEngineLab()
  try {
    await populate(lab)
    // at once: a container's first packet passes
    assert.equal((await lab.exec('neighbour', 'ping', '-c', '1', '-W', '1', far.address)).code, 0, lab.log())
    await judge(lab, 'firewalld was there first', { isolation: true })
    const bridges = firewalls.run('firewall-cmd', '--zone=causeway', '--list-interfaces')
    assert.equal(bridges.split(' ').length, 3, bridges)
    const doctor = await lab.causeway('doctor')
    assert.match(doctor.out, /firewalld.*\n?.*zone of their own/, doctor.out)
    firewalls.run('firewall-cmd', '--reload')
    await judge(lab, 'after a reload')
    await firewalls.stopFirewalld()
    await judge(lab, 'after firewalld has gone')
    await firewalls.startFirewalld()
    await judge(lab, 'after firewalld has come back', { isolation: true })
    await lab.kill9()
    await lab.start()
    await judge(lab, 'after the engine was killed')
    // routed by address: what our firewall lets in theirs does not reject
    const options = { 'com.docker.network.bridge.gateway_mode_ipv4': 'nat-unprotected' }
    const Name = 'open'
    await lab.api('POST', '/networks/create', { Name, Options: options, IPAM: { Config: [{ Subnet: '10.99.0.0/24' }] } })
    await lab.run('server', { networks: ['open'], cmd: ['httpd', '-f', '-h', '/etc'] })
    assert.match(far.sh('curl -s -m 3 http://10.99.0.2/hostname'), /^[0-9a-f]{12}$/m)
    await lab.api('DELETE', '/containers/server?force=1')
    await lab.api('DELETE', '/networks/open')
    const listed = () => firewalls.run('firewall-cmd', '--zone=causeway', '--list-interfaces').split(' ').length
    await until('the bridge of a removed network is out of the zone', () => listed() === 3)
    await clear(lab)
  } finally {
    assert.deepEqual(await lab.close(), [])
  }
  // chains of a zone that was in use once stay until firewalld's next reload; nothing leads to them
  assert.deepEqual(rules().match(/(jump|goto) \S+causeway$/gm) ?? [], [])
  firewalls.run('firewall-cmd', '--reload')
  assert.deepEqual([rules(), config()], before)
})

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

// biome-ignore lint/suspicious/noExplicitAny: answers of the API are looked into freely by tests
type Json = any
async function call(status: number, method: string, path: string, body?: unknown): Promise<Json> {
  const reply = await lab.api(method, path, body)
  assert.equal(reply.status, status, `${method} ${path}: ${reply.text}`)
  return reply.json
}
const inspect = (name: string): Promise<Json> => call(200, 'GET', `/containers/${name}/json`)
const remove = async (...names: string[]) => {
  for (const name of names) await call(204, 'DELETE', `/containers/${name}?force=1`)
}
const fileOf = async (name: string, path: string) => (await lab.exec(name, 'cat', path)).out
const LOCAL =
  '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n'

test('/etc/hosts: local lines, extra hosts in order, one line per address; appended on connect and taken out on disconnect', async () => {
  await call(201, 'POST', '/networks/create', { Name: 'ha', IPAM: { Config: [{ Subnet: '10.90.1.0/24' }] } })
  await call(201, 'POST', '/networks/create', { Name: 'hb', IPAM: { Config: [{ Subnet: '10.90.2.0/24' }] } })
  await lab.run('hosts1', {
    networks: ['ha'],
    body: { Hostname: 'c1', Domainname: 'invalid' },
    host: { ExtraHosts: ['zz:1.2.3.4', 'six:fd00::5', 'aa:1.2.3.4', 'gw:host-gateway'] },
  })
  const extra = '1.2.3.4\tzz\nfd00::5\tsix\n1.2.3.4\taa\n172.17.0.1\tgw\n'
  const own = '10.90.1.2\tc1.invalid c1\n'
  assert.equal(await fileOf('hosts1', '/etc/hosts'), LOCAL + extra + own)
  assert.equal(await fileOf('hosts1', '/etc/hostname'), 'c1\n')
  await lab.exec('hosts1', 'sh', '-c', 'printf "9.9.9.9\\tmine\\n" >> /etc/hosts')
  await call(200, 'POST', '/networks/hb/connect', { Container: 'hosts1' })
  assert.equal(await fileOf('hosts1', '/etc/hosts'), `${LOCAL}${extra}${own}9.9.9.9\tmine\n10.90.2.2\tc1.invalid c1\n`)
  await call(200, 'POST', '/networks/hb/disconnect', { Container: 'hosts1' })
  assert.equal(await fileOf('hosts1', '/etc/hosts'), `${LOCAL}${extra}${own}9.9.9.9\tmine\n`)
  const { HostsPath } = await inspect('hosts1')
  assert.equal((await lab.sh(`stat -c %a ${HostsPath}`)).out, '644\n')
  await remove('hosts1')
})

test('/etc/resolv.conf: the internal resolver with ndots:0, user settings over it, and an edited file is left alone', async () => {
  await lab.run('resolv1', {
    networks: ['ha'],
    host: { Dns: ['1.1.1.1'], DnsSearch: ['a.example', 'b.example'], DnsOptions: ['timeout:2'] },
  })
  const text = await fileOf('resolv1', '/etc/resolv.conf')
  const active = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  assert.deepEqual(active, ['nameserver 127.0.0.11', 'search a.example b.example', 'options timeout:2 ndots:0'])
  assert.match(text, /^# Based on host file: '\/etc\/resolv\.conf' \(internal resolver\)$/m)
  assert.match(text, /^# ExtServers: \[1\.1\.1\.1\]$/m)
  assert.match(text, /^# Overrides: \[nameservers search options\]$/m)
  assert.match(text, /^# Option ndots from: internal$/m)
  await lab.run('resolv2', { host: { Dns: ['127.0.0.5'], DnsSearch: ['.'] } })
  const legacy = (await fileOf('resolv2', '/etc/resolv.conf')).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  assert.deepEqual(legacy, ['nameserver 127.0.0.5'], 'given servers are used as they are, and "." clears the search list')
  await lab.exec('resolv1', 'sh', '-c', 'echo nameserver 9.9.9.9 > /etc/resolv.conf')
  await call(200, 'POST', '/networks/hb/connect', { Container: 'resolv1' })
  assert.equal(await fileOf('resolv1', '/etc/resolv.conf'), 'nameserver 9.9.9.9\n')
  await call(204, 'POST', '/containers/resolv1/restart?t=0')
  assert.equal(await fileOf('resolv1', '/etc/resolv.conf'), 'nameserver 9.9.9.9\n')
  await remove('resolv1', 'resolv2')
})

test('kill -9: running containers keep addresses, ports and names; what a policy wants running and was ended meanwhile comes back', async () => {
  await lab.run('web1', {
    networks: ['ha'],
    cmd: ['httpd', '-f', '-h', '/etc'],
    host: { PortBindings: { '80/tcp': [{ HostPort: '8088' }, { HostPort: '' }] } },
  })
  await lab.run('peer1', { networks: ['ha'] })
  const fixed = await call(201, 'POST', '/containers/create?name=always1', {
    Image: 'busybox',
    Cmd: ['sleep', '3600'],
    StopSignal: 'SIGKILL',
    HostConfig: { NetworkMode: 'ha', RestartPolicy: { Name: 'always' } },
    NetworkingConfig: { EndpointsConfig: { ha: { IPAMConfig: { IPv4Address: '10.90.1.77' }, Aliases: ['store'] } } },
  })
  await call(204, 'POST', '/containers/always1/start')
  const settings = async () => Promise.all(['web1', 'peer1'].map(async (name) => (await inspect(name)).NetworkSettings))
  const before = await settings()
  const pid = (await inspect('always1')).State.Pid
  await lab.kill9()
  process.kill(pid, 'SIGKILL')
  await lab.start()
  assert.deepEqual(await settings(), before)
  assert.match((await lab.sh('curl -s -m 3 http://127.0.0.1:8088/hostname')).out, /^[0-9a-f]{12}\n$/)
  const again = await inspect('always1')
  assert.deepEqual([again.Id, again.State.Running, again.NetworkSettings.Networks.ha.IPAddress], [fixed.Id, true, '10.90.1.77'])
  assert.match((await lab.exec('peer1', 'ping', '-c1', '-W2', 'store')).out, /10\.90\.1\.77[\s\S]*1 packets received/)
  const taken = await lab.api('POST', '/containers/create?name=web2', {
    Image: 'busybox',
    Cmd: ['sleep', '1'],
    HostConfig: { PortBindings: { '80/tcp': [{ HostPort: '8088' }] } },
  })
  assert.equal(taken.status, 201)
  assert.match((await call(500, 'POST', '/containers/web2/start')).message, /Bind for 0\.0\.0\.0:8088 failed: port is already allocated/)
  await remove('web1', 'web2', 'peer1', 'always1')
})

test('a start that fails on the network leaves `created`, 128 and no restart loop', async () => {
  await call(201, 'POST', '/containers/create?name=loop1', {
    Image: 'busybox',
    Cmd: ['true'],
    HostConfig: { NetworkMode: 'gone', RestartPolicy: { Name: 'always' } },
  })
  await call(404, 'POST', '/containers/loop1/start')
  await new Promise((resolve) => setTimeout(resolve, 600))
  const { State, RestartCount } = await inspect('loop1')
  assert.deepEqual([State.Status, State.ExitCode, RestartCount, State.Running], ['created', 128, 0, false])
  await remove('loop1')
})

test('a network that cannot be made at start does not keep the engine from starting; it is listed, removed, and made anew', async () => {
  await call(201, 'POST', '/networks/create', { Name: 'broken', Options: { 'com.docker.network.bridge.name': 'cwbroken0' } })
  assert.equal(await lab.stop(), 0)
  assert.equal((await lab.sh('ip link show cwbroken0')).code, 1)
  await lab.sh('ip link add cwbroken0 type veth peer name cwbroken1')
  await lab.start()
  assert.match(lab.log(), /cannot restore network/)
  assert.equal((await call(200, 'GET', '/networks/broken')).Name, 'broken')
  await call(204, 'DELETE', '/networks/broken')
  assert.equal((await lab.sh('ip link show cwbroken0')).code, 0, 'the device of somebody else is still there')
  assert.equal(
    (await lab.api('POST', '/networks/create', { Name: 'broken', Options: { 'com.docker.network.bridge.name': 'cwbroken0' } })).status,
    409,
  )
  await lab.sh('ip link del cwbroken0')
  await call(201, 'POST', '/networks/create', { Name: 'broken', Options: { 'com.docker.network.bridge.name': 'cwbroken0' } })
  assert.match((await lab.sh('ip -d link show cwbroken0')).out, /bridge/)
  await call(204, 'DELETE', '/networks/broken')
})

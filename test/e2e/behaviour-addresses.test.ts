import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

const network = async (Name: string, Config: object = {}, extra: object = {}) => {
  const reply = await lab.api('POST', '/networks/create', { Name, IPAM: { Config: [Config] }, ...extra })
  assert.equal(reply.status, 201, reply.text)
}
const withIp = (name: string, IPv4Address: string) => ({
  NetworkingConfig: { EndpointsConfig: { [name]: { IPAMConfig: { IPv4Address } } } },
})
const create = async (name: string, on: string, body: object = {}) => {
  const reply = await lab.api('POST', `/containers/create?name=${name}`, {
    Image: 'busybox',
    Cmd: ['sleep', '3600'],
    StopSignal: 'SIGKILL',
    HostConfig: { NetworkMode: on },
    ...body,
  })
  assert.equal(reply.status, 201, reply.text)
}
/** What `ip` in the container says. */
const addressOf = async (name: string) => {
  const ran = await lab.exec(name, 'ip', '-4', 'addr', 'show', 'eth0')
  return /inet ([0-9.]+\/\d+)/.exec(ran.out)?.[1]
}
const remove = async (...names: string[]) => {
  for (const name of names) assert.equal((await lab.api('DELETE', `/containers/${name}?force=1`)).status, 204)
}

test('a static address stays the container’s while it is stopped, over engine restarts, and for others only when nothing else is free', async () => {
  await network('small', { Subnet: '10.60.0.0/29' })
  await create('fixed', 'small', withIp('small', '10.60.0.2'))
  await lab.run('first', { networks: ['small'] })
  assert.equal(await addressOf('first'), '10.60.0.3/29', 'created, never started: its address is already spared')
  await lab.api('POST', '/containers/fixed/start')
  assert.equal(await addressOf('fixed'), '10.60.0.2/29')
  await lab.api('POST', '/containers/fixed/stop')
  await lab.run('second', { networks: ['small'] })
  assert.equal(await addressOf('second'), '10.60.0.4/29')

  await lab.kill9()
  await lab.start()
  await lab.run('third', { networks: ['small'] })
  assert.equal(await addressOf('third'), '10.60.0.5/29')
  await lab.api('POST', '/containers/fixed/start')
  assert.equal(await addressOf('fixed'), '10.60.0.2/29')
  await lab.api('POST', '/containers/fixed/stop')

  // asked for by name it is still free, as in Docker; and rather than nothing, it is given to others
  await lab.run('fourth', { networks: ['small'] })
  assert.equal(await addressOf('fourth'), '10.60.0.6/29')
  await lab.run('fifth', { networks: ['small'] })
  assert.equal(await addressOf('fifth'), '10.60.0.2/29')
  const refused = await lab.api('POST', '/containers/fixed/start')
  assert.equal(refused.status, 403)
  assert.match(
    refused.json.message,
    /^failed to set up container networking: Address already in use: 10\.60\.0\.2 belongs to container "fifth"/,
  )
  await remove('first', 'second', 'third', 'fourth', 'fifth', 'fixed')
})

test('a static address is let go with its container, its endpoint, or its network', async () => {
  await network('swap', { Subnet: '10.61.0.0/29' })
  await create('holder', 'swap', withIp('swap', '10.61.0.2'))
  await remove('holder')
  await lab.run('taker', { networks: ['swap'] })
  assert.equal(await addressOf('taker'), '10.61.0.2/29')
  await remove('taker')

  await create('guest', 'none')
  await remove('guest')
  await create('guest', 'bridge')
  const connected = await lab.api('POST', '/networks/swap/connect', {
    Container: 'guest',
    EndpointConfig: { IPAMConfig: { IPv4Address: '10.61.0.2' } },
  })
  assert.equal(connected.status, 200, connected.text)
  await lab.run('taker', { networks: ['swap'] })
  assert.equal(await addressOf('taker'), '10.61.0.3/29')
  await remove('taker')
  assert.equal((await lab.api('POST', '/networks/swap/disconnect', { Container: 'guest' })).status, 200)
  await lab.run('taker', { networks: ['swap'] })
  assert.equal(await addressOf('taker'), '10.61.0.2/29')
  await remove('taker')

  // the network is made anew under the same name: the waiting container's address is spared there too
  await lab.api('POST', '/networks/swap/connect', { Container: 'guest', EndpointConfig: { IPAMConfig: { IPv4Address: '10.61.0.2' } } })
  assert.equal((await lab.api('DELETE', '/networks/swap')).status, 204)
  await network('swap', { Subnet: '10.61.0.0/29' })
  await lab.run('taker', { networks: ['swap'] })
  assert.equal(await addressOf('taker'), '10.61.0.3/29')
  await remove('taker', 'guest')
})

test('a dynamic address is free again at once and the lowest one goes first', async () => {
  await network('order', { Subnet: '10.62.0.0/24' })
  for (const name of ['o1', 'o2', 'o3']) await lab.run(name, { networks: ['order'] })
  assert.deepEqual(await Promise.all(['o1', 'o2', 'o3'].map(addressOf)), ['10.62.0.2/24', '10.62.0.3/24', '10.62.0.4/24'])
  await remove('o2')
  await lab.run('o4', { networks: ['order'] })
  assert.equal(await addressOf('o4'), '10.62.0.3/24')
  await remove('o1', 'o3', 'o4')
})

test('an ip-range gives gateway and first address, its counters are exact, and a given address may lie outside of it', async () => {
  await network('ranged', { Subnet: '192.168.50.0/24', IPRange: '192.168.50.64/30' })
  const { json } = await lab.api('GET', '/networks/ranged')
  assert.deepEqual(json.IPAM.Config, [{ Subnet: '192.168.50.0/24', IPRange: '192.168.50.64/30', Gateway: '192.168.50.64' }])
  await lab.run('r1', { networks: ['ranged'] })
  assert.equal(await addressOf('r1'), '192.168.50.65/24')
  await lab.run('r2', { networks: ['ranged'], body: withIp('ranged', '192.168.50.200') })
  assert.equal(await addressOf('r2'), '192.168.50.200/24')
  await remove('r1', 'r2')
})

test('a /31 of an isolated network holds two containers, and a subnet may be asked for by its size alone', async () => {
  await network(
    'pair',
    { Subnet: '10.63.0.0/31' },
    { Internal: true, Options: { 'com.docker.network.bridge.gateway_mode_ipv4': 'isolated' } },
  )
  await lab.run('p1', { networks: ['pair'] })
  await lab.run('p2', { networks: ['pair'] })
  assert.deepEqual([await addressOf('p1'), await addressOf('p2')], ['10.63.0.0/31', '10.63.0.1/31'])
  assert.match((await lab.exec('p1', 'ping', '-c1', '-W2', '10.63.0.1')).out, /1 packets received/)
  await network('sized', { Subnet: '0.0.0.0/24' })
  assert.match((await lab.api('GET', '/networks/sized')).json.IPAM.Config[0].Subnet, /^172\.\d+\.0\.0\/24$/)
  await remove('p1', 'p2')
})

test('automatic subnets come back after a restart, whichever network asks first', async () => {
  await network('auto1')
  await network('auto2')
  const subnets = async () =>
    (await lab.api('GET', '/networks')).json
      .filter((n: { Name: string }) => n.Name.startsWith('auto'))
      .map((n: { Name: string; IPAM: { Config: { Subnet: string }[] } }) => [n.Name, n.IPAM.Config[0]?.Subnet])
      .sort()
  const before = await subnets()
  assert.equal((await lab.api('DELETE', '/networks/auto1')).status, 204)
  const [, second] = before
  await lab.kill9()
  await lab.start()
  await network('auto0')
  assert.deepEqual(await subnets(), [['auto0', before[0]?.[1]], second])
})

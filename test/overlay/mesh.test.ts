/** Members of one network on three hosts: started at once, everyone reaches everyone by name; engines that die and come back; verification. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { mesh } from '../../testkit/lab-mesh.ts'
import { until } from '../../testkit/until.ts'

const skip = etcdMissing() ?? false
let lab: Lab

before(async () => {
  if (!skip) lab = await startLab({ hosts: 3 })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

/** Kernel entries of a host's namespace of the network. */
async function entries(i: number): Promise<string> {
  const id = (await lab.engines[0]?.api('GET', '/networks/many'))?.json.Id as string
  const engine = lab.engines[i] as Lab['engines'][number]
  return (
    await engine.sh(
      `nsenter --net=${engine.dir}/run/netns/1-${id.slice(0, 10)} sh -c 'ip neigh show nud permanent; bridge fdb show dev vxlan0 | grep self'`,
    )
  ).out
}

test('21 containers on three hosts, started at once: all of them reach all others by name', { skip }, async () => {
  const made = await lab.engines[0]?.api('POST', '/networks/create', { Name: 'many', Driver: 'overlay' })
  assert.equal(made?.status, 201, made?.text)
  for (const engine of lab.engines)
    await until('the network is there', async () => (await engine.api('GET', '/networks/many')).status === 200)
  const { failures, pairs } = await mesh(lab, 'many', 21)
  assert.deepEqual(failures, [])
  assert.equal(pairs, 420)
})

test('the hosts agree on the kernel’s state', { skip }, async () => {
  const { code, out, err } = (await lab.engines[1]?.causeway('cluster', 'verify')) ?? { code: 1, out: '', err: '' }
  assert.equal(code, 0, out + err)
})

test('kill -9 of an engine cuts nothing, and its successor takes up what is there', { skip }, async () => {
  const engine = lab.engines[1] as Lab['engines'][number]
  const before = await entries(1)
  assert.equal(before.match(/PERMANENT/g)?.length, 14)
  const pinging = lab.engines[0]?.exec('mesh0', 'ping', '-i', '0.1', '-c', '30', '-q', (await address('mesh1')) as string)
  await engine.kill9()
  await engine.start()
  assert.match((await pinging)?.out ?? '', / 0% packet loss/)
  assert.equal(await entries(1), before)
  assert.equal((await engine.exec('mesh1', 'ping', '-c', '1', '-W', '2', 'mesh2')).code, 0)
})

async function address(container: string): Promise<string> {
  for (const engine of lab.engines) {
    const { status, json } = await engine.api('GET', `/containers/${container}/json`)
    if (status === 200) return json.NetworkSettings.Networks['many'].IPAddress
  }
  throw new Error(`no ${container}`)
}

test('containers that go leave no entry on any host, their addresses are reached anew elsewhere', { skip }, async () => {
  const [one, two, three] = lab.engines as [Lab['engines'][number], Lab['engines'][number], Lab['engines'][number]]
  // hosts that race for an address may leave holes: filled first, so that the lowest free one is the one that is given back
  let members = 21
  do await two.run(`fill${members++}`, { networks: ['many'] })
  while (Number((await address(`fill${members - 1}`)).split('.').at(-1)) <= members)
  const ip = await address('mesh2')
  await three.api('DELETE', '/containers/mesh2?force=1')
  for (const i of [0, 1]) await until('the entry has gone', async () => !(await entries(i)).includes(`${ip} `))
  await two.run('mover', { networks: ['many'] })
  assert.equal(await address('mover'), ip, 'the lowest free address')
  for (const [engine, name] of [
    [one, 'mesh0'],
    [three, 'mesh5'],
  ] as const)
    assert.equal((await engine.exec(name, 'ping', '-c', '1', '-W', '2', 'mover')).code, 0)
})

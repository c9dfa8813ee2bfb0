/** Routed overlay networks between whole engines on one link: reached by name, other networks stay out; what is refused says why. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ipsecMissing } from '../../src/kernel/xfrm.ts'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { until } from '../../testkit/until.ts'

const skip = etcdMissing() ?? false
let lab: Lab

before(async () => {
  if (!skip) lab = await startLab({ hosts: 2, flat: true })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

const engine = (i: number) => lab.engines[i] as Lab['engines'][number]
const pings = async (i: number, from: string, to: string) => (await engine(i).exec(from, 'ping', '-c', '2', '-W', '1', to)).code === 0

test('members reach each other by name over plain routes; a container of another network reaches none', { skip }, async () => {
  const flat = await engine(0).causeway('network', 'create', '-d', 'overlay', '-o', 'mode=host-gw', 'flat')
  assert.equal(flat.code, 0, flat.err)
  assert.equal((await engine(0).causeway('network', 'create', '-d', 'overlay', 'other')).code, 0)
  await until('the network is there', async () => (await engine(1).api('GET', '/networks/flat')).status === 200)
  await engine(0).run('c1', { networks: ['flat'] })
  await engine(1).run('c2', { networks: ['flat'] })
  await engine(0).run('stranger', { networks: ['other'] })
  assert.ok(await pings(0, 'c1', 'c2'))
  assert.ok(await pings(1, 'c2', 'c1'))
  for (const to of ['10.0.0.2', '10.0.0.16']) assert.equal(await pings(0, 'stranger', to), false, to)
  assert.match((await engine(0).sh('ip route show proto 202')).out, /10\.0\.0\.16\/28 via 10\.10\.126\.71 dev eth0/)
  assert.equal((await engine(0).causeway('cluster', 'verify')).code, 0)
})

test('what a routed network cannot be is refused, and encryption on a kernel without ESP', { skip }, async () => {
  const refused = async (...args: string[]) => (await engine(0).causeway('network', 'create', '-d', 'overlay', ...args, 'no')).err
  assert.match(await refused('-o', 'mode=host-gw', '--ipv6'), /host-gw" is for IPv4 only/)
  assert.match(await refused('-o', 'mode=host-gw', '--internal'), /host-gw" cannot be internal/)
  assert.match(await refused('-o', 'mode=host-gw', '-o', 'encrypted'), /host-gw" cannot be encrypted/)
  if (ipsecMissing() !== undefined)
    assert.match(await refused('-o', 'encrypted'), /network no cannot be encrypted on host 10\.10\.126\.101: this kernel/)
})

/** The plugin while no engine runs: the same results, by a process of its own for each call, and an engine that starts later knows them. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type CniLab, startCniLab } from './lab.ts'

const conf = {
  cniVersion: '1.0.0',
  name: 'alone',
  type: 'causeway',
  ipam: { subnet: '10.60.0.0/24' },
  runtimeConfig: { portMappings: [{ hostPort: 8060, containerPort: 80 }] },
}
const plain = { ...conf, runtimeConfig: {} }

describe('CNI without an engine', () => {
  let lab: CniLab
  before(async () => {
    lab = await startCniLab()
    assert.equal(await lab.stop(), 0)
  })
  after(async () => {
    assert.deepEqual(await lab.close(), [])
  })

  test('ADD, CHECK and DEL, one after the other and several at once; an engine that starts takes over', async () => {
    const [a, b, c] = [lab.netns(), lab.netns(), lab.netns()]
    const version = await lab.cni({ command: 'VERSION', conf: {} })
    assert.equal(version.json.cniVersion, '1.1.0')
    const first = await lab.add('a', a, conf)
    assert.equal(first.ips[0].address, '10.60.0.2/24')
    // they wait for each other
    const both = await Promise.all([lab.add('b', b, plain), lab.add('c', c, plain)])
    assert.deepEqual(both.map((result) => result.ips[0].address).sort(), ['10.60.0.3/24', '10.60.0.4/24'])
    const check = await lab.cni({ command: 'CHECK', containerId: 'a', netns: a, conf: { ...conf, prevResult: first } })
    assert.deepEqual([check.code, check.out], [0, ''])
    assert.equal((await lab.inside(a, 'ping -c1 -W2 10.60.0.3')).code, 0)
    const serving = lab.inside(a, 'echo hello | timeout 20 nc -l -N -p 80 || echo hello | timeout 20 nc -l -N 80')
    for (const end = Date.now() + 5000; !(await lab.inside(a, 'ss -ltn')).out.includes(':80'); ) assert.ok(Date.now() < end)
    assert.equal((await lab.sh('timeout 5 nc -d 10.60.0.1 8060')).out, 'hello\n', 'the port is published while nobody runs')
    await serving

    await lab.start()
    assert.equal((await lab.cni({ command: 'CHECK', containerId: 'a', netns: a, conf: { ...conf, prevResult: first } })).out, '')
    assert.equal((await lab.cni({ command: 'DEL', containerId: 'b', netns: b, conf: plain })).code, 0)
    assert.equal(await lab.stop(), 0)

    const error = await lab.cni({ command: 'ADD', containerId: 'a', netns: a, conf })
    assert.deepEqual([error.code, error.json.code], [1, 999])
    const other = { ...plain, name: 'other', bridge: 'cni-other', ipam: { subnet: '10.61.0.0/24' } }
    await lab.add('o', b, other)
    assert.equal((await lab.cni({ command: 'DEL', containerId: 'o', conf: other })).code, 0)
    for (const end = Date.now() + 5000; (await lab.sh('ip link show cni-other')).code === 0; )
      assert.ok(Date.now() < end, 'the empty network goes')
    for (const id of ['a', 'c', 'c']) {
      const gone = await lab.cni({ command: 'DEL', containerId: id, conf: plain })
      assert.deepEqual([gone.code, gone.out], [0, ''], gone.out + gone.err)
    }
    assert.equal((await lab.inside(a, 'ip link show eth0')).code, 1)
    assert.equal((await lab.sh('nft list tables')).out.includes('causeway'), false, 'the last call leaves no tables')
    assert.equal((await lab.sh('ip -o link')).out.includes('br-'), false, 'and no bridge')
  })
})

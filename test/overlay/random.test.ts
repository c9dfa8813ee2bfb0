/**
 * Anything happens to a cluster of three hosts, in an order that chance decides: containers start, stop, move, join and leave networks;
 * engines and members of the store are killed; hosts are cut off and evicted. Afterwards everything must be as if nothing had been the matter.
 *
 *   CAUSEWAY_RANDOM_STEPS=2000 CAUSEWAY_SEED=7 node --import tsx --test test/overlay/random.test.ts
 *   CAUSEWAY_RANDOM_LOG=file                        every step and its answer, and the engines' logs
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { seeded } from '../../testkit/random.ts'
import { World } from './cluster-world.ts'

const skip = etcdMissing() ?? false
const STEPS = Number(process.env['CAUSEWAY_RANDOM_STEPS'] ?? 120)
/** Steps after which everything is mended and judged. */
const STRETCH = 200
/** An error in an engine's log; that an evicted host's container has lost its address is one that belongs to it. */
const COMPLAINT = /"level":[56]0(?!.*"msg":"a container of this host cannot keep its place)/
const seed = Number(process.env['CAUSEWAY_SEED'] ?? Math.floor(Math.random() * 2 ** 32))
let lab: Lab

before(async () => {
  const flags = ['--cluster-store-opt', 'kv.patience=1', '--cluster-store-opt', 'discovery.ttl=10']
  if (!skip) lab = await startLab({ hosts: 3, etcdMembers: 3, flags })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

test(`${STEPS} steps at random (CAUSEWAY_SEED=${seed}): everything is as it should be afterwards`, { skip }, async (t) => {
  t.diagnostic(`CAUSEWAY_SEED=${seed}`)
  const world = new World(lab, seeded(seed))
  try {
    await world.begin()
    for (let done = 0; done < STEPS; ) {
      for (const end = Math.min(done + STRETCH, STEPS); done < end; done++) await world.step()
      const wrong = await world.rest()
      assert.equal(wrong.length, 0, `after ${done} steps of seed ${seed}:\n${wrong.join('\n')}\n${world.history.slice(-40).join('\n')}`)
    }
    for (const engine of lab.engines) assert.doesNotMatch(engine.log(), COMPLAINT, 'an engine that complains')
    for (const [what, times] of [...world.counts].sort(([, a], [, b]) => b - a)) t.diagnostic(`${times} ${what}`)
  } finally {
    const file = process.env['CAUSEWAY_RANDOM_LOG']
    if (file !== undefined)
      writeFileSync(file, [...world.history, ...lab.engines.map((engine) => `\n== ${engine.host.name}\n${engine.log()}`)].join('\n'))
  }
})

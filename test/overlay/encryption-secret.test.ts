/** The secret of encrypted networks spoiled by somebody: nothing begins without one, and nothing leaves in clear meanwhile. Needs no ESP. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { parseIp } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { systemRng } from '../../src/base/rng.ts'
import { Encryption } from '../../src/cluster/overlay/encryption.ts'
import { MemoryStoreServer } from '../../src/cluster/store/memory.ts'
import { Xfrm } from '../../src/kernel/xfrm.ts'
import { until } from '../../testkit/until.ts'

const SPOILED = [
  '',
  'null',
  '5',
  '{',
  '[]',
  '{"secrets":5}',
  '{"secrets":["short"]}',
  '{"secrets":[{}]}',
  `{"secrets":["${'z'.repeat(64)}"]}`,
]

test('a secret that is none: joining is refused with what to do, packets are blocked, and a new secret heals it', async () => {
  const server = new MemoryStoreServer(systemClock)
  const store = server.open({ clock: systemClock, logger: silentLogger })
  const xfrm = Xfrm.open()
  const encryption = new Encryption({
    store,
    xfrm,
    hostId: 'a'.repeat(32),
    vtep: parseIp('10.0.0.1'),
    clock: systemClock,
    rng: systemRng,
    log: silentLogger,
  })
  try {
    for (const value of SPOILED) {
      await store.txn({ puts: [{ key: 'encryption/secret', value }] })
      await assert.rejects(encryption.join(), /key encryption\/secret\) is not what Causeway writes there: put it back, or delete it/)
    }
    encryption.setPeers(new Map([['b'.repeat(32), parseIp('10.0.0.2')]]))
    const policies = execFileSync('ip', ['xfrm', 'policy']).toString()
    assert.match(policies, /src 10\.0\.0\.1\/32 dst 0\.0\.0\.0\/0 proto udp dport 4790 \n\tdir out action block/)
    assert.match(policies, /dir in action block/)
    await store.txn({ deletes: ['encryption/secret'] })
    await encryption.join()
    const secret = (await store.get('encryption/secret'))?.value ?? ''
    assert.match(secret, /^\{"secrets":\["[0-9a-f]{64}"\]\}$/)
    for (const value of SPOILED) {
      await store.txn({ puts: [{ key: 'encryption/secret', value }] })
      await until(`it is put back over ${value}`, async () => (await store.get('encryption/secret'))?.value === secret)
    }
  } finally {
    encryption.close()
    xfrm.close()
    await store.close()
  }
})

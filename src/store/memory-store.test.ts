import assert from 'node:assert/strict'
import { test } from 'node:test'
import { storeContract } from '../../testkit/contracts/store.ts'
import { memoryStore } from './memory-store.ts'
import { dump } from './types.ts'

storeContract('memory store', { fresh: memoryStore })

test('a dump is one tree, split at slashes, also where a key is a prefix of another', () => {
  const store = memoryStore()
  store.put('network/1', { name: 'a' })
  store.put('network/2', { name: 'b' })
  store.put('version', 3)
  store.put('version/old', 2)
  store.put('x/y/z', [1])
  store.put('__proto__/polluted', true)
  assert.deepEqual(JSON.parse(JSON.stringify(dump(store))), {
    network: { '1': { name: 'a' }, '2': { name: 'b' } },
    version: { '': 3, old: 2 },
    x: { y: { z: [1] } },
    ['__proto__']: { polluted: true },
  })
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
})

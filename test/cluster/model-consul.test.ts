/** The cluster's model on a real Consul. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import { after, before, test } from 'node:test'
import { type ConsulLab, consulMissing, startConsul } from '../../testkit/consul.ts'
import { hostileSuite } from './model-hostile.ts'
import { modelSuite } from './model-suite.ts'
import { opener } from './store-openers.ts'

const missing = consulMissing()
if (missing !== undefined) test('consul', { skip: missing }, () => {})
else {
  let consul: ConsulLab
  const { open, closeAll } = opener(() => consul)
  before(async () => {
    consul = await startConsul()
  })
  after(async () => {
    await closeAll()
    await consul.close()
  })
  const stores = () => ({ open, stop: () => consul.stop(), start: () => consul.start(), wipe: () => consul.wipe() })
  modelSuite('consul', stores, 60)
  hostileSuite('consul', () => ({
    ...stores(),
    rawPut: async (key, value) => void (await consul.api('PUT', `/v1/kv/${encodeURIComponent(key).replaceAll('%2F', '/')}`, value)),
    largest: 500_000,
  }))
}

/** The cluster's model on a real Consul. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import { after, before, test } from 'node:test'
import { type ConsulLab, consulMissing, startConsul } from '../../testkit/consul.ts'
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
  modelSuite('consul', () => ({ open, stop: () => consul.stop(), start: () => consul.start(), wipe: () => consul.wipe() }), 60)
}

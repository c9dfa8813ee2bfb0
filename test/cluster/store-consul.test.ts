/** The store port on a real Consul, alone. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import { after, before, test } from 'node:test'
import { type ConsulLab, consulMissing, startConsul } from '../../testkit/consul.ts'
import { storeConformance } from './store-conformance.ts'
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
  storeConformance('consul', () => ({
    open,
    rawPut: async (key, value) => void (await consul.api('PUT', `/v1/kv/${encodeURIComponent(key).replaceAll('%2F', '/')}`, value)),
    endLease: async (id) => void (await consul.api('PUT', `/v1/session/destroy/${id}`)),
    stop: () => consul.stop(),
    start: () => consul.start(),
  }))
}

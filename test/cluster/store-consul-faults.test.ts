/** Three members of Consul: killed, frozen, cut off, restored. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import { after, before, test } from 'node:test'
import { type ConsulLab, consulMissing, startConsul } from '../../testkit/consul.ts'
import { storeFaults } from './store-faults.ts'
import { opener } from './store-openers.ts'

const missing = consulMissing()
if (missing !== undefined) test('consul', { skip: missing }, () => {})
else {
  let consul: ConsulLab
  const { open, closeAll } = opener(() => consul)
  before(async () => {
    consul = await startConsul({ members: 3 })
  })
  after(async () => {
    await closeAll()
    await consul.close()
  })
  storeFaults('consul', () => ({
    members: consul.members,
    open,
    ready: () => consul.ready(),
    save: (file) => consul.save(file),
    restore: (file) => consul.restore(file),
  }))
}

/** Three members of etcd: killed, frozen, cut off, compacted, restored. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import { after, before } from 'node:test'
import { type EtcdLab, startEtcd } from '../../testkit/etcd.ts'
import { storeFaults } from './store-faults.ts'
import { opener } from './store-openers.ts'

let etcd: EtcdLab
const { open, closeAll } = opener(() => etcd)
before(async () => {
  etcd = await startEtcd({ members: 3 })
})
after(async () => {
  await closeAll()
  await etcd.close()
})

storeFaults('etcd', () => ({
  members: etcd.members,
  open,
  ready: () => etcd.ready(),
  save: (file) => etcd.save(file),
  restore: (file) => etcd.restore(file),
  async compact() {
    const [{ Status }] = JSON.parse(await etcd.ctl('endpoint', 'status', '-w', 'json')) as [{ Status: { header: { revision: number } } }]
    await etcd.ctl('compact', String(Status.header.revision))
  },
}))

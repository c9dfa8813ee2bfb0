/** The store port on a real etcd, alone. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import { after, before } from 'node:test'
import { type EtcdLab, startEtcd } from '../../testkit/etcd.ts'
import { storeConformance } from './store-conformance.ts'
import { opener, rawPutThrough } from './store-openers.ts'

let etcd: EtcdLab
const { open, closeAll } = opener(() => etcd)
before(async () => {
  etcd = await startEtcd()
})
after(async () => {
  await closeAll()
  await etcd.close()
})

storeConformance('etcd', () => ({
  open,
  rawPut: rawPutThrough(() => etcd),
  endLease: async (id) => void (await etcd.ctl('lease', 'revoke', BigInt(id).toString(16))),
  stop: () => etcd.stop(),
  start: () => etcd.start(),
}))

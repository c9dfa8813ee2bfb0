/** The cluster's model on a real etcd. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import { after, before } from 'node:test'
import { type EtcdLab, startEtcd } from '../../testkit/etcd.ts'
import { hostileSuite } from './model-hostile.ts'
import { modelSuite } from './model-suite.ts'
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

const stores = () => ({ open, stop: () => etcd.stop(), start: () => etcd.start(), wipe: () => etcd.wipe() })
modelSuite('etcd', stores, 300)
hostileSuite('etcd', () => ({ ...stores(), rawPut: rawPutThrough(() => etcd), largest: 1_000_000 }))

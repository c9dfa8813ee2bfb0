/** The store port on etcd 3.5 (Debian 13's, unpacked). */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import { after, before, test } from 'node:test'
import { type EtcdLab, etcdMissing, startEtcd } from '../../testkit/etcd.ts'
import { storeConformance } from './store-conformance.ts'
import { opener, rawPutThrough } from './store-openers.ts'

const binary = `${process.env['CAUSEWAY_STORES'] ?? '/var/tmp/causeway-stores'}/etcd-3.5/usr/bin/etcd`
if (etcdMissing(binary) !== undefined)
  test('etcd 3.5', {
    skip: `not tested: no etcd 3.5 at ${binary}; tools/cluster-stores unpacks Debian 13's when the network is there`,
  }, () => {})
else {
  let etcd: EtcdLab
  const { open, closeAll } = opener(() => etcd)
  before(async () => {
    etcd = await startEtcd({ binary, user: { name: 'causeway', password: 'pw' } })
  })
  after(async () => {
    await closeAll()
    await etcd.close()
  })
  storeConformance('etcd 3.5', () => ({
    open,
    rawPut: rawPutThrough(() => etcd),
    endLease: async (id) => void (await etcd.ctl('lease', 'revoke', BigInt(id).toString(16))),
    stop: () => etcd.stop(),
    start: () => etcd.start(),
  }))
}

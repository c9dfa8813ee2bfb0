import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkClusterFlags } from './cluster-flags.ts'

test('cluster flags: each that is there without its companion is named', () => {
  const none = { store: '', advertise: '', options: [] }
  const refusals = [
    [
      { ...none, advertise: 'eth0:1' },
      /^invalid cluster configuration. --cluster-advertise must be accompanied by --cluster-store configuration$/,
    ],
    [{ ...none, options: ['kv.path=a'] }, /--cluster-store-opt needs --cluster-store$/],
    [{ ...none, store: 'etcd://a' }, /--cluster-store needs --cluster-advertise: give the address/],
  ] as const
  for (const [flags, message] of refusals) assert.throws(() => checkClusterFlags(flags), { message })
  checkClusterFlags(none)
  checkClusterFlags({ store: 'etcd://a', advertise: 'eth0:1', options: ['discovery.ttl=10'] })
})

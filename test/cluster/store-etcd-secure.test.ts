/** etcd over TLS with client certificates and users; and what a person is told who has them wrong. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { openClusterStore } from '../../src/cluster/store/open.ts'
import { parseStoreUrl } from '../../src/cluster/store/url.ts'
import type { Certs } from '../../testkit/certs.ts'
import { type EtcdLab, startEtcd } from '../../testkit/etcd.ts'
import { deadline, Mirror, put } from './store-conformance.ts'
import { converges } from './store-faults.ts'
import { opener, ports } from './store-openers.ts'

let etcd: EtcdLab
let certs: Certs
const dir = mkdtempSync(join(tmpdir(), 'causeway-secure-'))
const { open, closeAll } = opener(() => etcd)
before(async () => {
  etcd = await startEtcd({ tls: 'mutual', user: { name: 'causeway', password: 'se cret:1' }, tokenSeconds: 2 })
  certs = etcd.certs as Certs
})
after(async () => {
  await closeAll()
  await etcd.close()
  rmSync(dir, { recursive: true, force: true })
})

const says = (pattern: RegExp) => (error: Error & { code?: string }) => {
  assert.equal(error.code, 'unavailable')
  assert.match(error.message, pattern)
  return true
}

test('etcd, TLS and user: reads, writes, watches and leases work, also after the server forgot our token', async () => {
  const passwordFile = join(dir, 'password')
  writeFileSync(passwordFile, 'se cret:1\n')
  const { 'kv.password': _, ...rest } = etcd.storeOpts
  const store = openClusterStore(
    parseStoreUrl(etcd.storeUrl('/tls'), { ...rest, 'kv.passwordfile': passwordFile, 'kv.patience': '20' }),
    ports,
  )
  try {
    const mirror = new Mirror()
    store.watch('', mirror)
    let lost = ''
    const lease = await store.lease(10, (why) => {
      lost = why
    })
    await store.txn({
      puts: [
        { key: 'a', value: '1' },
        { key: 'node', value: 'x', lease },
      ],
    })
    await converges(store, mirror)
    const again = put(store, 'b', '2')
    await Promise.all([again, put(store, 'c', '3')])
    // tokens are kept in the server's memory: a restart and its life time both end them
    await etcd.stop()
    await etcd.start()
    await put(store, 'd', '4')
    await converges(store, mirror)
    await deadline('up', () => store.status().state === 'up')
    await put(store, 'e', '5')
    await converges(store, mirror)
    assert.equal(lost, '')
    await lease.revoke()
    assert.equal(await store.get('node'), undefined)
  } finally {
    await store.close()
  }
})

test('etcd, TLS and user: what is wrong is said at once', async () => {
  const own = etcd.storeOpts
  const { 'kv.certfile': _c, 'kv.keyfile': _k, ...withoutCert } = own
  const { 'kv.username': _u, 'kv.password': _p, ...withoutUser } = own
  const { 'kv.cacertfile': _a, ...withoutCa } = own
  await etcd.ctl('user', 'add', 'limited:pw')
  const cases: [Record<string, string>, RegExp][] = [
    [{ ...own, 'kv.password': 'wrong' }, /cannot be used \(.*it refuses user "causeway": .*authentication failed/],
    [{ ...own, 'kv.username': 'nobody' }, /it refuses user "nobody"/],
    [withoutUser, /it wants a user \(kv.username, kv.password\)/],
    [{ ...own, 'kv.username': 'limited', 'kv.password': 'pw' }, /user "limited" may not use these keys: .*permission denied/],
    [withoutCert, /cannot be used \(.*TLS: .*(certificate required|bad certificate)/],
    [{ ...own, 'kv.certfile': certs.strangerCert, 'kv.keyfile': certs.strangerKey }, /TLS: .*(bad certificate|unknown ca|alert)/i],
    [withoutCa, /TLS: (unable to|self.signed)/],
    [{ 'kv.username': 'causeway', 'kv.password': 'se cret:1' }, /does not answer|cannot be used/],
  ]
  for (const [options, pattern] of cases) {
    const store = openClusterStore(parseStoreUrl(etcd.storeUrl('/tls'), { ...options, 'kv.patience': '0' }), ports)
    try {
      await assert.rejects(store.get('a'), says(pattern))
      assert.equal(store.status().state, 'down')
    } finally {
      await store.close()
    }
  }
  const missing = parseStoreUrl('etcd://a', { 'kv.cacertfile': '/nonexistent/ca.pem' })
  assert.throws(() => openClusterStore(missing, ports), /Cannot read --cluster-store-opt kv.cacertfile "\/nonexistent\/ca.pem"/)
  const garbage = join(dir, 'garbage.pem')
  writeFileSync(garbage, 'not a certificate')
  const config = parseStoreUrl('etcd://a', { 'kv.certfile': garbage, 'kv.keyfile': garbage })
  assert.throws(() => openClusterStore(config, ports), { code: 'invalid', message: /kv.certfile/ })
})

test('etcd with users: permission taken away and given back while a watch runs', async () => {
  const store = open('rights', { 'kv.patience': '0' })
  const mirror = new Mirror()
  store.watch('', mirror)
  await put(store, 'a', '1')
  await converges(store, mirror)
  await etcd.ctl('user', 'add', 'other:pw')
  await etcd.ctl('user', 'grant-role', 'other', 'root')
  await etcd.ctl('user', 'revoke-role', 'causeway', 'root')
  await assert.rejects(put(store, 'a', '2'), says(/user "causeway" may not use these keys/))
  // the lab's own etcdctl lost its rights too: the second user gives them back
  await etcd.ctl('--user', 'other:pw', 'user', 'grant-role', 'causeway', 'root')
  await deadline('allowed again', () =>
    put(store, 'a', '3').then(
      () => true,
      () => false,
    ),
  )
  await converges(store, mirror)
})

/** Consul over TLS with client certificates and access control; and what a person is told who has them wrong. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { openClusterStore } from '../../src/cluster/store/open.ts'
import { parseStoreUrl } from '../../src/cluster/store/url.ts'
import { type ConsulLab, consulMissing, startConsul } from '../../testkit/consul.ts'
import { deadline, Mirror } from './store-conformance.ts'
import { converges } from './store-faults.ts'
import { ports } from './store-openers.ts'

const missing = consulMissing()
if (missing !== undefined) test('consul', { skip: missing }, () => {})
else {
  let consul: ConsulLab
  const dir = mkdtempSync(join(tmpdir(), 'causeway-secure-'))
  before(async () => {
    consul = await startConsul({ tls: 'mutual', token: true })
  })
  after(async () => {
    await consul.close()
    rmSync(dir, { recursive: true, force: true })
  })

  test('consul, TLS and token: a policy for our folder is enough for reads, writes, watches and leases', async () => {
    const rules = 'key_prefix "net/causeway/" { policy = "write" } session_prefix "" { policy = "write" }'
    await consul.api('PUT', '/v1/acl/policy', JSON.stringify({ Name: 'causeway', Rules: rules }))
    const made = await consul.api('PUT', '/v1/acl/token', JSON.stringify({ Policies: [{ Name: 'causeway' }] }))
    const tokenFile = join(dir, 'token')
    writeFileSync(tokenFile, `${(JSON.parse(String(made)) as { SecretID: string }).SecretID}\n`)
    const { 'kv.token': _, ...rest } = consul.storeOpts
    const store = openClusterStore(
      parseStoreUrl(consul.storeUrl('/net'), { ...rest, 'kv.tokenfile': tokenFile, 'kv.patience': '20' }),
      ports,
    )
    try {
      const mirror = new Mirror()
      store.watch('', mirror)
      const lease = await store.lease(10, () => {})
      await store.txn({
        puts: [
          { key: 'a', value: '1' },
          { key: 'node', value: 'x', lease },
        ],
      })
      await converges(store, mirror)
      await consul.stop()
      await consul.start()
      await store.txn({ checks: [{ key: 'b', absent: true }], puts: [{ key: 'b', value: '2' }] })
      await converges(store, mirror)
      await lease.revoke()
      assert.equal(await store.get('node'), undefined)
    } finally {
      await store.close()
    }
  })

  test('consul, TLS and token: what is wrong is said at once', async () => {
    const own = consul.storeOpts
    const { 'kv.token': _t, ...withoutToken } = own
    const { 'kv.certfile': _c, 'kv.keyfile': _k, ...withoutCert } = own
    const { 'kv.cacertfile': _a, ...withoutCa } = own
    const cases: [Record<string, string>, RegExp][] = [
      [withoutToken, /cannot be used \(.*it wants a token \(kv.token\): /],
      [{ ...own, 'kv.token': '00000000-1111-2222-3333-444444444444' }, /its token \(kv.token\) does not permit this: .*ACL not found/],
      [withoutCert, /TLS: .*(certificate required|bad certificate)/],
      [withoutCa, /TLS: (unable to|self.signed)/],
      [{ 'kv.token': own['kv.token'] as string }, /cannot be used \(.*HTTP request to an HTTPS server/],
    ]
    for (const [options, pattern] of cases) {
      const store = openClusterStore(parseStoreUrl(consul.storeUrl('/net'), { ...options, 'kv.patience': '0' }), ports)
      try {
        for (const call of [() => store.list(''), () => store.txn({ puts: [{ key: 'a', value: 'x' }] })])
          await assert.rejects(
            call(),
            (error: Error & { code?: string }) => {
              assert.equal(error.code, 'unavailable')
              assert.match(error.message, pattern)
              return true
            },
            `${pattern}`,
          )
      } finally {
        await store.close()
      }
    }
  })

  test('consul, token: rights taken away while a watch runs are no deletion of everything', async () => {
    const policy = { Name: 'taken', Rules: 'key_prefix "taken/" { policy = "write" }' }
    const { ID } = JSON.parse(String(await consul.api('PUT', '/v1/acl/policy', JSON.stringify(policy)))) as { ID: string }
    const made = await consul.api('PUT', '/v1/acl/token', JSON.stringify({ Policies: [{ ID }] }))
    const token = (JSON.parse(String(made)) as { SecretID: string }).SecretID
    const url = parseStoreUrl(consul.storeUrl('/taken'), { ...consul.storeOpts, 'kv.token': token, 'kv.patience': '0' })
    const store = openClusterStore(url, ports)
    try {
      const mirror = new Mirror()
      store.watch('', mirror)
      await store.txn({ puts: [{ key: 'a', value: '1' }] })
      await converges(store, mirror)
      await consul.api('PUT', `/v1/acl/policy/${ID}`, JSON.stringify({ ...policy, Rules: '' }))
      await deadline('refused', () =>
        store.list('').then(
          () => false,
          () => true,
        ),
      )
      // wakes the blocking query
      await consul.api('PUT', '/v1/kv/taken/causeway/b', '2')
      await deadline('down', () => store.status().state === 'down')
      assert.match(store.status().error, /does not permit this/)
      assert.equal(mirror.state.get('a'), '1')
      await consul.api('PUT', `/v1/acl/policy/${ID}`, JSON.stringify(policy))
      await deadline('back', () => mirror.state.get('b') === '2')
      assert.equal(mirror.state.get('a'), '1')
    } finally {
      await store.close()
    }
  })
}

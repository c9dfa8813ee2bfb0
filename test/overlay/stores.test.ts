/** Whole engines on every kind of store: Consul with one server and with three, and three members of etcd with TLS and a user. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { consulMissing, startConsul } from '../../testkit/consul.ts'
import { etcdMissing, startEtcd } from '../../testkit/etcd.ts'
import { type Lab, type LabOptions, startLab } from '../../testkit/lab.ts'
import { until } from '../../testkit/until.ts'

/** A network made on one host and used on all: names, a member of the store that dies, removal refused and done. */
async function smoke(options: LabOptions, killMember: (() => Promise<void>) | undefined): Promise<void> {
  const lab = await startLab(options)
  try {
    const [one, two] = lab.engines as [Lab['engines'][number], Lab['engines'][number]]
    const made = await one.causeway('network', 'create', '-d', 'overlay', 'net1')
    assert.equal(made.code, 0, made.err)
    await until('the network is there', async () => (await two.api('GET', '/networks/net1')).status === 200)
    await Promise.all([one.run('net1c1', { networks: ['net1'] }), two.run('net1c2', { networks: ['net1'] })])
    const pings = async (from: Lab['engines'][number], name: string, to: string) =>
      assert.equal((await from.exec(name, 'ping', '-c', '1', '-W', '3', to)).code, 0, `${name} to ${to}`)
    await pings(one, 'net1c1', 'net1c2')
    await pings(two, 'net1c2', 'net1c1')
    const verified = await two.causeway('cluster', 'verify')
    assert.equal(verified.code, 0, verified.out + verified.err)
    if (killMember !== undefined) {
      await killMember()
      await until(
        'a majority goes on',
        async () => (await two.api('POST', '/networks/create', { Name: 'net2', Driver: 'overlay' })).status === 201,
        20_000,
      )
      await until('seen on the other host', async () => (await one.api('GET', '/networks/net2')).status === 200, 20_000)
      await pings(one, 'net1c1', 'net1c2')
    }
    await two.api('DELETE', '/containers/net1c2?force=1')
    const refused = await two.causeway('network', 'rm', 'net1')
    assert.match(refused.err, /net1c1.*host1/, 'removal names container and host')
    await one.api('DELETE', '/containers/net1c1?force=1')
    for (const name of killMember === undefined ? ['net1'] : ['net1', 'net2'])
      assert.equal((await two.api('DELETE', `/networks/${name}`)).status, 204)
    await until('gone on the other host', async () => (await one.api('GET', '/networks/net1')).status === 404, 20_000)
  } finally {
    assert.deepEqual(await lab.close(), [], 'nothing is left behind')
  }
}

test('Consul, one server', { skip: consulMissing() ?? false }, () => smoke({ store: (places) => startConsul({ places }) }, undefined))

test('Consul, three servers and a token; one dies', { skip: consulMissing() ?? false }, async () => {
  let consul: Awaited<ReturnType<typeof startConsul>> | undefined
  const store: LabOptions['store'] = async (places) => {
    consul = await startConsul({ places, token: true })
    return consul
  }
  await smoke({ hosts: 3, etcdMembers: 3, store }, async () => consul?.members[2]?.kill9())
})

test('etcd, three members with TLS both ways and a user; one dies', { skip: etcdMissing() ?? false }, async () => {
  let etcd: Awaited<ReturnType<typeof startEtcd>> | undefined
  const store: LabOptions['store'] = async (places) => {
    etcd = await startEtcd({ places, members: 3, tls: 'mutual', user: { name: 'causeway', password: 'pass word' } })
    return etcd
  }
  await smoke({ hosts: 3, etcdMembers: 3, store }, async () => etcd?.members[2]?.kill9())
})

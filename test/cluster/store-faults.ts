/** What three members and a wire do to a cluster store: killed, frozen, without quorum, cut off, restored. The same for etcd and Consul. */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import type { ClusterStore, Txn } from '../../src/cluster/store/types.ts'
import type { ServerProcess } from '../../testkit/server-process.ts'
import { tcpProxy } from '../../testkit/tcp-proxy.ts'
import { deadline, isUnavailable, Mirror, put } from './store-conformance.ts'

export interface FaultLab {
  readonly members: readonly (ServerProcess & { readonly endpoint: string })[]
  open(path: string, options?: Readonly<Record<string, string>>, endpoints?: readonly string[]): ClusterStore
  ready(): Promise<void>
  save(file: string): Promise<void>
  restore(file: string): Promise<void>
  /** Forgets history, when the store can. */
  compact?(): Promise<void>
}

/** Adds one to a counter by compare-and-swap. Values name who wrote them, as the port demands. */
export async function addOne(store: ClusterStore, key: string, who: string): Promise<void> {
  const mark = who.replaceAll(' ', '-')
  for (let n = 0; n < 500; n++) {
    const entry = await store.get(key)
    const [count = '0', ...writers] = entry?.value.split(' ') ?? []
    // the answer was lost, and somebody else has counted on since: only what he kept tells that it had been done
    if (n > 0 && writers[0] !== mark && writers.includes(mark)) return
    const check = entry === undefined ? ({ key, absent: true } as const) : { key, version: entry.version }
    const value = [Number(count) + 1, mark, ...writers.slice(0, 20)].join(' ')
    const txn: Txn = { checks: [check], puts: [{ key, value }] }
    if ((await store.txn(txn)).ok) return
  }
  throw new Error('500 conflicts in a row')
}

/** The mirror shows what the store has, before long. */
export async function converges(store: ClusterStore, mirror: Mirror, prefix = ''): Promise<void> {
  const text = (entries: Iterable<readonly [string, string]>) => JSON.stringify([...entries].sort(([a], [b]) => (a < b ? -1 : 1)))
  let there = ''
  await deadline('the watch shows what the store has', async () => {
    there = text((await store.list(prefix)).entries.map(({ key, value }) => [key, value] as const))
    return text(mirror.state) === there
  }).catch((error: Error) => {
    throw new Error(`${error.message}: watch ${text(mirror.state)}, store ${there}`)
  })
}

export function storeFaults(name: string, lab: () => FaultLab): void {
  const member = (index: number) => {
    const found = lab().members[index]
    assert.ok(found)
    return found
  }
  const it = (title: string, fn: () => Promise<void>) => test(`${name}: ${title}`, { timeout: 90_000 }, fn)

  it('a member killed, another frozen: no change is lost, refused or doubled', async () => {
    const hosts = [0, 1, 2].map((i) => ({ name: `host${i}`, store: lab().open('killed', { 'kv.patience': '20' }) }))
    const mirror = new Mirror()
    hosts[0]?.store.watch('', mirror)
    let going = true
    let rounds = 0
    // a counter that all share and one of each: lost increments would show in the first, doubled ones in the others
    const work = hosts.map(async ({ name: who, store }) => {
      for (; going; rounds++) {
        await addOne(store, 'shared', `${who} ${rounds}`)
        await addOne(store, `own/${who}`, `${who} ${rounds}`)
      }
    })
    const progress = async (more: number) => {
      const goal = rounds + more
      await deadline(`${more} rounds`, () => rounds >= goal, 30_000)
    }
    try {
      await progress(6)
      await member(0).kill9()
      await progress(6)
      member(0).start()
      await lab().ready()
      await progress(3)
      member(1).pause()
      await progress(6)
      member(1).resume()
      await progress(3)
    } finally {
      member(1).resume()
      member(0).start()
      going = false
    }
    await Promise.all(work)
    const store = hosts[0]?.store as ClusterStore
    const number = async (key: string) => Number((await store.get(key))?.value.split(' ')[0])
    // a lost answer whose value somebody else has replaced before it could be looked up is repeated: what several write may count twice
    const shared = (await number('shared')) ?? 0
    assert.ok(shared >= rounds && shared <= rounds + 3, `${shared} of ${rounds} increments of the shared counter`)
    const own = await Promise.all(hosts.map(({ name: who }) => number(`own/${who}`)))
    assert.equal((own[0] as number) + (own[1] as number) + (own[2] as number), rounds)
    await converges(store, mirror)
  })

  it('without a quorum changes are refused; when it is back they go on', async () => {
    const store = lab().open('quorum')
    const mirror = new Mirror()
    store.watch('', mirror)
    await put(store, 'a', '1')
    await converges(store, mirror)
    await Promise.all([member(0).kill9(), member(2).kill9()])
    const asked = Date.now()
    await assert.rejects(put(store, 'a', '2'), isUnavailable)
    assert.ok(Date.now() - asked < 20_000, 'refused in bounded time')
    assert.equal(store.status().state, 'down')
    assert.match(store.status().error, /most of its members/)
    assert.equal(mirror.state.get('a'), '1')
    member(0).start()
    member(2).start()
    await lab().ready()
    await deadline('up again', () => store.status().state === 'up')
    const left = await store.get('a')
    assert.match(left?.value as string, /^[12]$/, 'a refused change of unknown outcome happened, or did not')
    await put(store, 'a', '3')
    await converges(store, mirror)
  })

  for (const way of ['cut', 'stall'] as const)
    it(`a host behind a ${way} wire sees nothing wrong but what it missed, history forgotten meanwhile`, async () => {
      const [host, port] = member(0).endpoint.split(':') as [string, string]
      const proxy = await tcpProxy({ host, port: Number(port) })
      try {
        const near = lab().open(`wire-${way}`)
        const far = lab().open(`wire-${way}`, {}, [`${proxy.host}:${proxy.port}`])
        const mirror = new Mirror()
        far.watch('', mirror)
        await near.txn({ puts: [1, 2, 3].map((i) => ({ key: `k/${i}`, value: 'first' })) })
        await converges(near, mirror)
        const stale = (await far.get('k/3'))?.version as string
        proxy[way]()
        await assert.rejects(put(far, 'k/9', 'unheard'), isUnavailable)
        await near.txn({
          puts: [
            { key: 'k/1', value: 'second' },
            { key: 'k/4', value: 'new' },
          ],
          deletes: ['k/2'],
        })
        await put(near, 'k/3', 'second')
        await lab().compact?.()
        assert.equal(mirror.state.get('k/2'), 'first')
        proxy.heal()
        await converges(near, mirror)
        await put(near, 'k/5', 'followed')
        await converges(near, mirror)
        assert.ok(!(await far.txn({ checks: [{ key: 'k/3', version: stale }], deletes: ['k/3'] })).ok)
        assert.equal(await near.get('k/9'), undefined)
      } finally {
        await proxy.close()
      }
    })

  it('a change whose answer was lost is made once and counts as made', async () => {
    const [host, port] = member(0).endpoint.split(':') as [string, string]
    const proxy = await tcpProxy({ host, port: Number(port) })
    try {
      const store = lab().open('answer', { 'kv.patience': '20' }, [`${proxy.host}:${proxy.port}`])
      await put(store, 'gone', 'soon')
      const before = store.counters().retries
      const lost = proxy.loseAnswer('/txn HTTP/1.1')
      const made = await store.txn({
        checks: [{ key: 'ip/1', absent: true }],
        puts: [{ key: 'ip/1', value: 'mine' }],
        deletes: ['gone'],
      })
      await lost
      assert.ok(store.counters().retries > before, 'it was asked again')
      assert.ok(made.ok, 'it counts as made')
      assert.equal(made.versions.get('ip/1'), (await store.get('ip/1'))?.version)
      const other = lab().open('answer')
      assert.ok(!(await other.txn({ checks: [{ key: 'ip/1', absent: true }], puts: [{ key: 'ip/1', value: 'theirs' }] })).ok)
    } finally {
      await proxy.close()
    }
  })

  it('a store that was only silent is not read again: what was known of it still holds', async () => {
    const store = lab().open('silent', {}, [member(0).endpoint])
    const mirror = new Mirror()
    store.watch('', mirror)
    await put(store, 'a', '1')
    const version = await put(store, 'b', '1')
    await converges(store, mirror)
    for (const one of lab().members) one.pause()
    try {
      await assert.rejects(put(store, 'c', '1'), isUnavailable)
      assert.equal(store.status().state, 'down')
    } finally {
      for (const one of lab().members) one.resume()
    }
    await deadline('up again', () => store.status().state === 'up')
    const result = await store.txn({ checks: [{ key: 'b', version }], puts: [{ key: 'b', value: '2' }] })
    assert.ok(result.ok, 'the version from before still counts')
    await converges(store, mirror)
    assert.equal(mirror.resyncs, 1)
  })

  it('restored from an older snapshot: everything is read again, old versions and leases count for nothing', async () => {
    const file = `/tmp/causeway-store-${process.pid}.snapshot`
    const store = lab().open('restored', { 'kv.patience': '20' })
    const mirror = new Mirror()
    store.watch('', mirror)
    await put(store, 'kept', 'old')
    await put(store, 'changed', 'old')
    await lab().save(file)
    const changed = await put(store, 'changed', 'new')
    const added = await put(store, 'added', 'new')
    let lost = ''
    const lease = await store.lease(10, (why) => {
      lost = why
    })
    await store.txn({ puts: [{ key: 'node', value: 'me', lease }] })
    await converges(store, mirror)
    await lab().restore(file)
    rmSync(file)
    await deadline('the old state is seen', () => mirror.state.get('changed') === 'old' && !mirror.state.has('added'), 30_000)
    // numbers are given out a second time, to other values: a version of before must not match the one that has its number now
    const number = (version: string) => Number(version.slice(version.indexOf('.') + 1))
    await put(store, 'changed', 'other')
    for (let i = 0; number(await put(store, 'added', `other ${i}`)) < number(added); i++) assert.ok(i < 1000)
    assert.ok(!(await store.txn({ checks: [{ key: 'added', version: added }], deletes: ['added'] })).ok)
    assert.ok(!(await store.txn({ checks: [{ key: 'changed', version: changed }], deletes: ['changed'] })).ok)
    await deadline('the lease is lost', () => lost !== '', 20_000)
    await converges(store, mirror)
    assert.equal(mirror.state.has('node'), false)
  })
}

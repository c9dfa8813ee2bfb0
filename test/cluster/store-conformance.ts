/** What every cluster store does, whatever is behind it: the same tests for memory, etcd and Consul. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type ClusterStore,
  type Listing,
  MAX_TXN_BYTES,
  MAX_TXN_OPERATIONS,
  MAX_VALUE_BYTES,
  type StoreEvent,
} from '../../src/cluster/store/types.ts'

export interface StoreLab {
  /** A client of its own, as another host has; the lab closes it at the end. `path` as in a URL. */
  open(path?: string): ClusterStore
  /** Writes below our folder with another tool, without any of our checks. */
  rawPut(key: string, value: Uint8Array): Promise<void>
  /** The store ends this lease on its own. */
  endLease(id: string): Promise<void>
  stop(): Promise<void>
  start(): Promise<void>
}

export const deadline = async (what: string, ready: () => boolean | Promise<boolean>, ms = 15_000): Promise<void> => {
  const until = Date.now() + ms
  while (!(await ready())) {
    if (Date.now() > until) throw new Error(`${what}: not within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** A watcher that keeps what it is told, as an engine does. */
export class Mirror {
  readonly state = new Map<string, string>()
  readonly events: StoreEvent[] = []
  resyncs = 0
  readonly onChange = (events: readonly StoreEvent[]): void => {
    for (const event of events) {
      this.events.push(event)
      if (event.kind === 'put') this.state.set(event.key, event.value)
      else this.state.delete(event.key)
    }
  }
  readonly onResync = ({ entries }: Listing): void => {
    this.resyncs++
    this.state.clear()
    for (const { key, value } of entries) this.state.set(key, value)
  }
}

export async function put(store: ClusterStore, key: string, value: string): Promise<string> {
  const result = await store.txn({ puts: [{ key, value }] })
  assert.ok(result.ok)
  return result.versions.get(key) as string
}

export const isUnavailable = (error: Error & { code?: string }) => {
  assert.equal(error.code, 'unavailable', error.stack)
  assert.match(error.message, /^The cluster store .*(does not answer|cannot be used)/)
  return true
}

const isInvalid = (error: Error & { code?: string }) => {
  assert.equal(error.code, 'invalid', error.stack)
  return true
}

/** `lab` is asked inside of the tests only. */
export function storeConformance(name: string, lab: () => StoreLab): void {
  let folder = 0
  const it = (title: string, fn: (store: ClusterStore, again: () => ClusterStore) => Promise<void>) =>
    test(`${name}: ${title}`, { timeout: 60_000 }, async () => {
      const path = `t${++folder}`
      await fn(lab().open(path), () => lab().open(path))
    })

  it('what was put is read, listed in key order, and gone after delete', async (store) => {
    assert.equal(await store.get('a/1'), undefined)
    assert.deepEqual((await store.list('')).entries, [])
    await store.txn({
      puts: [
        { key: 'b/1', value: 'eins' },
        { key: 'a/2', value: '' },
        { key: 'a/10', value: '{"ä":"\u0000\\"🐈"}' },
        { key: 'a', value: 'folder too' },
        { key: 'ab/1', value: 'another' },
      ],
    })
    assert.equal((await store.get('a/10'))?.value, '{"ä":"\u0000\\"🐈"}')
    assert.equal((await store.get('a/2'))?.value, '')
    const list = await store.list('a/')
    assert.deepEqual(
      list.entries.map((entry) => entry.key),
      ['a/10', 'a/2'],
    )
    assert.deepEqual(list.entries[0], await store.get('a/10'))
    assert.equal((await store.list('')).entries.length, 5)
    await store.txn({ deletes: ['a/10', 'never/there'] })
    assert.equal(await store.get('a/10'), undefined)
  })

  it('check and put: absent, version, conflict with the values of now', async (store, again) => {
    const other = again()
    const first = await store.txn({ checks: [{ key: 'ip/1', absent: true }], puts: [{ key: 'ip/1', value: 'host a' }] })
    assert.ok(first.ok)
    const second = await other.txn({ checks: [{ key: 'ip/1', absent: true }], puts: [{ key: 'ip/1', value: 'host b' }] })
    assert.ok(!second.ok)
    assert.equal(second.current.get('ip/1')?.value, 'host a')
    const seen = second.current.get('ip/1')?.version as string
    const third = await other.txn({ checks: [{ key: 'ip/1', version: seen }], puts: [{ key: 'ip/1', value: 'host b' }] })
    assert.ok(third.ok)
    // the version that the first one got is history now
    const version = first.versions.get('ip/1') as string
    const fourth = await store.txn({ checks: [{ key: 'ip/1', version }], deletes: ['ip/1'] })
    assert.ok(!fourth.ok)
    assert.equal((await store.get('ip/1'))?.value, 'host b')
    const fifth = await other.txn({ checks: [{ key: 'ip/1', version: third.versions.get('ip/1') as string }], deletes: ['ip/1'] })
    assert.ok(fifth.ok)
    const sixth = await store.txn({ checks: [{ key: 'ip/1', version }], puts: [{ key: 'ip/1', value: 'x' }] })
    assert.ok(!sixth.ok)
    assert.equal(sixth.current.get('ip/1'), undefined)
    assert.ok(sixth.current.has('ip/1'))
    const garbage = await store.txn({ checks: [{ key: 'ip/1', version: 'nonsense' }], puts: [{ key: 'ip/1', value: 'x' }] })
    assert.ok(!garbage.ok)
  })

  it('a transaction happens as a whole or not at all, up to its limits', async (store) => {
    const half = MAX_TXN_OPERATIONS / 2
    const keys = Array.from({ length: half }, (_, i) => `many/${i}`)
    const all = { checks: keys.map((key) => ({ key, absent: true }) as const), puts: keys.map((key) => ({ key, value: `v ${key}` })) }
    assert.ok((await store.txn(all)).ok)
    assert.equal((await store.list('many/')).entries.length, half)
    const repeated = await store.txn({
      checks: [
        { key: 'fresh', absent: true },
        { key: 'many/3', absent: true },
      ],
      puts: [{ key: 'fresh', value: '1' }],
      deletes: ['many/1'],
    })
    assert.ok(!repeated.ok)
    assert.equal(repeated.current.get('fresh'), undefined)
    assert.equal(repeated.current.get('many/3')?.value, 'v many/3')
    assert.equal(await store.get('fresh'), undefined)
    assert.ok((await store.get('many/1')) !== undefined)
    const big = 'x'.repeat(MAX_VALUE_BYTES)
    await put(store, 'big', big)
    assert.equal((await store.get('big'))?.value, big)
  })

  it('what the port does not allow is refused before anything is sent', async (store) => {
    const value = ''
    const before = store.counters().writes
    for (const key of ['', '/a', 'a/', 'a//b', 'a b', 'ä', 'a?b', 'a#b', 'a%2fb', `a${'x'.repeat(400)}`, '\u0000'])
      await assert.rejects(store.txn({ puts: [{ key, value }] }), isInvalid, key)
    await assert.rejects(store.txn({}), isInvalid)
    const puts = Array.from({ length: MAX_TXN_OPERATIONS + 1 }, (_, i) => ({ key: `k${i}`, value }))
    await assert.rejects(store.txn({ puts }), isInvalid)
    await assert.rejects(store.txn({ puts: [{ key: 'a', value: 'x'.repeat(MAX_VALUE_BYTES + 1) }] }), isInvalid)
    const halves = ['a', 'b'].map((key) => ({ key, value: 'x'.repeat(MAX_TXN_BYTES / 2 + 1) }))
    await assert.rejects(store.txn({ puts: halves }), isInvalid)
    await assert.rejects(store.txn({ puts: [{ key: 'a', value }], deletes: ['a'] }), isInvalid)
    await assert.rejects(
      store.txn({
        checks: [
          { key: 'a', absent: true },
          { key: 'a', absent: true },
        ],
      }),
      isInvalid,
    )
    await assert.rejects(store.txn({ puts: [{ key: 'a', value: '\ud800' }] }), isInvalid)
    await assert.rejects(
      store.lease(1, () => {}),
      isInvalid,
    )
    assert.equal(store.counters().writes, before)
  })

  it('racing hosts: each number is taken once, each round has one winner', async (store, again) => {
    const hosts = [store, again(), again()]
    const taken: number[] = []
    const take = async (host: ClusterStore, who: number) => {
      for (let n = 0; ; n++) {
        const key = `slot/${n}`
        const result = await host.txn({ checks: [{ key, absent: true }], puts: [{ key, value: `host ${who}` }] })
        if (result.ok) return void taken.push(n)
      }
    }
    await Promise.all(hosts.flatMap((host, i) => [take(host, i), take(host, i), take(host, i)]))
    assert.deepEqual(
      taken.sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8],
    )
    await put(store, 'counter', '0')
    const add = async (host: ClusterStore) => {
      for (;;) {
        const entry = await host.get('counter')
        assert.ok(entry)
        const value = String(Number(entry.value) + 1)
        if ((await host.txn({ checks: [{ key: 'counter', version: entry.version }], puts: [{ key: 'counter', value }] })).ok) return
      }
    }
    await Promise.all(hosts.flatMap((host) => [add(host), add(host), add(host), add(host)]))
    assert.equal((await store.get('counter'))?.value, '12')
  })

  it('a watch begins with everything and then follows in order', async (store, again) => {
    await put(store, 'net/1', 'one')
    const mirror = new Mirror()
    const watch = again().watch('net/', mirror)
    await deadline('snapshot', () => mirror.resyncs === 1)
    assert.deepEqual([...mirror.state], [['net/1', 'one']])
    const version = await put(store, 'net/2', 'two')
    await deadline('a put is seen', () => mirror.state.get('net/2') === 'two')
    const seen = mirror.events.find((event) => event.key === 'net/2')
    assert.deepEqual(seen, { kind: 'put', key: 'net/2', value: 'two', version: (await store.get('net/2'))?.version })
    assert.equal(seen?.kind === 'put' && seen.version, version)
    await store.txn({
      puts: [
        { key: 'net/3', value: '3' },
        { key: 'other', value: 'unseen' },
        { key: 'nets', value: 'unseen' },
      ],
      deletes: ['net/1'],
    })
    await deadline('a transaction is seen', () => mirror.state.has('net/3') && !mirror.state.has('net/1'))
    assert.ok(mirror.events.every((event) => event.key.startsWith('net/')))
    assert.equal(mirror.resyncs, 1)
    watch.close()
    watch.close()
    const events = mirror.events.length
    await put(store, 'net/4', 'late')
    await new Promise((resolve) => setTimeout(resolve, 100))
    assert.equal(mirror.events.length, events)
  })

  it('a watch goes on from a listing without reading it again', async (store) => {
    await put(store, 'net/1', 'one')
    await put(store, 'net/gone', 'soon')
    const listing = await store.list('net/')
    await put(store, 'net/2', 'between')
    await store.txn({ deletes: ['net/gone'] })
    const mirror = new Mirror()
    mirror.onResync(listing)
    const watch = store.watch('net/', mirror, listing)
    await deadline('what came between', () => mirror.state.get('net/2') === 'between' && !mirror.state.has('net/gone'))
    await put(store, 'net/1', 'ONE')
    await deadline('what came after', () => mirror.state.get('net/1') === 'ONE')
    assert.equal(mirror.resyncs, 1)
    watch.close()
  })

  it('a host may follow any number of prefixes and ask meanwhile', async (store) => {
    const mirrors = Array.from({ length: 40 }, () => new Mirror())
    mirrors.forEach((mirror, i) => void store.watch(`n/${i}/`, mirror))
    await deadline('snapshots', () => mirrors.every((mirror) => mirror.resyncs === 1))
    for (let i = 0; i < mirrors.length; i += 13) {
      await put(store, `n/${i}/k`, 'heard')
      await deadline(`watch ${i}`, () => mirrors[i]?.state.get(`n/${i}/k`) === 'heard')
    }
    assert.equal(store.counters().retries, 0)
    assert.equal(store.status().state, 'up')
  })

  it('a watcher that throws does not end its watch', async (store) => {
    const seen: string[] = []
    const watch = store.watch('', {
      onResync: () => {
        throw new Error('thrown by the test')
      },
      onChange: (events) => {
        seen.push(...events.map((event) => event.key))
        throw new Error('thrown by the test')
      },
    })
    let n = 0
    await deadline('both are seen', async () => {
      await put(store, seen.includes('a') ? 'b' : 'a', String(++n))
      return seen.includes('a') && seen.includes('b')
    })
    watch.close()
  })

  it('keys with a lease go when it is revoked, or when the store ends it, and others stay', async (store, again) => {
    const lost: string[] = []
    const lease = await store.lease(10, (why) => lost.push(why))
    await store.txn({
      puts: [
        { key: 'node/a', value: 'alive', lease },
        { key: 'stays', value: 'x' },
      ],
    })
    const seen = (await store.get('node/a'))?.version as string
    // a key of a lease is put again with it, and checked like any other
    assert.ok((await store.txn({ checks: [{ key: 'node/a', version: seen }], puts: [{ key: 'node/a', value: 'still', lease }] })).ok)
    assert.ok(!(await again().txn({ checks: [{ key: 'node/a', absent: true }], puts: [{ key: 'node/a', value: 'mine' }] })).ok)
    const next = await again().lease(10, () => {})
    // another life of the same host takes its key over before the old lease has ended
    assert.ok((await store.txn({ puts: [{ key: 'node/a', value: 'reborn', lease: next }] })).ok)
    await lease.revoke()
    await lease.revoke()
    assert.ok(lease.ended())
    assert.equal((await store.get('node/a'))?.value, 'reborn')
    await assert.rejects(store.txn({ puts: [{ key: 'node/b', value: '', lease }] }), { code: 'conflict' })
    await next.revoke()
    await deadline('revoked', async () => (await store.get('node/a')) === undefined)
    assert.equal((await store.get('stays'))?.value, 'x')
    assert.equal(lost.length, 0)

    const doomed = await store.lease(10, (why) => lost.push(why))
    await store.txn({ puts: [{ key: 'node/c', value: '', lease: doomed }] })
    await lab().endLease(doomed.id)
    await deadline('ended', async () => (await store.get('node/c')) === undefined)
    // found out by using it, or at the next renewal
    await assert.rejects(store.txn({ puts: [{ key: 'node/c', value: '', lease: doomed }] }), { code: 'conflict' })
    await deadline('lost', () => lost.length === 1)
    assert.match(lost[0] as string, /the store ended it/)
    assert.ok(doomed.ended())
  })

  it('values of others: garbage, binary, oversized, and beside our folder', async (store, again) => {
    await put(store, 'ours', 'fine')
    const mirror = new Mirror()
    const watch = store.watch('', mirror)
    await deadline('snapshot', () => mirror.resyncs === 1)
    const path = `t${folder}`
    await lab().rawPut(`${path}/causeway/binary`, Uint8Array.of(0xff, 0xfe, 0x00, 0x80))
    await lab().rawPut(`${path}/causeway/empty`, new Uint8Array(0))
    await lab().rawPut(`${path}/causeway/oversized`, new Uint8Array(MAX_VALUE_BYTES + 1).fill(0x61))
    await lab().rawPut(`${path}/causeway/odd key ?#%2f é`, Buffer.from('x'))
    await lab().rawPut(`${path}/causeway`, Buffer.from('the folder itself'))
    await lab().rawPut(`${path}/causewayx/ours`, Buffer.from('a neighbour'))
    await lab().rawPut(`${path}0/causeway/ours`, Buffer.from('another path'))
    const wanted = new Map([
      ['binary', '\ufffd\ufffd\u0000\ufffd'],
      ['empty', ''],
      ['odd key ?#%2f é', 'x'],
      ['oversized', ''],
      ['ours', 'fine'],
    ])
    assert.deepEqual(new Map((await again().list('')).entries.map(({ key, value }) => [key, value])), wanted)
    await deadline('seen by the watch', () => mirror.state.size === wanted.size)
    assert.deepEqual(new Map([...mirror.state].sort(([a], [b]) => (a < b ? -1 : 1))), wanted)
    // garbage has a version, so it can be replaced
    const version = (await store.get('oversized'))?.version as string
    assert.ok((await store.txn({ checks: [{ key: 'oversized', version }], puts: [{ key: 'oversized', value: 'repaired' }] })).ok)
    await deadline('the repair is seen', () => mirror.state.get('oversized') === 'repaired')
    watch.close()
  })

  it('more of others than one answer may have is read all the same', async (store, again) => {
    const path = `t${folder}`
    const value = new Uint8Array(MAX_VALUE_BYTES).fill(0x78)
    await put(store, 'zz', 'ours')
    for (let i = 0; i < 130; i++) await lab().rawPut(`${path}/causeway/many/${i}`, value)
    const { entries } = await store.list('')
    assert.equal(entries.length, 131)
    assert.ok(entries.every(({ key, value: found }) => key === 'zz' || found.length === MAX_VALUE_BYTES))
    const mirror = new Mirror()
    const watch = again().watch('', mirror)
    await deadline('snapshot', () => mirror.state.size === 131)
    for (let i = 0; i < 130; i += 26) await store.txn({ deletes: Array.from({ length: 26 }, (_, n) => `many/${i + n}`) })
    await deadline('they are gone', () => mirror.state.size === 1)
    watch.close()
  })

  it('counts what it asks', async (store) => {
    const before = store.counters()
    await put(store, 'a', '1')
    await store.get('a')
    await store.list('')
    const after = store.counters()
    assert.equal(after.writes - before.writes, 1)
    assert.equal(after.reads - before.reads, 2)
  })

  it('stopped and started: refused with 503 meanwhile, then everything converges', async (store, again) => {
    await put(store, 'net/1', 'before')
    const old = (await store.get('net/1'))?.version as string
    const mirror = new Mirror()
    const states: string[] = []
    store.onStatus(({ state }) => states.push(state))
    store.watch('net/', mirror)
    await deadline('snapshot', () => mirror.resyncs === 1)
    const lost: string[] = []
    const lease = await store.lease(20, (why) => lost.push(why))
    await store.txn({ puts: [{ key: 'node/a', value: '', lease }] })
    await lab().stop()
    await assert.rejects(put(store, 'net/2', 'refused'), isUnavailable)
    assert.equal(store.status().state, 'down')
    assert.match(store.status().error, /does not answer/)
    await assert.rejects(store.get('net/1'), isUnavailable)
    await assert.rejects(store.list('net/'), isUnavailable)
    await assert.rejects(
      store.lease(10, () => {}),
      isUnavailable,
    )
    assert.deepEqual([...mirror.state], [['net/1', 'before']])
    // a host that starts now does not fail, and finds its way later
    const late = again()
    const lateMirror = new Mirror()
    late.watch('net/', lateMirror)
    await lab().start()
    await deadline('answers again', () =>
      put(again(), 'net/3', 'after').then(
        () => true,
        () => false,
      ),
    )
    await deadline('both watches converge', () => mirror.state.get('net/3') === 'after' && lateMirror.state.get('net/3') === 'after')
    await deadline('up', () => store.status().state === 'up')
    assert.deepEqual(states, ['down', 'up'])
    assert.equal(store.status().error, '')
    // versions from before the outage are not relied on; the conflict brings the new one
    const conflict = await store.txn({ checks: [{ key: 'net/1', version: old }], puts: [{ key: 'net/1', value: 'x' }] })
    assert.ok(!conflict.ok)
    const fresh = conflict.current.get('net/1')
    assert.equal(fresh?.value, 'before')
    assert.ok((await store.txn({ checks: [{ key: 'net/1', version: fresh.version }], puts: [{ key: 'net/1', value: 'changed' }] })).ok)
    await deadline('followed again', () => mirror.state.get('net/1') === 'changed')
    // and the watch gives versions that hold
    const event = mirror.events.findLast((e) => e.key === 'net/1')
    assert.ok(event?.kind === 'put' && (await store.txn({ checks: [{ key: 'net/1', version: event.version }], deletes: ['net/1'] })).ok)
    assert.equal(lost.length, 0)
    assert.ok((await store.get('node/a')) !== undefined)
    await lease.revoke()
  })

  it('closed: every call says so, no handler is called', async (store) => {
    const mirror = new Mirror()
    store.watch('', mirror)
    await store.close()
    await store.close()
    await assert.rejects(store.get('a'), /was closed/)
    await assert.rejects(store.txn({ deletes: ['a'] }), /was closed/)
    assert.equal(mirror.resyncs, 0)
  })
}

/** What every Store must do; run on the in-memory twin and on LMDB. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hasCode, NetError } from '../../src/base/errors.ts'
import type { Store } from '../../src/store/types.ts'

export interface StoreLab {
  /** An empty store of its own; the lab closes it. */
  fresh(): Store
}

export function storeContract(name: string, lab: StoreLab): void {
  const it = (title: string, fn: (store: Store) => void | Promise<void>) =>
    test(`${name}: ${title}`, async () => {
      const store = lab.fresh()
      try {
        await fn(store)
      } finally {
        await store.close()
      }
    })

  it('gives back what was put, and undefined for what was not', (store) => {
    const values = [{ a: [1, 'x', null, { b: true }] }, 'text', 0, false, null, [], {}, 'ünïcödé 🐳', 'y'.repeat(100_000)]
    for (const [i, value] of values.entries()) store.put(`k/${i}`, value)
    for (const [i, value] of values.entries()) assert.deepEqual(store.get(`k/${i}`), value)
    assert.equal(store.get('k/99'), undefined)
    assert.equal(store.get('k'), undefined)
  })

  it('hands out copies that cannot change what is stored', (store) => {
    const value = { list: [1] }
    store.put('a', value)
    value.list.push(2)
    assert.deepEqual(store.get('a'), { list: [1] })
    store.get<{ list: number[] }>('a')?.list.push(3)
    assert.deepEqual(store.get('a'), { list: [1] })
  })

  it('replaces on a second put and forgets on remove, which is idempotent', (store) => {
    store.put('a', 1)
    store.put('a', 2)
    assert.equal(store.get('a'), 2)
    store.remove('a')
    store.remove('a')
    assert.equal(store.get('a'), undefined)
    assert.deepEqual(store.list(''), [])
  })

  it('lists a prefix in key order and nothing else', (store) => {
    for (const key of ['net/b', 'net/a', 'net', 'neta', 'nes/z', 'net/a/x', 'net/ü', 'net/🐳', 'net/Z', 'net/~', 'zz']) store.put(key, key)
    assert.deepEqual(
      store.list('net/').map(([key]) => key),
      ['net/Z', 'net/a', 'net/a/x', 'net/b', 'net/~', 'net/ü', 'net/🐳'],
    )
    assert.deepEqual(store.list('net/b'), [['net/b', 'net/b']])
    assert.deepEqual(store.list('nothing/'), [])
    assert.equal(store.list('').length, 11)
    assert.equal(store.list('')[0]?.[0], 'nes/z')
  })

  it('makes a transaction visible as a whole, with its own writes readable inside', (store) => {
    store.put('a', 1)
    store.transaction(() => {
      store.put('b', 2)
      store.remove('a')
      assert.equal(store.get('b'), 2)
      assert.equal(store.get('a'), undefined)
      assert.deepEqual(store.list(''), [['b', 2]])
      store.put('c', 3)
    })
    assert.deepEqual(store.list(''), [
      ['b', 2],
      ['c', 3],
    ])
  })

  it('undoes a transaction that throws and passes the error on', (store) => {
    store.put('a', 1)
    const error = new NetError('conflict', 'no')
    assert.throws(
      () =>
        store.transaction(() => {
          store.put('a', 2)
          store.put('b', 2)
          store.remove('a')
          throw error
        }),
      (thrown) => thrown === error,
    )
    assert.deepEqual(store.list(''), [['a', 1]])
    store.put('after', true)
    assert.equal(store.get('after'), true)
  })

  it('undoes only the inner one of two nested transactions', (store) => {
    store.transaction(() => {
      store.put('outer', 1)
      store.put('both', 'outer')
      assert.throws(() =>
        store.transaction(() => {
          store.put('inner', 1)
          store.put('both', 'inner')
          throw new Error('inner')
        }),
      )
      assert.equal(store.get('both'), 'outer')
      store.transaction(() => store.put('second', 1))
    })
    assert.deepEqual(store.list(''), [
      ['both', 'outer'],
      ['outer', 1],
      ['second', 1],
    ])
  })

  it('undoes a nested transaction with its outer one', (store) => {
    assert.throws(() =>
      store.transaction(() => {
        store.transaction(() => store.put('inner', 1))
        throw new Error('outer')
      }),
    )
    assert.deepEqual(store.list(''), [])
  })

  it('refuses an asynchronous transaction and keeps nothing of it', async (store) => {
    assert.throws(
      () =>
        store.transaction((async () => {
          store.put('a', 1)
        }) as () => void),
      (error) => hasCode(error, 'internal'),
    )
    await Promise.resolve()
    assert.equal(store.get('a'), undefined)
    store.put('b', 1)
    assert.deepEqual(store.list(''), [['b', 1]])
  })

  it('refuses keys and values that it could not give back', (store) => {
    const cycle: Record<string, unknown> = {}
    cycle['self'] = cycle
    for (const key of ['', 'a\nb', 'a\u0000', 'x'.repeat(1001), '\ud800'])
      for (const call of [() => store.put(key, 1), () => store.get(key), () => store.remove(key)])
        assert.throws(call, (error) => hasCode(error, 'invalid'), JSON.stringify(key))
    for (const value of [undefined, 1n, cycle, () => 1])
      assert.throws(
        () => store.put('a', value),
        (error) => hasCode(error, 'invalid'),
      )
    assert.deepEqual(store.list(''), [])
    store.put('x'.repeat(1000), 1)
    assert.equal(store.get('x'.repeat(1000)), 1)
  })

  it('keeps what came before a refused value inside a transaction that goes on', (store) => {
    store.transaction(() => {
      store.put('a', 1)
      assert.throws(() => store.put('b', undefined))
    })
    assert.deepEqual(store.list(''), [['a', 1]])
  })

  it('refuses everything after close, which can be repeated', async (store) => {
    store.put('a', 1)
    await store.flush()
    await store.close()
    await store.close()
    for (const call of [
      () => store.get('a'),
      () => store.put('a', 1),
      () => store.remove('a'),
      () => store.list(''),
      () => store.transaction(() => {}),
    ])
      assert.throws(call, (error) => hasCode(error, 'unavailable'))
    await assert.rejects(store.flush(), (error) => hasCode(error, 'unavailable'))
  })
}

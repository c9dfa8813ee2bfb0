import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Ip } from '../../base/address.ts'
import { systemClock } from '../../base/clock.ts'
import { systemRng } from '../../base/rng.ts'
import { encodePathProbe } from '../../wire/path-probe.ts'
import { agreedMtu, type PathReport } from './paths.ts'
import { Prober } from './prober.ts'
import { judgePaths } from './verify.ts'

const ids = ['aa'.repeat(16), 'bb'.repeat(16)] as const
const ips = ['192.0.2.1', '192.0.2.2'] as unknown as readonly [Ip, Ip]

/** Two probers on a path that carries `carries(from, bytes)`. */
function pair(mtu: number, carries: (from: number, bytes: number, count: number) => boolean): [Prober, Prober, () => number] {
  let count = 0
  const probers: Prober[] = [0, 1].map(
    (me) =>
      new Prober({
        hostId: ids[me] as string,
        source: ips[me] as Ip,
        port: 4789,
        mtu: () => mtu,
        addressOf: (id) => ips[ids.indexOf(id as never)],
        send: (_to, datagram) => {
          if (carries(me, datagram.length + 20, count++)) setImmediate(() => probers[1 - me]?.receive(datagram))
          return true
        },
        clock: systemClock,
        rng: systemRng,
      }),
  )
  return [probers[0] as Prober, probers[1] as Prober, () => count]
}

test('a good path takes one question and one answer', async () => {
  const [a, b, count] = pair(1500, () => true)
  assert.equal(await a.probe(ids[1], 7), 1500)
  assert.equal(count(), 2)
  assert.deepEqual([b.heardFrom(ids[0], 7), b.heardFrom(ids[0], 8)], [1500, 0])
})

test('the size that passes is found to the byte', async () => {
  for (const [mtu, path] of [
    [1500, 1372],
    [9000, 4001],
    [1500, 576],
  ] as const) {
    const [a] = pair(mtu, (_, bytes) => bytes <= path)
    assert.equal(await a.probe(ids[1]), path)
  }
})

test('one lost packet in three does not make a path bad', async () => {
  const [a] = pair(1500, (_, __, count) => count % 3 !== 0)
  assert.equal(await a.probe(ids[1]), 1500)
})

test('nothing back: the sender knows only that; the other end has heard it', async () => {
  const [a, b] = pair(1500, (from) => from === 0)
  assert.equal(await a.probe(ids[1], 7), 0)
  assert.equal(b.heardFrom(ids[0], 7), 1500)
})

test('a stranger gets no answer', async () => {
  const [a, b, count] = pair(1500, () => true)
  b.receive(encodePathProbe({ kind: 'question', from: 'cc'.repeat(16), round: 1, survey: 7, size: 200 }, ips[0], ips[1], 4789))
  assert.equal(await a.probe('cc'.repeat(16)), 0)
  assert.equal(count(), 0)
  assert.equal(b.heardFrom('cc'.repeat(16), 7), 0)
})

const host = (name: string) => ({ id: name, name, address: '192.0.2.1' as Ip })
const report = (sent: Record<string, number>, heard: Record<string, number>, need = 0): PathReport => ({ sent, heard, need })

test('verdicts: each direction by what either end knows', () => {
  const hosts = [host('one'), host('two')]
  const judge = (one: PathReport | undefined, two: PathReport | undefined, networks: Parameters<typeof judgePaths>[2] = []) => {
    const reports = new Map([...(one ? [['one', one] as const] : []), ...(two ? [['two', two] as const] : [])])
    return judgePaths(hosts, reports, networks, 1500).map(({ state, mtu }) => `${state} ${mtu}`)
  }
  assert.deepEqual(judge(report({ two: 1500 }, {}), report({ one: 1500 }, {})), ['ok 1500', 'ok 1500'])
  assert.deepEqual(judge(report({ two: 0 }, { one: 0 }), report({ one: 0 }, { one: 1500 })), ['ok 1500', 'blocked 0'])
  assert.deepEqual(judge(report({ two: 0 }, {}), report({ one: 0 }, {})), ['blocked 0', 'blocked 0'])
  assert.deepEqual(judge(report({ two: 1400 }, {}), report({ one: 1500 }, {})), ['mtu 1400', 'ok 1500'])
  assert.deepEqual(judge(report({ two: 1500 }, {}), undefined), ['ok 1500', 'silent 0'])
  const shared = [{ network: 'net1', hosts: [{ hostId: 'one' }, { hostId: 'two' }] }]
  assert.deepEqual(judge(report({ two: 1500 }, {}, 1600), report({ one: 1500 }, {}), shared), ['mtu 1500', 'ok 1500'])
})

test('the agreed MTU is the smallest of those who say one; who was evicted does not count', () => {
  const of = (mtu: number, state: 'up' | 'down' | 'evicted' = 'up') => ({ mtu, state })
  assert.equal(agreedMtu([of(1500), of(1400, 'down'), of(1300, 'evicted'), of(0)], 1500), 1400)
  assert.equal(agreedMtu([of(0)], 0), 0)
})

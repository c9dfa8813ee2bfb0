import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/ports.ts'
import { OvsDatabase } from './database.ts'
import { JsonStream } from './json-stream.ts'
import { Replica } from './replica.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const ID = '11111111-2222-3333-4444-555555555555'

test('json stream: messages are cut the same wherever the bytes are', () => {
  const messages = [{ id: 1, result: ['}{', '"', '\\', 'é'] }, { a: { b: [{ c: '[' }] } }, {}]
  const text = messages.map((message) => JSON.stringify(message)).join('')
  for (let size = 1; size < text.length; size++) {
    const stream = new JsonStream(1000)
    const all = bytes(text)
    const got: unknown[] = []
    for (let at = 0; at < all.length; at += size) got.push(...stream.push(all.subarray(at, at + size)))
    assert.deepEqual(got, messages, `pieces of ${size}`)
  }
})

test('json stream: what is no object, and what is too long, is refused', () => {
  assert.throws(() => new JsonStream(100).push(bytes('HTTP/1.1 400 Bad Request')), /expected a JSON object/)
  assert.throws(() => new JsonStream(100).push(bytes('{"a":1]')), /is no JSON/)
  assert.throws(() => new JsonStream(100).push(bytes(`{"a":"${'x'.repeat(200)}`)), /longer than 100 bytes/)
})

test('replica: rows of the wrong shape have no effect on others', () => {
  const replica = new Replica()
  for (const tables of [null, 7, [], { Bridge: 3 }, { Bridge: { x: 1, y: null, z: { new: 'no' } } }]) replica.update(tables)
  assert.equal(replica.bridges.size, 0)
  replica.update({
    Bridge: {
      [ID]: { new: { name: 'br0', ports: ['uuid', 'no-uuid'], external_ids: ['map', [['a', 'b'], ['c'], 5, ['__proto__', 'x']]] } },
    },
    Port: { [ID]: { new: { name: 9, tag: ['set', []], interfaces: ['uuid', ID] } } },
    Interface: { [ID]: { new: { name: 'eth1', ofport: 'many', error: ['set', ['no']] } } },
  })
  assert.deepEqual(replica.bridge('br0')?.ports, [])
  assert.deepEqual({ ...replica.bridge('br0')?.externalIds }, { a: 'b' })
  assert.deepEqual([replica.ports.get(ID)?.name, replica.ports.get(ID)?.tag], ['', undefined])
  assert.deepEqual([replica.interface('eth1')?.ofport, replica.interface('eth1')?.error], [undefined, 'no'])
  replica.update({ Bridge: { [ID]: { old: { name: 'br0' } } } })
  assert.equal(replica.bridges.size, 0)
})

/** A server that answers each request as `answer` says, undefined for not at all. */
async function withServer(
  answer: (request: { id: number; method: string; params: unknown[] }, socket: Socket) => string | undefined,
  fn: (db: OvsDatabase) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'causeway-ovsdb-'))
  const path = `${dir}/db.sock`
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    const stream = new JsonStream(1 << 20)
    socket.on('error', () => {})
    socket.on('data', (chunk: Uint8Array) => {
      for (const request of stream.push(chunk)) {
        const text = answer(request as { id: number; method: string; params: unknown[] }, socket)
        if (text !== undefined) socket.write(text)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const db = new OvsDatabase({ path, clock: systemClock, log: silentLogger, onChange: () => {} })
  try {
    await fn(db)
  } finally {
    db.close()
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
    rmSync(dir, { recursive: true, force: true })
  }
}

const result = (id: number, value: unknown) => JSON.stringify({ id, result: value, error: null })

test('database: hostile answers are errors with a code, never more', async () => {
  for (const text of ['garbage', '{"id":0,', '[]', '{"id":1,"result":null,"error":{"error":"unknown database"}}'])
    await withServer(
      () => (text === '{"id":0,' ? `${text}}` : text),
      (db) =>
        assert.rejects(db.read(), {
          name: 'NetError',
          code: 'unavailable',
          message: /Open vSwitch does not answer at .*start ovsdb-server/,
        }),
    )
  await withServer(
    (_request, socket) => void socket.destroy(),
    (db) => assert.rejects(db.read(), { code: 'unavailable' }),
  )
})

test('database: an operation that failed fails the transaction; what others changed meanwhile is busy', async () => {
  const answers = [
    [{ count: 1 }, { error: 'referential integrity violation', details: 'no such row' }],
    [{ error: 'timed out' }],
    'nonsense',
    [null, {}],
  ]
  await withServer(
    ({ id, method }) => result(id, method === 'monitor' ? {} : answers.shift()),
    async (db) => {
      await assert.rejects(db.transact([]), { code: 'internal', message: /referential integrity violation: no such row/ })
      await assert.rejects(db.transact([]), { code: 'busy' })
      await assert.rejects(db.transact([]), { code: 'internal', message: /no list of results/ })
      await db.transact([])
    },
  )
})

test('database: waiting ends with the update that was waited for, or in time; echo requests are answered', async () => {
  let echoed: unknown
  const update = (ofport: unknown) =>
    JSON.stringify({ id: null, method: 'update', params: ['causeway', { Interface: { [ID]: { new: { name: 'eth1', ofport } } } }] })
  await withServer(
    (request, socket) => {
      if (request.method === 'monitor') {
        setTimeout(() => socket.write(`{"method":"echo","params":["hi"],"id":"e"}${update(['set', []])}${update(3)}`), 20)
        return result(request.id, {})
      }
      echoed = request
      return undefined
    },
    async (db) => {
      assert.equal(await db.until((replica) => replica.interface('eth1')?.ofport, 5000, 'the switch did not take up eth1'), 3)
      await assert.rejects(
        db.until(() => undefined, 50, 'the switch did not take up eth2'),
        { code: 'unavailable', message: 'the switch did not take up eth2 within 0.05 s: is ovs-vswitchd running?' },
      )
      assert.deepEqual(echoed, { id: 'e', result: ['hi'], error: null })
    },
  )
})

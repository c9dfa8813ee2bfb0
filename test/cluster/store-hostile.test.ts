/** Something that is no store at all listens at the store's address: every call ends with `unavailable`, in bounded time. */
import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { openClusterStore } from '../../src/cluster/store/open.ts'
import { parseStoreUrl } from '../../src/cluster/store/url.ts'
import { isUnavailable } from './store-conformance.ts'
import { ports } from './store-openers.ts'

type Answer = (req: IncomingMessage, res: ServerResponse) => void

const text =
  (status: number, body: string): Answer =>
  (_req, res) =>
    void res.writeHead(status, { 'x-consul-index': 'nonsense' }).end(body)

/** Answers with which neither reading nor writing can succeed. */
const ANSWERS: readonly (readonly [string, Answer])[] = [
  ['a web page', text(200, '<html>hello</html>')],
  ['nothing', text(200, '')],
  ['a number', text(200, '5')],
  ['null', text(200, 'null')],
  ['a redirect', text(301, 'elsewhere')],
  ['an error without words', text(500, '')],
  ['an error of another kind', text(500, '{"error":{"message":5,"grpc_code":"x"}}')],
  ['an answer cut short', (_req, res) => void res.writeHead(200, { 'content-length': '1000' }).write('{"kvs":[', () => res.destroy())],
  ['a closed connection', (req) => void req.socket.destroy()],
  ['silence', () => {}],
]

async function withServer(answer: Answer, fn: (endpoint: string) => Promise<void>): Promise<void> {
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    await fn(`127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
}

for (const kind of ['etcd', 'consul'])
  test(`${kind}: an address at which something else answers`, { timeout: 60_000 }, async () => {
    await Promise.all(
      ANSWERS.map(([name, answer]) =>
        withServer(answer, async (endpoint) => {
          const store = openClusterStore(parseStoreUrl(`${kind}://${endpoint}`, { 'kv.patience': '0' }), ports)
          try {
            store.watch('', { onChange: () => assert.fail(`${name}: a change`), onResync: () => assert.fail(`${name}: a snapshot`) })
            await assert.rejects(store.txn({ checks: [{ key: 'a', absent: true }], puts: [{ key: 'a', value: '' }] }), isUnavailable, name)
            await assert.rejects(store.list(''), isUnavailable, name)
            await assert.rejects(
              store.lease(10, () => {}),
              isUnavailable,
              name,
            )
          } finally {
            await store.close()
          }
        }),
      ),
    )
  })

test('values of wrong types in an answer harm nobody', async () => {
  const odd = [
    null,
    5,
    {},
    { key: 5 },
    { key: 'L2NhdXNld2F5L2E=', value: 7, mod_revision: {} },
    { Key: 'causeway/a', Value: 7, ModifyIndex: 'x' },
  ]
  for (const [kind, body] of [
    ['etcd', { header: { revision: {}, cluster_id: 5 }, kvs: odd, more: false }],
    ['consul', odd],
  ] as const)
    await withServer(text(200, JSON.stringify(body)), async (endpoint) => {
      const store = openClusterStore(parseStoreUrl(`${kind}://${endpoint}`, { 'kv.patience': '0' }), ports)
      try {
        const listing = await store.list('').catch((error: Error) => {
          isUnavailable(error)
          return undefined
        })
        for (const { key, value } of listing?.entries ?? []) assert.deepEqual([typeof key, typeof value], ['string', 'string'])
      } finally {
        await store.close()
      }
    })
})

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { systemClock } from '../../base/clock.ts'
import { StoreFault, StoreHttp } from './http.ts'

/** A server on a thread of its own, so that it answers while the test's thread is kept busy: after 50 ms, `/late` never. */
const SERVER = `
const { parentPort } = require('node:worker_threads')
const server = require('node:http').createServer((req, res) => { if (req.url !== '/late') setTimeout(() => res.end('answered'), 50) })
server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))
`
let worker: Worker
let http: StoreHttp
let member: { host: string; port: number }

before(async () => {
  worker = new Worker(SERVER, { eval: true })
  member = { host: '127.0.0.1', port: await new Promise<number>((resolve) => worker.once('message', resolve)) }
  http = new StoreHttp(systemClock)
})

after(async () => {
  http.close()
  await worker.terminate()
})

const ask = (path: string) => http.request(member, { method: 'GET', path, timeoutMs: 200 })
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

test('an answer that came in time counts although this process was kept from reading it', async () => {
  await ask('/') // the next one has its connection
  const asked = ask('/')
  await turn()
  await turn()
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600)
  assert.equal((await asked).text, 'answered')
})

test('no answer in time is silence; nobody there is not', async () => {
  const why = async (asked: Promise<unknown>): Promise<StoreFault> => {
    const fault = await asked.then(
      () => undefined,
      (error: unknown) => error,
    )
    assert.ok(fault instanceof StoreFault)
    return fault
  }
  const late = await why(ask('/late'))
  assert.deepEqual([late.message, late.silent, late.sent], ['no answer within 200 ms', true, true])
  const gone = await why(http.request({ host: '127.0.0.1', port: 1 }, { method: 'GET', path: '/', timeoutMs: 200 }))
  assert.deepEqual([gone.silent, gone.sent], [false, false])
})

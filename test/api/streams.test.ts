import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import type { Lab } from '../../testkit/api-lab.ts'
import { apiLab, readAll } from '../../testkit/api-lab.ts'

let lab: Lab
before(async () => {
  lab = await apiLab()
  await lab.call('POST', '/containers/create?name=c1', { Image: 'busybox' })
  await lab.call('POST', '/containers/create?name=t1', { Image: 'busybox', Tty: true })
  await lab.call('POST', '/containers/c1/start')
  await lab.call('POST', '/containers/t1/start')
})
after(() => lab.close())

/** Takes an 8-byte framed stream apart. */
function demultiplex(bytes: Buffer): { stream: number; text: string }[] {
  const frames: { stream: number; text: string }[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at + 4)
    frames.push({ stream: bytes[at] as number, text: bytes.subarray(at + 8, at + 8 + length).toString() })
    at += 8 + length
  }
  return frames
}

function splitHead(bytes: Buffer): { head: string; body: Buffer } {
  const at = bytes.indexOf('\r\n\r\n')
  return { head: bytes.subarray(0, at).toString(), body: bytes.subarray(at + 4) }
}

const newExec = async (config: object = {}): Promise<string> =>
  (await lab.call('POST', '/containers/c1/exec', { Cmd: ['echo', 'hi'], AttachStdout: true, ...config })).json.Id
const startHead = (id: string, body: string, upgrade: boolean, version = ''): string =>
  `POST ${version}/exec/${id}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n${upgrade ? 'Connection: Upgrade\r\nUpgrade: tcp\r\n' : ''}\r\n${body}`

test('exec start with Upgrade reads the body from the socket and answers 101 with frames', async () => {
  const { head, body } = splitHead(await lab.raw(startHead(await newExec(), '{"Detach":false,"Tty":false}', true)))
  assert.match(head, /^HTTP\/1\.1 101 UPGRADED\r\n/)
  assert.match(head, /Content-Type: application\/vnd\.docker\.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp$/)
  assert.deepEqual(demultiplex(body), [
    { stream: 1, text: 'hi\n' },
    { stream: 2, text: 'to stderr\n' },
  ])
})

test('the multiplexed type exists since 1.42, a terminal is raw', async () => {
  const old = splitHead(await lab.raw(startHead(await newExec(), '{}', true, '/v1.41')))
  assert.match(old.head, /Content-Type: application\/vnd\.docker\.raw-stream/)
  const tty = splitHead(await lab.raw(startHead(await newExec({ Tty: true }), '{"Tty":true}', true)))
  assert.match(tty.head, /Content-Type: application\/vnd\.docker\.raw-stream/)
  assert.equal(tty.body.toString(), 'hi\nto stderr\n')
})

test('exec start without Upgrade hijacks as well', async () => {
  const { head, body } = splitHead(await lab.raw(startHead(await newExec(), '{}', false)))
  assert.match(head, /^HTTP\/1\.1 200 OK\r\nContent-Type: application\/vnd\.docker\.raw-stream$/)
  assert.equal(demultiplex(body).length, 2)
})

test('a body that arrives in pieces after the upgrade head is waited for', async () => {
  const bytes = startHead(await newExec(), '{"Detach":false}', true)
  const socket = connect({ path: lab.path, allowHalfOpen: true })
  socket.write(bytes.slice(0, -10))
  await new Promise((resolve) => setTimeout(resolve, 50))
  socket.write(bytes.slice(-10, -3))
  await new Promise((resolve) => setTimeout(resolve, 20))
  socket.write(bytes.slice(-3))
  assert.match((await readAll(socket)).toString('latin1'), /^HTTP\/1\.1 101/)
})

for (const upgrade of [true, false]) {
  const way = upgrade ? 'with Upgrade' : 'without Upgrade'

  test(`input sent after the request reaches the process, and a half-close lets the output through (${way})`, async () => {
    const id = await newExec({ AttachStdin: true })
    const socket = connect({ path: lab.path, allowHalfOpen: true })
    socket.write(startHead(id, '{}', upgrade))
    await once(socket, 'readable')
    socket.write('one ')
    await new Promise((resolve) => setTimeout(resolve, 30))
    socket.end('two')
    const { body } = splitHead(await readAll(socket))
    const stdout = demultiplex(body).filter((frame) => frame.stream === 1)
    assert.equal(stdout.map((frame) => frame.text).join(''), 'hi\none two')
    assert.equal((await lab.call('GET', `/exec/${id}/json`)).json.ExitCode, 7)
  })

  test(`large data flows in both directions, and a slow reader stops the writer (${way})`, async () => {
    const id = await newExec({ AttachStdin: true })
    const socket = connect({ path: lab.path, allowHalfOpen: true })
    socket.write(startHead(id, '{}', upgrade))
    await once(socket, 'readable')
    const size = 8 * 1024 * 1024
    let sent = 0
    const block = Buffer.alloc(65_536, 'x')
    const writing = (async () => {
      while (sent < size) {
        sent += block.length
        if (!socket.write(block)) await once(socket, 'drain')
      }
      socket.end()
    })()
    await new Promise((resolve) => setTimeout(resolve, 300))
    assert.ok(sent < size, `nobody reads, so the writer must be held back: ${sent} bytes went`)
    // Meanwhile the server serves others.
    assert.equal((await lab.call('GET', '/_ping')).text, 'OK')
    const { body } = splitHead(await readAll(socket))
    await writing
    const received = demultiplex(body)
      .filter((frame) => frame.stream === 1)
      .reduce((sum, frame) => sum + frame.text.length, 0)
    assert.equal(received, size + 3)
  })

  test(`an error before the stream is an ordinary answer (${way})`, async () => {
    const { head, body } = splitHead(await lab.raw(startHead('nope', '{}', upgrade), { halfClose: true }))
    assert.match(head, /^HTTP\/1\.1 404 Not Found/)
    assert.match(head, /Api-Version: 1\.51/i)
    assert.equal(body.toString().includes('No such exec instance: nope'), true)
    const used = await newExec()
    await lab.raw(startHead(used, '{}', true))
    const again = splitHead(await lab.raw(startHead(used, '{}', upgrade), { halfClose: true }))
    assert.match(again.head, /^HTTP\/1\.1 409 Conflict/)
    assert.match(again.head, /Api-Version: 1\.51/i)
  })
}

test('input in the same packet as an upgrade, and its end, reach the process', async () => {
  const id = await newExec({ AttachStdin: true })
  const { body } = splitHead(await lab.raw(`${startHead(id, '{}', true)}early`, { halfClose: true }))
  const stdout = demultiplex(body).filter((frame) => frame.stream === 1)
  assert.equal(stdout.map((frame) => frame.text).join(''), 'hi\nearly')
})

test('pipelined requests are answered in order, errors too', async () => {
  const get = (path: string, more = ''): string => `GET ${path} HTTP/1.1\r\nHost: d\r\n${more}\r\n`
  const text = (await lab.raw(get('/networks/nope') + get('/containers/nope/json') + get('/_ping', 'Connection: close\r\n'))).toString()
  const at = ['network nope not found', 'No such container: nope', '\r\nOK'].map((part) => text.indexOf(part))
  assert.ok(at[0] !== -1 && (at[0] ?? 0) < (at[1] ?? 0) && (at[1] ?? 0) < (at[2] ?? 0), text)
})

test('a takeover pipelined behind an endless answer harms nobody', async () => {
  const events = 'GET /events HTTP/1.1\r\nHost: d\r\n\r\n'
  for (const extra of ['Connection: Upgrade\r\nUpgrade: tcp\r\n', '']) {
    const socket = connect(lab.path)
    socket.on('error', () => {})
    socket.write(`${events}POST /containers/c1/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n${extra}\r\n`)
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal((await lab.call('GET', '/_ping')).text, 'OK')
    socket.destroy()
  }
  assert.deepEqual(
    lab.logged.filter((line) => line.level === 'error'),
    [],
  )
})

test('an exec start with broken JSON is refused in both ways', async () => {
  const id = await newExec()
  for (const upgrade of [true, false]) {
    const { head, body } = splitHead(await lab.raw(startHead(id, '{"Detach":', upgrade), { halfClose: true }))
    assert.match(head, /^HTTP\/1\.1 400/)
    assert.match(body.toString(), /unexpected EOF/)
  }
})

test('a detached exec answers 200 without a stream', async () => {
  const reply = await lab.call('POST', `/exec/${await newExec()}/start`, { Detach: true })
  assert.equal(reply.status, 200)
  assert.equal(reply.text, '')
})

test('exec inspect has the documented shape', async () => {
  const exec = (await lab.call('GET', `/exec/${await newExec({ User: 'u', Tty: true })}/json`)).json
  assert.deepEqual(exec.ProcessConfig, { tty: true, entrypoint: 'echo', arguments: ['hi'], privileged: false, user: 'u' })
  assert.equal(exec.Running, false)
  assert.equal(exec.ExitCode, null)
  assert.equal((await lab.call('POST', '/containers/c1/exec', { Cmd: [] })).json.message, 'no exec command specified')
})

test('attach through the http module of Node works as an upgrade', async () => {
  const req = request({
    socketPath: lab.path,
    method: 'POST',
    path: '/containers/t1/attach?stream=1&stdin=1&stdout=1',
    headers: { Connection: 'Upgrade', Upgrade: 'tcp' },
  })
  req.end()
  const [res, socket] = (await once(req, 'upgrade')) as [{ statusCode: number; headers: Record<string, string> }, Socket]
  assert.equal(res.statusCode, 101)
  assert.equal(res.headers['content-type'], 'application/vnd.docker.raw-stream')
  socket.write('typed')
  const [echo] = (await once(socket, 'data')) as [Buffer]
  assert.equal(echo.toString(), 'typed', 'a terminal is not framed')
  socket.destroy()
})

test('attach of a client that vanishes closes the session', async () => {
  const before = lab.containers.sessions.length
  const socket = connect(lab.path)
  socket.write('POST /containers/c1/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n')
  await once(socket, 'data')
  const session = lab.containers.sessions[before]
  assert.ok(session !== undefined)
  let closed = false
  session.close = () => {
    closed = true
    session.output.push(null)
  }
  socket.destroy()
  session.output.push({ stream: 'stdout', data: Buffer.from('x') })
  for (let i = 0; i < 100 && !closed; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10))
    if (i % 10 === 9) session.output.push({ stream: 'stdout', data: Buffer.from('y') })
  }
  assert.equal(closed, true)
})

test('a chunked request body is the input of an attach without Upgrade', async () => {
  const bytes =
    'POST /containers/t1/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'
  assert.equal(splitHead(await lab.raw(bytes)).body.toString(), 'hello')
  await lab.call('POST', '/containers/t1/start')
})

test('attach over WebSocket echoes messages and closes cleanly', async () => {
  await lab.call('POST', '/containers/t1/start')
  const socket = connect({ path: lab.path, allowHalfOpen: true })
  socket.write(
    'GET /containers/t1/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  const [head] = (await once(socket, 'data')) as [Buffer]
  assert.match(head.toString(), /^HTTP\/1\.1 101/)
  // The key and its answer of RFC 6455 section 1.3.
  assert.match(head.toString(), /Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/)
  socket.write(Buffer.from([0x81, 0x82, 1, 2, 3, 4, 'h'.charCodeAt(0) ^ 1, 'i'.charCodeAt(0) ^ 2]))
  const [message] = (await once(socket, 'data')) as [Buffer]
  assert.deepEqual([...message], [0x82, 2, 'h'.charCodeAt(0), 'i'.charCodeAt(0)])
  socket.write(Buffer.from([0x89, 0x80, 0, 0, 0, 0]))
  const [pong] = (await once(socket, 'data')) as [Buffer]
  assert.deepEqual([...pong], [0x8a, 0])
  socket.write(Buffer.from([0x88, 0x80, 0, 0, 0, 0]))
  const rest = await readAll(socket)
  assert.equal(rest[0], 0x88)
})

test('attach/ws without a handshake is a bad request', async () => {
  assert.equal((await lab.call('GET', '/containers/t1/attach/ws?stream=1')).status, 400)
})

test('logs are framed, selected, and followed as they come', async () => {
  const lines = lab.containers.logLines.get(lab.containers.get('c1').id) ?? []
  lines.push({ stream: 'stdout', data: Buffer.from('a\n') }, { stream: 'stderr', data: Buffer.from('b\n') })
  const res = await lab.open('GET', '/containers/c1/logs?stdout=1&stderr=1')
  assert.equal(res.headers['content-type'], 'application/vnd.docker.multiplexed-stream')
  assert.deepEqual(demultiplex(await readAll(res)), [
    { stream: 1, text: 'a\n' },
    { stream: 2, text: 'b\n' },
  ])
  assert.equal((await lab.call('GET', '/v1.41/containers/c1/logs?stdout=1')).headers['content-type'], 'application/vnd.docker.raw-stream')
  assert.equal((await lab.call('GET', '/containers/c1/logs')).json.message, 'Bad parameters: you must choose at least one stream')
  assert.equal((await lab.call('GET', '/containers/c1/logs?stdout=1&since=yesterday')).status, 400)
  assert.equal((await lab.call('GET', '/containers/nope/logs?stdout=1')).status, 404)
  assert.equal(demultiplex(await readAll(await lab.open('GET', '/containers/c1/logs?stdout=1&stderr=1&tail=1'))).length, 1)

  const follow = await lab.open('GET', '/containers/c1/logs?stdout=1&follow=1&tail=0')
  assert.equal(follow.statusCode, 200, 'the head does not wait for a line')
  setTimeout(() => lines.push({ stream: 'stdout', data: Buffer.from('later\n') }), 20)
  const [chunk] = (await once(follow, 'data')) as [Buffer]
  assert.deepEqual(demultiplex(chunk), [{ stream: 1, text: 'later\n' }])
  follow.destroy()
})

test('stats give one sample, two with precpu, or a stream', async () => {
  const shot = (await lab.call('GET', '/containers/c1/stats?stream=0&one-shot=1')).json
  assert.equal(shot.precpu_stats.cpu_usage.total_usage, 0)
  assert.equal(shot.name, '/c1')
  const pair = (await lab.call('GET', '/containers/c1/stats?stream=false')).json
  assert.equal(pair.cpu_stats.cpu_usage.total_usage - pair.precpu_stats.cpu_usage.total_usage, 1000)
  assert.equal((await lab.call('GET', '/containers/c1/stats?one-shot=1')).status, 400)
  const res = await lab.open('GET', '/containers/c1/stats')
  const [line] = (await once(res, 'data')) as [Buffer]
  assert.equal(JSON.parse(line.toString()).preread, '0001-01-01T00:00:00Z')
  res.destroy()
})

test('events: history, filters, live stream, end', async () => {
  const lines = (text: string): { Type: string; Action: string; status?: string; from?: string }[] =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  const until = Date.now() / 1000 + 0.2
  const history = lines(
    (await lab.call('GET', `/events?since=1&until=${until}&filters=${encodeURIComponent('{"type":["container"],"container":["c1"]}')}`))
      .text,
  )
  assert.deepEqual(
    history.slice(0, 2).map((event) => event.Action),
    ['create', 'start'],
  )
  assert.equal(history[0]?.status, 'create')
  assert.equal(history[0]?.from, 'busybox')

  const res = await lab.open('GET', `/events?filters=${encodeURIComponent('{"event":["create"],"type":["network"]}')}`)
  assert.equal(res.statusCode, 200, 'the head comes before the first event')
  await lab.call('POST', '/networks/create', { Name: 'ev1' })
  const [chunk] = (await once(res, 'data')) as [Buffer]
  const event = JSON.parse(chunk.toString())
  assert.equal(event.Actor.Attributes.name, 'ev1')
  assert.equal(event.scope, 'local')
  assert.equal('status' in event, false)
  assert.equal(lab.events.listeners.size, 1)
  res.destroy()
  for (let i = 0; i < 100 && lab.events.listeners.size > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  assert.equal(lab.events.listeners.size, 0, 'a client that goes away is unsubscribed')
  assert.equal((await lab.call('GET', `/events?filters=${encodeURIComponent('{"x":["1"]}')}`)).status, 400)
  assert.equal((await lab.call('GET', '/events?since=never')).status, 400)
})

test('an event reader that never reads is cut off and holds nobody up', async () => {
  const socket = connect(lab.path)
  socket.write('GET /events HTTP/1.1\r\nHost: d\r\n\r\n')
  await once(socket, 'readable')
  const Attributes = { filler: 'x'.repeat(4000) }
  for (let i = 0; i < 6000; i++) {
    lab.events.publish({ Type: 'causeway', Action: 'noise', Actor: { ID: String(i), Attributes } })
    if (i % 500 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  assert.equal((await lab.call('GET', '/_ping')).text, 'OK')
  const bytes = (await readAll(socket).catch(() => Buffer.alloc(0))).length
  assert.ok(bytes < 6000 * 4000, 'the stream ended before all of it')
  assert.equal(lab.events.listeners.size, 0)
})

test('closing the server ends hijacked and streaming connections', { timeout: 20_000 }, async () => {
  const other = await apiLab()
  await other.call('POST', '/containers/create?name=c1', { Image: 'busybox' })
  const events = await other.open('GET', '/events')
  const socket = connect(other.path)
  socket.write('POST /containers/c1/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n')
  await once(socket, 'data')
  const ended = [socket, events].map((stream) => new Promise((resolve) => stream.on('error', () => {}).once('close', resolve)))
  events.resume()
  await other.close()
  await Promise.all(ended)
})

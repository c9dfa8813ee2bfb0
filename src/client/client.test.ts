import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage, RequestListener } from 'node:http'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { test } from 'node:test'
import { NetError } from '../base/errors.ts'
import { parseEngineAddress } from './address.ts'
import { Client } from './client.ts'
import { Demultiplexer } from './demux.ts'
import { readJsonTexts } from './json-lines.ts'
import { encodeQuery, isOlder, statusOf, Transport } from './transport.ts'
import { encodeFilters } from './types.ts'

function frame(stream: number, text: string): Buffer {
  const head = Buffer.alloc(8)
  head[0] = stream
  head.writeUInt32BE(Buffer.byteLength(text), 4)
  return Buffer.concat([head, Buffer.from(text)])
}

test('demultiplexer: the same text on the same streams, wherever the chunks are cut', () => {
  const whole = Buffer.concat([frame(1, 'hello'), frame(2, 'err'), frame(1, ''), frame(1, ' world'), frame(2, 'or')])
  for (let cut = 0; cut <= whole.length; cut++) {
    for (const second of [cut, Math.min(whole.length, cut + 3)]) {
      const demultiplexer = new Demultiplexer()
      const got = { stdin: '', stdout: '', stderr: '', system: '' }
      for (const piece of [whole.subarray(0, cut), whole.subarray(cut, second), whole.subarray(second)])
        for (const { stream, data } of demultiplexer.push(piece)) got[stream] += Buffer.from(data).toString()
      assert.deepEqual(got, { stdin: '', stdout: 'hello world', stderr: 'error', system: '' }, `cut at ${cut}`)
    }
  }
  assert.throws(() => new Demultiplexer().push(Buffer.from('plain text')), { message: 'unrecognized stream: 112' })
})

test('JSON lines: the same values, wherever the chunks are cut, with and without line ends', async () => {
  const text = '{"a":"}{\\"[ü"}\r\n{"b":[1,{"c":2}]}{"d":{}}\n\n[1]\n'
  const bytes = Buffer.from(text)
  const expected = [{ a: '}{"[ü' }, { b: [1, { c: 2 }] }, { d: {} }, [1]]
  for (let cut = 0; cut <= bytes.length; cut++) {
    const pieces = async function* () {
      yield bytes.subarray(0, cut)
      yield bytes.subarray(cut)
    }
    const got: unknown[] = []
    for await (const text of readJsonTexts(pieces())) got.push(JSON.parse(text))
    assert.deepEqual(got, expected, `cut at ${cut}`)
  }
})

test('addresses of an engine', () => {
  const tcp = (host: string, port: number, tls = false, basePath = '') => ({ kind: 'tcp', host, port, tls, basePath })
  const cases: readonly (readonly [string, object])[] = [
    ['unix:///run/x.sock', { kind: 'unix', socketPath: '/run/x.sock' }],
    ['/run/x.sock', { kind: 'unix', socketPath: '/run/x.sock' }],
    ['tcp://10.0.0.1:2375', tcp('10.0.0.1', 2375)],
    ['tcp://host', tcp('host', 2375)],
    ['host:1234', tcp('host', 1234)],
    ['tcp://[::1]:99/base/', tcp('::1', 99, false, '/base')],
    ['http://host:80', tcp('host', 80)],
    ['https://host', tcp('host', 2376, true)],
  ]
  for (const [text, expected] of cases) {
    const { text: _, ...rest } = parseEngineAddress(text)
    assert.deepEqual(rest, expected, text)
  }
  for (const bad of ['unix://', 'ssh://host', 'tcp://host:x', '']) assert.throws(() => parseEngineAddress(bad), NetError, bad)
})

test('queries and filters', () => {
  assert.equal(encodeQuery({ a: true, b: false, c: undefined, d: 0, e: ['x', 'y z'], f: '' }), '?a=1&d=0&e=x&e=y%20z&f=')
  assert.equal(encodeQuery({}), '')
  assert.equal(encodeFilters({ name: ['a', 'b'] }), '{"name":{"a":true,"b":true}}')
  assert.equal(encodeFilters({}), undefined)
  assert.ok(isOlder('1.9', '1.10') && !isOlder('1.41', '1.41') && isOlder('1.41', '2.0'))
})

interface Lab {
  readonly client: Client
  readonly seen: { method: string; url: string; body: string; headers: IncomingMessage['headers'] }[]
}

/** A server on a socket of its own; `handle` answers what is not a ping. */
async function withServer(
  handle: RequestListener,
  run: (lab: Lab) => Promise<void>,
  options: { version?: string; upgrade?: (request: IncomingMessage, socket: Duplex, head: Buffer) => void } = {},
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-client-'))
  const socketPath = join(folder, 's.sock')
  const seen: Lab['seen'] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += String(chunk)
    })
    request.on('end', () => {
      seen.push({ method: request.method ?? '', url: request.url ?? '', body, headers: request.headers })
      response.setHeader('Api-Version', options.version ?? '1.41')
      if (request.url?.endsWith('/_ping') === true) response.end('OK')
      else handle(request, response)
    })
  })
  if (options.upgrade !== undefined) server.on('upgrade', options.upgrade)
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  const client = new Client({ host: `unix://${socketPath}` })
  try {
    await run({ client, seen })
  } finally {
    client.close()
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true })
  }
}

test('the version is agreed once: the lower of both', async () => {
  await withServer(
    (_request, response) => response.end('[]'),
    async ({ client, seen }) => {
      await client.networks.list()
      await client.containers.list({ all: true, filters: { name: ['x'] } })
      assert.deepEqual(
        seen.map((s) => `${s.method} ${decodeURIComponent(s.url)}`),
        ['HEAD /_ping', 'GET /v1.41/networks', 'GET /v1.41/containers/json?all=1&filters={"name":{"x":true}}'],
      )
    },
  )
  await withServer(
    (_request, response) => response.end('[]'),
    async ({ client, seen }) => {
      await client.networks.list()
      assert.equal(seen.at(-1)?.url, '/v1.51/networks')
    },
    { version: '1.99' },
  )
})

test('an error answer keeps its status and its message', async () => {
  const answers: readonly (readonly [number, string, string, string])[] = [
    [404, 'application/json', '{"message":"network x not found"}', 'network x not found'],
    [409, 'application/json', '{"message":"taken\\n"}', 'taken'],
    [500, 'text/plain', 'plain words\n', 'plain words'],
    [503, 'application/json', 'not json', 'not json'],
    [502, 'text/plain', '', 'GET /networks answered 502 Bad Gateway'],
  ]
  for (const [status, type, body, message] of answers) {
    await withServer(
      (_request, response) => {
        response.writeHead(status, { 'Content-Type': type })
        response.end(body)
      },
      async ({ client }) => {
        const error = await client.networks.list().then(
          () => undefined,
          (e: unknown) => e,
        )
        assert.ok(error instanceof NetError)
        assert.equal(error.message, message)
        assert.equal(statusOf(error), status)
      },
    )
  }
})

test('no engine: a sentence that says how to start it', async () => {
  const client = new Client({ host: 'unix:///nonexistent/x.sock' })
  await assert.rejects(client.networks.list(), {
    code: 'unavailable',
    message: 'Cannot connect to the Causeway engine at unix:///nonexistent/x.sock: it is not running; `causeway up` starts it',
  })
})

test('hijack: the body goes out with the upgrade, both directions flow, and our end leaves the other one open', async () => {
  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    let body = head.toString()
    const expected = Number(request.headers['content-length'] ?? 0)
    socket.write(
      'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst ',
    )
    socket.on('data', (chunk) => {
      body += String(chunk)
    })
    socket.on('end', () => {
      // only now, after the client's half is closed
      socket.end(`body=${body.slice(0, expected)} input=${body.slice(expected)}`)
    })
  }
  await withServer(
    (_request, response) => response.end(),
    async ({ client }) => {
      const { socket } = await client.containers.execAttach('e1', { tty: false })
      socket.end('typed')
      let text = ''
      for await (const chunk of socket) text += String(chunk)
      assert.equal(text, 'first body={"Detach":false,"Tty":false} input=typed')
    },
    { upgrade },
  )
})

test('hijack: a refusal is the error it says', async () => {
  await withServer(
    (_request, response) => {
      response.writeHead(404, { 'Content-Type': 'application/json' })
      response.end('{"message":"No such container: x"}')
    },
    async ({ client }) => {
      await assert.rejects(client.containers.attach('x', { stream: true }), { message: 'No such container: x', code: 'not-found' })
    },
  )
})

test('an aborted event stream ends without an error', async () => {
  await withServer(
    (_request, response) => {
      response.write('{"Type":"network","Action":"create","time":1,"timeNano":1795222806681574405}\n')
    },
    async ({ client }) => {
      const stop = new AbortController()
      const got: string[] = []
      for await (const { event, text } of client.system.events({ signal: stop.signal })) {
        got.push(String(event.Action), String(text.includes('1795222806681574405')))
        stop.abort()
      }
      assert.deepEqual(got, ['create', 'true'])
    },
  )
})

test('bodies: JSON with its length, no body without a type, names in paths escaped', async () => {
  await withServer(
    (_request, response) => response.end('{}'),
    async ({ client, seen }) => {
      await client.containers.stop('a/b c', { seconds: 0, signal: 'TERM' })
      await client.networks.disconnect('n', 'c', true)
      const [, stop, disconnect] = seen
      assert.equal(stop?.url, '/v1.41/containers/a%2Fb%20c/stop?t=0&signal=TERM')
      assert.equal(stop?.headers['content-type'], undefined)
      assert.equal(disconnect?.body, '{"Container":"c","Force":true}')
      assert.equal(disconnect?.headers['content-type'], 'application/json')
      assert.equal(disconnect?.headers['content-length'], '30')
    },
  )
  assert.ok(new Transport({ host: 'tcp://h' }).address.kind === 'tcp')
})

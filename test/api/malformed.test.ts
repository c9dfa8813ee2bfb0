import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import type { Lab } from '../../testkit/api-lab.ts'
import { apiLab } from '../../testkit/api-lab.ts'

let lab: Lab
before(async () => {
  lab = await apiLab()
  await lab.call('POST', '/containers/create?name=c1', { Image: 'busybox' })
  await lab.call('POST', '/containers/c1/start')
})
after(() => lab.close())

const JSON_ROUTES = [
  '/networks/create',
  '/networks/bridge/connect',
  '/networks/bridge/disconnect',
  '/containers/create',
  '/containers/c1/update',
  '/containers/c1/exec',
  '/exec/x/start',
  '/volumes/create',
  '/auth',
  '/causeway/v1/containers/c1/ports',
]

const deep = `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`
const BAD_BODIES: readonly (readonly [body: string, message: RegExp])[] = [
  ['{', /^invalid JSON: unexpected EOF$/],
  ['{"Name":"x', /^invalid JSON: unexpected EOF$/],
  ['{"Name":"x"} {}', /^unexpected content after JSON$/],
  ['xyz', /^invalid JSON: invalid character 'x'/],
  ['\u0000', /^invalid JSON/],
  ['\ufeff{}', /^invalid JSON/],
  ['[]', /^invalid JSON: the body: expected an object|expected an object/],
  ['"text"', /expected an object/],
  ['12', /expected an object/],
  ['true', /expected an object/],
]

test('every route with a JSON body refuses what is no object, with 400 and the documented text', async () => {
  for (const path of JSON_ROUTES) {
    for (const [body, message] of BAD_BODIES) {
      const reply = await lab.call('POST', path, body)
      assert.equal(reply.status, 400, `${path} ${body}: ${reply.text}`)
      assert.match(reply.json.message, message, `${path} ${body}`)
    }
  }
})

test('a body of another content type is refused', async () => {
  for (const path of JSON_ROUTES) {
    const text = await lab.call('POST', path, '{}', { 'content-type': 'text/plain' })
    assert.equal(text.status, 400)
    assert.equal(text.json.message, "unsupported Content-Type header (text/plain): must be 'application/json'")
    const none = await lab.call('POST', path, '{}', { 'content-type': '' })
    assert.equal(none.status, 400)
    assert.match(none.json.message, /^malformed Content-Type header/)
    const odd = await lab.call('POST', path, '{}', { 'content-type': ';;;=' })
    assert.equal(odd.status, 400)
  }
})

test('a JSON content type with parameters is accepted', async () => {
  const reply = await lab.call('POST', '/volumes/create', '{"Name":"p"}', { 'content-type': 'Application/JSON; charset=utf-8' })
  assert.equal(reply.status, 201)
})

test('bodies above 4 MiB are refused, announced or not', async () => {
  const big = `{"Name":"${'x'.repeat(5 * 1024 * 1024)}"}`
  const announced = await lab.call('POST', '/networks/create', big)
  assert.equal(announced.status, 400)
  assert.match(announced.json.message, /too large/)
  // Sent raw: the client module would announce a length.
  const head =
    'POST /networks/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n'
  const chunked = (await lab.raw(`${head}${big.length.toString(16)}\r\n${big}\r\n0\r\n\r\n`)).toString()
  assert.match(chunked, /^HTTP\/1\.1 400/)
  assert.match(chunked, /too large/)
})

test('endless nesting is refused where it would be kept, ignored where not', async () => {
  assert.equal((await lab.call('POST', '/containers/create', `{"Image":"busybox","x":${deep}}`)).status, 400)
  assert.equal((await lab.call('POST', '/volumes/create', `{"Name":"deep","x":${deep}}`)).status, 201)
})

const WRONG_TYPES: readonly (readonly [path: string, body: object])[] = [
  ['/networks/create', { Name: 1 }],
  ['/networks/create', { Name: 'x', Internal: 'yes' }],
  ['/networks/create', { Name: 'x', Labels: ['a'] }],
  ['/networks/create', { Name: 'x', Labels: { a: 1 } }],
  ['/networks/create', { Name: 'x', Options: 'o' }],
  ['/networks/create', { Name: 'x', IPAM: [] }],
  ['/networks/create', { Name: 'x', IPAM: { Config: {} } }],
  ['/networks/create', { Name: 'x', IPAM: { Config: ['10.0.0.0/8'] } }],
  ['/networks/create', { Name: 'x', IPAM: { Config: [{ Subnet: 10 }] } }],
  ['/networks/create', { Name: 'x', ConfigFrom: 'y' }],
  ['/networks/bridge/connect', { Container: [] }],
  ['/networks/bridge/connect', {}],
  ['/networks/bridge/connect', { Container: 'c1', EndpointConfig: { Aliases: 'a' } }],
  ['/networks/bridge/connect', { Container: 'c1', EndpointConfig: { GwPriority: 1.5 } }],
  ['/networks/bridge/connect', { Container: 'c1', EndpointConfig: { IPAMConfig: { IPv4Address: 1 } } }],
  ['/networks/bridge/disconnect', { Container: 'c1', Force: 'yes' }],
  ['/containers/create', {}],
  ['/containers/create', { Image: {} }],
  ['/containers/create', { Image: 'b', Env: { A: '1' } }],
  ['/containers/create', { Image: 'b', Cmd: 5 }],
  ['/containers/create', { Image: 'b', ExposedPorts: ['80'] }],
  ['/containers/create', { Image: 'b', ExposedPorts: { 'x/tcp': {} } }],
  ['/containers/create', { Image: 'b', HostConfig: 'h' }],
  ['/containers/create', { Image: 'b', HostConfig: { PortBindings: [] } }],
  ['/containers/create', { Image: 'b', HostConfig: { PortBindings: { '80/tcp': {} } } }],
  ['/containers/create', { Image: 'b', HostConfig: { PortBindings: { '80/tcp': [{ HostPort: 80 }] } } }],
  ['/containers/create', { Image: 'b', HostConfig: { PortBindings: { '99999/tcp': [] } } }],
  ['/containers/create', { Image: 'b', HostConfig: { Memory: '1g' } }],
  ['/containers/create', { Image: 'b', HostConfig: { Memory: 1e40 } }],
  ['/containers/create', { Image: 'b', HostConfig: { RestartPolicy: 'always' } }],
  ['/containers/create', { Image: 'b', HostConfig: { Dns: '8.8.8.8' } }],
  ['/containers/create', { Image: 'b', HostConfig: { Sysctls: { a: 1 } } }],
  ['/containers/create', { Image: 'b', NetworkingConfig: [] }],
  ['/containers/create', { Image: 'b', NetworkingConfig: { EndpointsConfig: [] } }],
  ['/containers/create', { Image: 'b', NetworkingConfig: { EndpointsConfig: { n: 1 } } }],
  ['/containers/create', { Image: 'b', MacAddress: 'not a mac' }],
  ['/containers/c1/exec', {}],
  ['/containers/c1/exec', { Cmd: [1] }],
  ['/containers/c1/exec', { Cmd: ['a'], ConsoleSize: [1] }],
  ['/containers/c1/exec', { Cmd: ['a'], ConsoleSize: [-1, 5] }],
  ['/volumes/create', { Name: {} }],
  ['/volumes/create', { Name: 'v', DriverOpts: { a: {} } }],
]

for (const [path, body] of WRONG_TYPES) {
  test(`POST ${path} ${JSON.stringify(body)} is a 400 with a sentence`, async () => {
    const before = [lab.controller.networks.size, lab.containers.all.length, lab.volumes.all.size]
    const reply = await lab.call('POST', path, body)
    assert.equal(reply.status, 400, reply.text)
    assert.ok(reply.json.message.length > 10)
    assert.deepEqual([lab.controller.networks.size, lab.containers.all.length, lab.volumes.all.size], before, 'nothing was made')
  })
}

const HOSTILE_PATHS = [
  '/%',
  '/%zz',
  '/networks/%E0%A4%A',
  '/containers/%00/json',
  '/containers/../../etc/passwd/json',
  '/containers/%2e%2e%2f%2e%2e%2f/json',
  '/images/..%2f..%2f/json',
  '/v1.51',
  '/v1.51/',
  '/v1.51//',
  '//',
  '//networks',
  '/v/networks',
  '/v1./networks',
  '/v99999999999999999999.1/networks',
  '/v1.-3/networks',
  '/networks/__proto__',
  '/containers/__proto__/json',
  '/containers/constructor/json',
  '/volumes/toString',
  `/containers/${'x'.repeat(60_000)}/json`,
  `/networks/${'%41'.repeat(3000)}`,
  '/networks?filters=%',
  '/networks?filters=%7B%22name%22%3A%7B%22__proto__%22%3Atrue%7D%7D',
  '/networks?filters={"__proto__":["x"]}',
  '/networks?filters=null',
  '/containers/json?limit=x',
  '/containers/json?limit=99999999999999999999',
  '/containers/json?filters={"status":{"x":1}}',
  '/containers/c1/logs?stdout=1&tail=-5',
  '/containers/c1/logs?stdout=1&since=1e400',
  '/containers/c1/archive?path=%00',
  '/containers/c1/stats?stream=0&one-shot=1',
  '/exec/%2F/json',
  '/events?until=1&since=99999999999999999999',
  '/events?until=-1',
  '/images/get?names=%00',
]

for (const path of HOSTILE_PATHS) {
  test(`GET ${path.slice(0, 70)} is answered without a 500`, async () => {
    const reply = await lab.call('GET', path.replaceAll('"', '%22').replaceAll('{', '%7B').replaceAll('}', '%7D'))
    assert.ok(reply.status < 500, `${reply.status} ${reply.text}`)
  })
}

test('every route survives an empty and a random body with any method', async () => {
  const paths = [
    '/networks/x',
    '/containers/x',
    '/containers/x/start',
    '/containers/x/archive?path=/',
    '/images/x',
    '/volumes/x',
    '/exec/x/resize?h=1&w=1',
    '/events?until=1',
    '/info',
    '/networks/prune',
  ]
  for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH']) {
    for (const path of paths) {
      for (const body of [undefined, '\u0001\u0002']) {
        const reply = await lab.call(method, path, body, body === undefined ? {} : { 'content-type': 'application/octet-stream' })
        assert.ok(reply.status < 500 || reply.status === 501, `${method} ${path}: ${reply.status} ${reply.text}`)
      }
    }
  }
})

const RAW: readonly (readonly [name: string, bytes: string])[] = [
  ['no HTTP at all', 'hello\r\n\r\n'],
  ['a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ['a negative length', 'POST /networks/create HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n'],
  ['two lengths', 'POST /networks/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}'],
  [
    'a broken chunk',
    'POST /networks/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
  ],
  ['a body cut short', 'POST /networks/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"Name"'],
  [
    'an upgrade body cut short',
    'POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"De',
  ],
  [
    'an upgrade with a chunked body',
    'POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  [
    'an upgrade with a huge length',
    'POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 99999999999\r\n\r\n',
  ],
  ['an upgrade to nonsense', 'GET /containers/c1/attach/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: \x01\x02\r\n\r\n'],
  ['a header without end', `GET /_ping HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(300_000)}`],
  ['an absolute URL', 'GET http://x/_ping HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['CONNECT', 'CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n'],
]

for (const [name, bytes] of RAW) {
  test(`${name} on the socket neither hangs nor harms the server`, async () => {
    const got = await lab.raw(Buffer.from(bytes, 'latin1'), { halfClose: true }).catch((error: NodeJS.ErrnoException) => {
      assert.ok(['ECONNRESET', 'EPIPE'].includes(error.code ?? ''), String(error))
      return Buffer.alloc(0)
    })
    assert.doesNotMatch(got.toString('latin1'), /^HTTP\/1\.1 500/)
    assert.equal((await lab.call('GET', '/_ping')).text, 'OK')
  })
}

test('an upload that its client aborts leaves nothing behind', async () => {
  for (const head of ['PUT /containers/c1/archive?path=/x', 'POST /images/load', 'POST /networks/create']) {
    const socket = connect(lab.path)
    socket.write(`${head} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"Name":"half`)
    await new Promise((resolve) => setTimeout(resolve, 20))
    socket.destroy()
  }
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal((await lab.call('GET', '/_ping')).text, 'OK')
  assert.equal(lab.containers.archives.size, 0)
})

test('nothing of all this was a bug: no unexpected error is in the log', () => {
  assert.deepEqual(
    lab.logged.filter((line) => line.level === 'error'),
    [],
  )
})

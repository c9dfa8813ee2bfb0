import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseAdvertise, parseStoreOptions, parseStoreUrl } from './url.ts'

const refused = (message: RegExp) => (error: Error & { code?: string }) => {
  assert.equal(error.code, 'invalid')
  assert.match(error.message, message)
  return true
}

test('store URL: members, default ports, path', () => {
  const etcd = parseStoreUrl('etcd://10.0.0.1:2379,10.0.0.2,[fd00::1]:3379/network/')
  assert.deepEqual(etcd.members, [
    { host: '10.0.0.1', port: 2379 },
    { host: '10.0.0.2', port: 2379 },
    { host: 'fd00::1', port: 3379 },
  ])
  assert.equal(etcd.root, 'network/causeway')
  assert.equal(etcd.kind, 'etcd')
  assert.equal(etcd.tls, undefined)
  const consul = parseStoreUrl('consul://store.example')
  assert.deepEqual([consul.kind, consul.root, consul.members], ['consul', 'causeway', [{ host: 'store.example', port: 8500 }]])
})

test('store URL: what is wrong is named', () => {
  const cases: [string, RegExp][] = [
    ['', /invalid --cluster-store "": expected etcd:\/\/host:port/],
    ['10.0.0.1:2379', /expected etcd:\/\/host:port/],
    ['zk://10.0.0.1', /"zk" is not a store that Causeway knows, expected etcd:\/\/ or consul:\/\//],
    ['etcd://', /a host is missing/],
    ['etcd:///path', /a host is missing/],
    ['etcd://a,,b', /a host is missing/],
    ['etcd://a:0', /port "0" is not between 1 and 65535/],
    ['etcd://a:', /port "" is not/],
    ['etcd://a:99999', /port "99999" is not/],
    ['etcd://a:23x', /port "23x" is not/],
    ['etcd://10.0.0.256', /"10.0.0.256" is not an address/],
    ['etcd://[fe80]', /"\[fe80\]" is not an IPv6 address/],
    ['etcd://fd00::1', /is not host:port/],
    ['etcd://a_b!:1', /"a_b!" is not a host name/],
    ['etcd://user:pw@a', /a user does not belong into the URL/],
    ['etcd://a,a:2379', /a:2379 is named twice/],
    ['etcd://a/x/../y', /"\.\." cannot be part of a path/],
    ['etcd://a/x y', /"x y" cannot be part of a path/],
    [`etcd://a/${'x'.repeat(201)}`, /longer than 200/],
  ]
  for (const [url, message] of cases) assert.throws(() => parseStoreUrl(url), refused(message), url)
})

test('store options: TLS, users, tokens', () => {
  const parse = (url: string, ...pairs: string[]) => parseStoreUrl(url, parseStoreOptions(pairs))
  assert.deepEqual(parse('etcd://a', 'kv.cacertfile=/ca', 'kv.certfile=/c', 'kv.keyfile=/k').tls, {
    caFile: '/ca',
    certFile: '/c',
    keyFile: '/k',
  })
  assert.deepEqual(parse('etcd://a', 'kv.tls=true').tls, {})
  assert.deepEqual(parse('etcd://a', 'kv.username=u', 'kv.password=p=q').user, { name: 'u', password: 'p=q' })
  assert.deepEqual(parse('consul://a', 'kv.tokenfile=/t').token, { file: '/t' })
  assert.equal(parse('etcd://a', 'kv.path=/x/y/').root, 'x/y/causeway')
  assert.equal(parse('etcd://a', 'kv.patience=30s').patienceMs, 30_000)
  assert.equal(parse('etcd://a', 'discovery.ttl=60', 'discovery.heartbeat=20').ttlSeconds, 60)
  assert.equal(parse('etcd://a', 'discovery.heartbeat=30').ttlSeconds, 90)
  assert.equal(parse('etcd://a', 'discovery.heartbeat=1').ttlSeconds, 10)
  const cases: [string[], RegExp][] = [
    [['etcd://a', 'kv.certfile=/c'], /kv.certfile needs kv.keyfile/],
    [['etcd://a', 'kv.keyfile=/c'], /kv.keyfile needs kv.certfile/],
    [['etcd://a', 'kv.tls=yes'], /kv.tls "yes": expected true or false/],
    [['etcd://a', 'kv.tls=false', 'kv.cacertfile=/c'], /contradicts/],
    [['etcd://a', 'kv.password=p'], /kv.password needs kv.username/],
    [['etcd://a', 'kv.username=p'], /kv.username needs kv.password/],
    [['etcd://a', 'kv.token=p'], /etcd has no tokens/],
    [['consul://a', 'kv.username=u', 'kv.password=p'], /Consul has no users/],
    [['etcd://a', 'kv.pth=x'], /"kv.pth": expected one of kv.cacertfile/],
    [['etcd://a', 'kv.path'], /"kv.path": expected key=value/],
    [['etcd://a', 'kv.path=a', 'kv.path=b'], /given twice/],
    [['etcd://a/x', 'kv.path=y'], /says path "x" and kv.path says "y"/],
    [['etcd://a', 'kv.patience=-1'], /expected whole seconds from 0 to 3600/],
    [['etcd://a', 'discovery.ttl=1h'], /expected whole seconds/],
    [['etcd://a', 'discovery.ttl=9'], /discovery.ttl "9": expected whole seconds from 10 to 86400/],
    [['etcd://a', 'discovery.ttl=20', 'discovery.heartbeat=20'], /discovery.ttl timer must be greater than discovery.heartbeat/],
  ]
  for (const [[url, ...pairs], message] of cases) assert.throws(() => parse(url as string, ...pairs), refused(message), pairs.join())
})

test('advertise: an address, or the first address of an interface', () => {
  const of = (name: string) =>
    ({ eth0: ['fe80::1', '10.1.0.5', '10.1.0.6'], six: ['fe80::1', 'fd00::7'], none: ['fe80::1'], lo: ['127.0.0.1', '::1'] })[name]
  assert.deepEqual(parseAdvertise('10.0.0.1:2376', of), { host: '10.0.0.1', port: 2376 })
  assert.deepEqual(parseAdvertise('[fd00::1]:2376', of), { host: 'fd00::1', port: 2376 })
  assert.deepEqual(parseAdvertise('eth0:2376', of), { host: '10.1.0.5', port: 2376 })
  assert.deepEqual(parseAdvertise('six:1', of), { host: 'fd00::7', port: 1 })
  for (const [text, message] of [
    ['eth0', /expected <ip>:<port> or <interface>:<port>/],
    ['eth0:0', /port 0 is not between/],
    ['eth9:1', /there is no interface "eth9"/],
    ['none:1', /couldn't find a valid ip-address in interface none/],
    ['127.0.0.1:1', /127.0.0.1 is not an address at which other hosts reach this one/],
    ['0.0.0.0:1', /is not an address at which/],
    ['[fe80::1]:1', /fe80::1 is not an address at which/],
    ['lo:1', /couldn't find a valid ip-address in interface lo/],
  ] as const)
    assert.throws(() => parseAdvertise(text, of), refused(message), text)
})

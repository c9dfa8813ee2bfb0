/** Questions that are not ours: upstreams that are dead, slow, wrong or lie, judged by dig. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { after, before, test } from 'node:test'
import { type DnsRecord, encodeMessage, encodeName, FLAG, RCODE, TYPE } from '../../src/wire/dns.ts'
import { isolate } from '../../testkit/isolated.ts'
import { answerWith, aRecord, type Behaviour, DnsLab, FakeUpstream, failing, ip, silent, slowly, view } from './dns-lab.ts'

isolate()

let lab: DnsLab
let ns: ReturnType<DnsLab['space']>
let count = 0

before(async () => {
  lab = await DnsLab.start()
  ns = lab.space()
})
after(async () => {
  await lab.stop()
  assert.deepEqual(lab.errors, [])
})

/** A sandbox of its own with fresh upstreams, so that no health or cache of another test is seen. */
async function sandbox(...behaviours: Behaviour[]) {
  const id = `sb${++count}`
  const upstreams = await Promise.all(behaviours.map((behaviour, i) => FakeUpstream.start(lab, `127.1.${count}.${i + 1}`, behaviour)))
  const ports = lab.service.addSandbox(id, ns, view({ upstreams: upstreams.map((upstream) => upstream.asHost) }))
  const dig = (...args: string[]) => lab.dig(ns, ports, ...args)
  const health = async (i: number) => (await lab.service.stats()).upstreams.find((one) => one.ip === upstreams[i]?.ip)
  return { id, ports, upstreams, dig, health, first: upstreams[0] as FakeUpstream, second: upstreams[1] as FakeUpstream }
}

const soa = (ttl: number): DnsRecord => ({
  name: 'example',
  type: TYPE.SOA,
  class: 1,
  ttl,
  data: Uint8Array.of(...encodeName('ns.example'), ...encodeName('root.example'), ...new Uint8Array(16), 0, 0, 0, ttl),
})
const nxdomain: Behaviour = () => ({ rcode: RCODE.NXDOMAIN, authorities: [soa(60)] })
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('an unknown name is answered by the upstream of the host, which the sandbox itself cannot reach', async () => {
  const { dig, first } = await sandbox(answerWith('192.0.2.1'))
  const got = await dig('Www.Example.Com')
  assert.deepEqual(got.answers, ['Www.Example.Com. 60 IN A 192.0.2.1'])
  assert.equal(got.question, 'Www.Example.Com.')
  assert.deepEqual(first.seen, ['Www.Example.Com/1/udp'])
})

test('a second question is answered from the cache, in any spelling, with less time to live', async () => {
  const { dig, first } = await sandbox(answerWith('192.0.2.2', 60))
  await dig('a.example')
  await sleep(1100)
  const got = await dig('A.Example')
  assert.match(got.answers[0] ?? '', /^A\.Example\. 5[89] IN A 192\.0\.2\.2$/)
  assert.equal(first.seen.length, 1)
})

test('"no such name" is returned as it is, and kept for what the SOA allows', async () => {
  const { dig, first, second } = await sandbox(nxdomain, answerWith('192.0.2.3'))
  assert.equal((await dig('no.example')).status, 'NXDOMAIN')
  assert.equal((await dig('no.example')).status, 'NXDOMAIN')
  assert.equal(first.seen.length, 1)
  assert.equal(second.seen.length, 0)
})

test('a local name that appears goes before a cached "no such name"', async () => {
  const { dig } = await sandbox(nxdomain)
  assert.equal((await dig('soon')).status, 'NXDOMAIN')
  lab.service.setEndpoint('n1', { endpointId: 'soon', names: ['soon'], ipv4: ip('10.0.0.9') })
  assert.deepEqual((await dig('soon')).data, ['10.0.0.9'])
  lab.service.removeEndpoint('n1', 'soon')
})

test('a dead first upstream costs less than 100 ms, then nothing, and is used again when it is back', async () => {
  const { dig, first, second, health } = await sandbox(silent, answerWith('192.0.2.4', 0))
  const cold = await dig('cold.example')
  assert.deepEqual(cold.data, ['192.0.2.4'])
  assert.ok(cold.ms >= 40 && cold.ms < 1000, `${cold.ms} ms`)
  await sleep(300)
  assert.equal((await health(0))?.healthy, false)
  const warm: number[] = []
  for (let i = 0; i < 5; i++) warm.push((await dig(`warm${i}.example`)).ms)
  assert.ok(Math.max(...warm) < 1000, warm.join())
  first.behaviour = answerWith('192.0.2.99', 0)
  for (let i = 0; i < 40 && !(await health(0))?.healthy; i++) {
    await dig(`probe${i}.example`)
    await sleep(100)
  }
  assert.equal((await health(0))?.healthy, true)
  const seen = second.seen.length
  assert.deepEqual((await dig('again.example')).data, ['192.0.2.99'])
  assert.equal(second.seen.length, seen)
})

test('two dead upstreams of three cost less than 150 ms', async () => {
  const { dig } = await sandbox(silent, silent, answerWith('192.0.2.5'))
  const got = await dig('x.example')
  assert.deepEqual(got.data, ['192.0.2.5'])
  assert.ok(got.ms < 1000, `${got.ms} ms`)
})

test('an upstream that nobody listens on is passed at once', async () => {
  const { dig, first } = await sandbox(silent, answerWith('192.0.2.6'))
  first.stop()
  const got = await dig('x.example')
  assert.deepEqual(got.data, ['192.0.2.6'])
  assert.ok(got.ms < 1000, `${got.ms} ms`)
})

for (const [name, rcode] of [
  ['SERVFAIL', RCODE.SERVFAIL],
  ['REFUSED', RCODE.REFUSED],
  ['NOTIMP', RCODE.NOTIMP],
] as const) {
  test(`${name} sends the question to the next upstream at once; from all of them it is SERVFAIL`, async () => {
    const { dig, second } = await sandbox(failing(rcode), answerWith('192.0.2.7'))
    const got = await dig('x.example')
    assert.deepEqual(got.data, ['192.0.2.7'])
    assert.ok(got.ms < 1000, `${got.ms} ms`)
    second.behaviour = failing(rcode)
    const all = await dig('y.example')
    assert.equal(all.status, 'SERVFAIL')
    assert.ok(all.ms < 1000, `${all.ms} ms`)
  })
}

test('a slow upstream is overtaken', async () => {
  const { dig } = await sandbox(slowly(700, answerWith('192.0.2.8')), answerWith('192.0.2.9'))
  const got = await dig('x.example')
  assert.deepEqual(got.data, ['192.0.2.9'])
  assert.ok(got.ms < 1000, `${got.ms} ms`)
})

test('an upstream that is slow but alone is waited for', async () => {
  const { dig, first } = await sandbox(slowly(700, answerWith('192.0.2.10')))
  assert.deepEqual((await dig('x.example')).data, ['192.0.2.10'])
  assert.equal(first.seen.length, 1)
})

test('a name that only the first upstream knows is not denied by the second one in its haste', async () => {
  const { dig } = await sandbox(slowly(20, answerWith('10.8.0.1')), nxdomain)
  const got = await dig('intranet.example')
  assert.deepEqual(got.data, ['10.8.0.1'])
})

test('when all are silent the answer is SERVFAIL before the client gives up', async () => {
  const { dig, first } = await sandbox(silent)
  const got = await dig('x.example')
  assert.equal(got.status, 'SERVFAIL')
  assert.ok(got.ms > 3500 && got.ms < 6000, `${got.ms} ms`)
  assert.equal(first.seen.length, 3, 'it was asked again twice')
})

test('when one refuses and the others are silent the answer is SERVFAIL within a second, and a late one is kept for the next question', async () => {
  const { dig, first, second } = await sandbox(failing(RCODE.REFUSED), silent)
  const got = await dig('refused.example')
  assert.equal(got.status, 'SERVFAIL')
  assert.ok(got.ms < 1800, `${got.ms} ms`)
  assert.equal(second.seen.length, 2, 'a packet may have been lost')
  assert.equal(first.seen.length, 1)

  const slow = await sandbox(failing(RCODE.REFUSED), slowly(1300, answerWith('192.0.2.9')))
  assert.equal((await slow.dig('late.example')).status, 'SERVFAIL')
  await sleep(700)
  assert.deepEqual((await slow.dig('late.example')).data, ['192.0.2.9'])
})

test('a lost packet is made up for', async () => {
  const { dig, first } = await sandbox(silent)
  setTimeout(() => {
    first.behaviour = answerWith('192.0.2.11')
  }, 300)
  const got = await dig('x.example')
  assert.deepEqual(got.data, ['192.0.2.11'])
  assert.ok(got.ms < 1300, `${got.ms} ms`)
})

test('twenty identical questions at once are one question upstream', async () => {
  const { dig, first } = await sandbox(slowly(300, answerWith('192.0.2.12', 0)))
  const all = await Promise.all(Array.from({ length: 20 }, () => dig('same.example')))
  assert.ok(all.every((got) => got.data[0] === '192.0.2.12'))
  assert.ok(first.seen.length < 10, `${first.seen.length} questions`) // digs do not all start within 300 ms
})

const big: Behaviour = (query, transport) => {
  const answers = Array.from({ length: 120 }, (_, i) => aRecord(query.questions[0]?.name ?? '', `192.0.3.${i}`))
  return transport === 'udp' ? { flags: FLAG.TC, answers: answers.slice(0, 5) } : { answers }
}

test('a cut answer is completed over TCP for who can take it, and passed on cut to who cannot', async () => {
  const { dig, first } = await sandbox(big)
  const large = await dig('+bufsize=4096', '+ignore', 'big.example')
  assert.equal(large.answers.length, 120)
  assert.ok(!large.flags.includes('tc'))
  assert.deepEqual(first.seen, ['big.example/1/udp', 'big.example/1/tcp'])
  const middle = await dig('+bufsize=1232', '+ignore', 'big.example')
  assert.ok(middle.flags.includes('tc') && middle.answers.length > 60, middle.text)
  const small = await dig('+noedns', '+ignore', 'big.example')
  assert.ok(small.flags.includes('tc'), small.text)
  const tcp = await dig('+tcp', '+noedns', 'big.example')
  assert.equal(tcp.answers.length, 120)
  assert.deepEqual((await dig('+noedns', '+ignore', 'big.example')).flags.includes('tc'), true, 'cut from the cache as well')
})

test('an upstream that does not know EDNS is asked without', async () => {
  const { dig } = await sandbox((query) =>
    query.additionals.length > 0 ? { rcode: RCODE.FORMERR } : { answers: [aRecord('x.example', '192.0.2.13')] },
  )
  assert.deepEqual((await dig('x.example')).data, ['192.0.2.13'])
})

test('answers to another question and forged ones are not believed', async () => {
  const { dig, first } = await sandbox((query) => ({
    questions: [{ name: 'other.example', type: 1, class: 1 }],
    answers: [aRecord('other.example', '6.6.6.6')],
    id: query.id,
  }))
  setTimeout(() => {
    first.behaviour = answerWith('192.0.2.14')
  }, 500)
  assert.deepEqual((await dig('x.example')).data, ['192.0.2.14'])
  first.behaviour = (query) => ({ id: query.id ^ 1, answers: [aRecord('y.example', '6.6.6.6')] })
  setTimeout(() => {
    first.behaviour = answerWith('192.0.2.15')
  }, 500)
  assert.deepEqual((await dig('y.example')).data, ['192.0.2.15'])
})

test('questions leave from many ports with many ids', async () => {
  const from = new Set<number>()
  const ids = new Set<number>()
  const udp = createSocket('udp4')
  await new Promise<void>((resolve) => udp.bind(0, '127.9.9.9', resolve))
  udp.on('message', (bytes, peer) => {
    from.add(peer.port)
    ids.add(bytes.readUInt16BE(0))
    udp.send(
      encodeMessage({
        id: bytes.readUInt16BE(0),
        flags: FLAG.QR,
        opcode: 0,
        rcode: 2,
        questions: [],
        answers: [],
        authorities: [],
        additionals: [],
      }),
      peer.port,
      peer.address,
    )
  })
  const ports = lab.service.addSandbox('ports', ns, view({ upstreams: [{ ip: ip('127.9.9.9'), port: udp.address().port, from: 'host' }] }))
  for (let i = 0; i < 40; i++) await lab.dig(ns, ports, `p${i}.example`)
  udp.close()
  assert.ok(from.size >= 10, `${from.size} ports`)
  assert.ok(ids.size >= 38, `${ids.size} ids`)
})

test('an internal sandbox never asks the host’s upstreams, and says SERVFAIL at once', async () => {
  const upstream = await FakeUpstream.start(lab, '127.2.0.1', answerWith('192.0.2.16'))
  const ports = lab.service.addSandbox('internal', ns, view({ upstreams: [upstream.asHost], hasGateway: false }))
  const got = await lab.dig(ns, ports, 'x.example')
  assert.equal(got.status, 'SERVFAIL')
  assert.ok(got.ms < 1000, `${got.ms} ms`)
  assert.equal(upstream.seen.length, 0)
  lab.service.setView('internal', view({ upstreams: [upstream.asHost], hasGateway: true }))
  assert.deepEqual((await lab.dig(ns, ports, 'x.example')).data, ['192.0.2.16'], 'connected to a network with a gateway')
})

test('a server inside the sandbox’s own network is asked from there, also without a gateway', async () => {
  const space = lab.space()
  const dnsmasq = spawn('nsenter', [
    `--net=${space.path}`,
    'dnsmasq',
    '-k',
    '-C',
    '/dev/null',
    '-R',
    '-h',
    '--user=root',
    '--listen-address=127.0.0.77',
    '--bind-interfaces',
    '--pid-file=',
    '--address=/inside.example/192.0.2.17',
  ])
  lab.onStop(() => dnsmasq.kill())
  const upstreams = [
    { ip: ip('127.0.0.11'), from: 'sandbox' as const },
    { ip: ip('127.0.0.77'), from: 'sandbox' as const },
  ]
  const ports = lab.service.addSandbox('own', space, view({ upstreams, hasGateway: false }))
  await sleep(300)
  assert.deepEqual((await lab.dig(space, ports, 'inside.example')).data, ['192.0.2.17'])
  assert.deepEqual((await lab.dig(space, ports, '+tcp', 'inside.example')).data, ['192.0.2.17'])
  lab.service.removeSandbox('own')
})

test('sandboxes that follow the host change over when the host’s servers change', async () => {
  const [one, two] = [
    await FakeUpstream.start(lab, '127.3.0.1', answerWith('192.0.2.18')),
    await FakeUpstream.start(lab, '127.3.0.2', answerWith('192.0.2.19')),
  ]
  lab.service.setHostUpstreams([{ ip: one.ip, port: one.port }])
  const ports = lab.service.addSandbox('follow', ns, view())
  assert.deepEqual((await lab.dig(ns, ports, 'x.example')).data, ['192.0.2.18'])
  lab.service.setHostUpstreams([{ ip: two.ip, port: two.port }])
  assert.deepEqual((await lab.dig(ns, ports, 'x.example')).data, ['192.0.2.19'], 'not from the cache')
  one.behaviour = answerWith('192.0.2.20')
  lab.service.setHostUpstreams([{ ip: one.ip, port: one.port }])
  assert.deepEqual((await lab.dig(ns, ports, 'x.example')).data, ['192.0.2.20'], 'what it said before the change is forgotten')
})

test('a reverse name is left to upstreams once they gave that name for that address', async () => {
  const { ports, first } = await sandbox((query) =>
    query.questions[0]?.type === TYPE.PTR
      ? { answers: [{ name: query.questions[0].name, type: TYPE.PTR, class: 1, ttl: 5, data: encodeName('from.upstream') }] }
      : { answers: [aRecord(query.questions[0]?.name ?? '', '10.77.0.1')] },
  )
  const upstreams = [first.asHost]
  const plain = lab.service.addSandbox('ptr', ns, view({ upstreams, networks: [{ id: 'ptr', name: 'ptrnet', aliases: {} }] }))
  lab.service.setEndpoint('ptr', { endpointId: 'e', names: ['host.example'], ipv4: ip('10.77.0.1') })
  assert.deepEqual((await lab.dig(ns, plain, '-x', '10.77.0.1')).data, ['host.example.ptrnet.'])
  // the alias hides the name on that network, so the question goes upstream
  lab.service.setView('ptr', view({ upstreams, networks: [{ id: 'ptr', name: 'ptrnet', aliases: { 'host.example': ['nobody'] } }] }))
  assert.deepEqual((await lab.dig(ns, plain, 'host.example')).data, ['10.77.0.1'])
  assert.deepEqual((await lab.dig(ns, plain, '-x', '10.77.0.1')).data, ['from.upstream.'])
  assert.ok(ports.udpPort > 0)
})

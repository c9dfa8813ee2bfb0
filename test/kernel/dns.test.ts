/** Names of containers, judged by dig inside the sandbox's namespace. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { DnsService } from '../../src/dns/service.ts'
import { homeNetns } from '../../src/sys/netns.ts'
import { decodeMessage, encodeMessage, FLAG } from '../../src/wire/dns.ts'
import { isolate } from '../../testkit/isolated.ts'
import { seeded } from '../../testkit/random.ts'
import { DnsLab, ip, view } from './dns-lab.ts'

isolate()

let lab: DnsLab
let ns: ReturnType<DnsLab['space']>
let ports: { udpPort: number; tcpPort: number }
const descriptors = (): string[] =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`${readlinkSync(`/proc/self/fd/${fd}`).replace(/\[?\d+\]?/, '')}`]
    } catch {
      return [] // the folder's own descriptor
    }
  })

before(async () => {
  lab = await DnsLab.start()
  ns = lab.space()
  ports = lab.service.addSandbox(
    'main',
    ns,
    view({
      networks: [
        { id: 'n1', name: 'br.net1', aliases: { db: ['c2'] } },
        { id: 'n2', name: 'net2', aliases: {} },
      ],
    }),
  )
  lab.service.setEndpoint('n1', { endpointId: 'e1', names: ['c1', 'web', 'a1b2c3d4e5f6'], ipv4: ip('10.1.0.2') })
  lab.service.setEndpoint('n1', { endpointId: 'e2', names: ['c2', 'web'], ipv4: ip('10.1.0.3'), ipv6: ip('fd01::3') })
  lab.service.setEndpoint('n1', { endpointId: 'e3', names: ['c1.net1'], ipv4: ip('10.1.0.4') })
  lab.service.setEndpoint('n2', { endpointId: 'e4', names: ['six'], ipv6: ip('fd02::2') })
  for (let i = 0; i < 100; i++) lab.service.setEndpoint('n2', { endpointId: `r${i}`, names: ['many'], ipv4: ip(`10.9.0.${i + 1}`) })
})
after(async () => {
  await lab.stop()
  assert.deepEqual(lab.errors, [])
})

test('a name is answered with its address, TTL 600, flags qr rd ra, spelled as it was asked', async () => {
  const got = await lab.dig(ns, ports, 'C1', 'A')
  assert.equal(got.status, 'NOERROR')
  assert.deepEqual(got.flags, ['qr', 'rd', 'ra'])
  assert.deepEqual(got.answers, ['C1. 600 IN A 10.1.0.2'])
  assert.equal(got.question, 'C1.')
})

for (const [args, expected] of [
  [['a1b2c3d4e5f6', 'A'], ['10.1.0.2']],
  [
    ['web', 'A'],
    ['10.1.0.2', '10.1.0.3'],
  ],
  [['web', 'AAAA'], ['fd01::3']],
  [['db', 'A'], ['10.1.0.3']],
  [['db.br.net1', 'A'], ['10.1.0.3']],
  [['c1.BR.net1', 'A'], ['10.1.0.2']],
  [['c1.net1.br.net1', 'A'], ['10.1.0.4']],
  [['-x', '10.1.0.3'], ['c2.br.net1.']],
  [['-x', 'fd01::3'], ['c2.br.net1.']],
  [['-x', 'fd02::2'], ['six.net2.']],
] as const) {
  test(`dig ${args.join(' ')} gives ${expected.join(' and ')}`, async () => {
    const got = await lab.dig(ns, ports, ...args)
    assert.equal(got.status, 'NOERROR')
    assert.deepEqual(got.data, expected)
  })
}

for (const args of [
  ['c1', 'AAAA'],
  ['six', 'A'],
  ['c1', 'MX'],
  ['c1.br.net1', 'AAAA'],
]) {
  test(`dig ${args.join(' ')}: the name is ours but has no such record, so it is empty and not forwarded`, async () => {
    const got = await lab.dig(ns, ports, ...args)
    assert.equal(got.status, 'NOERROR')
    assert.deepEqual(got.answers, [])
  })
}

test('without any upstream, other names and types are SERVFAIL at once', async () => {
  for (const args of [['nobody'], ['example.com'], ['c1', 'TXT'], ['c1.net1.br.net1.google.com'], ['-x', '9.9.9.9']]) {
    const got = await lab.dig(ns, ports, ...args)
    assert.equal(got.status, 'SERVFAIL', args.join(' '))
    assert.deepEqual(got.flags, ['qr', 'rd'])
    assert.ok(got.ms < 1000)
  }
})

test('several addresses come in every order', async () => {
  const first = new Set<string>()
  for (let i = 0; i < 30 && first.size < 2; i++) first.add((await lab.dig(ns, ports, 'web')).answers[0] ?? '')
  assert.equal(first.size, 2)
})

test('TCP answers the same', async () => {
  assert.deepEqual((await lab.dig(ns, ports, '+tcp', 'c1')).data, ['10.1.0.2'])
  assert.equal((await lab.dig(ns, ports, '+tcp', 'many')).answers.length, 100)
})

test('what does not fit is cut and marked, at 512 bytes or at the size that EDNS tells', async () => {
  const plain = await lab.dig(ns, ports, '+noedns', '+ignore', 'many')
  assert.ok(plain.flags.includes('tc') && plain.answers.length === 30, plain.text)
  const edns = await lab.dig(ns, ports, '+bufsize=900', '+ignore', 'many')
  assert.ok(edns.flags.includes('tc') && edns.answers.length === 54, plain.text)
  const large = await lab.dig(ns, ports, '+bufsize=4096', '+ignore', 'many')
  assert.ok(!large.flags.includes('tc') && large.answers.length === 100)
  assert.match(large.text, /EDNS: version: 0/)
  assert.equal((await lab.dig(ns, ports, '+edns=1', '+noednsneg', 'c1')).status, 'BADVERS')
})

test('behind a redirect of port 53, dig goes over to TCP by itself', async () => {
  lab.inside(ns, 'nft', 'add table ip t; add chain ip t o { type nat hook output priority -100; }')
  for (const [proto, port] of [
    ['udp', ports.udpPort],
    ['tcp', ports.tcpPort],
  ] as const)
    lab.inside(ns, 'nft', `add rule ip t o ip daddr 127.0.0.11 ${proto} dport 53 dnat to 127.0.0.11:${port}`)
  const got = await lab.dig(ns, { udpPort: 53, tcpPort: 53 }, 'many')
  assert.equal(got.answers.length, 100)
  assert.match(got.text, /\(TCP\)/)
  lab.inside(ns, 'nft', 'delete table ip t')
})

test('connect, disconnect and rename are seen at once', async () => {
  lab.service.setEndpoint('n1', { endpointId: 'live', names: ['old'], ipv4: ip('10.1.0.50') })
  assert.deepEqual((await lab.dig(ns, ports, 'old')).data, ['10.1.0.50'])
  lab.service.setEndpoint('n1', { endpointId: 'live', names: ['new'], ipv4: ip('10.1.0.50') })
  assert.equal((await lab.dig(ns, ports, 'old')).status, 'SERVFAIL')
  assert.deepEqual((await lab.dig(ns, ports, 'new')).data, ['10.1.0.50'])
  assert.deepEqual((await lab.dig(ns, ports, '-x', '10.1.0.50')).data, ['new.br.net1.'])
  lab.service.removeEndpoint('n1', 'live')
  assert.equal((await lab.dig(ns, ports, 'new')).status, 'SERVFAIL')
  lab.service.setEndpoint('n3', { endpointId: 'x', names: ['third'], ipv4: ip('10.3.0.3') })
  const other = lab.service.addSandbox('other', ns, view({ networks: [{ id: 'n3', name: 'n3', aliases: {} }] }))
  assert.deepEqual((await lab.dig(ns, other, 'third')).data, ['10.3.0.3'])
  lab.service.setView('other', view({ networks: [{ id: 'n1', name: 'br.net1', aliases: {} }] }))
  assert.equal((await lab.dig(ns, other, 'third')).status, 'SERVFAIL')
  assert.deepEqual((await lab.dig(ns, other, 'c1')).data, ['10.1.0.2'])
  assert.equal((await lab.dig(ns, other, 'db')).status, 'SERVFAIL', "another sandbox's link is not seen")
  lab.service.removeNetwork('n3')
  lab.service.removeSandbox('other')
})

test('a question sent after a change is answered by the change, every time', async () => {
  const home = lab.service.addSandbox('home', homeNetns(), view({ networks: [{ id: 'live', name: 'live', aliases: {} }] }))
  const socket = createSocket('udp4')
  socket.connect(home.udpPort, '127.0.0.11')
  await once(socket, 'connect')
  const question = {
    id: 1,
    flags: FLAG.RD,
    opcode: 0,
    rcode: 0,
    questions: [{ name: 'x', type: 1, class: 1 }],
    answers: [],
    authorities: [],
    additionals: [],
  }
  for (let i = 0; i < 500; i++) {
    // a question on its way keeps the DNS thread busy in the moment of the change
    socket.send(encodeMessage({ ...question, id: 9999 }))
    lab.service.setEndpoint('live', { endpointId: 'x', names: ['x'], ipv4: ip(`10.0.${i >> 8}.${i & 255}`) })
    socket.send(encodeMessage({ ...question, id: i }))
    for (;;) {
      const [bytes] = (await once(socket, 'message')) as [Buffer]
      const answer = decodeMessage(bytes)
      if (answer.id === 9999) continue
      assert.equal(answer.id, i)
      assert.deepEqual([...(answer.answers[0]?.data ?? [])], [10, 0, i >> 8, i & 255])
      break
    }
  }
  socket.close()
  lab.service.removeSandbox('home')
})

test('ports of an earlier run are taken again when they are free, others when not', async () => {
  const space = lab.space()
  const first = lab.service.addSandbox('r1', space, view())
  lab.service.removeSandbox('r1')
  await lab.service.stats() // the sockets are closed once this is answered
  assert.deepEqual(lab.service.restoreSandbox('r1', space, view(), first), first)
  const second = lab.service.restoreSandbox('r2', space, view(), first)
  assert.notEqual(second.udpPort, first.udpPort)
  assert.notEqual(second.tcpPort, first.tcpPort)
  assert.deepEqual((await lab.dig(space, second, 'c2')).data, ['10.1.0.3'])
  lab.service.removeSandbox('r1')
  lab.service.removeSandbox('r2')
})

test('the resolver can be opened before lo is up', () => {
  const space = lab.space()
  lab.inside(space, 'ip', 'link', 'set', 'lo', 'down')
  assert.ok(lab.service.addSandbox('down', space, view()).udpPort > 0)
  lab.service.removeSandbox('down')
})

test('ndots set by the user keeps single words from upstreams', async () => {
  const own = lab.service.addSandbox('ndots', ns, view({ ndotsSet: true }))
  const got = await lab.dig(ns, own, 'nobody')
  assert.deepEqual([got.status, got.answers.length], ['NOERROR', 0])
  assert.equal((await lab.dig(ns, own, 'nobody.example')).status, 'SERVFAIL')
  lab.service.removeSandbox('ndots')
})

test('one TCP connection carries many questions, in pieces and all at once', async () => {
  const home = lab.service.addSandbox('tcp', homeNetns(), view())
  const socket = connect(home.tcpPort, '127.0.0.11')
  const received: Buffer[] = []
  socket.on('data', (bytes) => received.push(bytes))
  const frames = Array.from({ length: 300 }, (_, id) => {
    const question = encodeMessage({
      id,
      flags: FLAG.RD,
      opcode: 0,
      rcode: 0,
      questions: [{ name: 'c1', type: 1, class: 1 }],
      answers: [],
      authorities: [],
      additionals: [],
    })
    return Buffer.concat([Buffer.of(0, question.length), question])
  })
  const all = Buffer.concat(frames)
  socket.write(all.subarray(0, 1))
  await new Promise((resolve) => setTimeout(resolve, 20))
  socket.write(all.subarray(1, 1000))
  await new Promise((resolve) => setTimeout(resolve, 20))
  socket.end(all.subarray(1000))
  await once(socket, 'end') // the server finishes when it has answered all
  const bytes = Buffer.concat(received)
  const ids: number[] = []
  for (let at = 0; at < bytes.length; at += 2 + bytes.readUInt16BE(at))
    ids.push(decodeMessage(bytes.subarray(at + 2, at + 2 + bytes.readUInt16BE(at))).id)
  assert.deepEqual(
    ids,
    Array.from({ length: 300 }, (_, id) => id),
  )
  lab.service.removeSandbox('tcp')
})

test('malformed packets change nothing: the resolver answers afterwards and reports no error', async () => {
  const home = lab.service.addSandbox('fuzz', homeNetns(), view({ networks: [{ id: 'n1', name: 'br.net1', aliases: {} }] }))
  const { below } = seeded(3)
  const socket = createSocket('udp4')
  socket.connect(home.udpPort, '127.0.0.11')
  await once(socket, 'connect')
  const good = encodeMessage({
    id: 7,
    flags: FLAG.RD,
    opcode: 0,
    rcode: 0,
    questions: [{ name: 'c1', type: 1, class: 1 }],
    answers: [],
    authorities: [],
    additionals: [],
  })
  let sent = 0
  for (let i = 0; i < 20_000; i++) {
    const packet = i % 3 === 0 ? Uint8Array.from({ length: below(120) }, () => below(256)) : good.slice(0, 12 + below(good.length - 11))
    for (let n = below(4); n > 0 && packet.length > 2; n--) packet[2 + below(packet.length - 2)] = below(256)
    socket.send(packet)
    sent++
    if (i % 200 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  socket.send(new Uint8Array(9000)) // longer than any question may be
  for (let i = 0; i < 50; i++) {
    const stream = connect(home.tcpPort, '127.0.0.11')
    stream.on('error', () => {})
    stream.end(Uint8Array.from({ length: below(3000) }, () => below(256)))
  }
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.equal(spawnSync('dig', ['@127.0.0.11', '-p', String(home.udpPort), '+short', 'c1'], { encoding: 'utf8' }).stdout, '10.1.0.2\n')
  const stats = await lab.service.stats()
  assert.ok((stats.sandboxes.find(({ id }) => id === 'fuzz')?.queries ?? 0) > sent * 0.9, 'they did arrive')
  assert.deepEqual(lab.errors, [])
  socket.close()
  lab.service.removeSandbox('fuzz')
})

test('a sandbox leaves no descriptor behind', async () => {
  const space = lab.space()
  await lab.service.stats()
  const before = descriptors().length
  for (let i = 0; i < 50; i++) lab.service.addSandbox(`fd${i}`, space, view())
  await lab.service.stats()
  assert.equal(descriptors().length, before + 150)
  for (let i = 0; i < 50; i++) lab.service.removeSandbox(`fd${i}`)
  await lab.service.stats()
  assert.equal(descriptors().length, before)
})

test('opening a sandbox does not take long', async () => {
  const space = lab.space()
  const times = Array.from({ length: 100 }, (_, i) => {
    const started = performance.now()
    lab.service.addSandbox(`t${i}`, space, view())
    return performance.now() - started
  }).sort((a, b) => a - b)
  for (let i = 0; i < 100; i++) lab.service.removeSandbox(`t${i}`)
  console.log(`# addSandbox: median ${times[50]?.toFixed(3)} ms, p90 ${times[90]?.toFixed(3)} ms`)
  assert.ok((times[50] as number) < 2, `median ${times[50]} ms`)
})

test('when the DNS thread ends, another one goes on with the same sockets and names', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-deaths-'))
  process.env['CAUSEWAY_TEST_DEATHS'] = join(folder, 'deaths')
  const failures: string[] = []
  const error = (message: string): void => {
    failures.push(message)
  }
  const program = new URL('./dns-dying-worker.ts', import.meta.url)
  const service = await DnsService.start({ program, logger: { debug() {}, info() {}, warn() {}, error } })
  const space = lab.space()
  service.setEndpoint('n1', { endpointId: 'e', names: ['survivor'], ipv4: ip('10.5.0.5') })
  const own = service.addSandbox('s', space, view({ networks: [] }))
  service.setView('s', view())
  assert.deepEqual((await lab.dig(space, own, 'survivor')).data, ['10.5.0.5'])
  assert.deepEqual(failures.filter((line) => line.includes('again')).length, 2)
  await service.close()
  rmSync(folder, { recursive: true })
})

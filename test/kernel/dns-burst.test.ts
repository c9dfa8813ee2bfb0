/** Ten thousand questions at one time from several namespaces, while names come and go: nobody is left without an answer. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { openDnsListener, sockaddr, transmitTo, UdpBatch } from '../../src/sys/dns-sockets.ts'
import { close } from '../../src/sys/libc.ts'
import { inNetns } from '../../src/sys/netns.ts'
import { type DnsMessage, decodeMessage, encodeMessage, FLAG } from '../../src/wire/dns.ts'
import { isolate } from '../../testkit/isolated.ts'
import { aRecord, DnsLab, ip, view } from './dns-lab.ts'

isolate()

const SPACES = 5
const EACH = 2000

let lab: DnsLab
before(async () => {
  lab = await DnsLab.start()
})
after(async () => {
  await lab.stop()
  assert.deepEqual(lab.errors, [])
})

const question = (id: number, name: string): Uint8Array =>
  encodeMessage({
    id,
    flags: FLAG.RD,
    opcode: 0,
    rcode: 0,
    questions: [{ name, type: 1, class: 1 }],
    answers: [],
    authorities: [],
    additionals: [],
  })

interface Client {
  readonly fd: number
  readonly server: Buffer
  readonly got: Map<number, DnsMessage>
}

function clients(upstreams: Parameters<typeof view>[0] = {}): Client[] {
  return Array.from({ length: SPACES }, (_, i) => {
    const space = lab.space()
    const { udpPort } = lab.service.addSandbox(`burst-${upstreams?.upstreams?.length ?? 0}-${i}`, space, view(upstreams))
    const { fd } = inNetns(space, () => openDnsListener('udp', ip('127.0.0.1'), 0))
    lab.onStop(() => close(fd))
    return { fd, server: sockaddr(ip('127.0.0.11'), udpPort), got: new Map() }
  })
}

/** Takes what has arrived; `each` looks at it. */
function drain(batch: UdpBatch, fd: number, each: (bytes: Uint8Array, i: number) => void): number {
  let total = 0
  for (let n = batch.receive(fd); n > 0; n = batch.receive(fd)) {
    for (let i = 0; i < n; i++) each((batch.slots[i] as Buffer).subarray(0, batch.length(i)), i)
    total += n
  }
  return total
}

test('10,000 local names at once, with an endpoint changing after every tenth question', async () => {
  for (let i = 0; i < 100; i++) lab.service.setEndpoint('n1', { endpointId: `e${i}`, names: [`c${i}`], ipv4: ip(`10.0.0.${i}`) })
  const all = clients()
  let churn = 0
  for (let id = 0; id < EACH; id++) {
    for (const client of all) {
      const query = question(id, `c${id % 100}`)
      assert.ok(transmitTo(client.fd, query, query.length, client.server))
    }
    if (id % 2 === 0) {
      churn++
      lab.service.setEndpoint('n1', { endpointId: `x${churn % 7}`, names: [`x${churn}`, 'shared'], ipv4: ip(`10.1.0.${churn % 250}`) })
      if (churn % 5 === 0) lab.service.removeEndpoint('n1', `x${(churn + 3) % 7}`)
    }
  }
  const batch = new UdpBatch(64, 4096)
  const until = performance.now() + 5000
  let left = SPACES * EACH
  while (left > 0 && performance.now() < until) {
    for (const client of all) {
      left -= drain(batch, client.fd, (bytes) => {
        const message = decodeMessage(bytes)
        client.got.set(message.id, message)
      })
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  assert.equal(left, 0, `${left} questions without an answer`)
  for (const { got } of all) {
    assert.equal(got.size, EACH)
    for (const [id, { answers }] of got) assert.deepEqual([...(answers[0]?.data ?? [])], [10, 0, 0, id % 100])
  }
})

test('10,000 different names that are forwarded at once', async () => {
  const upstream = openDnsListener('udp', ip('127.4.0.1'), 0)
  lab.onStop(() => close(upstream.fd))
  const all = clients({ upstreams: [{ ip: ip('127.4.0.1'), port: upstream.port, from: 'host' }] })
  for (let id = 0; id < EACH; id++) {
    all.forEach((client, i) => {
      const query = question(id, `h${id}.s${i}.example`)
      assert.ok(transmitTo(client.fd, query, query.length, client.server))
    })
  }
  const batch = new UdpBatch(64, 4096)
  const until = performance.now() + 8000
  let left = SPACES * EACH
  let asked = 0
  let failed = 0
  while (left > 0 && performance.now() < until) {
    asked += drain(batch, upstream.fd, (bytes, i) => {
      const query = decodeMessage(bytes)
      const name = query.questions[0]?.name ?? ''
      const [host = ''] = name.split('.')
      const n = Number(host.slice(1))
      const answer = encodeMessage({
        ...query,
        flags: FLAG.QR | FLAG.RA,
        answers: [aRecord(name, `10.0.${n >> 8}.${n & 255}`)],
        additionals: [],
      })
      transmitTo(upstream.fd, answer, answer.length, Uint8Array.from(batch.peers[i] as Buffer))
    })
    for (const client of all) {
      left -= drain(batch, client.fd, (bytes) => {
        const message = decodeMessage(bytes)
        client.got.set(message.id, message)
        if (message.rcode !== 0) failed++
      })
    }
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  console.log(`# upstream was asked ${asked} times for ${SPACES * EACH} questions`)
  assert.equal(left, 0, `${left} questions without an answer`)
  assert.equal(failed, 0, `${failed} failed`)
  for (const { got } of all)
    for (const [id, { answers }] of got) assert.deepEqual([...(answers[0]?.data ?? [])], [10, 0, id >> 8, id & 255])
})

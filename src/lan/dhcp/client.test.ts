import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Ip, Mac } from '../../base/address.ts'
import { type Clock, type Rng, silentLogger } from '../../base/ports.ts'
import { type DhcpMessage, type DhcpOptions, decodeDhcp, encodeDhcp } from '../../wire/dhcp.ts'
import { encodeClientFrame } from '../../wire/dhcp-frame.ts'
import { DhcpClient } from './client.ts'
import type { Lease } from './lease.ts'

const MAC = '02:00:00:00:00:01' as Mac
const SERVER_MAC = '02:00:00:00:00:99' as Mac
const SERVER = '10.0.0.1' as Ip
const OFFERED = '10.0.0.50' as Ip

/** Time that passes when the test says so. */
class StoppedClock implements Clock {
  #now = 1_000_000
  #timers: { at: number; fn: () => void }[] = []
  now = () => this.#now
  sleep = () => Promise.reject(new Error('nobody sleeps here'))
  after = (ms: number, fn: () => void) => {
    const timer = { at: this.#now + ms, fn }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((t) => t !== timer)
    }
  }
  pass(seconds: number): void {
    const end = this.#now + seconds * 1000
    for (;;) {
      const next = this.#timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#timers = this.#timers.filter((t) => t !== next)
      this.#now = Math.max(this.#now, next.at)
      next.fn()
    }
    this.#now = end
  }
}

interface Sent {
  readonly to: string
  readonly message: DhcpMessage
  readonly at: number
}

function lab(ownerOf?: (ip: Ip) => Promise<string | undefined>) {
  const clock = new StoppedClock()
  let n = 0
  const rng: Rng = { bytes: (count) => Uint8Array.from({ length: count }, () => (count === 1 ? 128 : ++n & 255)) }
  const sent: Sent[] = []
  const leases: Lease[] = []
  const lost: string[] = []
  const state = { linesOpen: 0, isLinkThere: true }
  const client = new DhcpClient({
    identity: { mac: MAC, clientId: Uint8Array.of(1, 2, 0, 0, 0, 0, 1), hostname: 'web1' },
    line: () => {
      if (!state.isLinkThere) throw new Error('there is no interface lan0')
      state.linesOpen++
      return {
        send: (frame) => {
          const to = [...frame.subarray(0, 6)].map((b) => b.toString(16).padStart(2, '0')).join(':')
          sent.push({ to, message: decodeDhcp(frame.subarray(42)), at: clock.now() })
        },
        release: () => {
          state.linesOpen--
        },
      }
    },
    ...(ownerOf === undefined ? {} : { ownerOf }),
    clock,
    rng,
    log: silentLogger,
    onLease: (lease) => leases.push(lease),
    onLost: (_, why) => lost.push(why),
  })
  const last = () => sent.at(-1) as Sent
  const answer = (options: Partial<DhcpOptions> & Pick<DhcpOptions, 'type'>, change: Partial<DhcpMessage> = {}) => {
    const message: DhcpMessage = {
      ...last().message,
      op: 'reply',
      yiaddr: OFFERED,
      options: { serverId: SERVER, leaseSeconds: 3600, prefixLength: 24, routers: [SERVER], ...options },
      ...change,
    }
    const frame = encodeClientFrame({ from: SERVER_MAC, to: MAC, src: SERVER, dst: OFFERED, payload: encodeDhcp(message) })
    frame.set([0, 67, 0, 68], 34)
    client.receive(frame)
  }
  return { clock, client, sent, leases, lost, state, last, answer }
}

async function bound() {
  const it = lab()
  const got = it.client.acquire(20_000)
  it.answer({ type: 'offer' })
  it.answer({ type: 'ack' })
  await got
  return it
}

test('discover, offer, request, ack: what is sent, and what is learned', async () => {
  const { client, sent, leases, state, answer } = lab()
  const got = client.acquire(20_000, OFFERED)
  assert.equal(client.state, 'selecting')
  answer({ type: 'offer' })
  assert.equal(client.state, 'requesting')
  answer({ type: 'ack', dns: [SERVER], mtu: 1400 })
  const lease = await got
  assert.equal(client.state, 'bound')
  assert.deepEqual(
    sent.map(({ to, message: { options: o, broadcast, ciaddr } }) => [
      o.type,
      to,
      broadcast,
      ciaddr,
      o.requestedIp,
      o.serverId,
      o.hostname,
    ]),
    [
      ['discover', 'ff:ff:ff:ff:ff:ff', true, '0.0.0.0', OFFERED, undefined, 'web1'],
      ['request', 'ff:ff:ff:ff:ff:ff', true, '0.0.0.0', OFFERED, SERVER, 'web1'],
    ],
  )
  assert.deepEqual(
    [lease.ip, lease.prefixLength, lease.gateway, lease.mtu, lease.t1Seconds, lease.t2Seconds],
    [OFFERED, 24, SERVER, 1400, 1800, 3150],
  )
  assert.deepEqual(leases, [lease])
  assert.equal(state.linesOpen, 0, 'nobody listens while the lease is good')
})

test('renews at half time to the server itself, and at seven eighths to everybody', async () => {
  const { clock, client, sent, answer, last } = await bound()
  clock.pass(1799)
  assert.equal(sent.length, 2)
  clock.pass(1)
  assert.equal(client.state, 'renewing')
  assert.deepEqual([last().to, last().message.ciaddr, last().message.options.serverId], [SERVER_MAC, OFFERED, undefined])
  answer({ type: 'ack' })
  assert.equal(client.state, 'bound')
  clock.pass(1800)
  assert.equal(client.state, 'renewing', 'the times count from the renewal')
  clock.pass(1350)
  assert.equal(client.state, 'rebinding')
  assert.equal(last().to, 'ff:ff:ff:ff:ff:ff')
  answer({ type: 'ack', serverId: '10.0.0.2' as Ip })
  assert.equal(client.lease?.serverId, '10.0.0.2', 'another server may take the lease over')
})

test('attempts to renew come closer together and not more often than once a minute', async () => {
  const { clock, sent } = await bound()
  const seconds = () => sent.map((s) => (s.at - (sent[1] as Sent).at) / 1000)
  const pauses = (at: number[]) => at.slice(1).map((t, i) => t - (at[i] as number))
  clock.pass(3149)
  const renewing = seconds().slice(2)
  assert.deepEqual(renewing.slice(0, 3), [1800, 2475, 2812.5])
  assert.ok(
    pauses(renewing).every((pause) => pause >= 60),
    String(renewing),
  )
  clock.pass(450)
  const rebinding = seconds().slice(2 + renewing.length)
  assert.equal(rebinding[0], 3150)
  assert.ok(rebinding.length >= 3 && pauses(rebinding).every((pause) => pause >= 60), String(rebinding))
})

test('a server that is away is asked for ever, and the lease ends when its time is over', async () => {
  const { clock, client, lost, last, answer, leases } = await bound()
  clock.pass(3600)
  assert.deepEqual(lost, ['it ran out'])
  assert.equal(client.lease, undefined)
  clock.pass(3600)
  assert.equal(last().message.options.type, 'discover')
  assert.equal(last().message.options.requestedIp, OFFERED, 'the old address is asked for')
  assert.ok(clock.now() - last().at <= 65_000, 'asks at least once a minute')
  answer({ type: 'offer' })
  answer({ type: 'ack' })
  assert.equal(client.state, 'bound')
  assert.equal(leases.length, 2)
})

test('a refused renewal: the address is lost and another one is asked for', async () => {
  const { clock, client, lost, answer, last } = await bound()
  clock.pass(1800)
  answer({ type: 'nak', message: 'wrong network' })
  assert.deepEqual(lost, ['the server refused to renew it: "wrong network"'])
  clock.pass(2)
  assert.equal(last().message.options.type, 'discover')
  answer({ type: 'offer' }, { yiaddr: '10.0.0.77' as Ip })
  answer({ type: 'ack' }, { yiaddr: '10.0.0.77' as Ip })
  assert.equal(client.lease?.ip, '10.0.0.77')
})

test('an offer that is taken back is forgotten, and asking goes on', async () => {
  const { clock, client, answer, last } = lab()
  const got = client.acquire(20_000)
  answer({ type: 'offer' })
  answer({ type: 'nak' })
  clock.pass(2)
  assert.equal(last().message.options.type, 'discover')
  answer({ type: 'offer' })
  answer({ type: 'ack' })
  assert.equal((await got).ip, OFFERED)
})

test('nobody answers: asked 2, 4, 8 seconds apart, then an error that says so, and nothing stays open', async () => {
  const { clock, client, sent, state } = lab()
  const got = client.acquire(20_000)
  const refused = assert.rejects(got, { code: 'unavailable', message: 'no DHCP server gave an address within 20 s' })
  clock.pass(20)
  await refused
  assert.deepEqual(
    sent.map((s) => Math.round((s.at - 1_000_000) / 1000)),
    [0, 2, 6, 14],
  )
  assert.equal(client.state, 'idle')
  assert.equal(state.linesOpen, 0)
  clock.pass(3600)
  assert.equal(sent.length, 4)
})

test('answers for others, and broken ones, are passed over', async () => {
  const { client, answer } = lab()
  const got = client.acquire(20_000)
  answer({ type: 'offer' }, { xid: 1 })
  answer({ type: 'offer' }, { chaddr: SERVER_MAC })
  answer({ type: 'offer' }, { op: 'request' })
  answer({ type: 'ack' })
  client.receive(Uint8Array.of(1, 2, 3))
  assert.equal(client.state, 'selecting')
  client.stop()
  await assert.rejects(got, { code: 'unavailable' })
})

test('an address that was asked for by hand is that one or none', async () => {
  const { client, answer, last } = lab()
  const got = client.acquire(20_000, '10.0.0.51' as Ip, true)
  answer({ type: 'offer' })
  answer({ type: 'ack' })
  await assert.rejects(got, {
    code: 'conflict',
    message: `the DHCP server 10.0.0.1 gives ${OFFERED} and not 10.0.0.51, which was asked for`,
  })
  assert.equal(last().message.options.type, 'release', 'what was not wanted is given back')
})

test('a lease taken up again is renewed at once; one that ran out meanwhile is asked for anew', async () => {
  const { client: first, leases } = await bound()
  first.stop()
  const lease = leases[0] as Lease
  const again = lab()
  again.client.resume(lease)
  assert.deepEqual([again.client.state, again.last().message.ciaddr, again.last().to], ['renewing', OFFERED, SERVER_MAC])
  const late = lab()
  late.client.resume({ ...lease, since: lease.since - 3_600_000 })
  assert.deepEqual(late.lost, ['it ran out'])
  late.clock.pass(2)
  assert.equal(late.last().message.options.type, 'discover')
})

test('released: the server is told, and nothing is asked any more', async () => {
  const { client, clock, last, sent, state } = await bound()
  client.release()
  assert.deepEqual([last().message.options.type, last().to, last().message.ciaddr], ['release', SERVER_MAC, OFFERED])
  clock.pass(10_000)
  assert.equal(sent.length, 3)
  assert.equal(state.linesOpen, 0)
})

test('a link that is away while the lease is renewed is tried again', async () => {
  const { client, clock, state, answer } = await bound()
  state.isLinkThere = false
  clock.pass(2000)
  assert.equal(client.state, 'renewing')
  state.isLinkThere = true
  clock.pass(1100)
  answer({ type: 'ack' })
  assert.equal(client.state, 'bound')
  clock.pass(100)
  assert.equal(state.linesOpen, 0)
})

test('leases longer than a timer can be, and endless ones', async () => {
  const it = lab()
  const got = it.client.acquire(20_000)
  it.answer({ type: 'offer' })
  it.answer({ type: 'ack', leaseSeconds: 90 * 24 * 3600 })
  await got
  it.clock.pass(45 * 24 * 3600 - 1)
  assert.equal(it.client.state, 'bound')
  it.clock.pass(1)
  assert.equal(it.client.state, 'renewing')
  it.answer({ type: 'ack', leaseSeconds: 0xffffffff })
  it.clock.pass(400 * 24 * 3600)
  assert.equal(it.client.state, 'bound')
})

test('an address that somebody on the LAN has is declined, and another one is asked for and used', async () => {
  const owners: Record<string, string> = { [OFFERED]: '4a:00:00:00:00:09' }
  const asked: string[] = []
  const { client, clock, answer, sent, last, leases } = lab(async (ip) => {
    asked.push(ip)
    return owners[ip]
  })
  const got = client.acquire(20_000)
  answer({ type: 'offer' })
  answer({ type: 'ack' })
  assert.equal(client.state, 'checking')
  await Promise.resolve()
  await Promise.resolve()
  const { options, ciaddr } = last().message
  assert.deepEqual([options.type, options.requestedIp, options.serverId, ciaddr], ['decline', OFFERED, SERVER, '0.0.0.0'])
  assert.deepEqual(leases, [], 'nobody has heard of a lease')
  clock.pass(1)
  assert.deepEqual([last().message.options.type, last().message.options.requestedIp], ['discover', undefined])
  delete owners[OFFERED]
  answer({ type: 'offer' })
  answer({ type: 'ack' })
  assert.equal((await got).ip, OFFERED)
  assert.equal(client.state, 'bound')
  assert.deepEqual(asked, [OFFERED, OFFERED])
  // a renewed lease is not asked about again
  const before = sent.length
  clock.pass(1800)
  answer({ type: 'ack' })
  assert.equal(client.state, 'bound')
  assert.deepEqual([asked.length, sent.length], [2, before + 1])
})

test('a client that is stopped while the LAN is asked uses nothing', async () => {
  let tell: (owner: string | undefined) => void = () => {}
  const { client, answer, leases, state } = lab(() => new Promise((resolve) => (tell = resolve)))
  const got = client.acquire(20_000)
  answer({ type: 'offer' })
  answer({ type: 'ack' })
  client.stop()
  await assert.rejects(got, { code: 'unavailable' })
  tell(undefined)
  await Promise.resolve()
  assert.deepEqual([client.state, leases, state.linesOpen], ['idle', [], 0])
})

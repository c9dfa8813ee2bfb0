/** Flows are deleted by exact original tuple; conntrack(8) is the judge. */
import assert from 'node:assert/strict'
import { before, beforeEach, test } from 'node:test'
import { type Ip, parseIp } from '../../src/base/address.ts'
import { hasCode } from '../../src/base/errors.ts'
import { Conntrack, type FlowFilter } from '../../src/kernel/conntrack.ts'
import { initNetns, type Netns } from '../../src/sys/netns.ts'
import { isolate } from '../../testkit/isolated.ts'
import { sh } from './firewall-lab.ts'

/** Each call on a handle of its own, as a program that looks once. */
function once<T>(ns: Netns | undefined, use: (conntrack: Conntrack) => T): T {
  const conntrack = Conntrack.open(ns)
  try {
    return use(conntrack)
  } finally {
    conntrack.close()
  }
}
const listFlows = (filter: FlowFilter = {}, ns?: Netns) => once(ns, (c) => c.flows(filter))
const deleteFlows = (filters: readonly FlowFilter[], ns?: Netns) => once(ns, (c) => c.deleteFlows(filters))
const flushAddress = (ip: Ip, ns?: Netns) => once(ns, (c) => c.flushAddress(ip))
const flushPort = (port: Parameters<Conntrack['flushPort']>[0], ns?: Netns) => once(ns, (c) => c.flushPort(port))

isolate()

before(async () => {
  await initNetns()
  sh('ip addr add 192.0.2.1/24 dev lo; ip addr add 2001:db8::1/64 dev lo')
})

/** A UDP flow that called `to`:53 and is answered by `by`. */
function flow(from: string, to: string, by = to, port = 53): void {
  const nat = by === to ? '' : `-r ${by} -q ${from} --reply-port-src 5353 --reply-port-dst 1000`
  sh(`conntrack -I -p udp -s ${from} -d ${to} --sport 1000 --dport ${port} ${nat} -t 100 2>/dev/null`)
}

const flows = (): string[] =>
  sh('conntrack -L -p udp 2>/dev/null')
    .split('\n')
    .flatMap((line) => /src=(\S+) dst=(\S+) sport=\d+ dport=(\d+)/.exec(line)?.slice(1, 4).join(' ') ?? [])
    .sort()

beforeEach(() => {
  sh('conntrack -F 2>/dev/null')
  flow('198.51.100.7', '192.0.2.1', '172.17.0.2')
  flow('198.51.100.8', '192.0.2.1')
  flow('198.51.100.9', '203.0.113.5')
  flow('198.51.100.7', '192.0.2.1', '192.0.2.1', 5300)
  flow('172.17.0.2', '203.0.113.5')
  flow('2001:db8:1::7', '2001:db8::1')
})

const ALL = [
  '172.17.0.2 203.0.113.5 53',
  '198.51.100.7 192.0.2.1 53',
  '198.51.100.7 192.0.2.1 5300',
  '198.51.100.8 192.0.2.1 53',
  '198.51.100.9 203.0.113.5 53',
  '2001:db8:1::7 2001:db8::1 53',
]
const without = (...gone: string[]): string[] => ALL.filter((f) => !gone.includes(f))

test('conntrack: our list has what conntrack(8) lists', () => {
  assert.deepEqual(flows(), ALL)
  assert.deepEqual(
    listFlows({ proto: 'udp' })
      .map((f) => `${f.orig.src} ${f.orig.dst} ${f.orig.dport}`)
      .sort(),
    ALL,
  )
  const [nat] = listFlows({ replySrc: parseIp('172.17.0.2') })
  assert.deepEqual(nat?.reply, { src: '172.17.0.2', dst: '198.51.100.7', sport: 5353, dport: 1000 })
})

test('conntrack: a port on one address takes the flows to exactly that address and port', () => {
  flushPort({ proto: 'udp', ip: parseIp('192.0.2.1'), port: 53 })
  assert.deepEqual(flows(), without('198.51.100.7 192.0.2.1 53', '198.51.100.8 192.0.2.1 53'))
})

test('conntrack: a port on every address leaves flows that pass through, other ports and the other family', () => {
  flushPort({ proto: 'udp', ip: parseIp('0.0.0.0'), port: 53 })
  assert.deepEqual(flows(), without('198.51.100.7 192.0.2.1 53', '198.51.100.8 192.0.2.1 53'))
  flushPort({ proto: 'udp', ip: parseIp('::'), port: 53 })
  assert.deepEqual(flows(), without('198.51.100.7 192.0.2.1 53', '198.51.100.8 192.0.2.1 53', '2001:db8:1::7 2001:db8::1 53'))
})

test('conntrack: a port on every address of a host with many addresses gives the same result', () => {
  for (let i = 10; i < 50; i++) sh(`ip addr add 10.9.0.${i}/32 dev lo`)
  flushPort({ proto: 'udp', ip: parseIp('0.0.0.0'), port: 53 })
  assert.deepEqual(flows(), without('198.51.100.7 192.0.2.1 53', '198.51.100.8 192.0.2.1 53'))
})

test('conntrack: a container address takes the flows that it opened and the ones that it answers', () => {
  flushAddress(parseIp('172.17.0.2'))
  assert.deepEqual(flows(), without('172.17.0.2 203.0.113.5 53', '198.51.100.7 192.0.2.1 53'))
})

test('conntrack: a filter without an address is refused, and nothing is deleted', () => {
  assert.throws(
    () => deleteFlows([{ proto: 'udp', origDport: 53 }]),
    (error) => hasCode(error, 'invalid'),
  )
  assert.throws(
    () => deleteFlows([{}]),
    (error) => hasCode(error, 'invalid'),
  )
  assert.deepEqual(flows(), ALL)
})

import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type KernelEvent, watchKernel } from '../../src/kernel/watch.ts'
import { closeNetns, createNetns, initNetns, openNetns, removeNetns } from '../../src/sys/netns.ts'
import { Reactor } from '../../src/sys/reactor.ts'
import { until } from '../../testkit/until.ts'

const alive = setInterval(() => {}, 1000)
let reactor: Reactor
before(async () => {
  await initNetns()
  reactor = await Reactor.start()
})
after(async () => {
  await reactor.close()
  clearInterval(alive)
})

function sh(script: string): void {
  const run = spawnSync('sh', ['-ec', script], { encoding: 'utf8' })
  assert.equal(run.status, 0, run.stderr)
}

/** One line per event, as a person would say it. */
function text(event: KernelEvent): string {
  switch (event.kind) {
    case 'link':
      return `link ${event.change} ${event.link.name} ${event.link.kind} ${event.link.up ? 'up' : 'down'} master ${event.link.master}`
    case 'port':
      return `port ${event.change} ${event.dev} ${event.port === undefined ? '' : `isolated ${event.port.isolated}`}`.trim()
    case 'addr':
      return `addr ${event.change} ${event.addr.address} ${event.addr.dev}`
    case 'route':
      return `route ${event.change} ${event.route.dst} ${event.route.dev ?? '-'} ${event.route.gateway ?? '-'}`
    case 'neigh':
      return `neigh ${event.change} ${event.neigh.ip} ${event.neigh.dev} ${event.neigh.state}`
    case 'fdb':
      return `fdb ${event.change} ${event.fdb.mac} ${event.fdb.dev} ${event.fdb.dst ?? '-'}`
    case 'forwarding':
      return `forwarding IPv${event.family} ${event.dev || 'all'} ${event.on ? 'on' : 'off'}`
    case 'nft':
      return `nft ${event.table ?? '-'} ${event.process ?? '-'}`
    case 'overrun':
      return 'overrun'
  }
}

test('links, ports, addresses, routes and neighbours are reported with their values, deletions too', async () => {
  const events: string[] = []
  const watch = watchKernel(reactor, undefined, ['link', 'addr4', 'addr6', 'route4', 'route6', 'neigh'], (batch) => {
    events.push(...batch.map(text))
  })
  sh(`ip link add br0 type bridge
      ip link add v0 type veth peer name v1
      ip link set v0 master br0
      bridge link set dev v0 isolated on
      ip link set br0 up
      ip addr add 10.9.0.1/24 dev br0
      ip addr add fd00:9::1/64 dev br0 nodad
      ip route add 192.0.2.0/24 via 10.9.0.2
      ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev br0 nud permanent
      ip route del 192.0.2.0/24
      ip link set v0 nomaster
      ip link del br0`)
  await until('the end of the bridge', () => events.some((e) => e.startsWith('link delete br0')), { log: () => events.join('\n') })
  for (const wanted of [
    'link new br0 bridge down master 0',
    'port new v0 isolated true',
    'link new br0 bridge up master 0',
    'addr new 10.9.0.1/24 br0',
    'addr new fd00:9::1/64 br0',
    'route new 192.0.2.0/24 br0 10.9.0.2',
    'neigh new 10.9.0.2 br0 permanent',
    'route delete 192.0.2.0/24 br0 10.9.0.2',
    'port delete v0',
    'addr delete 10.9.0.1/24 br0',
  ])
    assert.ok(
      events.some((e) => e.startsWith(wanted)),
      `${wanted} is missing in\n${events.join('\n')}`,
    )
  assert.ok(!events.some((e) => e.startsWith('link delete v0')), 'leaving a bridge is not the end of the link')
  assert.ok(!events.includes('overrun'))
  watch.close()
  const seen = events.length
  sh('ip link del v0')
  await sleep(50)
  assert.equal(events.length, seen, 'closed watches are silent')
})

test('only the groups that were asked for are reported', async () => {
  const events: KernelEvent[] = []
  const watch = watchKernel(reactor, undefined, ['addr4'], (batch) => events.push(...batch))
  sh('ip link add br0 type bridge; ip addr add 10.9.1.1/24 dev br0; ip addr add fd00:1::1/64 dev br0; ip link del br0')
  await until('two events', () => events.length === 2, { log: () => JSON.stringify(events) })
  assert.deepEqual(events.map(text), ['addr new 10.9.1.1/24 br0', 'addr delete 10.9.1.1/24 br0'])
  watch.close()
})

test('nftables changes name the table, and the commit names the process', async () => {
  const events: string[] = []
  const watch = watchKernel(reactor, undefined, ['nft'], (batch) => events.push(...batch.map(text)))
  sh("nft 'add table inet mine; add chain inet mine c; add rule inet mine c accept'")
  await until('an nft event', () => events.some((e) => e.endsWith(' nft')), { log: () => events.join('\n') })
  assert.deepEqual(events, ['nft mine -', 'nft mine -', 'nft mine -', 'nft - nft'])
  events.length = 0
  sh('nft flush ruleset')
  await until('an nft event', () => events.some((e) => e.endsWith(' nft')), { log: () => events.join('\n') })
  assert.ok(events.includes('nft mine -'))
  watch.close()
})

test('another namespace is watched, also after its descriptor was closed, and its changes only', async () => {
  const dir = mkdtempSync('/tmp/causeway-watch-')
  createNetns(`${dir}/a`)
  const ns = openNetns(`${dir}/a`)
  const events: string[] = []
  const watch = watchKernel(reactor, ns, ['link'], (batch) => events.push(...batch.map(text)))
  closeNetns(ns)
  sh(`ip link add here0 type bridge; ip link del here0; nsenter --net=${dir}/a ip link add there0 type bridge`)
  await until('an event', () => events.length > 0)
  assert.ok(
    events.every((e) => e.includes('there0')),
    events.join('\n'),
  )
  watch.close()
  removeNetns(`${dir}/a`)
  rmSync(dir, { recursive: true })
})

test('a burst that nobody reads is told as an overrun, and no later change is missed', async () => {
  const aliases: string[] = []
  let overruns = 0
  let isBlocked = false
  const watch = watchKernel(reactor, undefined, ['link'], (batch) => {
    for (const event of batch) {
      if (event.kind === 'link') aliases.push(event.link.alias)
      if (event.kind === 'overrun') overruns++
    }
    if (isBlocked) return
    isBlocked = true
    // The main thread stands still: the reactor's thread runs out of credit, then the socket out of room.
    spawnSync('sh', ['-c', 'seq 1 15000 | sed "s/.*/link set dev br0 alias a&/" | ip -batch -'])
  })
  sh('ip link add br0 type bridge; ip link set br0 up') // links that are down are changed without notice: netdev_state_change()
  await until('an overrun', () => overruns > 0)
  assert.ok(!aliases.includes('a15000'), 'the burst was too small to lose anything')
  for (let i = 0; i < 5; i++) {
    sh(`ip link set dev br0 alias after${i}`)
    await until(`after${i}`, () => aliases.includes(`after${i}`))
  }
  assert.equal(overruns, 1)
  watch.close()
  sh('ip link del br0')
})

test('watches leave no descriptor behind', async () => {
  await sleep(50)
  const count = () => readdirSync('/proc/self/fd').length
  const before = count()
  for (let i = 0; i < 20; i++) watchKernel(reactor, undefined, ['link', 'nft'], () => {}).close()
  await until('the descriptors are closed', () => count() <= before)
})

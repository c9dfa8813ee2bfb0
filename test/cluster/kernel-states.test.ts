/** What hosts publish of their kernels, and what `cluster verify` makes of it, on the store in memory and a clock that is moved. */
import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { silentLogger } from '../../src/base/ports.ts'
import { CLUSTER_KEY } from '../../src/cluster/keys.ts'
import type { KernelEntry } from '../../src/cluster/model.ts'
import { decodePublication, type KernelState } from '../../src/cluster/published.ts'
import { MemoryStoreServer } from '../../src/cluster/store/memory.ts'
import type { ClusterStore, StoreEvent, Watch, WatchHandlers } from '../../src/cluster/store/types.ts'
import type { Verdict } from '../../src/cluster/verify.ts'
import type { Network } from '../../src/model/network.ts'
import { movedClock } from '../../testkit/moved-clock.ts'
import { type Member, startMember } from './model-lab.ts'

/** Longer than any quiet period of so few hosts. */
const QUIET_MS = 3_000

interface Host extends Member {
  /** Entries that somebody has taken out of its kernel, by address; those that cannot be put back again. */
  readonly broken: Set<string>
  readonly spoiled: Set<string>
  readonly written: () => number
  /** Watches of these prefixes tell nothing until they are let go. */
  hold(prefix: string): void
  letGo(): void
}

class World {
  readonly time = movedClock()
  readonly server = new MemoryStoreServer(this.time.clock)
  readonly hosts: Host[] = []
  readonly raw = this.server.open({ clock: this.time.clock, logger: silentLogger })

  async join(name: string): Promise<Host> {
    const { clock } = this.time
    const { store, hold, letGo } = held(this.server.open({ clock, logger: silentLogger }))
    const broken = new Set<string>()
    const spoiled = new Set<string>()
    const member: Member = startMember({
      name,
      store,
      clock,
      readKernel: (id) =>
        member.service.view
          .endpointsOf(id)
          .filter(({ ipv4 }) => !broken.has(ipv4) && !spoiled.has(ipv4))
          .map(({ ipv4, mac, hostAddress }) => ({ ip: ipv4, mac, host: hostAddress }) as KernelEntry),
      repairKernel: (id) => {
        if (broken.size === 0) return
        broken.clear()
        member.service.kernelRepaired(id)
      },
      surveyPaths: async () => ({
        sent: Object.fromEntries(this.hosts.filter(({ id }) => id !== member.id).map(({ id }) => [id, 1500])),
        heard: {},
        need: 1500,
      }),
    })
    const host = { ...member, broken, spoiled, hold, letGo, written: () => store.counters().writes }
    this.hosts.push(host)
    await this.time.move(1)
    assert.ok(host.service.membership.isJoined)
    return host
  }

  async network(name: string): Promise<Network> {
    const network = await this.do((this.hosts[0] as Host).create(name))
    await this.time.move(1)
    return network
  }

  /** Waits for what needs time to pass. */
  async do<T>(work: Promise<T>): Promise<T> {
    let isDone = false
    const noted = work.finally(() => {
      isDone = true
    })
    noted.catch(() => {})
    for (let i = 0; i < 2000 && !isDone; i++) await this.time.move(10)
    return noted
  }

  verify(host: Host, everyEntry = false): Promise<Verdict> {
    return this.do(host.service.verify(2000, everyEntry))
  }

  async published(host: Host): Promise<ReadonlyMap<string, KernelState> | undefined> {
    const entry = await this.raw.get(CLUSTER_KEY.kernel(host.id))
    const decoded = entry && decodePublication(entry.value)
    return decoded?.ok ? decoded.value.networks : undefined
  }
}

/** A store whose watches can be held up: what they would tell comes later. */
function held(store: ClusterStore): { store: ClusterStore; hold(prefix: string): void; letGo(): void } {
  const prefixes = new Set<string>()
  const late: (() => void)[] = []
  const watch = (prefix: string, handlers: WatchHandlers): Watch =>
    store.watch(prefix, {
      onResync: (snapshot) => handlers.onResync(snapshot),
      onChange: (events: readonly StoreEvent[], revision) => {
        if ([...prefixes].some((p) => prefix.startsWith(p))) late.push(() => handlers.onChange(events, revision))
        else handlers.onChange(events, revision)
      },
    })
  const wrapped = new Proxy(store, {
    get: (target, name) => {
      if (name === 'watch') return watch
      const value = Reflect.get(target, name, target) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  return {
    store: wrapped,
    hold: (prefix) => void prefixes.add(prefix),
    letGo: () => {
      prefixes.clear()
      for (const tell of late.splice(0)) tell()
    },
  }
}

let world: World
afterEach(async () => {
  await Promise.all(world.hosts.map((host) => host.close()))
})

/** Three hosts, two of them on the network. */
async function pair(): Promise<{ one: Host; two: Host; other: Host; network: Network }> {
  world = new World()
  const one = await world.join('h1')
  const two = await world.join('h2')
  const other = await world.join('h3')
  const network = await world.network('net')
  await one.start(network, 'c1')
  await two.start(network, 'c2')
  await world.time.move(QUIET_MS)
  return { one, two, other, network }
}

const rowOf = (verdict: Verdict, host: string) => verdict.networks[0]?.hosts.find((row) => row.host === host)

test('a host publishes one hash per network with the revision that it follows from, the same on all that agree', async () => {
  const { one, two, other, network } = await pair()
  const [first, second] = [(await world.published(one))?.get(network.id), (await world.published(two))?.get(network.id)]
  assert.equal(first?.hash, second?.hash)
  assert.deepEqual([first?.entries, first?.repairs, first?.wanted], [2, 0, first?.hash])
  const last = Math.max(
    ...(await world.raw.list(CLUSTER_KEY.endpoints(network.id))).entries.map(({ version }) => Number(version.split('.')[1])),
  )
  assert.ok((first?.revision ?? 0) >= last, `revision ${first?.revision} follows from ${last}`)
  assert.equal(await world.published(other), undefined, 'a host without endpoints has nothing to tell')
})

test('a burst of changes on several networks is one write per host, and none when nothing happens or what happened is undone', async () => {
  const { one, two, other, network } = await pair()
  const networks = [network, await world.network('net2'), await world.network('net3')]
  for (const net of networks.slice(1)) for (const host of [one, two]) await host.start(net, `${host.name}${net.name}`)
  await world.time.move(QUIET_MS)
  const before = { two: two.written(), other: other.written(), watched: other.store.counters().background }
  for (const net of networks) for (let i = 0; i < 5; i++) await one.start(net, `more${i}${net.name}`)
  await world.time.move(QUIET_MS)
  assert.equal(two.written() - before.two, 1, 'of a host that hears of 15 starts')
  assert.deepEqual(
    [...((await world.published(two)) ?? [])].map(([, { entries }]) => entries),
    networks.map(() => 7),
  )
  await one.stop(await one.start(network, 'short'))
  await world.time.move(QUIET_MS)
  assert.equal(two.written() - before.two, 1, 'nothing differs from what was published')
  await world.time.move(180_000)
  assert.equal(two.written() - before.two, 1, 'minutes later')
  assert.equal(other.written(), before.other)
  assert.ok(other.store.counters().background - before.watched <= 10, 'a host not concerned: renewals of its lease only')
})

test('a repair is published; one whose notice the kernel lost is made within about a minute', async () => {
  const { one, two, network } = await pair()
  one.service.kernelRepaired(network.id)
  await world.time.move(QUIET_MS)
  assert.equal((await world.published(one))?.get(network.id)?.repairs, 1)
  two.broken.add('10.0.0.2')
  await world.time.move(70_000)
  assert.equal(two.broken.size, 0)
  await world.time.move(QUIET_MS)
  assert.equal((await world.published(two))?.get(network.id)?.repairs, 1)
  const { kernel } = await one.service.inspectHost('h2')
  assert.deepEqual([kernel[0]?.network, kernel[0]?.entries, kernel[0]?.repairs], ['net', 2, 1])
})

test('verify reads what is published and asks nobody when it agrees', async () => {
  const { one, other } = await pair()
  const verdict = await world.verify(other)
  assert.equal(verdict.ok, true, JSON.stringify(verdict))
  assert.deepEqual((await world.raw.list('states/')).entries, [], 'nobody was asked for entries')
  assert.ok((rowOf(verdict, 'h1')?.revision ?? 0) > 0)
  const full = await world.verify(one, true)
  assert.equal(full.ok, true)
  assert.equal((await world.raw.list('states/')).entries.length, 2, 'asked for every entry, all answer')
})

test('verify asks a host whose published hash is older, before its quiet period has ended', async () => {
  const { one, other, network } = await pair()
  await one.start(network, 'c3')
  const verdict = await world.verify(other)
  assert.equal(verdict.ok, true, JSON.stringify(verdict))
  assert.equal(verdict.networks[0]?.endpoints, 3)
})

test('a kernel that differs and cannot be put right is named by line, although its host published agreement before', async () => {
  const { one, two } = await pair()
  two.spoiled.add('10.0.0.2')
  const verdict = await world.verify(one)
  assert.equal(verdict.ok, false)
  const row = rowOf(verdict, 'h2')
  assert.equal(row?.state, 'differs')
  assert.match(row.missing.join(), /^10\.0\.0\.2 02:42:0a:00:00:02 10\.99\.\d+\.\d+$/)
  assert.deepEqual(row.extra, [])
  assert.equal(rowOf(verdict, 'h1')?.state, 'agrees')
})

test('a host that has not heard of a change is behind, not different; it agrees when it has', async () => {
  const { one, two, network } = await pair()
  two.hold(CLUSTER_KEY.endpoints(network.id))
  await one.start(network, 'c3')
  await world.time.move(QUIET_MS)
  const verdict = await world.verify(one)
  const row = rowOf(verdict, 'h2')
  assert.equal(row?.state, 'behind')
  assert.ok(row.revision < (rowOf(verdict, 'h1')?.revision ?? 0))
  assert.match(row.missing.join(), /^10\.0\.0\.4 /)
  two.letGo()
  assert.equal((await world.verify(one)).ok, true)
})

test('a host that published agreement and does not look any more is silent, not in agreement', async () => {
  const { one, two } = await pair()
  two.hold(CLUSTER_KEY.networks)
  const verdict = await world.verify(one)
  assert.equal(verdict.ok, false)
  assert.equal(rowOf(verdict, 'h2')?.state, 'silent')
})

test('what a host has published goes with its lease, and comes again with the next', async () => {
  const { one, two, network } = await pair()
  const { lease } = two.service.membership
  world.server.endLease(lease?.id ?? '')
  await world.time.move(1)
  assert.equal(await world.published(two), undefined)
  await world.time.move(60_000 + QUIET_MS)
  assert.equal((await world.published(two))?.get(network.id)?.entries, 2)
  await two.crash()
  await world.do(one.service.evict('h2', true))
  assert.equal(await world.published(two), undefined, 'eviction takes it away')
})

test('publications that are garbage are skipped with one warning', async () => {
  const { one, two } = await pair()
  for (const value of [
    '',
    '{',
    'null',
    '{"at":1}',
    '{"at":1,"networks":{"x":{}}}',
    '{"at":1,"networks":{"__proto__":{"hash":1}}}',
    'x'.repeat(200_000),
  ])
    await world.raw.txn({ puts: [{ key: CLUSTER_KEY.kernel(two.id), value }] })
  const verdict = await world.verify(one)
  assert.equal(verdict.ok, true, JSON.stringify(verdict))
  assert.ok(one.warnings.some((line) => line.includes('is skipped') && line.includes('kernels/')))
})

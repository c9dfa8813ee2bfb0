/** Pools of the IPAM driver `causeway`, on the store in memory: one owner of an address whatever hosts and stores do. */
import assert from 'node:assert/strict'
import { after, afterEach, test } from 'node:test'
import { type Cidr, type Ip, parseCidr, parseIp } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import { newId } from '../../src/base/ids.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { systemRng } from '../../src/base/rng.ts'
import { POOL_KEY } from '../../src/cluster/pools/keys.ts'
import type { PoolAsk } from '../../src/cluster/pools/pool-members.ts'
import { MemoryStoreServer } from '../../src/cluster/store/memory.ts'
import { type Member, type MemberOptions, race, startMember, until } from './model-lab.ts'

const server = new MemoryStoreServer(systemClock)
const LAN = parseCidr('192.168.7.0/24')
const ip = (last: number): Ip => parseIp(`192.168.7.${last}`)
let members: Member[] = []
let world = 0
const awake = setInterval(() => {}, 1000) // the clock's timers keep no process alive

const open = () => server.open({ clock: systemClock, logger: silentLogger }, `w${world}`)

async function join(name: string, options: Partial<MemberOptions> = {}): Promise<Member> {
  const member = startMember({ name, store: open(), ...options })
  members.push(member)
  await member.service.membership.join()
  return member
}

async function three(): Promise<[Member, Member, Member]> {
  world++
  const all = [await join('h1'), await join('h2'), await join('h3')] as [Member, Member, Member]
  await until('everybody sees everybody', () => all.every((m) => m.service.view.hosts().length === 3))
  return all
}

afterEach(async () => {
  server.start()
  await Promise.all(members.map((member) => member.close()))
  members = []
})
after(() => clearInterval(awake))

/** A network of Docker's on a host. */
async function enter({ service }: Member, subnet: Cidr | '' = LAN, more: Partial<PoolAsk> = {}): Promise<{ user: string; subnet: Cidr }> {
  const user = newId(systemRng)
  const taken = await service.pools.join({
    user,
    for: 'docker',
    name: `net of ${service.view.hostId.slice(0, 4)}`,
    family: 4,
    subnet,
    ...more,
  })
  service.pools.confirm(taken.subnet, user)
  return { user, subnet: taken.subnet }
}

async function take({ service }: Member, place: { user: string; subnet: Cidr }, wanted?: Ip, name = 'c'): Promise<Ip> {
  const got = await service.pools.take({ ...place, ip: wanted, name })
  service.pools.confirm(place.subnet, place.user, got)
  return got
}

const addressKeys = async (subnet = LAN) =>
  (await open().list(POOL_KEY.addresses(subnet))).entries.map(({ key }) => key.slice(POOL_KEY.addresses(subnet).length))
const poolKeys = async () => (await open().list(POOL_KEY.pools)).entries.map(({ key }) => key).filter((key) => key !== POOL_KEY.guard)

test('three hosts with the same subnet: addresses asked for at once are all different, and lowest first', async () => {
  const all = await three()
  const places = await Promise.all(all.map((m) => enter(m)))
  const got = await Promise.all(all.flatMap((m, i) => Array.from({ length: 12 }, () => take(m, places[i] as (typeof places)[0]))))
  assert.equal(new Set(got).size, 36)
  const free = Array.from({ length: 254 }, (_, n) => ip(n + 1)).find((one) => !got.includes(one))
  assert.equal(await take(all[1], places[1] as (typeof places)[0]), free)
  assert.deepEqual((await addressKeys()).length, 37)
})

test('an address that another host holds is refused with Docker’s text and its holder; given back it is free', async () => {
  const [a, b] = await three()
  const [pa, pb] = [await enter(a), await enter(b)]
  await take(a, pa, ip(9), 'web')
  await assert.rejects(
    take(b, pb, ip(9)),
    /^NetError: Address already in use: 192\.168\.7\.9 of 192\.168\.7\.0\/24 belongs to web on host h1$/,
  )
  await assert.rejects(take(a, pa, ip(9)), /Address already in use/)
  await assert.rejects(take(b, pb, parseIp('192.168.8.1')), /requested address is out of range/)
  await assert.rejects(take(b, pb, ip(255)), /Address already in use/)
  await a.service.pools.free(LAN, pa.user, ip(9))
  assert.equal(await take(b, pb, ip(9)), ip(9))
  const { won } = await race([a, b].flatMap((m, i) => [0, 1].map(() => () => take(m, i === 0 ? pa : pb, ip(20)))))
  assert.equal(won.length, 1)
})

test('gateways are shared by networks of the pool and by no container', async () => {
  const [a, b, c] = await three()
  const [pa, pb, pc] = [await enter(a), await enter(b), await enter(c)]
  assert.equal(await a.service.pools.reserve(LAN, pa.user, ip(1)), ip(1))
  assert.equal(await b.service.pools.reserve(LAN, pb.user), ip(1))
  assert.equal(await c.service.pools.reserve(LAN, pc.user, ip(254)), ip(254))
  await assert.rejects(take(b, pb, ip(254)), /Address already in use/)
  assert.equal(await take(a, pa), ip(2))
  await assert.rejects(c.service.pools.reserve(LAN, pc.user, ip(2)), /Address already in use: 192\.168\.7\.2 .* belongs to c on host h1/)
  await c.service.pools.leave(LAN, pc.user)
  assert.equal(await take(b, pb, ip(254)), ip(254))
})

test('pools that are chosen are all different; one that overlaps another is refused; a pool goes with its last network', async () => {
  const all = await three()
  const [a, b] = all
  const overlay = await a.create('net1', [{ subnet: '10.128.0.0/24' }])
  await until('the network is known', () => all.every((m) => m.known.has(overlay.id)))
  const chosen = await Promise.all(all.flatMap((m) => [enter(m, ''), enter(m, '')]))
  assert.equal(new Set(chosen.map(({ subnet }) => subnet)).size, 6)
  assert.ok(!chosen.some(({ subnet }) => subnet === '10.128.0.0/24'))
  const [pa, pb] = [await enter(a), await enter(b)]
  await assert.rejects(
    enter(b, parseCidr('192.168.0.0/16')),
    /Pool overlaps with other one on this address space: .* of network "net of .*" on host h1/,
  )
  await take(a, pa)
  await a.service.pools.leave(LAN, pa.user)
  assert.deepEqual([(await poolKeys()).includes(POOL_KEY.pool(LAN)), await addressKeys()], [true, []])
  await b.service.pools.leave(LAN, pb.user)
  assert.equal((await poolKeys()).includes(POOL_KEY.pool(LAN)), false)
  await enter(b, parseCidr('192.168.0.0/16'))
  const v6 = await Promise.all(all.map((m) => enter(m, '', { family: 6 })))
  assert.equal(new Set(v6.map(({ subnet }) => subnet)).size, 3)
})

test('ranges: each host chooses from its own, and what a range is full of is said', async () => {
  const [a, b] = await three()
  const pa = await enter(a, LAN, { ipRange: '192.168.7.64/30' })
  const pb = await enter(b, LAN, { ipRange: '192.168.7.128/25' })
  assert.deepEqual(
    [await take(b, pb), ...(await Promise.all([0, 1, 2, 3].map(() => take(a, pa)))).toSorted()],
    [ip(128), ip(64), ip(65), ip(66), ip(67)],
  )
  await assert.rejects(take(a, pa), /no available IPv4 addresses/)
  await assert.rejects(enter(a, LAN, { ipRange: '10.0.0.0/30' }), /invalid address subpool/)
})

test('an engine that died: what Docker had is held, what was only being asked for is given back', async () => {
  const [a, b] = await three()
  const pa = await enter(a)
  const pb = await enter(b)
  const held = await take(a, pa, ip(5))
  const asked = await a.service.pools.take({ ...pa, ip: ip(6), name: 'c' }) // the answer never left
  const lost = newId(systemRng)
  await a.service.pools.join({ user: lost, for: 'docker', name: 'lost', family: 4, subnet: LAN })
  await a.crash()
  members = members.filter((m) => m !== a)
  await assert.rejects(take(b, pb, held), /Address already in use/)
  const again = await join('h1', { id: a.id, cache: a.cache })
  await until('the one that was being asked for is free', async () => !(await addressKeys()).includes(asked))
  await until('its place too', async () => !((await open().get(POOL_KEY.pool(LAN)))?.value ?? lost).includes(lost))
  assert.deepEqual(await addressKeys(), [held])
  await again.service.pools.free(LAN, pa.user, held)
  assert.equal(await take(b, pb, held), held)
})

test('the store away: refused with a sentence, given back later; wiped: everything is written again', async () => {
  const [a, b] = await three()
  const [pa, pb] = [await enter(a), await enter(b)]
  await b.service.pools.reserve(LAN, pb.user, ip(1))
  const [first, second] = [await take(a, pa), await take(a, pa)]
  server.stop()
  await assert.rejects(take(a, pa), /unreachable|cannot be reached|does not answer/)
  const begun = Date.now()
  await a.service.pools.free(LAN, pa.user, first)
  assert.ok(Date.now() - begun < 5000)
  server.start()
  await until('it is free', async () => !(await addressKeys()).includes(first))
  server.restore({ rows: new Map(), revision: 1 })
  await until('it is written again', async () => (await addressKeys()).includes(second), 15_000)
  await assert.rejects(take(b, pb, second), /Address already in use/)
  await until('the gateway too', async () => ((await open().get(POOL_KEY.pool(LAN)))?.value ?? '').includes(ip(1)), 15_000)
})

test('evicted: free for others; the host that comes back claims what is free and hears of what is not', async () => {
  const [a, b] = await three()
  const [pa, pb] = [await enter(a), await enter(b)]
  const [one, two] = [await take(a, pa, ip(30), 'one'), await take(a, pa, ip(31), 'two')]
  await assert.rejects(b.service.evict('h1'), /host h1 is up/)
  await a.service.membership.close()
  await a.crash()
  members = members.filter((m) => m !== a)
  await until('it is down', () => b.service.view.hosts().some(({ name, state }) => name === 'h1' && state === 'down'))
  assert.deepEqual(
    (await b.service.inspectHost('h1')).addresses.map((address) => [address.ip, address.name]),
    [
      [one, 'one'],
      [two, 'two'],
    ],
  )
  assert.equal((await b.service.evict('h1')).addresses, 2)
  assert.deepEqual(await addressKeys(), [])
  assert.equal(await take(b, pb, one, 'new'), one)
  const again = await join('h1', { id: a.id, cache: a.cache })
  await until('the free one is claimed', async () => (await addressKeys()).includes(two))
  await until('the other is reported', () => again.conflicts.length > 0)
  assert.match(again.conflicts[0]?.why ?? '', /192\.168\.7\.30 of 192\.168\.7\.0\/24 belongs to new on host h2 now/)
  assert.equal(await take(again, pa, ip(32)), ip(32))
})

test('what others wrote into the store is nobody’s to trust: an address with a wrong value is taken, a wrong pool is refused', async () => {
  const [a] = await three()
  const pa = await enter(a)
  await open().txn({ puts: [{ key: POOL_KEY.address(LAN, ip(1)), value: '{"ip":"1.2.3.4"}' }] })
  assert.equal(await take(a, pa), ip(2))
  await assert.rejects(take(a, pa, ip(1)), /Address already in use: .* belongs to somebody else/)
  assert.ok(a.warnings.some((line) => /not what Causeway writes/.test(line)))
})

test('random work on three hosts: never two owners, and in the end nothing is left', async () => {
  const all = await three()
  const owner = new Map<Ip, string>()
  const work = async (m: Member, lane: number) => {
    const place = await enter(m)
    const mine: Ip[] = []
    for (let n = 0; n < 40; n++) {
      const chance = systemRng.bytes(2)
      if ((chance[0] as number) < 110 && mine.length > 0) {
        const got = mine.splice((chance[1] as number) % mine.length, 1)[0] as Ip
        owner.delete(got)
        await m.service.pools.free(LAN, place.user, got)
        continue
      }
      const wanted = (chance[0] as number) > 200 ? ip(1 + ((chance[1] as number) % 60)) : undefined
      const got = await take(m, place, wanted).catch((error: Error) => {
        if (!/already in use/.test(error.message)) throw error
        return undefined
      })
      if (got === undefined) continue
      assert.equal(owner.get(got), undefined, `${got} has two owners`)
      owner.set(got, `${m.name} ${lane}`)
      mine.push(got)
    }
    assert.ok(mine.every((one) => owner.get(one) === `${m.name} ${lane}`))
    await m.service.pools.leave(LAN, place.user)
    for (const one of mine) owner.delete(one)
  }
  await Promise.all(all.flatMap((m) => [0, 1].map((lane) => work(m, lane))))
  assert.deepEqual([await addressKeys(), await poolKeys()], [[], []])
})

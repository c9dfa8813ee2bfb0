/** What the cluster's model promises, as tests that run on every store. */
import assert from 'node:assert/strict'
import { after, afterEach, test } from 'node:test'
import { hasCode } from '../../src/base/errors.ts'
import { CLUSTER_KEY } from '../../src/cluster/keys.ts'
import type { ClusterStore } from '../../src/cluster/store/types.ts'
import { inTurns, type Member, type MemberOptions, race, startMember, until } from './model-lab.ts'

export interface ModelStores {
  /** A new client of a store that nobody used before, or of the same one for the same `world`. */
  open(world: string): ClusterStore
  stop?(): Promise<void>
  start?(): Promise<void>
  /** Throws all data away. */
  wipe?(): Promise<void>
}

export function modelSuite(kind: string, stores: () => ModelStores, rounds: number): void {
  let members: Member[] = []
  let world = 0
  let name = ''
  const join = (host: string, options: Partial<MemberOptions> = {}): Member => {
    const member = startMember({ name: host, store: stores().open(name), ...options })
    members.push(member)
    return member
  }
  const three = async (): Promise<[Member, Member, Member]> => {
    name = `w${++world}`
    const all = [join('h1'), join('h2'), join('h3')] as [Member, Member, Member]
    await Promise.all(all.map((member) => member.service.membership.join()))
    await until('everybody sees everybody', () => all.every((m) => m.service.view.hosts().filter((h) => h.state === 'up').length === 3))
    return all
  }
  const awake = setInterval(() => {}, 1000) // the clock's timers keep no process alive
  after(() => clearInterval(awake))
  const closeAll = async () => {
    await Promise.all(members.map((member) => member.close()))
    members = []
  }
  afterEach(closeAll)
  after(closeAll)
  const everywhere = (all: readonly Member[], id: string) => until('all hosts know the network', () => all.every((m) => m.known.has(id)))

  test(`${kind}: a network made on one host is on all, with subnets and VXLAN ids in order; its members, names and events too`, async () => {
    const [a, b, c] = await three()
    const net1 = await a.create('net1')
    const net2 = await b.create('net2')
    await everywhere([a, b, c], net1.id)
    await everywhere([a, b, c], net2.id)
    assert.deepEqual(c.known.get(net1.id), net1)
    assert.deepEqual(
      [net1, net2].map((n) => [n.pools[0]?.subnet, n.pools[0]?.gateway, n.data?.['vni']]),
      [
        ['10.0.0.0/24', '10.0.0.1', [256]],
        ['10.0.1.0/24', '10.0.1.1', [257]],
      ],
    )
    const c1 = await a.start(net1, 'net1c1', {}, ['web'])
    const c2 = await b.start(net1, 'net1c2')
    assert.deepEqual([c1.ipv4, c1.mac, c2.ipv4, c2.mac], ['10.0.0.2', '02:42:0a:00:00:02', '10.0.0.3', '02:42:0a:00:00:03'])
    await until('names of the other host are known', () => a.names.size === 1 && b.names.size === 1)
    assert.deepEqual([...b.names.values()], [['net1c1', 'web']])
    assert.deepEqual(a.service.authority.remoteEndpoints(net1), [
      {
        id: c2.endpointId,
        name: 'net1c2',
        host: 'h2',
        ipv4: '10.0.0.3',
        ipv4Length: 24,
        ipv6: '',
        ipv6Length: 0,
        mac: '02:42:0a:00:00:03',
      },
    ])
    assert.equal(c.names.size, 0, 'a host without members on the network is not told')
    assert.deepEqual((await c.service.fetchEndpoints(net1.id)).map((e) => e.name).toSorted(), ['net1c1', 'net1c2'])
    await until('the other host hears of it', () =>
      a.events.some((e) => e.action === 'connect' && e.containerId === c2.containerId && e.host === 'h2'),
    )
    await assert.rejects(c.remove(net1), (error: Error) => {
      assert.ok(hasCode(error, 'denied'))
      assert.match(error.message, new RegExp(`^error while removing network: network net1 id ${net1.id} has active endpoints \\(`))
      assert.match(error.message, /name:"net1c1" id:"[0-9a-f]{12}" on host h1/)
      return true
    })
    await b.stop(c2)
    await until('its name is gone', () => a.names.size === 0)
    await until('its leaving is heard of', () => a.events.some((e) => e.action === 'disconnect' && e.containerId === c2.containerId))
    assert.equal((await b.start(net1, 'net1c2')).ipv4, '10.0.0.3', 'a released address is used at once')
    await b.stop([...b.live.values()][0]?.endpoint as never)
    await a.stop(c1)
    await c.remove(net1)
    await until('all hosts have forgotten it', () => [a, b, c].every((m) => !m.known.has(net1.id)))
    assert.deepEqual((await b.create('net3')).pools[0]?.subnet, '10.0.0.0/24', 'a freed subnet is used again')
  })

  test(`${kind}: ${rounds} races of three hosts for one network name have one winner each`, async () => {
    const all = await three()
    await inTurns(rounds, 3, async (round) => {
      const { won, lost } = await race(all.map((member) => () => member.create(`n${round}`)))
      assert.equal(won.length, 1, String(lost))
      for (const error of lost) {
        assert.equal(error.message, `network with name n${round} already exists`)
        assert.ok(hasCode(error, 'conflict'))
      }
      await all[0].remove(won[0] as never)
    })
  })

  test(`${kind}: ${rounds} races of three hosts for one subnet have one winner each, different names and no subnet all win apart`, async () => {
    const all = await three()
    await inTurns(rounds, 3, async (round) => {
      const asked = [{ subnet: `10.${100 + (round >> 8)}.${round & 255}.0/24` }]
      const { won, lost } = await race(all.map((member) => () => member.create(`s${round}${member.name}`, asked)))
      assert.equal(won.length, 1, String(lost))
      for (const error of lost) assert.match(error.message, /Pool overlaps with other one on this address space/)
      await all[1].remove(won[0] as never)
    })
    const { won } = await race(Array.from({ length: 15 }, (_, i) => () => (all[i % 3] as Member).create(`d${i}`)))
    assert.equal(won.length, 15)
    assert.equal(new Set(won.map((n) => n.pools[0]?.subnet)).size, 15)
    assert.equal(new Set(won.flatMap((n) => n.data?.['vni'] as number[])).size, 15)
  })

  test(`${kind}: ${rounds} races for one container name and ${rounds} for one address have one winner each`, async () => {
    const all = await three()
    const network = await all[0].create('net', [{ subnet: '10.60.0.0/16' }])
    await everywhere(all, network.id)
    await inTurns(rounds, 6, async (round) => {
      const { won, lost } = await race(all.map((member) => () => member.start(network, `c${round}`)))
      assert.equal(won.length, 1, String(lost))
      for (const error of lost) {
        assert.equal(error.message, `endpoint with name c${round} already exists in network net`)
        assert.ok(hasCode(error, 'denied'))
      }
      for (const member of all) await member.stop(won[0] as never)
    })
    await inTurns(rounds, 6, async (round) => {
      const ipv4 = `10.60.${1 + (round >> 8)}.${round & 255}`
      const { won, lost } = await race(all.map((member) => () => member.start(network, `a${round}${member.name}`, { ipv4 })))
      assert.equal(won.length, 1, String(lost))
      for (const error of lost) assert.equal(error.message, 'Address already in use')
      for (const member of all) await member.stop(won[0] as never)
    })
    assert.deepEqual((await all[0].store.list('addr/')).entries, [])
    assert.deepEqual((await all[0].store.list('epname/')).entries, [])
    assert.deepEqual((await all[0].store.list('owned/')).entries, [])
  })

  test(`${kind}: starts at the same moment on three hosts get different addresses; a start costs fewer than 20 operations, also in a crowd`, async () => {
    const all = await three()
    const network = await all[0].create('net')
    await everywhere(all, network.id)
    const operations = () => all.map(({ store }) => store.counters().reads + store.counters().writes)
    const before = operations()
    const { won, lost } = await race(Array.from({ length: 60 }, (_, i) => () => (all[i % 3] as Member).start(network, `c${i}`)))
    assert.deepEqual(lost, [])
    assert.equal(new Set(won.map((e) => e.ipv4)).size, 60)
    const spent = operations().map((n, i) => n - (before[i] as number))
    assert.ok(
      spent.every((n) => n / 20 < 20),
      `operations of 20 starts each: ${spent}`,
    )
    const alone = all[0].store.counters()
    await all[0].start(network, 'quiet')
    const after = all[0].store.counters()
    assert.ok(after.reads + after.writes - alone.reads - alone.writes <= 4, 'a start alone')
  })

  test(`${kind}: Docker's texts for addresses that cannot be had`, async () => {
    const [a] = await three()
    const plain = await a.create('plain')
    const chosen = await a.create('chosen', [
      { subnet: '10.20.0.0/24', ipRange: '10.20.0.128/30', gateway: '10.20.0.254', aux: { r: '10.20.0.129' } },
    ])
    await assert.rejects(a.start(plain, 'x1', { ipv4: '10.0.0.9' }), {
      message: 'user specified IP address is supported only when connecting to networks with user configured subnets',
    })
    await assert.rejects(a.start(chosen, 'x2', { ipv4: '10.99.0.1' }), {
      message: "Invalid address 10.99.0.1: It does not belong to any of this network's subnets",
    })
    for (const ipv4 of ['10.20.0.254', '10.20.0.129', '10.20.0.0', '10.20.0.255'])
      await assert.rejects(a.start(chosen, 'x3', { ipv4 }), { message: 'Address already in use' })
    const got = []
    for (let i = 0; i < 3; i++) got.push((await a.start(chosen, `r${i}`)).ipv4)
    assert.deepEqual(got, ['10.20.0.128', '10.20.0.130', '10.20.0.131'])
    await assert.rejects(a.start(chosen, 'r4'), /no available IPv4 addresses on this network's address pools: chosen/)
    assert.equal((await a.start(chosen, 'r5', { ipv4: '10.20.0.77' })).ipv4, '10.20.0.77')
  })

  test(`${kind}: several subnets and IPv6 beside IPv4 share segments as they should`, async () => {
    const [a, b] = await three()
    const net = await a.create(
      'dual',
      [{ subnet: '10.21.0.0/24' }, { subnet: '10.22.0.0/24' }, { subnet: 'fd00:21::/64' }, { subnet: 'fd00:22::/64' }],
      {
        enableIpv6: true,
      },
    )
    assert.deepEqual(net.data?.['vni'], [256, 257, 256, 257])
    await everywhere([a, b], net.id)
    const first = await b.start(net, 'first')
    const second = await b.start(net, 'second', { ipv4: '10.22.0.9' })
    assert.deepEqual([first.ipv4, first.ipv6, first.data['vni']], ['10.21.0.2', 'fd00:21::2', 256])
    assert.deepEqual([second.ipv4, second.ipv6, second.data['vni']], ['10.22.0.9', 'fd00:22::2', 257])
    const beside = await b.start(net, 'beside', { ipv6: 'fd00:22::77' })
    assert.deepEqual([beside.ipv4, beside.ipv6], ['10.22.0.2', 'fd00:22::77'], 'the other family is chosen on the same link')
    await assert.rejects(b.start(net, 'apart', { ipv4: '10.22.0.10', ipv6: 'fd00:21::10' }), {
      message: 'Invalid address fd00:21::10: beside 10.22.0.10 stands fd00:22::/64',
    })
    const fewer = await a.create('fewer', [{ subnet: '10.23.0.0/24' }, { subnet: '10.24.0.0/24' }, { subnet: 'fd00:23::/64' }], {
      enableIpv6: true,
    })
    const vnis = fewer.data?.['vni'] as number[]
    assert.deepEqual([vnis.length, vnis[2], vnis[3]], [4, vnis[0], vnis[1]], 'an IPv6 subnet for each IPv4 one')
    await everywhere([a, b], fewer.id)
    const there = await b.start(fewer, 'there', { ipv4: '10.24.0.9' })
    assert.equal(there.ipv6, fewer.pools[3]?.subnet.replace('/64', '2'))
    const auto = await a.create('auto', [], { enableIpv6: true })
    assert.match(auto.pools[1]?.subnet ?? '', /^fd[0-9a-f:]+::\/64$/)
    await assert.rejects(a.create('listed', [], { options: { 'com.docker.network.driver.overlay.vxlanid_list': '256' } }), {
      message: 'VXLAN id 256 is already used by network "dual"',
    })
  })

  test(`${kind}: a network that is being removed while a container starts on it is either gone or keeps the container`, async () => {
    const [a, b, c] = await three()
    for (let round = 0; round < Math.min(rounds, 20); round++) {
      const network = await a.create(`gone${round}`)
      await everywhere([a, b, c], network.id)
      const [removed, started] = await Promise.allSettled([c.remove(network), b.start(network, 'late')])
      assert.ok(!(removed.status === 'fulfilled' && started.status === 'fulfilled'), 'never both')
      if (started.status === 'fulfilled') {
        assert.ok(hasCode((removed as PromiseRejectedResult).reason, 'denied'))
        await b.stop(started.value)
        await a.remove(network)
      } else if (removed.status === 'rejected') await a.remove(network)
    }
    for (const prefix of ['endpoints/', 'addr/', 'epname/', 'owned/', 'names/'])
      assert.deepEqual((await a.store.list(prefix)).entries, [], prefix)
  })

  test(`${kind}: an engine that crashes is down, keeps what it has, takes it up again, and frees what has died meanwhile`, async () => {
    const [a, b] = await three()
    const network = await a.create('net')
    await everywhere([a, b], network.id)
    const kept = await b.start(network, 'kept')
    const died = await b.start(network, 'died')
    await a.start(network, 'other')
    await until('a knows both', () => a.names.size === 2)
    await b.crash()
    members = members.filter((m) => m !== b)
    b.live.delete(died.endpointId)
    assert.equal(a.names.size, 2, 'names of a host that is not heard of stay')
    await assert.rejects(a.start(network, 'kept'), { message: 'endpoint with name kept already exists in network net' })
    const again = join('h2', { id: b.id, cache: b.cache, live: b.live, known: b.known })
    await until('what died is freed', async () => (await a.store.get(CLUSTER_KEY.endpoint(network.id, died.endpointId))) === undefined)
    await until('its name is gone, the other stays', () => [...a.names.values()].flat().join() === 'kept')
    assert.ok(await a.store.get(CLUSTER_KEY.endpoint(network.id, kept.endpointId)))
    await until('the other host is known again', () => again.names.size === 1)
    await again.stop(kept)
    await until('all of it is gone', () => a.names.size === 0)
  })

  test(`${kind}: eviction frees a host's endpoints, names and addresses; it is refused for one that is up; who comes back claims again or hears of the conflict`, async () => {
    const [a, b] = await three()
    const network = await a.create('net')
    await everywhere([a, b], network.id)
    await a.start(network, 'mine')
    const wanted = await b.start(network, 'wanted')
    const free = await b.start(network, 'free')
    for (let i = 0; i < 20; i++) await b.start(network, `more${i}`)
    await assert.rejects(a.service.evict('h2'), /host h2 is up: stop its engine first/)
    await assert.rejects(a.service.evict('h1', true), /is the one that this engine runs on/)
    await assert.rejects(
      a.service.evict('nobody'),
      /^NetError: host nobody not found in the cluster: "causeway cluster ls" lists the hosts/,
    )
    await b.close()
    members = members.filter((m) => m !== b)
    await until('h2 is down', () => a.service.view.host(b.id)?.state === 'down')
    await assert.rejects(a.remove(network), /which is down: `causeway cluster evict h2` frees what it has/)
    assert.deepEqual((await a.service.inspectHost('h2')).endpoints.length, 22)
    assert.deepEqual(await a.service.evict('h2'), { host: 'h2', endpoints: 22, addresses: 0 })
    await until('its names are gone', () => a.names.size === 0)
    assert.equal(a.service.view.host(b.id), undefined)
    const taker = await a.start(network, 'wanted')
    assert.equal(taker.ipv4, wanted.ipv4)
    const again = join('h2', { id: b.id, cache: b.cache, live: b.live, known: b.known })
    await until('it claims what is free', async () => (await a.store.get(CLUSTER_KEY.endpoint(network.id, free.endpointId))) !== undefined)
    await until('it hears of what is not', () => again.conflicts.some((c) => c.endpointId === wanted.endpointId))
    assert.match(again.conflicts[0]?.why ?? '', /of network net belongs to another container now/)
    await until('its names are back', () => a.names.size === 21)
    assert.equal((await a.service.fetchEndpoints(network.id)).filter((e) => e.name === 'wanted').length, 1)
  })

  test(`${kind}: verify proves that all hosts agree, names the host and the line that differ, and sees who does not answer`, async () => {
    const broken = { lines: false }
    const [a, b] = await three()
    const c = join('h4', {
      readKernel: (id) => {
        const entries = c.service.view.endpointsOf(id).map(({ ipv4, mac, hostAddress }) => ({ ip: ipv4 as never, mac, host: hostAddress }))
        return broken.lines ? entries.slice(1) : entries
      },
    })
    await c.service.membership.join()
    const network = await a.create('net')
    await everywhere([a, b, c], network.id)
    await a.start(network, 'one')
    await b.start(network, 'two')
    await c.start(network, 'three')
    const good = await a.service.verify()
    assert.equal(good.ok, true, JSON.stringify(good))
    assert.deepEqual(good.networks[0]?.hosts.map(({ host, state }) => `${host} ${state}`).toSorted(), [
      'h1 agrees',
      'h2 agrees',
      'h4 agrees',
    ])
    broken.lines = true
    const bad = await b.service.verify(1000)
    assert.equal(bad.ok, false)
    const verdict = bad.networks[0]?.hosts.find(({ host }) => host === 'h4')
    assert.equal(verdict?.state, 'differs')
    assert.deepEqual([verdict?.missing.length, verdict?.extra.length], [1, 0])
  })

  test(`${kind}: hostile values are skipped with one warning each and never stop an engine`, async () => {
    const [a, b] = await three()
    const network = await a.create('net')
    await everywhere([a, b], network.id)
    await a.start(network, 'mine')
    await b.start(network, 'other')
    const raw = stores().open(name)
    const id = 'f'.repeat(64)
    const bad = [
      '',
      'null',
      '[]',
      '{',
      '"x"',
      '{"id":1}',
      '{"__proto__":{"a":1}}',
      `{"id":"${id}","networkId":"${network.id}"}`,
      '\u0000',
      'é'.repeat(5000),
    ]
    const endpoint = JSON.parse((await raw.list(CLUSTER_KEY.endpoints(network.id))).entries[0]?.value as string)
    const spoiled = [
      { ipv4: '10.0.0.1' },
      { ipv4: '192.168.0.1' },
      { ipv4: '10.0.0.300' },
      { mac: 'ff:ff:ff:ff:ff:ff' },
      { mac: '01:00:5e:00:00:01' },
      { hostAddress: 'evil.example' },
      { dnsNames: 'x' },
      { dnsNames: [1] },
      { name: '../../x\n' },
      { active: 'yes' },
      { hostId: '../x' },
    ].map((fields, i) => ({ ...endpoint, id: `${i}`.padStart(64, 'e'), ...fields }))
    for (const value of bad) {
      for (const key of [
        `endpoints/${network.id}/${id}`,
        `networks/${id}`,
        `hosts/${'d'.repeat(32)}`,
        'hosts/x/lease',
        'networks/verification',
        'networks/x/y',
      ])
        await raw.txn({ puts: [{ key, value }] })
    }
    for (const value of spoiled)
      await raw.txn({ puts: [{ key: CLUSTER_KEY.endpoint(network.id, value.id), value: JSON.stringify(value) }] })
    const stored = JSON.parse((await raw.get(CLUSTER_KEY.network(network.id)))?.value as string)
    for (const fields of [
      { subnets: [] },
      { network: { ...stored.network, driver: 'bridge' } },
      { subnets: [{ subnet: '10.0.0.0/24', vni: -1 }] },
    ]) {
      const other = 'c'.repeat(64)
      await raw.txn({ puts: [{ key: CLUSTER_KEY.network(other), value: JSON.stringify({ ...stored, id: other, ...fields }) }] })
    }
    await a.start(network, 'after')
    await until('the other host still follows', () => [...b.names.values()].some((names) => names[0] === 'after'))
    assert.equal(a.known.size, 1)
    assert.equal(b.names.size, 2)
    const said = a.warnings.filter((line) => line.includes('is skipped'))
    assert.ok(said.length > 5)
    // the guard spoiled: creation goes on
    await raw.txn({ puts: [{ key: CLUSTER_KEY.guard, value: 'garbage' }] })
    assert.ok(await b.create('more'))
    assert.ok(await a.create('evenmore'))
    await raw.close()
  })

  test(`${kind}: a container that is replaced again and again, and an address that moves between hosts, leave nothing behind`, async () => {
    const [a, b, c] = await three()
    const network = await a.create('net', [{ subnet: '10.70.0.0/24' }])
    await everywhere([a, b, c], network.id)
    await c.start(network, 'watcher')
    for (let round = 0; round < rounds; round++) {
      const member = round % 2 === 0 ? a : b
      const endpoint = await member.start(network, 'moving', { ipv4: '10.70.0.50' })
      await member.stop(endpoint)
    }
    const last = await b.start(network, 'moving', { ipv4: '10.70.0.50' })
    await until('only the last one is known', () => {
      const found = c.service.view.endpointsOf(network.id).filter((e) => e.hostId !== c.id)
      return found.length === 1 && found[0]?.id === last.endpointId && found[0].hostId === b.id && c.names.size === 1
    })
    assert.equal((await c.store.list('addr/')).entries.length, 2)
    assert.equal((await c.store.list('owned/')).entries.length, 2)
  })

  test(`${kind}: endpoint changes of a network cost a host that does not use it no watch traffic`, async () => {
    const [a, b, c] = await three()
    const network = await a.create('net')
    await everywhere([a, b, c], network.id)
    let changes = 0
    c.service.view.onChange(() => {
      changes++
    })
    const { background } = c.store.counters()
    for (let i = 0; i < 10; i++) await b.stop(await b.start(network, `c${i}`))
    assert.equal(changes, 0)
    assert.ok(c.store.counters().background - background <= 2, 'but for renewals')
    assert.deepEqual(c.service.view.used(), [])
  })

  test(`${kind}: a renamed container keeps its address and has its new name everywhere; a name that is taken is refused`, async () => {
    const [a, b] = await three()
    const network = await a.create('net')
    await everywhere([a, b], network.id)
    const one = await a.start(network, 'one')
    await b.start(network, 'two')
    await a.service.authority.renameEndpoint(network, { ...one, containerName: 'uno', dnsNames: ['uno'] })
    await until('the other host knows', () => [...b.names.values()].flat().join() === 'uno')
    await assert.rejects(a.service.authority.renameEndpoint(network, { ...one, containerName: 'two', dnsNames: ['two'] }), {
      message: 'endpoint with name two already exists in network net',
    })
    await b.start(network, 'one')
    await a.stop(one)
    await b.start(network, 'uno')
  })

  const { stop, start, wipe } = { stop: () => stores().stop?.(), start: () => stores().start?.(), wipe: () => stores().wipe?.() }

  test(`${kind}: the store away: changes are refused with 503's code, what is known stays, an engine starts, removals are made up for`, async (t) => {
    if (stores().stop === undefined) return t.skip('this store is not stopped')
    const [a, b] = await three()
    const network = await a.create('net')
    await everywhere([a, b], network.id)
    await a.start(network, 'mine')
    const gone = await b.start(network, 'gone')
    const kept = await b.start(network, 'kept')
    await until('a knows both', () => a.names.size === 2)
    await stop()
    await assert.rejects(a.create('no'), (error) => hasCode(error, 'unavailable'))
    await assert.rejects(a.start(network, 'no'), (error) => hasCode(error, 'unavailable'))
    // refused, or, by a store that is slow to refuse, noted to be made up for
    await b.stop(gone).catch((error) => assert.ok(hasCode(error, 'unavailable'), String(error)))
    assert.equal(a.names.size, 2, 'names go on')
    await b.crash()
    members = members.filter((m) => m !== b)
    const again = join('h2', { id: b.id, cache: b.cache, live: b.live, known: b.known })
    await until('names are back without the store', () => [...again.names.values()].flat().join() === 'mine')
    assert.ok(again.known.has(network.id))
    await start()
    await until('what died is freed', () => [...a.names.values()].flat().join() === 'kept', 30_000)
    await until('changes work again', async () => again.service.membership.isJoined, 30_000)
    await again.create('works')
    await again.stop(kept)
    await until('and are seen', () => a.names.size === 0)
    await until('the refused start left nothing', async () => (await a.store.list('owned/')).entries.length === 1)
  })

  test(`${kind}: a wiped store is written again from what the hosts have: networks, endpoints, names`, async (t) => {
    if (stores().wipe === undefined) return t.skip('this store is not wiped')
    const [a, b, c] = await three()
    const network = await a.create('net')
    const idle = await b.create('idle')
    await everywhere([a, b, c], network.id)
    const mine = await a.start(network, 'mine')
    const other = await b.start(network, 'other')
    await until('both know', () => a.names.size === 1 && b.names.size === 1)
    let dropped = 0
    const stopWatching = a.service.view.onChange(() => {
      if (a.service.view.endpointsOf(network.id).length < 2) dropped++
    })
    await wipe()
    const back = async () => {
      const [n1, n2, e1, e2] = await Promise.all([
        a.store.get(CLUSTER_KEY.network(network.id)),
        a.store.get(CLUSTER_KEY.network(idle.id)),
        a.store.get(CLUSTER_KEY.endpoint(network.id, mine.endpointId)),
        a.store.get(CLUSTER_KEY.endpoint(network.id, other.endpointId)),
      ])
      return [n1, n2, e1, e2].every((entry) => entry !== undefined)
    }
    await until('all of it is back', () => back().catch(() => false), 40_000)
    stopWatching()
    assert.equal(dropped, 0, 'paths to running containers were never dropped')
    await assert.rejects(c.create('net'), /already exists/)
    assert.equal((await c.create('new')).pools[0]?.subnet, '10.0.2.0/24')
    await until('all hosts agree', async () => (await a.service.verify().catch(() => ({ ok: false }))).ok, 20_000)
  })
}

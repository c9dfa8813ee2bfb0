/**
 * What anybody who can write to the store may write, on every store: values of every kind below every kind of key that an engine reads, and
 * over the ones that engines have written. Nothing of it stops an engine or changes what it says of the rest.
 */
import assert from 'node:assert/strict'
import { after, afterEach, test } from 'node:test'
import { decodeEndpoint, decodeNetwork } from '../../src/cluster/decode.ts'
import { CLUSTER_KEY } from '../../src/cluster/keys.ts'
import { type Member, startMember, until } from './model-lab.ts'
import type { ModelStores } from './model-suite.ts'

export interface HostileStores extends ModelStores {
  /** Writes a key of the store, ours or not, with another tool. */
  rawPut(key: string, value: Uint8Array): Promise<void>
  /** Bytes of the largest value that the store itself takes. */
  readonly largest: number
}

/** Fields of all values. */
const FIELDS =
  `id networkId endpointId containerId name dnsNames ipv4 ipv6 mac hostId hostAddress active address addresses port version started
  instance mtu routes evicted cluster count nonce hash wanted revision entries repairs lines sent heard need subnets options internal createdBy
  network networks removing at endpoint host hosts secrets nonces`.split(/\s+/)
const everyField = (value: unknown) => JSON.stringify(Object.fromEntries(FIELDS.map((field) => [field, value])))
const DEEP = 60_000

function hostileValues(largest: number): readonly (readonly [string, Uint8Array])[] {
  const texts: [string, string][] = [
    ['nothing', ''],
    ['null', 'null'],
    ['a number', '5'],
    ['a list', '[]'],
    ['half an object', '{'],
    ['a text', '"x"'],
    ['a zero byte', '\u0000'],
    ['a long text', 'é'.repeat(5000)],
    ['a prototype', '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'],
    ...[1, -1, 1e300, true, null, '', '../../etc/passwd\n', {}, [], [[]], [null], { a: null }, 'x'.repeat(300)].map(
      (value): [string, string] => [`every field ${JSON.stringify(value).slice(0, 20)}`, everyField(value)],
    ),
    ['a deep list', '['.repeat(DEEP) + ']'.repeat(DEEP)],
    ['a deep object', `${'{"a":'.repeat(DEEP / 2)}1${'}'.repeat(DEEP / 2)}`],
    ['a large object', `{"id":"${'x'.repeat(250_000)}"}`],
    ['more than may be', 'x'.repeat(largest)],
    ['an object larger than may be', `{"id":"${'x'.repeat(largest - 20)}"}`],
  ]
  return [...texts.map(([what, text]) => [what, Buffer.from(text)] as const), ['no text', Uint8Array.of(0xff, 0xfe, 0, 0x80)]]
}

export function hostileSuite(kind: string, stores: () => HostileStores): void {
  let members: Member[] = []
  let world = 0
  let name = ''
  const join = async (host: string, more: Partial<Parameters<typeof startMember>[0]> = {}): Promise<Member> => {
    const member = startMember({ name: host, store: stores().open(name), ...more })
    members.push(member)
    await member.service.membership.join()
    return member
  }
  const awake = setInterval(() => {}, 1000)
  after(() => clearInterval(awake))
  afterEach(async () => {
    await Promise.all(members.map((member) => member.close()))
    members = []
  })
  const put = (key: string, value: Uint8Array | string) => stores().rawPut(`${name}/causeway/${key}`, Buffer.from(value))
  const namesAt = (member: Member) => [...member.names.values()].map(([first]) => first).toSorted()

  test(`${kind}: values of every kind below keys of every kind: nothing of it is taken for true, everything goes on`, async () => {
    name = `hostile${++world}`
    const [a, b, c] = [await join('h1'), await join('h2'), await join('h3')]
    const network = await a.create('net')
    await until('all know the network', () => [a, b, c].every((m) => m.known.has(network.id)))
    await a.start(network, 'mine')
    await b.start(network, 'other')
    await c.start(network, 'third')
    const [nobody, nowhere] = ['d'.repeat(32), 'f'.repeat(64)]
    const keys = [
      `hosts/${nobody}`,
      `hosts/${nobody}/lease`,
      'hosts/x/lease',
      `hosts/${a.id}/more`,
      `networks/${nowhere}`,
      'networks/x/y',
      CLUSTER_KEY.verification,
      CLUSTER_KEY.networkName('evil'),
      `endpoints/${network.id}/${nowhere}`,
      `endpoints/${network.id}/x/y`,
      `endpoints/${nowhere}/${nowhere}`,
      `addr/${network.id}/10.0.0.77`,
      `addr/${network.id}/none`,
      `epname/${network.id}/evil`,
      ...[b.id, c.id, nobody].flatMap((id) => [`owned/${id}/${network.id}/${nowhere}`, `owned/${id}/x`, `owned/${id}/${nowhere}/é ?#%`]),
      `kernels/${nobody}`,
      `kernels/${b.id}`,
      `states/${network.id}/${nobody}`,
      `states/${network.id}/${b.id}`,
      `paths/${nobody}`,
      `paths/${b.id}`,
      'paths/x/é ?',
      'pools/guard',
      'pools/x',
      'pools/10.9.0.0_24',
      'pool-addr/10.9.0.0_24/10.9.0.5',
      'pool-addr/10.9.0.0_24/é',
      'pool-addr/x/y/z',
      'é ?#',
    ]
    for (const [n, [what, value]] of hostileValues(stores().largest).entries()) {
      for (const key of keys) await put(key, value)
      await stores().rawPut(`${name}/causewayx/hosts/${nobody}`, value)
      await stores().rawPut(`${name}/causeway`, value)
      const started = await a.start(network, `after${n}`)
      await until(`after ${what} the other host still follows`, () => namesAt(b).includes(`after${n}`))
      await a.stop(started)
    }
    // in all but one thing a network as an engine would write it
    const record = JSON.parse((await a.store.get(CLUSTER_KEY.network(network.id)))?.value ?? '') as { network: object }
    const deep = { ...record, id: nowhere, name: 'deep', network: { ...record.network, id: nowhere, name: 'deep', data: { x: 'DEEP' } } }
    const nested = JSON.stringify(deep).replace('"DEEP"', '['.repeat(DEEP) + ']'.repeat(DEEP))
    for (const more of ['', ' ']) await put(`networks/${nowhere}`, nested + more)
    const late = await a.start(network, 'late')
    await until('after deep data the other host still follows', () => namesAt(b).includes('late'))
    await a.stop(late)
    assert.deepEqual([...a.known.keys()], [network.id])
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
    const verdict = await a.service.verify()
    assert.ok(verdict.ok, JSON.stringify(verdict))
    assert.deepEqual(
      (await a.service.inspectHost('h2')).endpoints.map((e) => e.name),
      ['other'],
    )
    assert.deepEqual((await b.service.fetchEndpoints(network.id)).map((e) => e.name).toSorted(), ['mine', 'other', 'third'])
    const second = await b.create('second')
    await a.start(second, 'there')
    // its owned keys are hostile too: an engine that starts anew frees them, an eviction passes over them
    await b.crash()
    members = members.filter((m) => m !== b)
    const again = await join('h2', { id: b.id, cache: b.cache, live: b.live, known: b.known })
    await until('the restarted engine knows everybody', () => namesAt(again).join() === 'mine,third')
    await c.close()
    members = members.filter((m) => m !== c)
    await until('h3 is down', () => a.service.view.host(c.id)?.state === 'down')
    await a.service.evict('h3')
    await until('what the evicted host had is gone', () => namesAt(a).join() === 'other')
    assert.ok(a.warnings.some((line) => line.includes('is skipped')))
    assert.doesNotMatch([a, again].flatMap((m) => m.warnings).join('\n'), /is not settled/)
  })

  test(`${kind}: what engines have written is spoiled: they know what they knew, and what they write again is right`, async () => {
    name = `hostile${++world}`
    const [a, b] = [await join('h1'), await join('h2')]
    const network = await a.create('net')
    await until('both know the network', () => b.known.has(network.id))
    const mine = await a.start(network, 'mine')
    const other = await b.start(network, 'other')
    await until('they know each other', () => namesAt(a).join() === 'other' && namesAt(b).join() === 'mine')
    const values = hostileValues(stores().largest).filter((_, n) => n % 3 === 0)
    const addresses = [mine, other].map((e) => CLUSTER_KEY.address(network.id, e.ipv4 as never))
    for (const [what, value] of values) {
      for (const key of [
        CLUSTER_KEY.host(a.id),
        CLUSTER_KEY.lease(b.id),
        CLUSTER_KEY.network(network.id),
        CLUSTER_KEY.networkName('net'),
        CLUSTER_KEY.guard,
        CLUSTER_KEY.endpoint(network.id, mine.endpointId),
        CLUSTER_KEY.endpoint(network.id, other.endpointId),
        ...addresses,
        CLUSTER_KEY.endpointName(network.id, 'mine'),
        CLUSTER_KEY.ownedEndpoint(a.id, network.id, mine.endpointId),
      ])
        await put(key, value)
      await until(`after ${what} the network's record is put back`, async () => {
        const { value: text = '' } = (await a.store.get(CLUSTER_KEY.network(network.id))) ?? {}
        return decodeNetwork(text, network.id).ok && a.service.view.network(network.id) !== undefined
      })
      await until(`after ${what} the endpoints are put back`, async () => {
        const { entries } = await a.store.list(CLUSTER_KEY.endpoints(network.id))
        return entries.every(({ key, value: text }) => decodeEndpoint(text, network.id, key.split('/')[2] ?? '').ok)
      })
      const third = await b.start(network, 'third')
      await until(`after ${what} others are followed`, () => namesAt(a).join() === 'other,third')
      await b.stop(third)
      await until('and forgotten', () => namesAt(a).join() === 'other')
    }
    assert.deepEqual(
      [a, b].map((m) => m.known.get(network.id)?.name),
      ['net', 'net'],
    )
    assert.deepEqual(namesAt(b), ['mine'])
    await a.create('more')
    await a.stop(mine)
    await b.stop(other)
    await until('all of it is freed', async () => {
      const left = await Promise.all(['endpoints/', 'addr/', 'epname/', 'owned/'].map((prefix) => a.store.list(prefix)))
      return left.every(({ entries }) => entries.length === 0)
    })
  })
}

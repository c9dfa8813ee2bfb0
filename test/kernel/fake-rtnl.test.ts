/** The kernel in memory against the real one: the same plans and the same mischief leave the same state and the same refusals. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type Ip, parseCidr, parseIp } from '../../src/base/address.ts'
import { NetError } from '../../src/base/errors.ts'
import { linuxNamespaces, type NamespaceSystem, OverlayNamespace } from '../../src/cluster/overlay/namespace.ts'
import { type OverlayObserved, planOverlay } from '../../src/drivers/overlay/plan.ts'
import { type OverlayEndpoint, type OverlayFacts, overlayMac, overlayWanted } from '../../src/drivers/overlay/wanted.ts'
import { openRtnl } from '../../src/kernel/rtnl.ts'
import type { Rtnl } from '../../src/kernel/types.ts'
import type { Step } from '../../src/model/kernel-state.ts'
import { homeNetns, initNetns } from '../../src/sys/netns.ts'
import { FakeKernel } from '../../testkit/fake-kernel.ts'
import { seeded } from '../../testkit/random.ts'

interface Side {
  readonly host: Rtnl
  readonly namespace: OverlayNamespace
  readonly system: NamespaceSystem
}

const facts: OverlayFacts = {
  networkId: 'f'.repeat(64),
  segments: [
    { vni: 4096, subnets: [{ subnet: parseCidr('10.0.0.0/24'), gateway: parseIp('10.0.0.1') }] },
    {
      vni: 4097,
      subnets: [
        { subnet: parseCidr('10.0.1.0/24'), gateway: parseIp('10.0.1.1') },
        { subnet: parseCidr('fd00:1::/64'), gateway: '' },
      ],
    },
  ],
  mtu: 1450,
  vtep: parseIp('192.0.2.1'),
  port: 4789,
  hostId: 'host1',
}
let dir: string
let sides: Side[]

before(async () => {
  await initNetns()
  dir = mkdtempSync(join(tmpdir(), 'causeway-fake-'))
  const fake = new FakeKernel('192.0.2.1/24' as never)
  const open = (system: NamespaceSystem, host: Rtnl): Side => ({
    host,
    system,
    namespace: OverlayNamespace.ensure(join(dir, 'ns'), true, system),
  })
  sides = [open(linuxNamespaces, openRtnl(homeNetns())), open(fake.namespaces, fake.host)]
})

after(() => {
  for (const { namespace, system } of sides) {
    namespace.close()
    system.remove(namespace.path)
  }
  rmSync(dir, { recursive: true, force: true })
})

/** What the planner looks at. */
function text(have: OverlayObserved): string[] {
  return have.links().flatMap((link) => {
    const own = link.vxlan === undefined ? '' : JSON.stringify(Object.entries(link.vxlan).sort())
    const port = link.port === undefined ? '' : `learning ${link.port.learning} isolated ${link.port.isolated}`
    const mac = link.kind === 'bridge' ? link.mac : ''
    return [
      [link.name, link.kind, mac, link.mtu, link.up, have.nameOf(link.master) ?? '', link.alias, own, port].join(' '),
      ...have
        .addressesOf(link.name)
        .filter((a) => link.kind === 'bridge' && a.scope !== 'link')
        .map((a) => `  ${a.address} ${a.scope} ${a.broadcast ?? ''}`),
      ...(link.kind === 'vxlan' ? have.neighboursOf(link.name) : [])
        .filter((n) => n.state !== 'noarp')
        .map((n) => `  neigh ${n.ip} ${n.mac} ${n.state}`)
        .sort(),
      ...(link.kind === 'vxlan' ? have.fdbOf(link.name) : [])
        .filter((f) => f.self === true || f.permanent !== true)
        .map((f) => `  fdb ${f.mac} ${f.dst ?? ''} ${f.self} ${f.permanent}`)
        .sort(),
    ]
  })
}

const assertSame = (what: string): string[] => {
  const [real = [], fake = []] = sides.map(({ namespace }) => text(namespace.observe()).sort())
  assert.deepEqual(fake, real, what)
  return real
}

const remote = (n: number, host: number): OverlayEndpoint => {
  const segment = n % 2
  const ipv4 = `10.0.${segment}.${10 + n}` as Ip
  const ipv6 = segment === 1 ? (`fd00:1::${10 + n}` as Ip) : ''
  return { id: `e${n}`, ipv4, ipv6, mac: overlayMac(ipv4), hostId: `host${host}`, vteps: [parseIp(`192.0.2.${host}`)] }
}

test('plans over random members, and repairs after mischief, leave the same in memory and in the kernel', () => {
  const random = seeded(11)
  const members = new Map<number, OverlayEndpoint>()
  for (let round = 0; round < 40; round++) {
    for (let i = 0; i < 3; i++) {
      const n = random.below(20)
      if (members.has(n) && random.below(2) === 0) members.delete(n)
      else members.set(n, remote(n, 2 + random.below(5)))
    }
    const mischief = random.below(4)
    for (const { host, namespace } of sides) {
      const have = namespace.observe()
      const neighbour = have.neighboursOf('vxlan1')[0]
      if (mischief === 1 && neighbour !== undefined) namespace.rtnl.apply([{ op: 'neigh.delete', neigh: neighbour }])
      if (mischief === 2 && round > 0) namespace.rtnl.apply([{ op: 'link.set', dev: 'vxlan0', set: { up: false, master: '' } }])
      if (mischief === 3 && round > 0) namespace.rtnl.apply([{ op: 'link.delete', dev: round % 2 === 0 ? 'br1' : 'vxlan0' }])
      const want = overlayWanted(facts, [...members.values()])
      namespace.apply(planOverlay(want, namespace.observe()), host)
      assert.deepEqual(planOverlay(want, namespace.observe()).findings, [], `round ${round}, mischief ${mischief}: nothing is left to do`)
    }
    const lines = assertSame(`round ${round}, mischief ${mischief}`)
    if (members.size > 3) assert.ok(lines.filter((line) => line.includes('neigh')).length > 1)
  }
})

test('the same steps are refused in the same way', () => {
  const fdb = { dev: 'vxlan0', mac: overlayMac('10.0.0.99' as Ip), dst: parseIp('192.0.2.9'), self: true }
  const steps: Step[] = [
    { op: 'link.add', link: { name: 'br0', kind: 'bridge' } },
    { op: 'link.set', dev: 'nothing0', set: { up: true } },
    { op: 'link.delete', dev: 'nothing0' },
    { op: 'neigh.delete', neigh: { dev: 'vxlan0', ip: parseIp('10.0.0.99'), state: 'permanent' } },
    { op: 'fdb.delete', fdb },
    { op: 'addr.delete', addr: { dev: 'br0', address: '10.9.9.9/24' as never } },
  ]
  const vxlan = { vni: 4096, port: 4789, local: facts.vtep, learning: false, proxy: true, l2miss: true, l3miss: true }
  for (const [real, fake] of [
    ...steps.map((step) => sides.map(({ namespace }) => refusal(namespace.rtnl, step))),
    sides.map(({ host }) => refusal(host, { op: 'link.add', link: { name: 'other0', kind: 'vxlan', vxlan } })),
  ])
    assert.deepEqual(fake, real)
})

function refusal(rtnl: Rtnl, step: Step): string {
  try {
    rtnl.apply([step])
  } catch (error) {
    assert.ok(error instanceof NetError, String(error))
    return `${step.op} ${error.code} ${error.detail.errno}`
  }
  assert.fail(`${step.op} was not refused`)
}

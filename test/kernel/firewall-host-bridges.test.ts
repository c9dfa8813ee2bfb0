/** Bridges of the host's own, beside ours, on a host that does not forward and has br_netfilter on: what is bridged there passes, what is routed does not. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Forwarding } from '../../src/engine/forwarding.ts'
import { KEY } from '../../src/engine/records.ts'
import { openRtnl } from '../../src/kernel/rtnl.ts'
import type { Rtnl } from '../../src/kernel/types.ts'
import type { NftElement } from '../../src/model/nft-element.ts'
import { memoryStore } from '../../src/store/memory-store.ts'
import type { Store } from '../../src/store/types.ts'
import { isolate } from '../../testkit/isolated.ts'
import { FirewallLab, sh } from './firewall-lab.ts'

isolate()

let lab: FirewallLab
let rtnl: Rtnl
let forwarding: Forwarding
const store: Store = memoryStore()
const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet }
/** The firewall's elements of forwarding, as the engine's change them. */
const elements = new Set<string>()

before(async () => {
  lab = await FirewallLab.build()
  rtnl = openRtnl()
  sh('sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0')
  for (const [bridge, n] of [
    ['lan0', 81],
    ['lan1', 82],
  ] as const) {
    sh(`ip link add ${bridge} type bridge; ip link set ${bridge} up; ip addr add 10.${n}.0.1/24 dev ${bridge}`)
    for (const k of [2, 3])
      sh(`ip netns add ${bridge}-${k}; ip link add ${bridge}v${k} type veth peer name eth0 netns ${bridge}-${k}
        ip link set ${bridge}v${k} master ${bridge} up; ip -n ${bridge}-${k} link set eth0 up
        ip -n ${bridge}-${k} addr add 10.${n}.0.${k}/24 dev eth0; ip -n ${bridge}-${k} route add default via 10.${n}.0.1`)
  }
  const keyOf = ({ set, key }: NftElement) => `${set} ${Buffer.from(key).toString('latin1').replaceAll('\0', '')}`
  forwarding = new Forwarding({
    store,
    rtnl,
    log: quiet,
    isOurs: (name) => name === 'nat0',
    enabled: true,
    setElements: (wanted, unwanted) => {
      lab.nft.change({ add: lab.ledger.take(wanted), remove: lab.ledger.release(unwanted) })
      for (const element of unwanted) elements.delete(keyOf(element))
      for (const element of wanted) elements.add(keyOf(element))
    },
  })
  lab.network('nat0')
  forwarding.openBridge('nat0', [4])
})

after(() => {
  rtnl.close()
  lab.close()
})

const onBridges = (): string[] => [...elements].filter((key) => key.includes('lan')).toSorted()

test('a bridge of the host’s stays what it was: no router, and its ports reach each other', async () => {
  assert.deepEqual(onBridges(), ['opened4 lan0', 'opened4 lan1', 'switched lan0lan0', 'switched lan1lan1'])
  const isThere = sh('sysctl -n net.bridge.bridge-nf-call-iptables 2>/dev/null || true').trim() !== ''
  for (const state of isThere ? ['0', '1'] : []) {
    sh(`sysctl -qw net.bridge.bridge-nf-call-iptables=${state}`)
    assert.ok(await lab.pings('lan0-2', '10.81.0.3'), `bridged, br_netfilter ${state}`)
    const before = lab.counter('drop_uplinks')
    assert.equal(await lab.pings('lan0-2', '10.82.0.3'), false, 'routed to another bridge of the host')
    assert.ok(lab.counter('drop_uplinks') > before)
  }
})

test('an interface that has gone is forgotten, and comes back as a new one', () => {
  assert.notEqual(store.get(`${KEY.sysctls}net/ipv4/conf/lan1/forwarding`), undefined)
  sh('ip link del lan1')
  forwarding.interfaceGone('lan1')
  assert.deepEqual(onBridges(), ['opened4 lan0', 'switched lan0lan0'])
  assert.equal(store.get(`${KEY.sysctls}net/ipv4/conf/lan1/forwarding`), undefined)
  sh('ip link add lan1 type bridge; ip link set lan1 up')
  forwarding.interfaceAppeared('lan1')
  assert.deepEqual(onBridges(), ['opened4 lan0', 'opened4 lan1', 'switched lan0lan0', 'switched lan1lan1'])
})

test('a look at everything forgets what has gone without a word', () => {
  sh('ip link del lan1')
  forwarding.repair(4)
  assert.deepEqual(onBridges(), ['opened4 lan0', 'switched lan0lan0'])
})

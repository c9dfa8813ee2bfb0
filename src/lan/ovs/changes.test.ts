import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Mac } from '../../base/address.ts'
import { parseOvsConfig } from '../../drivers/ovs/config.ts'
import { addEndpoint, addNetwork, leftovers, removeEndpoint, removeNetwork, type WantedNetwork } from './changes.ts'
import { Replica } from './replica.ts'
import type { Operation } from './values.ts'

const uuidOf = (n: number) => `00000000-0000-0000-0000-${String(n).padStart(12, '0')}`
const network = (id: string, options: Record<string, string>): WantedNetwork => ({
  id,
  config: parseOvsConfig({ id, internal: false, options }),
  gatewayMac: undefined,
  datapath: 'netdev',
})
const RED = network('aaaaaaaaaaaaaaaa', { 'ovs.bridge': 'br0', vlan: '50', parent: 'eth1' })
const endpoint = { id: 'e1', hostIfname: 'veth1', mac: '02:00:00:00:00:01' as Mac, containerId: 'c1', ifaceId: 'e1' }

/** A database with one bridge and these ports. */
function withBridge(
  externalIds: Record<string, string>,
  ports: readonly { name: string; tag?: number; ids?: Record<string, string> }[],
): Replica {
  const replica = new Replica()
  const rows = ports.map(({ name, tag, ids = {} }, i) => [
    uuidOf(i + 1),
    { new: { name, tag: tag ?? ['set', []], external_ids: ['map', Object.entries(ids)], interfaces: ['uuid', uuidOf(100 + i)] } },
  ])
  const bridge = { name: 'br0', ports: ['set', rows.map(([id]) => ['uuid', id])], external_ids: ['map', Object.entries(externalIds)] }
  replica.update({ Bridge: { [uuidOf(999)]: { new: bridge } }, Port: Object.fromEntries(rows) })
  return replica
}
const tables = (operations: readonly Operation[]) => operations.map(({ op, table }) => `${op} ${table}`)
const deletedPorts = (operations: readonly Operation[]) =>
  [...JSON.stringify(operations).matchAll(/"ports","delete",\["set",(\[\[.*?\]\])\]/g)].flatMap(([, list]) =>
    (JSON.parse(list as string) as [string, string][]).map(([, id]) => Number(id.slice(-4))),
  )

test('ovs: a bridge that is missing is made with its uplink; one that is there only gets what it lacks', () => {
  const made = addNetwork(new Replica(), RED, 'engine')
  assert.deepEqual(tables(made), [
    'insert Interface',
    'insert Port',
    'insert Interface',
    'insert Port',
    'insert Bridge',
    'mutate Open_vSwitch',
    'mutate Open_vSwitch',
  ])
  const foreign = withBridge({ owner: 'me' }, [{ name: 'br0' }, { name: 'eth1' }])
  assert.deepEqual(tables(addNetwork(foreign, RED, 'engine')), ['wait Bridge', 'mutate Bridge', 'mutate Open_vSwitch'])
  const complete = withBridge({ 'causeway-network:aaaaaaaaaaaaaaaa': 'engine/eth1' }, [{ name: 'eth1' }])
  assert.deepEqual(addNetwork(complete, RED, 'engine'), [])
})

test('ovs: the last network takes our bridge along, unless it was there before or others have ports on it', () => {
  const users = { 'causeway-network:aaaaaaaaaaaaaaaa': 'engine/eth1' }
  const own = [{ name: 'br0' }, { name: 'eth1', ids: { causeway: 'uplink' } }, { name: 'og-a', ids: { causeway: RED.id } }]
  const bridgeGoes = (replica: Replica) => JSON.stringify(removeNetwork(replica, RED.id)).includes('"bridges","delete"')
  assert.ok(bridgeGoes(withBridge({ causeway: RED.id, ...users }, own)))
  assert.equal(bridgeGoes(withBridge(users, own)), false)
  assert.equal(bridgeGoes(withBridge({ causeway: RED.id, ...users }, [...own, { name: 'tap7' }])), false)
  const shared = withBridge({ causeway: RED.id, ...users, 'causeway-network:bbbb': 'engine/eth1' }, own)
  assert.deepEqual(deletedPorts(removeNetwork(shared, RED.id)), [3], 'the other network keeps the uplink')
  const apart = withBridge({ causeway: RED.id, ...users, 'causeway-network:bbbb': 'engine/' }, own)
  assert.deepEqual(deletedPorts(removeNetwork(apart, RED.id)).sort(), [2, 3])
  assert.deepEqual(deletedPorts(removeNetwork(withBridge(users, [{ name: 'eth1' }]), RED.id)), [], 'an uplink that was there before')
  assert.deepEqual(removeNetwork(withBridge({ owner: 'me' }, own.slice(0, 2)), RED.id), [])
})

test('ovs: a port is put in once, in its VLAN, under the name its pair has now', () => {
  const ids = { causeway: RED.id, 'causeway-endpoint': 'e1' }
  assert.deepEqual(addEndpoint(withBridge({}, [{ name: 'veth1', tag: 50, ids }]), RED, endpoint, 'engine'), [])
  assert.deepEqual(tables(addEndpoint(withBridge({}, [{ name: 'veth1', tag: 7, ids }]), RED, endpoint, 'engine')), [
    'update Port',
    'mutate Open_vSwitch',
  ])
  assert.deepEqual(deletedPorts(addEndpoint(withBridge({}, [{ name: 'veth0', tag: 50, ids }]), RED, endpoint, 'engine')), [1])
  assert.deepEqual(deletedPorts(removeEndpoint(withBridge({}, [{ name: 'eth1' }, { name: 'veth0', ids }]), 'e1')), [2])
})

test('ovs: leftovers are what this engine put there and no longer has; other engines and people are left alone', () => {
  const mark = (engine: string, network: string, id?: string) => ({
    causeway: network,
    'causeway-engine': engine,
    ...(id ? { 'causeway-endpoint': id } : {}),
  })
  const replica = withBridge({ 'causeway-network:gone': 'engine/', 'causeway-network:theirs': 'other/' }, [
    { name: 'v1', ids: mark('engine', 'alive', 'dead') },
    { name: 'v2', ids: mark('engine', 'alive', 'live') },
    { name: 'v3', ids: mark('other', 'theirs', 'foreign') },
    { name: 'eth1', ids: mark('engine', 'uplink') },
    { name: 'tap7' },
  ])
  const alive = { networks: new Set(['alive']), endpoints: new Set(['live']) }
  assert.deepEqual(leftovers(replica, 'engine', alive), { networks: ['gone'], endpoints: ['dead'] })
})

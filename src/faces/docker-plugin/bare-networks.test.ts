/** Networks made anew, with a Docker Engine that goes away, comes back and has containers: nobody loses a network. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../../../testkit/until.ts'
import { systemClock } from '../../base/clock.ts'
import { NetError } from '../../base/errors.ts'
import type { NetworkController } from '../../engine/types.ts'
import type { Network, NetworkSpec } from '../../model/network.ts'
import { memoryStore } from '../../store/memory-store.ts'
import { BareNetworks, withRoomFor } from './bare-networks.ts'
import type { DockerApi, DockerNetwork } from './docker-api.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet }
const ID = 'ab'.repeat(32)
const SPEC: NetworkSpec = { name: 'docker-abab', driver: 'overlay', ipam: { config: [{ subnet: '172.18.0.0/16' }] } }

/** A Docker Engine with networks by id, and a cluster whose networks all hosts see. */
function world() {
  const docker = new Map<string, DockerNetwork>([[ID, { Id: ID, Name: 'net1', Driver: 'causeway-overlay', Labels: { a: 'b' } }]])
  const cluster: { name: string; driver: string; id: string; pools: object[] }[] = []
  const state = { isAway: false, isInUse: false, waiting: SPEC as NetworkSpec | undefined, made: [] as object[] }
  const there = () => {
    if (state.isAway) throw new NetError('unavailable', 'away')
  }
  const api: DockerApi = {
    isThere: async () => !state.isAway,
    network: async (id) => {
      there()
      return docker.get(id)
    },
    removeNetwork: async (id) => {
      there()
      if (state.isInUse) throw new NetError('denied', 'has active endpoints')
      if (docker.delete(id)) state.waiting = undefined
    },
    createNetwork: async (body) => {
      there()
      state.made.push(body)
    },
  }
  const controller = {
    listNetworks: () => cluster as unknown as Network[],
    createNetwork: async (spec: NetworkSpec) => {
      const network = { name: spec.name, driver: 'overlay', id: spec.name, pools: [...(spec.ipam?.config ?? [])] }
      cluster.push(network)
      return { network: network as unknown as Network, warning: '' }
    },
  } as unknown as NetworkController
  const records = memoryStore()
  const joined: string[] = []
  const run = () =>
    new BareNetworks({
      ...{ controller, records, clock: systemClock, log: quiet, docker: api },
      waitingFor: () => state.waiting,
      joined: (_id, networkId, isMade) => {
        joined.push(`${networkId} ${isMade}`)
        state.waiting = undefined
      },
    })
  return { docker, cluster, state, records, joined, run }
}

test('the first engine keeps its network, and the cluster chooses from the other half of the subnet', async () => {
  const w = world()
  const bare = w.run()
  bare.learnSoon(ID)
  await until('the join', () => w.joined.length > 0)
  assert.deepEqual(w.joined, ['net1 true'])
  assert.deepEqual(w.cluster[0]?.pools, [{ subnet: '172.18.0.0/16', ipRange: '172.18.128.0/17' }])
  assert.deepEqual(w.state.made, [])
  bare.close()
})

test('killed between removing and making: the next run makes it, as often as it takes', async () => {
  const w = world()
  w.cluster.push({ name: 'net1', driver: 'overlay', id: 'n', pools: [] })
  const first = w.run()
  w.state.isInUse = true
  await assert.rejects(first.decide(ID), /network net1 is on other hosts too and is being made anew/)
  first.close()
  w.docker.delete(ID) // the run was killed right after this
  w.state.waiting = undefined
  w.state.isInUse = false
  w.state.isAway = true
  const second = w.run()
  second.begin([])
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.deepEqual(w.state.made, [])
  w.state.isAway = false
  await until('the network is made anew', () => w.state.made.length > 0)
  const [body] = w.state.made as { Name: string; Labels: object; IPAM: object }[]
  assert.deepEqual(
    [body?.Name, body?.Labels, body?.IPAM],
    ['net1', { a: 'b' }, { Driver: 'causeway', Options: { 'causeway.network': 'net1' } }],
  )
  await until('its record is gone', () => w.records.list('docker-anew/').length === 0)
  second.close()
})

test('an engine that does not say the name leaves the question open', async () => {
  const w = world()
  w.state.isAway = true
  const bare = w.run()
  assert.equal(await bare.decide(ID), false)
  assert.equal(w.state.waiting, SPEC)
  bare.close()
})

test('a range that the user gave to Docker is not the cluster’s', () => {
  assert.equal(withRoomFor({ subnet: '10.9.0.0/24' }, ['10.9.0.192/26']).ipRange, '10.9.0.0/25')
  assert.equal(withRoomFor({ subnet: 'fd00:9::/64' }, []).ipRange, 'fd00:9:0:0:8000::/65')
  assert.equal(withRoomFor({ subnet: '10.9.0.0/30' }, []).ipRange, undefined)
})

/** 50 containers of one network, started at once on three hosts: every start succeeds, cheaply, and everyone reaches everyone. */
import { execFileSync } from 'node:child_process'
import { isolate } from '../../testkit/isolated.ts'
import { neighbourLimits } from '../../testkit/lab.ts'

// one table of neighbours for all containers of this machine: full meshes want more than its default (engines of real hosts raise it)
const limits = neighbourLimits()
if (limits.raise.length > 0) {
  execFileSync('sysctl', ['-qw', ...limits.raise])
  process.on('exit', () => execFileSync('sysctl', ['-qw', ...limits.restore]))
}
isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { mesh } from '../../testkit/lab-mesh.ts'
import { until } from '../../testkit/until.ts'
import { judgeState, judgeTraffic } from './cluster-judge.ts'

const skip = etcdMissing() ?? false
const CONTAINERS = 50
let lab: Lab

before(async () => {
  if (!skip) lab = await startLab({ hosts: 3 })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

/** Calls that all engines made to the store until now, watches not counted: those are two per host for its whole life. */
async function operations(): Promise<number> {
  const said = await Promise.all(lab.engines.map((engine) => engine.api('GET', '/causeway/v1/cluster')))
  return said.reduce((sum, { json }) => sum + json.operations.reads + json.operations.writes, 0)
}

test('50 parallel starts on three hosts all succeed, for fewer than 20 store operations each, and 2450 pairs meet by name', {
  skip,
}, async (t) => {
  const made = await lab.engines[0]?.api('POST', '/networks/create', { Name: 'crowd', Driver: 'overlay' })
  assert.equal(made?.status, 201, made?.text)
  for (const engine of lab.engines)
    await until('the network is there', async () => (await engine.api('GET', '/networks/crowd')).status === 200)
  const before = await operations()
  const { failures, pairs, startMs, pingMs } = await mesh(lab, 'crowd', CONTAINERS)
  const perStart = ((await operations()) - before) / CONTAINERS
  t.diagnostic(`started in ${Math.round(startMs)} ms, met in ${Math.round(pingMs)} ms, ${perStart.toFixed(1)} store operations per start`)
  assert.deepEqual(failures, [])
  assert.equal(pairs, 2450)
  assert.ok(perStart > 1 && perStart < 20, `${perStart} operations per start`)
})

test('and by address; engines, store and kernels agree', { skip }, async () => {
  const { truth, wrong } = await judgeState(lab)
  assert.deepEqual(wrong, [])
  assert.equal(truth.attached.length, CONTAINERS)
  assert.deepEqual(await judgeTraffic(lab, truth, [], false), [])
})

/** How many entries each host has published of its kernel. */
async function published(): Promise<number[]> {
  const values = await lab.etcd.ctl('get', '--prefix', '/network/causeway/kernels/', '--print-value-only')
  return [...values.matchAll(/"entries":(\d+)/g)].map(([, entries]) => Number(entries))
}

test('a start alone costs at most 4 store operations, and one more for each host that publishes what its kernel holds then', {
  skip,
}, async () => {
  const isSaid = (entries: number) =>
    until('all hosts have published', async () => `${await published()}` === `${[entries, entries, entries]}`, 20_000)
  await isSaid(CONTAINERS)
  const before = await operations()
  await lab.engines[1]?.run('alone', { networks: ['crowd'] })
  await isSaid(CONTAINERS + 1)
  const spent = (await operations()) - before
  assert.ok(spent > lab.engines.length && spent <= 4 + lab.engines.length, `${spent} operations`)
})

/**
 * A cluster of many hosts on one machine: real members with the real store client on a real etcd, the real planner of the overlay, and
 * kernels in memory to which its steps are applied (`testkit/sim-cluster.ts`). Reports what an endpoint change costs hosts that use the
 * network and hosts that do not, memory, and etcd's load; what a silence and a restart of etcd cost; and checks after each of these that
 * all kernels are what the store says. Writes results/cluster-sim.md of the last three runs.
 * Run: node --import tsx bench/cluster-sim.ts [hosts, default 500] [hosts per network, default 10]
 */
import { readdirSync, readFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import type { Logger } from '../src/base/ports.ts'
import { parseStoreUrl } from '../src/cluster/store/url.ts'
import { startEtcd } from '../testkit/etcd.ts'
import { isolate } from '../testkit/isolated.ts'
import { difference, SimCluster } from '../testkit/sim-cluster.ts'
import { startWatchdog } from '../testkit/watchdog.ts'
import { addRun, type SimRun } from './cluster-sim-report.ts'
import { type EtcdLoad, readEtcd } from './etcd-load.ts'

isolate()
const HOSTS = Number(process.argv[2] ?? 500)
const PER_NETWORK = Number(process.argv[3] ?? 10)
const EACH = 2
const CHANGES = 200
const IDLE_MS = 20_000
const SILENCE_MS = 15_000
/** Larger clusters are not made to read everything at one time: their hosts share a thread here that would need longer than leases last. */
const RESTART_HOSTS = 100
/** A stage that takes longer has failed; the watchdog has said where. */
const STAGE_MS = 600_000

let complaints = 0
const complain = (message: string) => {
  if (++complaints <= 10) console.error(`  a host says: ${message}`)
}
const logger: Logger = { debug() {}, info() {}, warn: complain, error: complain }
const began = Date.now()
const seconds = (from: number) => Math.round((Date.now() - from) / 100) / 10
const idleRss = process.memoryUsage().rss

const etcd = await startEtcd()
const server = etcd.members[0]
if (server === undefined) throw new Error('there is no etcd')
let lag = 0
let ticked = Date.now()
setInterval(() => {
  lag = Math.max(lag, Date.now() - ticked - 100)
  ticked = Date.now()
}, 100).unref()
const watchdog = startWatchdog(
  15_000,
  (lines) => console.error(lines.map((line) => `  ${line}`).join('\n')),
  () => `files open here ${readdirSync('/proc/self/fd').length}, event loop late by up to ${lag} ms, load ${loadavg()[0]?.toFixed(1)}`,
)
const cluster = new SimCluster(parseStoreUrl(etcd.storeUrl('/sim')), PER_NETWORK, logger, watchdog)
const stages: SimRun['stages'][number][] = []

/** Runs one stage and notes what it cost. */
async function stage(name: string, fn: () => Promise<unknown>): Promise<{ before: EtcdLoad; after: EtcdLoad }> {
  const before = await readEtcd(server as NonNullable<typeof server>)
  const own = process.cpuUsage()
  lag = 0
  const late = new Promise<never>((_, reject) =>
    setTimeout(() => reject(new Error(`${name}: not within ${STAGE_MS} ms`)), STAGE_MS).unref(),
  )
  await Promise.race([fn(), late])
  const after = await readEtcd(server as NonNullable<typeof server>)
  const tookSeconds = (after.at - before.at) / 1000
  const ours = process.cpuUsage(own)
  // a new process counts from zero
  const cpuSeconds = after.cpuSeconds - (after.cpuSeconds < before.cpuSeconds ? 0 : before.cpuSeconds)
  const asked = after.asked - (after.asked < before.asked ? 0 : before.asked)
  const done = {
    name,
    seconds: tookSeconds,
    askedPerSecond: asked / tookSeconds,
    etcdCpu: cpuSeconds / tookSeconds,
    ownCpu: (ours.user + ours.system) / 1e6 / tookSeconds,
    lagMs: lag,
  }
  stages.push(done)
  console.error(
    `${name}: ${tookSeconds.toFixed(1)} s, etcd asked ${done.askedPerSecond.toFixed(0)}/s, ${(done.etcdCpu * 100).toFixed(0)} % of a processor`,
  )
  return { before, after }
}

await stage(`${HOSTS} hosts join`, () => cluster.join(HOSTS))
await stage(`${Math.ceil(HOSTS / PER_NETWORK)} networks are created`, () => cluster.createNetworks())
const asked = () => cluster.hosts.reduce((sum, host) => sum + host.asked, 0)
const askedBefore = asked()
await stage(`${HOSTS * EACH} containers start`, () => cluster.startAll(EACH))
const perStart = (asked() - askedBefore) / HOSTS / EACH
await stage('all kernels are as the store says', () => cluster.agreed())

const on = cluster.traffic(cluster.concerned)
const off = cluster.traffic(cluster.unconcerned)
const changing = await stage(`${CHANGES} containers of one network are replaced`, () => cluster.replace(CHANGES))
await cluster.agreed()
const concerned = difference(on, cluster.traffic(cluster.concerned))
const unconcerned = difference(off, cluster.traffic(cluster.unconcerned))
const changes = CHANGES * 3

await stage('verify', async () => {
  const verdict = await cluster.hosts[0]?.member.service.verify(60_000)
  if (!verdict?.ok) throw new Error(`verify does not agree: ${JSON.stringify(verdict).slice(0, 2000)}`)
})
global.gc?.()
const memory = (process.memoryUsage().rss - idleRss) / HOSTS
const idle = await stage('idle', () => new Promise((resolve) => setTimeout(resolve, IDLE_MS)))

const readings = () => cluster.hosts.reduce((sum, host) => sum + host.readings, 0)
const readBefore = readings()
server.pause()
await new Promise((resolve) => setTimeout(resolve, SILENCE_MS))
server.resume()
await stage(`etcd answers again after ${SILENCE_MS / 1000} s of silence`, async () => {
  const isUp = () => cluster.hosts.every((host) => host.member.store.status().state === 'up')
  await cluster.eventually('all hosts notice that etcd answers', () => (isUp() ? undefined : 'some have not'), STAGE_MS)
  await cluster.replace(1)
  await cluster.agreed(STAGE_MS)
})
const readAfterSilence = readings() - readBefore

if (HOSTS <= RESTART_HOSTS) await restart()
const endpoints = await cluster.agreed()

const run: SimRun = {
  at: new Date(began).toISOString().slice(0, 16),
  hosts: HOSTS,
  perNetwork: PER_NETWORK,
  seconds: seconds(began),
  load: loadavg()[1] ?? 0,
  stages,
  perStart,
  changes,
  concernedHosts: cluster.concerned.length,
  concerned,
  unconcernedHosts: cluster.unconcerned.length,
  unconcerned,
  watchMessagesPerChange: (changing.after.watchMessages - changing.before.watchMessages) / changes,
  etcdMsPerChange: ((changing.after.cpuSeconds - changing.before.cpuSeconds) * 1000) / changes,
  memoryPerHost: memory,
  etcd: idle.after,
  readAfterSilence,
  endpoints,
  complaints,
  refused: cluster.refused,
  filesHere: readdirSync('/proc/self/fd').length,
  kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
}
console.log(addRun(run))
await cluster.crash()
await etcd.close()
process.exit(unconcerned.events === 0 && unconcerned.bytes === 0 && unconcerned.steps === 0 && readAfterSilence === 0 ? 0 : 1)

/** etcd ends by kill -9 and comes back: what was known before counts for nothing, and all hosts read everything at one time. */
async function restart(): Promise<void> {
  await server?.kill9()
  const isDown = () => cluster.hosts.every((host) => host.member.store.status().state === 'down')
  await cluster.eventually('all hosts notice that etcd has gone', () => (isDown() ? undefined : 'some have not'))
  const each = cluster.hosts.map((host) => host.readings)
  server?.start()
  await etcd.ready()
  await stage('etcd is back after kill -9, everybody reads everything again', async () => {
    const behind = () => {
      const hosts = cluster.hosts.filter((host, i) => host.readings <= (each[i] as number) || !host.member.service.membership.isJoined)
      const down = cluster.hosts.filter((host) => host.member.store.status().state !== 'up').length
      const unjoined = hosts.filter((host) => !host.member.service.membership.isJoined).length
      return hosts.length === 0 ? undefined : `${hosts.length} have not, ${unjoined} are not members, etcd is away for ${down}`
    }
    await cluster.eventually('all hosts have read again', behind, STAGE_MS)
    await cluster.replace(1)
    await cluster.agreed(STAGE_MS)
  })
}

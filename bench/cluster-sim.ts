/**
 * A cluster of many hosts on one machine: real members with the real store client on a real etcd, the real planner of the overlay, and a
 * kernel that is only a table. Reports what an endpoint change costs a host that uses the network and one that does not, memory, and etcd's
 * load, and ends with `verify` over all hosts. Run: node --import tsx bench/cluster-sim.ts [hosts, default 500] [hosts per network, default 10]
 */
import { readFileSync } from 'node:fs'
import type { Ip, Mac } from '../src/base/address.ts'
import { systemClock } from '../src/base/clock.ts'
import type { Logger } from '../src/base/ports.ts'
import { systemRng } from '../src/base/rng.ts'
import type { ClusterEndpoint, ClusterNetwork, ClusterView, KernelEntry } from '../src/cluster/model.ts'
import { openClusterStore } from '../src/cluster/store/open.ts'
import { parseStoreUrl } from '../src/cluster/store/url.ts'
import { segmentsOf } from '../src/drivers/overlay/config.ts'
import { overlayWanted } from '../src/drivers/overlay/wanted.ts'
import type { Network } from '../src/model/network.ts'
import { inTurns, type Member, startMember, until } from '../test/cluster/model-lab.ts'
import { startEtcd } from '../testkit/etcd.ts'
import { isolate } from '../testkit/isolated.ts'

isolate()
const hosts = Number(process.argv[2] ?? 500)
const perNetwork = Number(process.argv[3] ?? 10)
/** Says what the store's clients complain of. */
const log: Logger = {
  debug() {},
  info() {},
  warn: (message, fields) => console.log(message, fields),
  error: (message, fields) => console.log(message, fields),
}
const CHANGES = 200
const WIDTH = 16

/** Neighbour and forwarding entries of one host, by network: what `overlayWanted` says, in a table. */
class TableKernel {
  readonly #tables = new Map<string, KernelEntry[]>()
  plans = 0

  follow(view: ClusterView): void {
    view.onChange((change) => {
      if (change.kind !== 'endpoint' && change.kind !== 'endpoints') return
      const network = view.network(change.networkId)
      if (network === undefined || !view.used().includes(network.id)) this.#tables.delete(change.networkId)
      else this.#plan(view, network)
    })
  }

  #plan(view: ClusterView, network: ClusterNetwork): void {
    this.plans++
    const endpoints = view.endpointsOf(network.id)
    const vtep = (view.host(view.hostId)?.address ?? '10.99.0.1') as Ip
    const segments = segmentsOf(
      network.subnets.map(({ subnet, gateway }) => ({ subnet, aux: {}, ...(gateway === undefined ? {} : { gateway }) })),
      network.subnets.map(({ vni }) => vni),
    )
    const facts = { networkId: network.id, segments, mtu: 1450, vtep, port: 4789, hostId: view.hostId }
    const wanted = overlayWanted(facts, endpoints.map(memberOf))
    const ends = new Map<Mac, Ip>()
    for (const { mac, dst, self } of wanted.fdb) if (self === true && dst !== undefined) ends.set(mac, dst)
    const local = endpoints.filter((e) => e.hostId === view.hostId).map(({ ipv4, mac }) => ({ ip: ipv4 as Ip, mac, host: vtep }))
    const remote = wanted.neighbours.flatMap(({ ip, mac }) => {
      const host = mac === undefined ? undefined : ends.get(mac)
      return mac === undefined || host === undefined ? [] : [{ ip, mac, host }]
    })
    this.#tables.set(network.id, [...local, ...remote])
  }

  read = (networkId: string): readonly KernelEntry[] => this.#tables.get(networkId) ?? []
}

function memberOf(e: ClusterEndpoint) {
  return { id: e.id, ipv4: e.ipv4, ipv6: e.ipv6, mac: e.mac, hostId: e.hostId, vteps: [e.hostAddress] }
}

const megabytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MB`
const rssOf = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
/** Seconds of processor time that a process has had. */
const cpuOf = (pid: number) => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}
const seconds = (from: number) => `${((Date.now() - from) / 1000).toFixed(1)} s`

const etcd = await startEtcd()
const etcdPid = etcd.members[0]?.pid() as number
const config = parseStoreUrl(etcd.storeUrl('/sim'), { 'kv.patience': '30' })
const idleRss = process.memoryUsage().rss
const kernels: TableKernel[] = []
const members: Member[] = []

let began = Date.now()
await inTurns(hosts, WIDTH, async (n) => {
  const kernel = new TableKernel()
  const store = openClusterStore(config, { clock: systemClock, rng: systemRng, logger: log })
  const member = startMember({ name: `h${n}`, store, readKernel: kernel.read })
  kernel.follow(member.service.view)
  kernels[n] = kernel
  members[n] = member
  await member.service.membership.join()
  if (n % 100 === 99) console.log(`${n + 1} hosts after ${seconds(began)}`)
})
await until('all hosts know all hosts', () => members.every((m) => m.service.view.hosts().length === hosts), 300_000)
console.log(
  `${hosts} hosts joined in ${seconds(began)}; this process ${megabytes(process.memoryUsage().rss - idleRss)} more, etcd ${megabytes(rssOf(etcdPid))}`,
)

began = Date.now()
const networks: Network[] = []
await inTurns(Math.ceil(hosts / perNetwork), 4, async (n) => {
  networks[n] = await (members[n * perNetwork] as Member).create(`net${n}`)
})
await until('all hosts know all networks', () => members.every((m) => m.known.size === networks.length), 300_000)
console.log(`${networks.length} networks created in ${seconds(began)}`)

const spent = (m: Member) => m.store.counters().reads + m.store.counters().writes
began = Date.now()
const before = members.reduce((sum, m) => sum + spent(m), 0)
await inTurns(hosts * 2, WIDTH, async (n) => {
  const host = n % hosts
  await (members[host] as Member).start(networks[Math.floor(host / perNetwork)] as Network, `c${n}`)
})
const total = members.reduce((sum, m) => sum + spent(m), 0) - before
console.log(`${hosts * 2} containers started in ${seconds(began)}, ${(total / hosts / 2).toFixed(2)} store operations each`)

await until('everybody has heard of every start', () =>
  members.every((m) => m.service.view.used().every((id) => m.service.view.endpointsOf(id).every((e) => e.active))),
)

// one network changes; who hears of it?
const busy = networks[0] as Network
const on = members.slice(0, perNetwork)
const off = members.slice(perNetwork)
const heard = new Map(members.map((m) => [m, 0]))
for (const m of members) m.service.view.onChange(() => void heard.set(m, (heard.get(m) ?? 0) + 1))
const background = () => off.reduce((sum, m) => sum + m.store.counters().background, 0)
const quiet = { background: background(), cpu: cpuOf(etcdPid), at: Date.now() }
const plansBefore = kernels.slice(perNetwork).reduce((sum, k) => sum + k.plans, 0)
for (let n = 0; n < CHANGES; n++) {
  const m = on[n % on.length] as Member
  await m.stop(await m.start(busy, 'replaced'))
}
const took = Date.now() - quiet.at
const changes = CHANGES * 3 // granted, told, freed
const heardOff = off.reduce((sum, m) => sum + (heard.get(m) ?? 0), 0)
const heardOn = on.reduce((sum, m) => sum + (heard.get(m) ?? 0), 0)
console.log(
  `${changes} endpoint changes on one network in ${(took / 1000).toFixed(1)} s, etcd ${(((cpuOf(etcdPid) - quiet.cpu) * 1000) / changes).toFixed(2)} ms of processor each`,
)
console.log(`  a host on the network heard of ${(heardOn / on.length / changes).toFixed(2)} changes per change`)
console.log(
  `  the ${off.length} other hosts heard of ${heardOff}, planned ${kernels.slice(perNetwork).reduce((sum, k) => sum + k.plans, 0) - plansBefore} times; ${background() - quiet.background} renewals of leases meanwhile`,
)

const verifyBegan = Date.now()
const verdict = await (members[0] as Member).service.verify(60_000)
const agreeing = verdict.networks.flatMap((n) => n.hosts).filter((h) => h.state === 'agrees').length
console.log(
  `verify: ${verdict.ok ? 'all agree' : 'NOT all agree'}, ${agreeing} host views of ${verdict.networks.length} networks in ${seconds(verifyBegan)}`,
)
global.gc?.()
console.log(`memory: ${megabytes((process.memoryUsage().rss - idleRss) / hosts)} per host here, etcd ${megabytes(rssOf(etcdPid))}`)

const idle = { cpu: cpuOf(etcdPid), at: Date.now() }
await systemClock.sleep(10_000)
console.log(
  `idle: etcd uses ${(((cpuOf(etcdPid) - idle.cpu) / ((Date.now() - idle.at) / 1000)) * 100).toFixed(1)} % of a processor for ${hosts} leases and ${hosts} hosts' watches`,
)
await inTurns(hosts, 32, (n) => (members[n] as Member).crash())
await etcd.close()
process.exit(verdict.ok && heardOff === 0 ? 0 : 1)

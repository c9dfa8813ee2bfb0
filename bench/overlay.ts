/**
 * Causeway's overlay beside the one that Docker had until 20.10 (external key-value store), on one machine in one run: how soon a container
 * is known and reached from another host, how soon it is forgotten, and what the path costs. Writes results/overlay.md.
 *
 *   node --import tsx bench/overlay.ts [rounds, default 30]
 */
import { isolate } from '../testkit/isolated.ts'

isolate()

import { readFileSync, writeFileSync } from 'node:fs'
import { arch, cpus, loadavg, release } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { type End, measurePath, type Path } from '../testkit/lab-measure.ts'
import { EntryWatch, nowMs, Probe } from './overlay-probe.ts'
import { type Side, type SideHost, startCauseway, startClassic } from './overlay-sides.ts'
import { short, summarize } from './stats.ts'

const ROUNDS = Number(process.argv[2] ?? 30)
const PATH_ROUNDS = 15
const SECONDS = 2
const NETWORK = 'bench'

interface Inspected {
  readonly State: { readonly Pid: number }
}

async function create(side: Side, host: number, name: string, ip: string): Promise<void> {
  const { api } = side.hosts[host] as SideHost
  await api.call('POST', `/containers/create?name=${name}`, {
    Image: side.image,
    Cmd: ['sleep', '7200'],
    StopSignal: 'SIGKILL',
    HostConfig: { NetworkMode: NETWORK },
    NetworkingConfig: { EndpointsConfig: { [NETWORK]: { IPAMConfig: { IPv4Address: ip } } } },
  })
}

const begin = (side: Side, host: number, name: string) => (side.hosts[host] as SideHost).api.call('POST', `/containers/${name}/start`)

/** A network with one container on each host, `10.91.0.<100 + host>`; returns the namespaces of their processes. */
async function prepare(side: Side): Promise<End[]> {
  const [first] = side.hosts
  await first?.api.call('POST', '/networks/create', {
    Name: NETWORK,
    Driver: 'overlay',
    CheckDuplicate: true,
    IPAM: { Config: [{ Subnet: '10.91.0.0/24' }] },
  })
  await sleep(500)
  const ends: End[] = []
  for (const [i, { api }] of side.hosts.entries()) {
    const ip = `10.91.0.${100 + i}`
    await create(side, i, `stays${i}`, ip)
    await begin(side, i, `stays${i}`)
    const { State } = await api.call<Inspected>('GET', `/containers/stays${i}/json`)
    ends.push({ netns: `/proc/${State.Pid}/ns/net`, ip })
  }
  return ends
}

type Series = Map<string, number[]>

function note(series: Series, what: string, value: number): void {
  series.set(what, [...(series.get(what) ?? []), value])
}

/** Starts and removes a container on the first host, seen from all others. Milliseconds. */
async function measureLife(side: Side, ends: readonly End[], series: Series): Promise<void> {
  const { api } = side.hosts[0] as SideHost
  const { Id } = await api.call<{ Id: string }>('GET', `/networks/${NETWORK}`)
  const others = side.hosts.slice(1)
  const probes = ends.slice(1).map(({ netns }) => ({ byName: new Probe(netns), byAddress: new Probe(netns) }))
  const watches: EntryWatch[] = []
  for (const { host, netnsDir } of others) {
    const place = (await host.sh(`ls ${netnsDir} | grep -- -${Id.slice(0, 10)}`)).out.trim()
    watches.push(new EntryWatch(host.enter('nsenter', `--net=${netnsDir}/${place}`)))
  }
  await sleep(500)
  for (let i = 0; i < ROUNDS; i++) {
    const [name, ip] = [`comes${i}`, `10.91.0.${10 + (i % 80)}`]
    await create(side, 0, name, ip)
    const seen = probes.map(({ byName }) => byName.name(name))
    const asked = nowMs()
    await begin(side, 0, name)
    const returned = nowMs()
    const pinged = await Promise.all(probes.map(({ byAddress }) => byAddress.ping(ip)))
    const named = await Promise.all(seen)
    note(series, 'start call', returned - asked)
    note(series, 'address reached, after the start call’s return (all hosts)', Math.max(...pinged) - returned)
    note(series, 'name known, after the return (all hosts)', Math.max(...named.map((n) => n.named)) - returned)
    note(series, 'an eager client’s first answer by name, after the return', Math.max(...named.map((n) => n.reached)) - returned)
    await sleep(100)
    const forgotten = probes.map(({ byName }) => byName.gone(name))
    const entries = watches.map((watch) => watch.gone(ip))
    const removing = nowMs()
    await api.call('DELETE', `/containers/${name}?force=1`)
    const removed = nowMs()
    note(series, 'rm -f call', removed - removing)
    const gone = Math.max(...(await Promise.all(forgotten)))
    note(series, 'name gone on all hosts, after the rm call was issued', gone - removing)
    note(series, 'name gone, after the call’s return', gone - removed)
    const cleared = Math.max(...(await Promise.all(entries)))
    note(series, 'entries gone on all hosts, after the rm call was issued', cleared - removing)
    note(series, 'entries gone, after the call’s return', cleared - removed)
    await sleep(50)
  }
  for (const { byName, byAddress } of probes) for (const probe of [byName, byAddress]) probe.close()
  for (const watch of watches) watch.close()
}

/** TCP and round trip between the first two hosts, both engines and what is below them in turns. */
async function measurePaths(paths: ReadonlyMap<string, readonly [End, End]>): Promise<Map<string, Path>> {
  const measured = new Map([...paths.keys()].map((label): [string, Path] => [label, { tcp: [], rtt: [] }]))
  const all = [...paths]
  for (let i = 0; i < PATH_ROUNDS; i++)
    // each begins in turn, so that nobody is always measured in the wake of the same other
    for (let j = 0; j < all.length; j++) {
      const [label, [from, to]] = all[(i + j) % all.length] as (typeof all)[number]
      await measurePath(from, to, SECONDS, measured.get(label) as Path)
    }
  return measured
}

function table(rows: readonly (readonly string[])[]): string {
  const [head = []] = rows
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.slice(1).map(line)].join('\n')
}

function report(lives: ReadonlyMap<string, Series>, paths: ReadonlyMap<string, Path>): string {
  const labels = [...lives.keys()]
  const quantities = [...(lives.values().next().value as Series).keys()]
  const times = quantities.map((what) => [
    what,
    ...labels.flatMap((label) => {
      const values = lives.get(label)?.get(what) ?? []
      const { median, p90 } = summarize(values)
      return [short(median), short(p90), short(Math.max(...values))]
    }),
  ])
  const below = paths.get('underlay') as Path
  const ratio = ({ tcp }: Path) => short(summarize(tcp.map((value, i) => value / (below.tcp[i] as number))).median)
  const ways = [...paths].map(([label, path]) => [label, short(summarize(path.tcp).median), ratio(path), short(summarize(path.rtt).median)])
  const model = /model name\s*: (.*)/.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? arch()
  return [
    '# Overlay across hosts: Causeway and Docker 20.10 with etcd, one run',
    '',
    `\`node --import tsx bench/overlay.ts ${ROUNDS}\`, ${new Date().toISOString().slice(0, 10)}. Linux ${release()}, ${cpus().length} × ${model}, Node ${process.versions.node}. Load average at the end: ${short(loadavg()[0] ?? 0)}.`,
    'Hosts are namespaces on one machine with a router between their subnets; Causeway on three, Docker on two (etcd on the first, one member).',
    'Seen from containers that ask for the name and ping every millisecond or two; below zero is before the call returned.',
    '',
    `## Life of a container (ms, ${ROUNDS} rounds)`,
    '',
    table([['', ...labels.flatMap((label) => [`${label}: median`, 'p90', 'worst'])], ...times]),
    '',
    `## The path between two hosts (medians of ${PATH_ROUNDS} rounds in turns, one TCP stream of ${SECONDS} s, 20,000 pings)`,
    '',
    table([['', 'TCP Gb/s', 'of the underlay, paired', 'round trip µs'], ...ways]),
    '',
  ].join('\n')
}

const lives = new Map<string, Series>()
const sides: Side[] = []
try {
  const paths = new Map<string, readonly [End, End]>()
  for (const start of [() => startCauseway(3), () => startClassic(2)]) {
    const side = await start()
    sides.push(side)
    console.error(`${side.label} runs`)
    const ends = await prepare(side)
    const series: Series = new Map()
    lives.set(side.label, series)
    await measureLife(side, ends, series)
    const [one, two] = side.hosts
    if (sides.length === 1 && one && two) paths.set('underlay', [one.host, two.host])
    paths.set(side.label, [ends[0] as End, ends[1] as End])
  }
  console.error('paths ...')
  const text = report(lives, await measurePaths(paths))
  console.log(text)
  writeFileSync(new URL('results/overlay.md', import.meta.url), text)
} finally {
  for (const side of sides) await side.close().catch((error: Error) => console.error(error.message))
}
process.exit(0)

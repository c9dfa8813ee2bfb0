/** The page of the cluster simulation: the last three runs side by side. */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import type { Traffic } from '../testkit/sim-cluster.ts'
import type { EtcdLoad } from './etcd-load.ts'
import { short } from './stats.ts'

export interface SimRun {
  readonly at: string
  readonly hosts: number
  readonly perNetwork: number
  readonly seconds: number
  /** Of the machine over five minutes, at the end. */
  readonly load: number
  readonly stages: readonly {
    readonly name: string
    readonly seconds: number
    readonly askedPerSecond: number
    /** Processors that etcd and this process had on average. */
    readonly etcdCpu: number
    readonly ownCpu: number
    /** Longest time for which this process did nothing that was due. */
    readonly lagMs: number
  }[]
  /** Questions to the store per container start. */
  readonly perStart: number
  readonly changes: number
  readonly concernedHosts: number
  readonly concerned: Traffic
  readonly unconcernedHosts: number
  readonly unconcerned: Traffic
  readonly watchMessagesPerChange: number
  readonly etcdMsPerChange: number
  readonly memoryPerHost: number
  readonly etcd: EtcdLoad
  /** Readings of whole networks, by all hosts together, after etcd was silent. */
  readonly readAfterSilence: number
  readonly endpoints: number
  /** Warnings and errors that hosts logged. */
  readonly complaints: number
  /** Changes that were refused because the store did not answer in time, and asked for again. */
  readonly refused: number
  readonly filesHere: number
  readonly kernel: string
}

const KEPT = 3
/** Size that has the page without a number in its name. */
const USUAL = 500

const fileOf = ({ hosts }: SimRun, ending: string) =>
  new URL(`results/cluster-sim${hosts === USUAL ? '' : `-${hosts}`}.${ending}`, import.meta.url)

/** Adds a run to those of the same size and writes the page; returns it. */
export function addRun(run: SimRun): string {
  const runs = [...before(run).filter(({ perNetwork }) => perNetwork === run.perNetwork), run].slice(-KEPT)
  const text = page(runs)
  writeFileSync(fileOf(run, 'json'), `${JSON.stringify(runs, undefined, 1)}\n`)
  writeFileSync(fileOf(run, 'md'), text)
  return text
}

function before(run: SimRun): SimRun[] {
  try {
    return JSON.parse(readFileSync(fileOf(run, 'json'), 'utf8')) as SimRun[]
  } catch {
    return []
  }
}

const megabytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 24 ? 1 : 0)} MB`
const percent = (part: number) => `${(part * 100).toFixed(0)} %`

function page(runs: readonly SimRun[]): string {
  const last = runs.at(-1) as SimRun
  const row = (what: string, of: (run: SimRun) => string | number) => `| ${what} | ${runs.map(of).join(' | ')} |`
  const head = (what: string, cells: readonly string[]) => [
    `| ${what} | ${cells.join(' | ')} |`,
    `| --- |${' ---: |'.repeat(cells.length)}`,
  ]
  const perHost = (of: 'events' | 'bytes' | 'steps') => (run: SimRun) => short(run.concerned[of] / run.concernedHosts / run.changes)
  return [
    `# ${last.hosts} hosts in one process: what a cluster costs its store`,
    '',
    `\`node --import tsx bench/cluster-sim.ts ${last.hosts} ${last.perNetwork}\`. Linux ${last.kernel}, ${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.versions.node}. Others worked on the same machine.`,
    '',
    'Each host is the real member with a store client and connections of its own and the real overlay with its planner; its kernel is in memory and',
    `takes the planner's steps (\`testkit/fake-rtnl.ts\`, held against the real kernel by a test). etcd is real, one member on a RAM disk. ${last.perNetwork} hosts share a network,`,
    `each runs ${last.endpoints / last.hosts} containers. All hosts share one process and with etcd the machine's processors, so that the times are those of an overloaded cluster; the counts are exact.`,
    'After the starts, the changes and what was done to etcd every host’s kernel was compared with the store: namespaces, neighbours, tunnel ends,',
    'broadcast ends and interfaces, no more and no less. A run in which one differs is not in this table.',
    '',
    ...head(
      'run',
      runs.map(({ at }) => at),
    ),
    row('whole run, s', (r) => r.seconds.toFixed(0)),
    row('load of the machine (5 min)', (r) => r.load.toFixed(1)),
    row('endpoints at the end, on all kernels as in the store', (r) => r.endpoints),
    row('store operations per container start', (r) => short(r.perStart)),
    row('changes refused for want of an answer in time, then made', (r) => r.refused),
    row('warnings of all hosts (etcd was silent for a while)', (r) => r.complaints),
    '',
    `## One change of an endpoint (of ${last.changes} on one network)`,
    '',
    ...head(
      'run',
      runs.map(({ at }) => at),
    ),
    row('events over the watches of a host on the network', perHost('events')),
    row('bytes over the watches of a host on the network', perHost('bytes')),
    row('steps applied to its kernel', perHost('steps')),
    row(
      `**events over the watches of the ${last.unconcernedHosts} other hosts, all changes, all hosts**`,
      (r) => `**${r.unconcerned.events}**`,
    ),
    row('**bytes over their watches**', (r) => `**${r.unconcerned.bytes}**`),
    row('**changes of their views, steps applied to their kernels**', (r) => `**${r.unconcerned.changes}, ${r.unconcerned.steps}**`),
    row('messages that etcd sent to watchers', (r) => short(r.watchMessagesPerChange)),
    row('etcd’s processor time, ms', (r) => short(r.etcdMsPerChange)),
    '',
    '## What it takes',
    '',
    ...head(
      'run',
      runs.map(({ at }) => at),
    ),
    row('memory per host in this process', (r) => megabytes(r.memoryPerHost)),
    row('etcd: resident memory', (r) => megabytes(r.etcd.residentBytes)),
    row('etcd: database, with all revisions', (r) => megabytes(r.etcd.databaseBytes)),
    row('etcd: keys', (r) => r.etcd.keys),
    row('etcd: watchers', (r) => r.etcd.watchers),
    row('etcd: open files', (r) => r.etcd.openFiles),
    row('readings of whole networks after etcd’s silence, all hosts', (r) => r.readAfterSilence),
    '',
    '## Stages of the last run',
    '',
    '| stage | s | etcd is asked, per second | etcd’s processor | this process’s | its longest delay, ms |',
    '| --- | ---: | ---: | ---: | ---: | ---: |',
    ...last.stages.map(
      (s) =>
        `| ${s.name} | ${s.seconds.toFixed(1)} | ${s.askedPerSecond.toFixed(0)} | ${percent(s.etcdCpu)} | ${percent(s.ownCpu)} | ${s.lagMs} |`,
    ),
    '',
  ].join('\n')
}

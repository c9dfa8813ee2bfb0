/** `stats`. */

import { NetError } from '../../base/errors.ts'
import type { ContainerStats, CpuStats } from '../../client/types.ts'
import { defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { describe } from '../fail.ts'
import { bytesSize, humanSize, truncateId } from '../format/human.ts'
import { type ListFormat, type Row, renderList } from '../format/list-output.ts'
import { flag, formatOption } from '../options.ts'

const FORMAT: ListFormat = {
  headers: {
    Container: 'CONTAINER',
    ID: 'CONTAINER ID',
    Name: 'NAME',
    CPUPerc: 'CPU %',
    MemUsage: 'MEM USAGE / LIMIT',
    MemPerc: 'MEM %',
    NetIO: 'NET I/O',
    BlockIO: 'BLOCK I/O',
    PIDs: 'PIDS',
  },
  table: '{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}',
  quiet: 'ID',
}
const REDRAW_MS = 500

export const stats = defineCommand({
  path: 'stats',
  aliases: ['container stats'],
  summary: 'Show what containers use, live',
  usage: '[OPTIONS] [CONTAINER...]',
  args: [0, Number.POSITIVE_INFINITY],
  options: {
    all: flag('a', 'Show all containers, not only running'),
    format: formatOption(),
    'no-stream': flag('', 'Print once'),
    'no-trunc': flag('', 'Show full IDs'),
  },
  examples: [{ line: 'causeway stats' }, { line: 'causeway stats --no-stream web db' }],
  run: (context, names, options) => (options['no-stream'] ? once(context, names, options) : live(context, names, options)),
})

interface Shown {
  readonly all: boolean
  readonly format: string | undefined
  readonly 'no-trunc': boolean
}

async function targets(context: Context, names: readonly string[], all: boolean): Promise<readonly string[]> {
  return names.length > 0 ? names : (await context.client.containers.list({ all })).map((c) => truncateId(c.Id))
}

async function once(context: Context, names: readonly string[], shown: Shown): Promise<number> {
  const rows = await Promise.all(
    (await targets(context, names, shown.all)).map(async (name) => {
      // The engine's second sample has the CPU's history; a one-shot answer of older engines holds both already.
      for await (const sample of context.client.containers.stats(name, { stream: false })) return rowOf(name, sample, shown)
      return rowOf(name, undefined, shown)
    }),
  )
  context.stdout.write(renderList(FORMAT, rows, shown.format, false))
  return 0
}

async function live(context: Context, names: readonly string[], shown: Shown): Promise<number> {
  const stop = new AbortController()
  const off = context.onSignals(['SIGINT', 'SIGTERM'], () => stop.abort())
  const latest = new Map<string, Row>()
  const readers = new Map<string, Promise<void>>()
  let failure: unknown
  const watch = (name: string): void => {
    if (readers.has(name)) return
    latest.set(name, rowOf(name, undefined, shown))
    const read = async (): Promise<void> => {
      try {
        for await (const sample of context.client.containers.stats(name, { stream: true, signal: stop.signal }))
          latest.set(name, rowOf(name, sample, shown))
      } catch (error) {
        if (!stop.signal.aborted && names.length > 0) failure ??= error
      }
      latest.delete(name)
      readers.delete(name)
    }
    readers.set(name, read())
  }
  try {
    for (const name of await targets(context, names, shown.all)) watch(name)
    while (!stop.signal.aborted) {
      await context.clock.sleep(REDRAW_MS, stop.signal).catch(() => undefined)
      if (failure !== undefined) throw failure
      if (stop.signal.aborted) break
      // On a terminal the table is drawn in place: to the top, each line to its end, then what is below.
      const text = renderList(FORMAT, [...latest.values()], shown.format, false)
      context.stdout.write(context.stdout.isTTY === true ? `\u001b[H${text.replaceAll('\n', '\u001b[K\n')}\u001b[J` : text)
      if (names.length > 0 && readers.size === 0) break
      if (names.length === 0) for (const name of await targets(context, names, shown.all)) watch(name)
    }
  } catch (error) {
    if (!(error instanceof NetError)) throw error
    context.warn(describe(error))
    return 1
  } finally {
    stop.abort()
    off()
  }
  return 0
}

function rowOf(name: string, s: ContainerStats | undefined, shown: Shown): Row {
  const limit = s?.memory_stats?.limit ?? 0
  const used = memoryUsed(s)
  const net = Object.values(s?.networks ?? {})
  const received = net.reduce((sum, n) => sum + n.rx_bytes, 0)
  const sent = net.reduce((sum, n) => sum + n.tx_bytes, 0)
  const blocks = s?.blkio_stats?.io_service_bytes_recursive ?? []
  const block = (op: string) => blocks.filter((b) => b.op.toLowerCase() === op).reduce((sum, b) => sum + b.value, 0)
  const id = s?.id ?? ''
  const known = s !== undefined
  return {
    Container: name,
    ID: known ? (shown['no-trunc'] ? id : truncateId(id)) : '--',
    Name: known ? (s.name ?? '').replace(/^\//, '') || '--' : '--',
    CPUPerc: known ? `${cpuPercent(s).toFixed(2)}%` : '--',
    MemUsage: known ? `${bytesSize(used)} / ${bytesSize(limit)}` : '-- / --',
    MemPerc: known ? `${(limit === 0 ? 0 : (used / limit) * 100).toFixed(2)}%` : '--',
    NetIO: known ? `${humanSize(received, 3)} / ${humanSize(sent, 3)}` : '--',
    BlockIO: known ? `${humanSize(block('read'), 3)} / ${humanSize(block('write'), 3)}` : '--',
    PIDs: known ? String(s.pids_stats?.current ?? 0) : '--',
  }
}

/** Without the page cache, which the kernel gives back when it must: cgroup v1 and v2 name it differently. */
function memoryUsed(s: ContainerStats | undefined): number {
  const usage = s?.memory_stats?.usage ?? 0
  const cache = s?.memory_stats?.stats?.['total_inactive_file'] ?? s?.memory_stats?.stats?.['inactive_file'] ?? 0
  return cache < usage ? usage - cache : usage
}

/** Share of one CPU: the container's time over the system's time since the last sample, times the number of CPUs. */
function cpuPercent(s: ContainerStats): number {
  const total = (c: CpuStats | undefined) => c?.cpu_usage?.total_usage ?? 0
  const own = total(s.cpu_stats) - total(s.precpu_stats)
  const system = (s.cpu_stats?.system_cpu_usage ?? 0) - (s.precpu_stats?.system_cpu_usage ?? 0)
  const cpus = s.cpu_stats?.online_cpus ?? s.cpu_stats?.cpu_usage?.percpu_usage?.length ?? 1
  return own > 0 && system > 0 ? (own / system) * (cpus === 0 ? 1 : cpus) * 100 : 0
}

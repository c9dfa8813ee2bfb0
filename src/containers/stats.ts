/** `docker stats` and `docker top`: what the kernel counts about a container. */
import { availableParallelism } from 'node:os'
import { NetError } from '../base/errors.ts'
import type { CgroupUsage } from '../sys/cgroup.ts'
import { hostCpuNs, hostMemoryBytes, run } from '../sys/process.ts'
import { rfc3339, ZERO_TIME } from './time.ts'

export interface StatsInput {
  readonly id: string
  readonly name: string
  readonly now: number
  /** Undefined when the container does not run: everything is then zero. */
  readonly usage: CgroupUsage | undefined
  readonly networks: Readonly<Record<string, unknown>> | undefined
}

/** One sample in Docker's JSON. `precpu_stats` is empty: the API fills it from the sample before. */
export function statsJson(input: StatsInput): Record<string, unknown> {
  const { usage } = input
  const head = { read: rfc3339(input.now), preread: ZERO_TIME, id: input.id, name: `/${input.name}`, num_procs: 0, storage_stats: {} }
  if (usage === undefined) {
    const none = { cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 }, throttling_data: throttling(0, 0, 0) }
    return { ...head, pids_stats: {}, blkio_stats: {}, cpu_stats: none, precpu_stats: none, memory_stats: {} }
  }
  const io = usage.io.map((e) => ({ major: e.major, minor: e.minor, op: e.op, value: e.value }))
  const total = hostMemoryBytes()
  const cpu = {
    cpu_usage: {
      total_usage: usage.cpuTotal,
      ...(usage.cpuPerCpu.length > 0 ? { percpu_usage: usage.cpuPerCpu } : {}),
      usage_in_kernelmode: usage.cpuKernel,
      usage_in_usermode: usage.cpuUser,
    },
    system_cpu_usage: hostCpuNs(),
    online_cpus: usage.cpuPerCpu.length || availableParallelism(),
    throttling_data: throttling(usage.throttlePeriods, usage.throttledPeriods, usage.throttledTime),
  }
  return {
    ...head,
    pids_stats: { current: usage.pids, ...(usage.pidsLimit > 0 ? { limit: usage.pidsLimit } : {}) },
    blkio_stats: { io_service_bytes_recursive: io.length > 0 ? io : null },
    cpu_stats: cpu,
    precpu_stats: { cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 }, throttling_data: throttling(0, 0, 0) },
    memory_stats: {
      usage: usage.memory,
      max_usage: usage.memoryMax,
      stats: usage.memoryStats,
      failcnt: usage.memoryFailures,
      limit: usage.memoryLimit > 0 ? Math.min(usage.memoryLimit, total) : total,
    },
    ...(input.networks === undefined ? {} : { networks: input.networks }),
  }
}

const throttling = (periods: number, throttled_periods: number, throttled_time: number) => ({ periods, throttled_periods, throttled_time })

/** Rows of `ps` on the host that belong to `pids`. Throws `invalid` when the columns asked for do not say the pid. */
export async function processTable(pids: readonly number[], psArgs: string): Promise<{ titles: string[]; processes: string[][] }> {
  const args = psArgs.trim() === '' ? ['-ef'] : psArgs.trim().split(/\s+/)
  const ps = await run(['ps', ...args])
  if (ps.code !== 0) throw new NetError('internal', `ps: ${ps.stderr.trim().split('\n', 1)[0]}`)
  return parsePs(ps.stdout, pids)
}

/** The last column may hold blanks: everything from there on is one value. */
function parsePs(output: string, pids: readonly number[]): { titles: string[]; processes: string[][] } {
  const [head = '', ...lines] = output.split('\n')
  const titles = head.trim().split(/\s+/)
  const pidColumn = titles.indexOf('PID')
  if (pidColumn < 0) throw new NetError('internal', "Couldn't find PID field in ps output")
  const wanted = new Set(pids.map(String))
  const processes = lines
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => wanted.has(fields[pidColumn] ?? ''))
    .map((fields) => [...fields.slice(0, titles.length - 1), fields.slice(titles.length - 1).join(' ')])
  return { titles, processes }
}

/**
 * Control groups of containers: freezing, limits, usage and removal, for version 1, version 2 and hybrid hosts.
 * Groups are named by an absolute path (`/causeway/<id>`) that is the same below every hierarchy. The OCI runtime makes them.
 * Sources: Documentation/admin-guide/cgroup-v1/*.rst and cgroup-v2.rst of the kernel.
 */
import { readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'

export interface CgroupUsage {
  readonly memory: number
  readonly memoryMax: number
  readonly memoryLimit: number
  readonly memoryFailures: number
  readonly memoryStats: Readonly<Record<string, number>>
  /** Nanoseconds. */
  readonly cpuTotal: number
  readonly cpuUser: number
  readonly cpuKernel: number
  readonly cpuPerCpu: readonly number[]
  readonly throttlePeriods: number
  readonly throttledPeriods: number
  readonly throttledTime: number
  readonly pids: number
  readonly pidsLimit: number
  readonly io: readonly { major: number; minor: number; op: string; value: number }[]
}

export interface CgroupLimits {
  /** Bytes; -1 = none. */
  readonly memory?: number
  /** Memory plus swap in bytes; -1 = none. */
  readonly memorySwap?: number
  readonly memoryReservation?: number
  readonly cpuShares?: number
  /** Microseconds; quota -1 = none. */
  readonly cpuQuota?: number
  readonly cpuPeriod?: number
  readonly cpusetCpus?: string
  readonly cpusetMems?: string
  /** -1 or 0 = none. */
  readonly pids?: number
}

/** The hierarchies of this host. */
export interface Cgroups {
  readonly version: 1 | 2
  /** Stops or resumes all processes; returns when the kernel reports it done. */
  freeze(path: string, frozen: boolean): Promise<void>
  pids(path: string): number[]
  usage(path: string): CgroupUsage
  /** How many processes of the group the kernel killed for lack of memory. */
  oomKills(path: string): number
  update(path: string, limits: CgroupLimits): void
  /** Removes the group and its descendants everywhere. False when something still lives in it. */
  remove(path: string): boolean
}

/** Reads the mount table once. */
export function openCgroups(): Cgroups {
  const roots = new Map<string, string>()
  let unified: string | undefined
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left = '', right = ''] = line.split(' - ')
    const mountpoint = left.split(' ')[4]
    const [type, , options = ''] = right.split(' ')
    if (mountpoint === undefined) continue
    if (type === 'cgroup2') unified ??= mountpoint
    if (type === 'cgroup') for (const name of options.split(',')) roots.set(name, mountpoint)
  }
  return roots.has('freezer') || unified === undefined ? new CgroupsV1(roots, unified) : new CgroupsV2(unified)
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return ''
  }
}

/** A number from a one-line file; `max` and huge values mean "no limit" and give 0. */
function number(file: string): number {
  const n = Number(read(file))
  return Number.isFinite(n) && n < 2 ** 62 ? n : 0
}

function table(file: string): Record<string, number> {
  const out: Record<string, number> = {}
  for (const line of read(file).split('\n')) {
    const [key, value] = line.split(' ')
    if (key && value !== undefined) out[key] = Number(value)
  }
  return out
}

function readPids(dir: string): number[] {
  const own = read(`${dir}/cgroup.procs`).split('\n').filter(Boolean).map(Number)
  return subdirs(dir).reduce((all, sub) => all.concat(readPids(`${dir}/${sub}`)), own)
}

function subdirs(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((e) => e.isDirectory())
      .map((e) => e.name)
  } catch {
    return []
  }
}

function removeTree(dir: string): boolean {
  try {
    rmdirSync(dir)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return true
    const subs = subdirs(dir)
    if (subs.length === 0) return false
    if (!subs.every((sub) => removeTree(`${dir}/${sub}`))) return false
    try {
      rmdirSync(dir)
      return true
    } catch {
      return false
    }
  }
}

async function until(done: () => boolean): Promise<void> {
  for (let n = 0; n < 200 && !done(); n++) await new Promise((resolve) => setTimeout(resolve, n < 5 ? 1 : 10))
}

const io = (
  line: string,
  values: (fields: string[]) => [string, string][],
): { major: number; minor: number; op: string; value: number }[] => {
  const fields = line.split(' ')
  const [major, minor] = (fields[0] ?? '').split(':').map(Number)
  if (major === undefined || minor === undefined || Number.isNaN(major)) return []
  return values(fields.slice(1)).map(([op, value]) => ({ major, minor, op, value: Number(value) }))
}

class CgroupsV1 implements Cgroups {
  readonly version = 1
  readonly #roots: ReadonlyMap<string, string>
  readonly #all: readonly string[]

  constructor(roots: ReadonlyMap<string, string>, unified: string | undefined) {
    this.#roots = roots
    this.#all = [...new Set([...roots.values(), ...(unified === undefined ? [] : [unified])])]
  }

  #dir(controller: string, path: string): string {
    return `${this.#roots.get(controller) ?? '/nonexistent'}${path}`
  }

  async freeze(path: string, frozen: boolean): Promise<void> {
    const file = `${this.#dir('freezer', path)}/freezer.state`
    const want = frozen ? 'FROZEN' : 'THAWED'
    writeFileSync(file, want)
    await until(() => read(file) === want)
  }

  pids(path: string): number[] {
    return readPids(this.#dir('pids', path))
  }

  usage(path: string): CgroupUsage {
    const memory = this.#dir('memory', path)
    const cpu = this.#dir('cpu', path)
    const cpuacct = this.#dir('cpuacct', path)
    const blkio = this.#dir('blkio', path)
    const throttle = table(`${cpu}/cpu.stat`)
    const perCpu = read(`${cpuacct}/cpuacct.usage_percpu`).split(' ').filter(Boolean).map(Number)
    return {
      memory: number(`${memory}/memory.usage_in_bytes`),
      memoryMax: number(`${memory}/memory.max_usage_in_bytes`),
      memoryLimit: number(`${memory}/memory.limit_in_bytes`),
      memoryFailures: number(`${memory}/memory.failcnt`),
      memoryStats: table(`${memory}/memory.stat`),
      cpuTotal: number(`${cpuacct}/cpuacct.usage`),
      cpuUser: number(`${cpuacct}/cpuacct.usage_user`),
      cpuKernel: number(`${cpuacct}/cpuacct.usage_sys`),
      cpuPerCpu: perCpu,
      throttlePeriods: throttle['nr_periods'] ?? 0,
      throttledPeriods: throttle['nr_throttled'] ?? 0,
      throttledTime: throttle['throttled_time'] ?? 0,
      pids: number(`${this.#dir('pids', path)}/pids.current`),
      pidsLimit: number(`${this.#dir('pids', path)}/pids.max`),
      io: read(`${blkio}/blkio.throttle.io_service_bytes_recursive`)
        .split('\n')
        .flatMap((line) => io(line, ([op = '', value = '0']) => [[op.toLowerCase(), value]])),
    }
  }

  oomKills(path: string): number {
    return table(`${this.#dir('memory', path)}/memory.oom_control`)['oom_kill'] ?? 0
  }

  update(path: string, limits: CgroupLimits): void {
    const memory = this.#dir('memory', path)
    const set = (dir: string, file: string, value: number | string | undefined) => {
      if (value !== undefined) writeFileSync(`${dir}/${file}`, String(value))
    }
    // the kernel wants memory <= memory+swap at every moment, so the order depends on the direction
    const growing =
      (limits.memory ?? 0) === -1 || (limits.memory ?? 0) > (number(`${memory}/memory.limit_in_bytes`) || Number.POSITIVE_INFINITY)
    const swap = limits.memorySwap ?? (limits.memory === undefined ? undefined : limits.memory === -1 ? -1 : limits.memory * 2)
    if (growing) set(memory, 'memory.memsw.limit_in_bytes', swap)
    set(memory, 'memory.limit_in_bytes', limits.memory)
    if (!growing) set(memory, 'memory.memsw.limit_in_bytes', swap)
    set(memory, 'memory.soft_limit_in_bytes', limits.memoryReservation)
    set(this.#dir('cpu', path), 'cpu.shares', limits.cpuShares)
    set(this.#dir('cpu', path), 'cpu.cfs_period_us', limits.cpuPeriod)
    set(this.#dir('cpu', path), 'cpu.cfs_quota_us', limits.cpuQuota)
    set(this.#dir('cpuset', path), 'cpuset.cpus', limits.cpusetCpus)
    set(this.#dir('cpuset', path), 'cpuset.mems', limits.cpusetMems)
    set(this.#dir('pids', path), 'pids.max', limits.pids === undefined ? undefined : limits.pids > 0 ? limits.pids : 'max')
  }

  remove(path: string): boolean {
    return this.#all.map((root) => removeTree(`${root}${path}`)).every(Boolean)
  }
}

class CgroupsV2 implements Cgroups {
  readonly version = 2
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  async freeze(path: string, frozen: boolean): Promise<void> {
    const dir = `${this.#root}${path}`
    writeFileSync(`${dir}/cgroup.freeze`, frozen ? '1' : '0')
    await until(() => table(`${dir}/cgroup.events`)['frozen'] === (frozen ? 1 : 0))
  }

  pids(path: string): number[] {
    return readPids(`${this.#root}${path}`)
  }

  usage(path: string): CgroupUsage {
    const dir = `${this.#root}${path}`
    const cpu = table(`${dir}/cpu.stat`)
    const us = (key: string) => (cpu[key] ?? 0) * 1000
    return {
      memory: number(`${dir}/memory.current`),
      memoryMax: number(`${dir}/memory.peak`),
      memoryLimit: number(`${dir}/memory.max`),
      memoryFailures: table(`${dir}/memory.events`)['max'] ?? 0,
      memoryStats: table(`${dir}/memory.stat`),
      cpuTotal: us('usage_usec'),
      cpuUser: us('user_usec'),
      cpuKernel: us('system_usec'),
      cpuPerCpu: [],
      throttlePeriods: cpu['nr_periods'] ?? 0,
      throttledPeriods: cpu['nr_throttled'] ?? 0,
      throttledTime: us('throttled_usec'),
      pids: number(`${dir}/pids.current`),
      pidsLimit: number(`${dir}/pids.max`),
      io: read(`${dir}/io.stat`)
        .split('\n')
        .flatMap((line) =>
          io(line, (fields) =>
            fields.flatMap((f) => {
              const [key, value = '0'] = f.split('=')
              return key === 'rbytes'
                ? [['read', value] as [string, string]]
                : key === 'wbytes'
                  ? [['write', value] as [string, string]]
                  : []
            }),
          ),
        ),
    }
  }

  oomKills(path: string): number {
    return table(`${this.#root}${path}/memory.events`)['oom_kill'] ?? 0
  }

  update(path: string, limits: CgroupLimits): void {
    const dir = `${this.#root}${path}`
    const set = (file: string, value: number | string | undefined) => {
      if (value !== undefined) writeFileSync(`${dir}/${file}`, String(value))
    }
    const max = (n: number | undefined) => (n === undefined ? undefined : n > 0 ? n : 'max')
    set('memory.max', max(limits.memory))
    const swap = limits.memorySwap
    set('memory.swap.max', swap === undefined ? undefined : swap < 0 ? 'max' : Math.max(0, swap - (limits.memory ?? 0)))
    set('memory.low', limits.memoryReservation)
    // v1 shares 2..262144 map linearly to weights 1..10000, as every OCI runtime does
    const { cpuShares } = limits
    set('cpu.weight', cpuShares === undefined || cpuShares === 0 ? undefined : 1 + Math.floor(((cpuShares - 2) * 9999) / 262142))
    if (limits.cpuQuota !== undefined || limits.cpuPeriod !== undefined) {
      set('cpu.max', `${(limits.cpuQuota ?? -1) > 0 ? limits.cpuQuota : 'max'} ${limits.cpuPeriod ?? 100_000}`)
    }
    set('cpuset.cpus', limits.cpusetCpus)
    set('cpuset.mems', limits.cpusetMems)
    set('pids.max', max(limits.pids))
  }

  remove(path: string): boolean {
    return removeTree(`${this.#root}${path}`)
  }
}

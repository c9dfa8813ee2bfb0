/**
 * The OCI runtime specification (config.json) of a container, from its record and what was resolved at start.
 * Pure: devices, users, namespaces and paths come in resolved. Defaults are Docker's.
 */
import { MASKED_PATHS, READONLY_PATHS } from '../model/confined-paths.ts'
import { capabilitiesOf } from './capabilities.ts'
import { flag, num, objects, strings, text } from './fields.ts'
import { tmpfsMountOptions } from './mounts.ts'
import type { ProcessUser } from './passwd.ts'
import type { ContainerRecord, MountPoint } from './record.ts'
import { defaultSeccomp, type SeccompProfile } from './seccomp.ts'
import { compileProfile, type Machine, parseProfile, seccompOption } from './seccomp-profile.ts'
import type { ExecConfig, HostConfig } from './types.ts'

export interface SpecDevice {
  readonly path: string
  readonly type: 'c' | 'b'
  readonly major: number
  readonly minor: number
  readonly fileMode?: number
  readonly uid?: number
  readonly gid?: number
  /** Cgroup permissions, `rwm`. */
  readonly access: string
}

/** What only the moment of starting knows. */
export interface StartFacts {
  readonly rootfs: string
  readonly hostname: string
  readonly user: ProcessUser
  /** Undefined = the host's network. */
  readonly netns: string | undefined
  /** Paths of other containers' namespaces to join; 'host' = the host's; undefined = one of its own. */
  readonly ipc: string | undefined
  readonly pid: string | undefined
  readonly uts: string | undefined
  /** Where /dev/shm comes from when IPC is shared with another container. */
  readonly shm: string | undefined
  readonly files: { readonly hosts: string; readonly resolvConf: string; readonly hostname: string }
  readonly linkEnv: readonly string[]
  readonly devices: readonly SpecDevice[]
  readonly init: string | undefined
  readonly cgroupVersion: 1 | 2
  readonly cgroupPath: string
  /** Bit mask of the capabilities that can be given at all. */
  readonly availableCapabilities: bigint
  readonly machine: Machine
}

export type ExecFacts = Pick<StartFacts, 'user' | 'hostname' | 'linkEnv' | 'availableCapabilities'>

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const DEFAULT_SHM_BYTES = 64 * 1024 * 1024
/** Where the init program is seen inside. */
const INIT_PATH = '/sbin/docker-init'

/** Cgroup of a container: below /causeway unless HostConfig.CgroupParent says otherwise. */
export function cgroupPathOf(record: Pick<ContainerRecord, 'id' | 'hostConfig'>): string {
  const parent = text(record.hostConfig, 'CgroupParent').replace(/^\/+|\/+$/g, '')
  return `/${parent === '' ? 'causeway' : parent}/${record.id}`
}

/** The environment of the first process. Later entries win; a bare name removes. */
function environmentOf(record: ContainerRecord, facts: Pick<StartFacts, 'hostname' | 'linkEnv' | 'user'>): string[] {
  return mergeEnv(
    [DEFAULT_PATH, `HOSTNAME=${facts.hostname}`, ...(record.config.Tty ? ['TERM=xterm'] : []), `HOME=${facts.user.home}`, ...facts.linkEnv],
    record.config.Env ?? [],
  )
}

/** Overrides variables in place, appends new ones; an entry without `=` removes the variable. */
function mergeEnv(base: readonly string[], over: readonly string[]): string[] {
  const out = new Map<string, string>()
  for (const entry of [...base, ...over]) {
    const at = entry.indexOf('=')
    if (at < 0) out.delete(entry)
    else out.set(entry.slice(0, at), entry)
  }
  return [...out.values()]
}

/** The OCI runtime specification (config.json) of a container that is about to start. */
export function buildSpec(record: ContainerRecord, facts: StartFacts): object {
  const host = record.hostConfig
  const privileged = host.Privileged === true
  const capabilities = capabilitiesOf(host.CapAdd ?? [], host.CapDrop ?? [], privileged, facts.availableCapabilities)
  const argv = [record.path, ...record.args]
  return {
    ociVersion: '1.0.2',
    hostname: facts.uts === 'host' ? undefined : facts.hostname,
    process: {
      terminal: record.config.Tty === true,
      user: { uid: facts.user.uid, gid: facts.user.gid, additionalGids: facts.user.additionalGids },
      args: facts.init === undefined ? argv : [INIT_PATH, '--', ...argv],
      env: environmentOf(record, facts),
      cwd: record.config.WorkingDir || '/',
      capabilities: capabilitySets(capabilities, facts.user.uid),
      rlimits: rlimitsOf(host),
      noNewPrivileges: noNewPrivileges(host),
      oomScoreAdj: num(host, 'OomScoreAdj'),
    },
    root: { path: facts.rootfs, readonly: host.ReadonlyRootfs === true },
    mounts: mountsOf(record, facts, privileged),
    linux: {
      namespaces: namespacesOf(facts),
      cgroupsPath: facts.cgroupPath,
      resources: resourcesOf(host, facts.devices, privileged),
      devices: facts.devices.map(({ access: _access, ...device }) => device),
      sysctl: sysctlsOf(record, facts),
      maskedPaths: privileged ? [] : Array.isArray(host['MaskedPaths']) ? strings(host, 'MaskedPaths') : MASKED_PATHS,
      readonlyPaths: privileged ? [] : Array.isArray(host['ReadonlyPaths']) ? strings(host, 'ReadonlyPaths') : READONLY_PATHS,
      rootfsPropagation: rootPropagation(record.mounts),
      seccomp: seccompOf(host, capabilities, privileged, facts.machine),
    },
  }
}

/** The process of `docker exec`, in the OCI form that `runc exec --process` reads. */
export function buildExecProcess(record: ContainerRecord, exec: ExecConfig, facts: ExecFacts): object {
  const { user, availableCapabilities } = facts
  const host = record.hostConfig
  const privileged = exec.Privileged === true || host.Privileged === true
  const capabilities = capabilitiesOf(host.CapAdd ?? [], host.CapDrop ?? [], privileged, availableCapabilities)
  const base = environmentOf({ ...record, config: { ...record.config, Tty: exec.Tty === true } }, facts)
  return {
    terminal: exec.Tty === true,
    ...(exec.ConsoleSize ? { consoleSize: { height: exec.ConsoleSize[0], width: exec.ConsoleSize[1] } } : {}),
    user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
    args: exec.Cmd ?? [],
    env: mergeEnv(base, exec.Env ?? []),
    cwd: exec.WorkingDir || record.config.WorkingDir || '/',
    capabilities: capabilitySets(capabilities, user.uid),
    rlimits: rlimitsOf(host),
    noNewPrivileges: noNewPrivileges(host),
  }
}

/** A process that is not root gets only the bounding set, as after execve(2). */
function capabilitySets(capabilities: readonly string[], uid: number): object {
  return uid === 0 ? { bounding: capabilities, effective: capabilities, permitted: capabilities } : { bounding: capabilities }
}

function noNewPrivileges(host: HostConfig): boolean {
  return strings(host, 'SecurityOpt').some((o) => /^no-new-privileges([:=]true)?$/.test(o))
}

function seccompOf(host: HostConfig, capabilities: readonly string[], privileged: boolean, machine: Machine): SeccompProfile | undefined {
  const option = seccompOption(strings(host, 'SecurityOpt'))
  if (privileged || option === 'unconfined') return undefined
  return option === undefined ? defaultSeccomp(capabilities) : compileProfile(parseProfile(option), capabilities, machine)
}

function rlimitsOf(host: HostConfig): object[] {
  return objects(host, 'Ulimits').map((u) => ({
    type: `RLIMIT_${text(u, 'Name').toUpperCase()}`,
    soft: unlimited(num(u, 'Soft')),
    hard: unlimited(num(u, 'Hard')),
  }))
}

/** -1 is "no limit". {@link specJson} writes it as the 64-bit RLIM_INFINITY, which a JavaScript number cannot hold. */
const unlimited = (n: number): number | string => (n < 0 ? 'unlimited' : n)

/** The text of config.json or of an exec's process file. */
export function specJson(spec: object): string {
  // quotes inside a user's string are escaped, so this pattern only meets our own fields
  return JSON.stringify(spec).replace(/"(soft|hard)":"unlimited"/g, '"$1":18446744073709551615')
}

function namespacesOf(facts: StartFacts): object[] {
  const one = (type: string, join: string | undefined): object[] =>
    join === 'host' ? [] : join === undefined ? [{ type }] : [{ type, path: join }]
  return [
    { type: 'mount' },
    ...(facts.netns === undefined ? [] : [{ type: 'network', path: facts.netns }]),
    ...one('uts', facts.uts),
    ...one('pid', facts.pid),
    ...one('ipc', facts.ipc),
    ...(facts.cgroupVersion === 2 ? [{ type: 'cgroup' }] : []),
  ]
}

/** Sysctls of the host's own configuration, over Docker's defaults for a private network namespace. */
function sysctlsOf(record: ContainerRecord, facts: StartFacts): Record<string, string> {
  const host = record.hostConfig
  const privateNet = facts.netns !== undefined && !(host.NetworkMode ?? '').startsWith('container:')
  return {
    ...(privateNet ? { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' } : {}),
    ...(record.config.Domainname && facts.uts !== 'host' ? { 'kernel.domainname': record.config.Domainname } : {}),
    ...host.Sysctls,
  }
}

function rootPropagation(mounts: readonly MountPoint[]): string {
  const of = (word: string) => mounts.some((m) => m.Propagation.endsWith(word))
  return of('shared') ? 'shared' : of('slave') ? 'rslave' : 'rprivate'
}

function mountsOf(record: ContainerRecord, facts: StartFacts, privileged: boolean): object[] {
  const host = record.hostConfig
  const shmBytes = host.ShmSize || DEFAULT_SHM_BYTES
  const dev = (type: string, destination: string, options: string[]) => ({ destination, type, source: type, options })
  const user = record.mounts.map((mount) => mount.Destination)
  const own: { destination: string }[] = [
    dev('proc', '/proc', ['nosuid', 'noexec', 'nodev']),
    dev('tmpfs', '/dev', ['nosuid', 'strictatime', 'mode=755', 'size=65536k']),
    dev('devpts', '/dev/pts', ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5']),
    dev('sysfs', '/sys', ['nosuid', 'noexec', 'nodev', privileged ? 'rw' : 'ro']),
    dev('cgroup', '/sys/fs/cgroup', [privileged ? 'rw' : 'ro', 'nosuid', 'noexec', 'nodev']),
    dev('mqueue', '/dev/mqueue', ['nosuid', 'noexec', 'nodev']),
    text(host, 'IpcMode') === 'none'
      ? undefined
      : facts.shm === undefined
        ? { ...dev('tmpfs', '/dev/shm', ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${shmBytes}`]), source: 'shm' }
        : { destination: '/dev/shm', type: 'bind', source: facts.shm, options: ['rbind', 'rprivate'] },
    { destination: '/etc/resolv.conf', type: 'bind', source: facts.files.resolvConf, options: ['rbind', 'rprivate'] },
    { destination: '/etc/hostname', type: 'bind', source: facts.files.hostname, options: ['rbind', 'rprivate'] },
    { destination: '/etc/hosts', type: 'bind', source: facts.files.hosts, options: ['rbind', 'rprivate'] },
    facts.init === undefined ? undefined : { destination: INIT_PATH, type: 'bind', source: facts.init, options: ['bind', 'ro'] },
  ].filter((m) => m !== undefined)
  const tmpfs = Object.entries(host.Tmpfs ?? {}).map(([destination, value]) => dev('tmpfs', destination, tmpfsMountOptions(value)))
  const mine = own.filter((m) => !user.includes(m.destination) && !tmpfs.some((t) => t.destination === m.destination))
  // a mount below another one's destination must come after it
  const depth = (m: { destination: string }) => m.destination.split('/').length
  const theirs = [...tmpfs, ...record.mounts.map(userMount)].sort((a, b) => depth(a) - depth(b))
  return [...mine, ...theirs]
}

function userMount(mount: MountPoint): { destination: string } {
  const access = mount.RW ? 'rw' : 'ro'
  if (mount.Type === 'tmpfs') {
    return {
      destination: mount.Destination,
      ...{ type: 'tmpfs', source: 'tmpfs', options: ['noexec', 'nosuid', 'nodev', access, ...(mount.options ?? [])] },
    }
  }
  const bind = mount.options?.includes('bind') ? 'bind' : 'rbind'
  return {
    destination: mount.Destination,
    ...{ type: 'bind', source: mount.Source, options: [bind, access, mount.Propagation || 'rprivate'] },
  }
}

/** CPU quota of `--cpus`: a share of one period of 100 ms. */
export function cpuQuotaOf(host: HostConfig): { quota: number; period: number } {
  const nano = host.NanoCpus ?? 0
  return nano > 0 ? { quota: Math.round(nano / 10_000), period: 100_000 } : { quota: host.CpuQuota ?? 0, period: host.CpuPeriod ?? 0 }
}

function resourcesOf(host: HostConfig, devices: readonly SpecDevice[], privileged: boolean): object {
  const memory = host.Memory ?? 0
  const swap = num(host, 'MemorySwap') || (memory > 0 ? memory * 2 : 0)
  const cpu = cpuQuotaOf(host)
  const some = (entries: Record<string, unknown>): Record<string, unknown> | undefined => {
    const kept = Object.entries(entries).filter(([, v]) => v !== 0 && v !== '' && v !== false && v !== undefined)
    return kept.length === 0 ? undefined : Object.fromEntries(kept)
  }
  const swappiness = host['MemorySwappiness']
  const rules = strings(host, 'DeviceCgroupRules').flatMap((rule) => {
    const match = /^([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/.exec(rule)
    if (!match) return []
    const [, type, major, minor, access] = match
    return [
      { allow: true, type, access, ...(major === '*' ? {} : { major: Number(major) }), ...(minor === '*' ? {} : { minor: Number(minor) }) },
    ]
  })
  return {
    devices: privileged
      ? [{ allow: true, access: 'rwm' }]
      : [
          { allow: false, access: 'rwm' },
          ...devices.map((d) => ({ allow: true, type: d.type, major: d.major, minor: d.minor, access: d.access })),
          ...rules,
        ],
    memory: some({
      limit: memory,
      swap,
      reservation: num(host, 'MemoryReservation'),
      disableOOMKiller: flag(host, 'OomKillDisable'),
      swappiness: typeof swappiness === 'number' && swappiness >= 0 ? swappiness : undefined,
    }),
    cpu: some({
      shares: host.CpuShares ?? 0,
      quota: cpu.quota,
      period: cpu.period,
      cpus: text(host, 'CpusetCpus'),
      mems: text(host, 'CpusetMems'),
      realtimePeriod: num(host, 'CpuRealtimePeriod'),
      realtimeRuntime: num(host, 'CpuRealtimeRuntime'),
    }),
    pids: (host.PidsLimit ?? 0) > 0 ? { limit: host.PidsLimit } : undefined,
    blockIO: some({ weight: num(host, 'BlkioWeight') }),
  }
}

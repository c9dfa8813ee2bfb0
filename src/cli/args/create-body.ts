/** Options of `run` and `create` -> the body of POST /containers/create. Field by field what Docker's client sends. */
import type { ContainerCreateBody } from '../../client/types.ts'
import { fail } from '../fail.ts'
import type { ContainerOptions } from './container-options.ts'
import { capabilities, environment, labels, pairsToRecord } from './environment.ts'
import { parseTmpfs, parseVolume } from './mount-option.ts'
import { buildEndpoints } from './network-option.ts'
import { parseExpose, parsePublish } from './ports.ts'
import { parseRestartPolicy } from './units.ts'

export interface Attached {
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
}

/** Which streams the client takes part in: as asked with -a, else output, and input with -i; nothing when detached. */
export function attachedStreams(options: ContainerOptions, detach: boolean): Attached {
  const asked = options.attach
  if (detach) return { stdin: false, stdout: false, stderr: false }
  if (asked.length === 0) return { stdin: options.interactive, stdout: true, stderr: true }
  return { stdin: asked.includes('stdin'), stdout: asked.includes('stdout'), stderr: asked.includes('stderr') }
}

/** Throws NetError `invalid` with the texts of Docker's client for options that contradict each other. */
export function createBody(
  image: string,
  command: readonly string[],
  options: ContainerOptions,
  attached: Attached,
  env: Readonly<Record<string, string | undefined>>,
): ContainerCreateBody {
  const o = options
  const published = o.publish.flatMap(parsePublish)
  const bindings: Record<string, { HostIp: string; HostPort: string }[]> = {}
  const exposed: Record<string, object> = {}
  for (const { port, hostIp, hostPort } of published) {
    exposed[port] = {}
    bindings[port] = [...(bindings[port] ?? []), { HostIp: hostIp, HostPort: hostPort }]
  }
  for (const port of o.expose.flatMap(parseExpose)) exposed[port] ??= {}
  const restart = parseRestartPolicy(o.restart ?? 'no')
  if (o.rm && restart.Name !== '' && restart.Name !== 'no') throw fail('conflicting options: cannot specify both --restart and --rm')
  if ((o['memory-swappiness'] ?? 0) < -1 || (o['memory-swappiness'] ?? 0) > 100)
    throw fail(`invalid value: ${o['memory-swappiness']}. Valid memory swappiness range is 0-100`)
  if (o['log-driver'] === 'none' && o['log-opt'].length > 0) throw fail('invalid logging opts for driver none')
  const volumes = o.volume.map(parseVolume)
  const { mode, endpoints } = buildEndpoints(o.network, {
    ip: o.ip,
    ip6: o.ip6,
    aliases: o['network-alias'],
    links: o.link,
    linkLocalIps: o['link-local-ip'],
    macAddress: o['mac-address'],
  })
  const health = healthcheck(o)
  return {
    Hostname: o.hostname ?? '',
    Domainname: o.domainname ?? '',
    User: o.user ?? '',
    AttachStdin: attached.stdin,
    AttachStdout: attached.stdout,
    AttachStderr: attached.stderr,
    ...(Object.keys(exposed).length === 0 ? {} : { ExposedPorts: exposed }),
    Tty: o.tty,
    OpenStdin: o.interactive,
    StdinOnce: o.interactive && attached.stdin,
    Env: orNull(environment(o['env-file'], o.env, env)),
    Cmd: orNull(command),
    ...(health === undefined ? {} : { Healthcheck: health }),
    Image: image,
    Volumes: Object.fromEntries(volumes.flatMap((v) => ('anonymous' in v ? [[v.anonymous, {}]] : []))),
    WorkingDir: o.workdir ?? '',
    Entrypoint: o.entrypoint === undefined ? null : [o.entrypoint],
    Labels: labels(o['label-file'], o.label),
    ...(o['stop-signal'] === undefined ? {} : { StopSignal: o['stop-signal'] }),
    ...(o['stop-timeout'] === undefined ? {} : { StopTimeout: o['stop-timeout'] }),
    HostConfig: {
      Binds: orNull(volumes.flatMap((v) => ('bind' in v ? [v.bind] : []))),
      ContainerIDFile: o.cidfile ?? '',
      LogConfig: { Type: o['log-driver'] ?? '', Config: pairsToRecord(o['log-opt']) },
      NetworkMode: mode,
      PortBindings: bindings,
      RestartPolicy: restart,
      AutoRemove: o.rm,
      VolumeDriver: o['volume-driver'] ?? '',
      VolumesFrom: orNull(o['volumes-from']),
      ...(Object.keys(o.annotation).length === 0 ? {} : { Annotations: o.annotation }),
      CapAdd: capabilities(o['cap-add']),
      CapDrop: capabilities(o['cap-drop']),
      CgroupnsMode: o.cgroupns ?? '',
      Dns: o.dns,
      DnsOptions: o['dns-option'],
      DnsSearch: o['dns-search'],
      ExtraHosts: orNull(o['add-host']),
      GroupAdd: orNull(o['group-add']),
      IpcMode: o.ipc ?? '',
      Links: orNull(o.link),
      OomScoreAdj: o['oom-score-adj'] ?? 0,
      PidMode: o.pid ?? '',
      Privileged: o.privileged,
      PublishAllPorts: o['publish-all'],
      ReadonlyRootfs: o['read-only'],
      SecurityOpt: orNull(o['security-opt']),
      ...(o['storage-opt'].length === 0 ? {} : { StorageOpt: pairsToRecord(o['storage-opt']) }),
      ...(o.tmpfs.length === 0 ? {} : { Tmpfs: Object.fromEntries(o.tmpfs.map(parseTmpfs)) }),
      UTSMode: o.uts ?? '',
      UsernsMode: o.userns ?? '',
      ShmSize: o['shm-size'] ?? 0,
      ...(o.sysctl.length === 0 ? {} : { Sysctls: pairsToRecord(o.sysctl) }),
      ...(o.runtime === undefined ? {} : { Runtime: o.runtime }),
      ...limits(o),
      ...(o.mount.length === 0 ? {} : { Mounts: o.mount }),
      ...(o.init === undefined ? {} : { Init: o.init }),
    },
    NetworkingConfig: { EndpointsConfig: endpoints },
  }
}

function limits(o: ContainerOptions): Record<string, unknown> {
  return {
    CpuShares: o['cpu-shares'] ?? 0,
    Memory: o.memory ?? 0,
    NanoCpus: o.cpus ?? 0,
    CgroupParent: o['cgroup-parent'] ?? '',
    BlkioWeight: o['blkio-weight'] ?? 0,
    CpuPeriod: o['cpu-period'] ?? 0,
    CpuQuota: o['cpu-quota'] ?? 0,
    CpusetCpus: o['cpuset-cpus'] ?? '',
    CpusetMems: o['cpuset-mems'] ?? '',
    Devices: o.device,
    DeviceCgroupRules: orNull(o['device-cgroup-rule']),
    MemoryReservation: o['memory-reservation'] ?? 0,
    MemorySwap: o['memory-swap'] ?? 0,
    MemorySwappiness: o['memory-swappiness'] ?? -1,
    OomKillDisable: o['oom-kill-disable'],
    PidsLimit: o['pids-limit'] ?? 0,
    Ulimits: o.ulimit,
  }
}

function healthcheck(o: ContainerOptions): Record<string, unknown> | undefined {
  const timing = {
    ...(o['health-interval'] === undefined ? {} : { Interval: o['health-interval'] }),
    ...(o['health-timeout'] === undefined ? {} : { Timeout: o['health-timeout'] }),
    ...(o['health-start-period'] === undefined ? {} : { StartPeriod: o['health-start-period'] }),
    ...(o['health-start-interval'] === undefined ? {} : { StartInterval: o['health-start-interval'] }),
    ...(o['health-retries'] === undefined ? {} : { Retries: o['health-retries'] }),
  }
  const any = o['health-cmd'] !== undefined || Object.keys(timing).length > 0
  if (o['no-healthcheck']) {
    if (any) throw fail('--no-healthcheck conflicts with --health-* options')
    return { Test: ['NONE'] }
  }
  for (const [name, nanos] of Object.entries(timing)) if (nanos < 0) throw fail(`--health-${name.toLowerCase()} cannot be negative`)
  if (!any) return undefined
  return { ...(o['health-cmd'] === undefined ? {} : { Test: ['CMD-SHELL', o['health-cmd']] }), ...timing }
}

function orNull<T>(items: readonly T[]): readonly T[] | null {
  return items.length === 0 ? null : items
}

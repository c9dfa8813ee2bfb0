/** The fields that Docker always prints in `Config` and `HostConfig`, with the values they have when nobody sets them. */

import type { ContainerConfig, HostConfig } from '../../containers/types.ts'
import { MASKED_PATHS, READONLY_PATHS } from '../../model/confined-paths.ts'

/** `Config` of a container as this minor API version shows it. */
export function configJson(config: ContainerConfig, version: number): Record<string, unknown> {
  const { MacAddress, Labels, ...given } = config
  return {
    Hostname: '',
    Domainname: '',
    User: '',
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    Tty: false,
    OpenStdin: false,
    StdinOnce: false,
    Env: null,
    Cmd: null,
    Image: '',
    Volumes: null,
    WorkingDir: '',
    Entrypoint: null,
    OnBuild: null,
    ...given,
    Labels: Labels ?? {},
    ...(MacAddress !== undefined && version <= 51 && (MacAddress !== '' || version < 44) ? { MacAddress } : {}),
  }
}

const HOST_DEFAULTS: Readonly<Record<string, unknown>> = {
  Binds: null,
  ContainerIDFile: '',
  LogConfig: { Type: 'json-file', Config: {} },
  NetworkMode: 'bridge',
  PortBindings: {},
  RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
  AutoRemove: false,
  VolumeDriver: '',
  VolumesFrom: null,
  ConsoleSize: [0, 0],
  CapAdd: null,
  CapDrop: null,
  CgroupnsMode: 'private',
  Dns: [],
  DnsOptions: [],
  DnsSearch: [],
  ExtraHosts: null,
  GroupAdd: null,
  IpcMode: 'private',
  Cgroup: '',
  Links: null,
  OomScoreAdj: 0,
  PidMode: '',
  Privileged: false,
  PublishAllPorts: false,
  ReadonlyRootfs: false,
  SecurityOpt: null,
  UTSMode: '',
  UsernsMode: '',
  ShmSize: 67_108_864,
  Runtime: 'runc',
  Isolation: '',
  CpuShares: 0,
  Memory: 0,
  NanoCpus: 0,
  CgroupParent: '',
  BlkioWeight: 0,
  BlkioWeightDevice: [],
  BlkioDeviceReadBps: [],
  BlkioDeviceWriteBps: [],
  BlkioDeviceReadIOps: [],
  BlkioDeviceWriteIOps: [],
  CpuPeriod: 0,
  CpuQuota: 0,
  CpuRealtimePeriod: 0,
  CpuRealtimeRuntime: 0,
  CpusetCpus: '',
  CpusetMems: '',
  Devices: [],
  DeviceCgroupRules: null,
  DeviceRequests: null,
  MemoryReservation: 0,
  MemorySwap: 0,
  MemorySwappiness: null,
  OomKillDisable: null,
  PidsLimit: null,
  Ulimits: [],
  CpuCount: 0,
  CpuPercent: 0,
  IOMaximumIOps: 0,
  IOMaximumBandwidth: 0,
  MaskedPaths: MASKED_PATHS,
  ReadonlyPaths: READONLY_PATHS,
}

/** Empty texts that stand for a default in Docker (`IpcMode: ""`) are printed as that default. */
const NEVER_EMPTY = ['NetworkMode', 'IpcMode', 'CgroupnsMode', 'Runtime'] as const

/** `HostConfig` of a container: what was asked for over Docker's defaults. */
export function hostConfigJson(hostConfig: HostConfig): Record<string, unknown> {
  const json: Record<string, unknown> = { ...HOST_DEFAULTS, ...hostConfig }
  for (const key of NEVER_EMPTY) if (json[key] === '') json[key] = HOST_DEFAULTS[key]
  if (json['NetworkMode'] === 'default') json['NetworkMode'] = 'bridge'
  const log = hostConfig.LogConfig
  json['LogConfig'] = { Type: log?.Type || 'json-file', Config: log?.Config ?? {} }
  json['RestartPolicy'] = {
    Name: hostConfig.RestartPolicy?.Name || 'no',
    MaximumRetryCount: hostConfig.RestartPolicy?.MaximumRetryCount ?? 0,
  }
  if (hostConfig.ShmSize === 0) json['ShmSize'] = HOST_DEFAULTS['ShmSize']
  if (hostConfig.Privileged === true) Object.assign(json, { MaskedPaths: null, ReadonlyPaths: null })
  return json
}

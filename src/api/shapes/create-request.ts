/**
 * `POST /containers/create`: the body's shape, and what changed between API versions in how its network fields are read.
 * Everything that needs to know the host is the container service's business.
 */

import { tryParseMac } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { shortId } from '../../base/ids.ts'
import type { ContainerConfig, CreateRequest, EndpointSettingsJson, HostConfig } from '../../containers/types.ts'
import type { NetworkController } from '../../engine/types.ts'
import { anyObject, bool, int, keySet, list, mapOf, nullable, object, str, strMap, strOrList } from '../decode.ts'
import { badRequest } from '../errors.ts'
import { ENDPOINTS, gateEndpoint } from './endpoint-settings.ts'
import { checkPortKeys } from './ports.ts'

const HOST_CONFIG_FIELDS = {
  Binds: list(str),
  Mounts: list(anyObject),
  NetworkMode: str,
  PortBindings: mapOf(nullable(list(object({ HostIp: str, HostPort: str })))),
  PublishAllPorts: bool,
  RestartPolicy: object({ Name: str, MaximumRetryCount: int }),
  AutoRemove: bool,
  CapAdd: list(str),
  CapDrop: list(str),
  Dns: list(str),
  DnsOptions: list(str),
  DnsSearch: list(str),
  ExtraHosts: list(str),
  GroupAdd: list(str),
  Links: list(str),
  Privileged: bool,
  ReadonlyRootfs: bool,
  SecurityOpt: list(str),
  Tmpfs: strMap,
  Sysctls: strMap,
  Init: bool,
  Memory: int,
  MemorySwap: int,
  MemoryReservation: int,
  NanoCpus: int,
  CpuShares: int,
  CpusetCpus: str,
  CpusetMems: str,
  PidsLimit: int,
  OomScoreAdj: int,
  UTSMode: str,
  IpcMode: str,
  PidMode: str,
  UsernsMode: str,
  CgroupParent: str,
  Runtime: str,
  ShmSize: int,
  VolumesFrom: list(str),
  VolumeDriver: str,
  ConsoleSize: list(int),
  Devices: list(anyObject),
  Ulimits: list(anyObject),
  LogConfig: object({ Type: str, Config: strMap }),
  CpuPeriod: int,
  CpuQuota: int,
  CpuRealtimePeriod: int,
  CpuRealtimeRuntime: int,
  BlkioWeight: int,
  MemorySwappiness: int,
  OomKillDisable: bool,
  DeviceCgroupRules: list(str),
  StorageOpt: strMap,
  Annotations: strMap,
  CgroupnsMode: str,
  ContainerIDFile: str,
  Isolation: str,
  MaskedPaths: list(str),
  ReadonlyPaths: list(str),
} as const

export const HOST_CONFIG = object(HOST_CONFIG_FIELDS, 'keep')

const CONFIG_FIELDS = {
  Hostname: str,
  Domainname: str,
  User: str,
  AttachStdin: bool,
  AttachStdout: bool,
  AttachStderr: bool,
  ExposedPorts: keySet,
  Tty: bool,
  OpenStdin: bool,
  StdinOnce: bool,
  Env: list(str),
  Cmd: strOrList,
  Entrypoint: strOrList,
  Image: str,
  Volumes: keySet,
  WorkingDir: str,
  MacAddress: str,
  NetworkDisabled: bool,
  Labels: strMap,
  StopSignal: str,
  StopTimeout: int,
  Shell: list(str),
  Healthcheck: object({ Test: list(str), Interval: int, Timeout: int, Retries: int, StartPeriod: int, StartInterval: int }),
} as const

/** A configuration alone, as `POST /commit` takes it. */
export const CONTAINER_CONFIG = object(CONFIG_FIELDS, 'keep')

export const CREATE_CONTAINER = object(
  { ...CONFIG_FIELDS, HostConfig: HOST_CONFIG, NetworkingConfig: object({ EndpointsConfig: mapOf(ENDPOINTS) }) },
  'keep',
)

type Controller = Pick<NetworkController, 'findNetwork'>
type Endpoints = Record<string, EndpointSettingsJson>

const SYSCTL_OPTION = 'com.docker.network.endpoint.sysctls'

/** The service's request from a decoded body. Throws `invalid` with Docker's texts; `warnings` go back to the client. */
export function toCreateRequest(
  body: ReturnType<typeof CREATE_CONTAINER>,
  name: string,
  version: number,
  controller: Controller,
): { request: CreateRequest; warnings: string[] } {
  const { HostConfig: host = {}, NetworkingConfig: networking, ...rest } = body
  const config = { ...rest } as ContainerConfig
  const hostConfig = { ...host } as HostConfig
  const warnings: string[] = []
  gateFields(config, hostConfig, version)
  checkPortKeys(config.ExposedPorts)
  checkPortKeys(hostConfig.PortBindings)
  backfillBindings(hostConfig, version, warnings)
  const mode = mainNetwork(hostConfig.NetworkMode)
  if (hostConfig.NetworkMode === undefined || hostConfig.NetworkMode === '' || hostConfig.NetworkMode === 'default')
    hostConfig.NetworkMode = mode
  const endpoints = readEndpoints(networking?.EndpointsConfig ?? {}, mode, version)
  migrateMac(config, endpoints, mode, version, controller, warnings)
  migrateSysctls(hostConfig, endpoints, mode, version, warnings)
  return { request: { ...(name === '' ? {} : { name }), config, hostConfig, endpoints }, warnings }
}

/** Fields that an older API did not have are not there, whatever the client sent. */
function gateFields(config: ContainerConfig, hostConfig: HostConfig, version: number): void {
  // the client removed such a container itself
  if (version < 25) delete hostConfig.AutoRemove
  if (version < 40 && (hostConfig.IpcMode ?? '') === '') hostConfig.IpcMode = 'shareable'
  if (version < 43) delete hostConfig['Annotations']
  if (version < 44 && config.Healthcheck?.StartInterval !== undefined) {
    const { StartInterval: _, ...rest } = config.Healthcheck
    config.Healthcheck = rest
  }
}

/** An empty or absent mode is the default network. */
function mainNetwork(mode: string | undefined): string {
  return mode === undefined || mode === '' || mode === 'default' ? 'bridge' : mode
}

/** `null` or `[]` means "published on any port". */
function backfillBindings(hostConfig: HostConfig, version: number, warnings: string[]): void {
  const bindings = hostConfig.PortBindings
  if (bindings === undefined || bindings === null) return
  const empty = Object.keys(bindings).filter((key) => (bindings[key]?.length ?? 0) === 0)
  if (empty.length === 0) return
  hostConfig.PortBindings = { ...bindings, ...Object.fromEntries(empty.map((key) => [key, [{ HostIp: '', HostPort: '' }]])) }
  if (version >= 52) {
    warnings.push(
      `Following container port(s) have an empty list of port-bindings: ${empty.sort().join(', ')}. Such bindings will be discarded in a future version.`,
    )
  }
}

/** Endpoints by network; the CLI sends the main one as `default`. Before 1.44 there could be only one. */
function readEndpoints(given: Readonly<Record<string, EndpointSettingsJson | null>>, mode: string, version: number): Endpoints {
  const names = Object.keys(given)
  if (version < 44 && names.length > 1) {
    throw badRequest(`Container cannot be created with multiple network endpoints: ${names.sort().join(', ')}`)
  }
  const entries = names.map((name) => [name === 'default' ? mode : name, gateEndpoint(given[name] ?? {}, version, 'create')] as const)
  return Object.fromEntries(entries)
}

/** Moves `Config.MacAddress` to the endpoint of the main network, as 1.44 did. Ignored from 1.52 on. */
function migrateMac(
  config: ContainerConfig,
  endpoints: Endpoints,
  mode: string,
  version: number,
  controller: Controller,
  warnings: string[],
): void {
  const mac = config.MacAddress ?? ''
  if (mac === '') return
  if (version >= 52) {
    delete config.MacAddress
    return
  }
  if (tryParseMac(mac) === undefined) throw badRequest(`invalid MAC address: ${mac.slice(0, 100)}`)
  if (mode === 'host' || mode.startsWith('container:')) {
    if (version < 44) throw badRequest('conflicting options: mac-address and the network mode')
    return
  }
  const key = endpointKey(endpoints, mode, controller)
  if (key === undefined && Object.keys(endpoints).length > 0 && version < 44) {
    throw badRequest('HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks')
  }
  const target = key ?? mode
  const own = endpoints[target]?.MacAddress ?? ''
  if (own !== '' && tryParseMac(own) !== tryParseMac(mac)) {
    throw badRequest('the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty')
  }
  endpoints[target] = { ...endpoints[target], MacAddress: mac }
  if (version >= 44)
    warnings.push('The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.')
}

/** The key of `endpoints` that means the network `mode`: its name, its id or its short id. */
function endpointKey(endpoints: Endpoints, mode: string, controller: Controller): string | undefined {
  if (endpoints[mode] !== undefined) return mode
  const network = controller.findNetwork(mode)
  if (network === undefined) return undefined
  return [network.name, network.id, shortId(network.id)].find((key) => endpoints[key] !== undefined)
}

/** `net.*.*.eth0.*` sysctls belong to an interface: moved to the endpoint until 1.47, refused since. */
function migrateSysctls(hostConfig: HostConfig, endpoints: Endpoints, mode: string, version: number, warnings: string[]): void {
  const sysctls = hostConfig.Sysctls ?? {}
  const keys = Object.keys(sysctls).filter((key) => /^net\.[^.]+\.[^.]+\.eth0\..+/.test(key))
  if (keys.length === 0) return
  if (version >= 48) {
    throw new NetError('internal', `interface specific sysctl setting "${keys[0]}" must be supplied using driver option '${SYSCTL_OPTION}'`)
  }
  const moved = keys.map((key) => `${key.replace('.eth0.', '.IFNAME.')}=${sysctls[key]}`)
  const previous = endpoints[mode]?.DriverOpts?.[SYSCTL_OPTION]
  const value = [...(previous === undefined || previous === '' ? [] : [previous]), ...moved].join(',')
  endpoints[mode] = { ...endpoints[mode], DriverOpts: { ...endpoints[mode]?.DriverOpts, [SYSCTL_OPTION]: value } }
  hostConfig.Sysctls = Object.fromEntries(Object.entries(sysctls).filter(([key]) => !keys.includes(key)))
  warnings.push(`Migrated sysctl ${keys.map((key) => `"${key}"`).join(', ')} to DriverOpts{"${SYSCTL_OPTION}":"${value}"}.`)
}

/** `GET /containers/{id}/json` in Docker's full shape. */
import { shortId } from '../../base/ids.ts'
import type { Container, ContainerState, EndpointSettingsJson } from '../../containers/types.ts'
import type { ApiOptions } from '../types.ts'
import { configJson, hostConfigJson } from './config-defaults.ts'
import { endpointJson } from './endpoint-settings.ts'
import { portMapJson } from './ports.ts'

type Sources = Pick<ApiOptions, 'controller'>

/** `docker inspect` of a container. `size` when the client asked for it, in bytes. */
export function containerJson(container: Container, sources: Sources, version: number, size?: { rw: number; rootFs: number }): object {
  return {
    Id: container.id,
    Created: container.created,
    Path: container.path,
    Args: container.args,
    State: stateJson(container.state),
    Image: container.imageId,
    ResolvConfPath: container.files.resolvConf,
    HostnamePath: container.files.hostname,
    HostsPath: container.files.hosts,
    LogPath: container.logPath,
    Name: `/${container.name}`,
    RestartCount: container.restartCount,
    Driver: 'overlay2',
    Platform: 'linux',
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: '',
    ExecIDs: container.execIds.length === 0 ? null : container.execIds,
    HostConfig: hostConfigJson(container.hostConfig),
    GraphDriver: { Data: container.graph, Name: 'overlay2' },
    ...(size === undefined ? {} : { SizeRw: size.rw, SizeRootFs: size.rootFs }),
    Mounts: container.mounts,
    Config: configJson(container.config, version),
    NetworkSettings: networkSettingsJson(container, sources, version),
  }
}

function stateJson(state: ContainerState): object {
  const { status, health } = state
  return {
    Status: status,
    Running: status === 'running' || status === 'paused' || status === 'restarting',
    Paused: status === 'paused',
    Restarting: status === 'restarting',
    OOMKilled: state.oomKilled,
    Dead: status === 'dead',
    Pid: state.pid,
    ExitCode: state.exitCode,
    Error: state.error,
    StartedAt: state.startedAt,
    FinishedAt: state.finishedAt,
    ...(health === undefined ? {} : { Health: { Status: health.status, FailingStreak: health.failingStreak, Log: health.log } }),
  }
}

/** True while the container's sandbox is in force. */
export function isLive(state: ContainerState): boolean {
  return state.status === 'running' || state.status === 'paused' || state.status === 'restarting'
}

function networkSettingsJson(container: Container, { controller }: Sources, version: number): object {
  const sandbox = isLive(container.state) ? controller.sandboxOf(container.id) : undefined
  const networks = endpointsJson(container, { controller }, version)
  return {
    ...(version >= 52 ? {} : { Bridge: '' }),
    SandboxID: sandbox?.id ?? '',
    SandboxKey: sandbox?.key ?? '',
    Ports: portMapJson(container, sandbox?.ports),
    ...(version >= 52 ? {} : legacySettings(networks['bridge'])),
    Networks: networks,
  }
}

/** `Networks` by name: configured endpoints, with what is in force where the container is attached. */
export function endpointsJson(container: Container, { controller }: Sources, version: number): Record<string, Record<string, unknown>> {
  const sandbox = isLive(container.state) ? controller.sandboxOf(container.id) : undefined
  const names = new Set([...Object.keys(container.endpoints), ...(sandbox?.endpoints.map((endpoint) => endpoint.networkName) ?? [])])
  const entries = [...names].map((name) => {
    const settings: EndpointSettingsJson = container.endpoints[name] ?? {}
    const live = sandbox?.endpoints.find((endpoint) => endpoint.networkName === name)
    const network = controller.findNetwork(name)
    const json = endpointJson(settings, live, {
      version,
      shortId: shortId(container.id),
      // Before the first start Docker does not know the network's id yet.
      networkId: container.state.status === 'created' ? '' : (network?.id ?? settings.NetworkID ?? ''),
      isUserDefined: network?.predefined === false,
      hasStarted: container.state.status !== 'created',
    })
    return [name, json] as const
  })
  return Object.fromEntries(entries)
}

/** Top-level copies of the endpoint on the default bridge, empty when there is none; gone in 1.52. */
function legacySettings(bridge: Record<string, unknown> | undefined): object {
  return {
    HairpinMode: false,
    LinkLocalIPv6Address: '',
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: bridge?.['EndpointID'] ?? '',
    Gateway: bridge?.['Gateway'] ?? '',
    GlobalIPv6Address: bridge?.['GlobalIPv6Address'] ?? '',
    GlobalIPv6PrefixLen: bridge?.['GlobalIPv6PrefixLen'] ?? 0,
    IPAddress: bridge?.['IPAddress'] ?? '',
    IPPrefixLen: bridge?.['IPPrefixLen'] ?? 0,
    IPv6Gateway: bridge?.['IPv6Gateway'] ?? '',
    MacAddress: bridge?.['MacAddress'] ?? '',
  }
}

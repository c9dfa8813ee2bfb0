/** What `POST /containers/create` checks, completes and stores. Nothing is made before everything is checked. */
import { existsSync, mkdirSync } from 'node:fs'
import { hostname as hostName } from 'node:os'
import { NetError } from '../base/errors.ts'
import type { NetworkController } from '../engine/types.ts'
import { capabilitiesOf } from './capabilities.ts'
import { num, object, strings, text } from './fields.ts'
import { checkCpus } from './limits.ts'
import { checkLogConfig } from './log-options.ts'
import { parseVolumesFrom, type WantedMount, wantedMounts } from './mounts.ts'
import { checkNetworkMode, containerModeOf, endpointSettings, isUserDefined, normalizeEndpoints, parseLink } from './network-plan.ts'
import { emptyBindingKeys } from './ports.ts'
import type { Link, MountPoint } from './record.ts'
import type { Registry } from './registry.ts'
import { restartPolicyOf } from './restart.ts'
import type { Runtimes } from './runtimes.ts'
import { checkSecurityOptions } from './seccomp-profile.ts'
import { parseSignal } from './signals.ts'
import type { ContainerConfig, CreateRequest, EndpointSettingsJson, HostConfig, ImageSummary, VolumeService } from './types.ts'

/** Smallest memory limit that Docker accepts: the runtime itself needs it. */
const MEMORY_MIN_BYTES = 6 * 1024 * 1024
const HOSTNAME = /^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?)*$/

export interface CheckedCreate {
  readonly config: ContainerConfig
  readonly hostConfig: HostConfig
  readonly endpoints: Record<string, EndpointSettingsJson>
  readonly links: readonly Link[]
  readonly path: string
  readonly args: readonly string[]
  readonly mounts: readonly WantedMount[]
  readonly warnings: string[]
}

function list(value: string[] | string | null | undefined): string[] {
  return value === null || value === undefined ? [] : typeof value === 'string' ? [value] : value
}

/** Own variables, then the image's that they do not name. An own one without `=` stays: it takes a variable away at every start. */
function configEnv(own: readonly string[], image: readonly string[]): string[] {
  const nameOf = (entry: string) => entry.split('=', 1)[0]
  const named = new Set(own.map(nameOf))
  return [...own, ...image.filter((entry) => !named.has(nameOf(entry)))]
}

/** The image's defaults below the request's own values. */
function mergeConfig(own: ContainerConfig, image: ContainerConfig): ContainerConfig {
  // an own entrypoint clears the image's command: that was written for the image's entrypoint
  const ownEntrypoint = own.Entrypoint !== undefined && own.Entrypoint !== null
  const entrypoint = ownEntrypoint ? list(own.Entrypoint) : list(image.Entrypoint)
  const cmd = own.Cmd?.length ? own.Cmd : ownEntrypoint ? [] : (image.Cmd ?? [])
  const health = own.Healthcheck?.Test?.length ? own.Healthcheck : { ...image.Healthcheck, ...own.Healthcheck }
  return {
    ...own,
    Env: configEnv(own.Env ?? [], image.Env ?? []),
    Cmd: cmd.length > 0 ? cmd : null,
    Entrypoint: entrypoint.length > 0 && entrypoint[0] !== '' ? entrypoint : null,
    WorkingDir: own.WorkingDir || image.WorkingDir || '',
    User: own.User || image.User || '',
    Labels: { ...image.Labels, ...own.Labels },
    ...(image.Volumes || own.Volumes ? { Volumes: { ...image.Volumes, ...own.Volumes } } : {}),
    ...(image.ExposedPorts || own.ExposedPorts ? { ExposedPorts: { ...image.ExposedPorts, ...own.ExposedPorts } } : {}),
    ...(own.StopSignal || image.StopSignal ? { StopSignal: own.StopSignal || image.StopSignal || '' } : {}),
    ...(health.Test?.length ? { Healthcheck: health } : {}),
  }
}

/** Throws with Docker's texts; returns everything completed. `id` is the container's future id. */
export function checkCreate(
  id: string,
  name: string,
  request: CreateRequest,
  image: ImageSummary,
  registry: Registry,
  { controller, runtimes }: { readonly controller: NetworkController; readonly runtimes: Runtimes },
): CheckedCreate {
  const invalid = (message: string) => new NetError('invalid', message)
  const runtime = text(request.hostConfig, 'Runtime') || runtimes.default.name
  const host: HostConfig = { ...request.hostConfig, NetworkMode: networkModeOf(request.hostConfig), Runtime: runtime }
  const mode = host.NetworkMode as string
  const own = request.config
  if (own.Hostname && !HOSTNAME.test(own.Hostname)) throw invalid(`invalid hostname format: ${own.Hostname}`)
  if (own.WorkingDir && !own.WorkingDir.startsWith('/')) {
    throw invalid(`the working directory '${own.WorkingDir}' is invalid, it needs to be an absolute path`)
  }
  for (const point of Object.keys(host.Tmpfs ?? {}))
    if (!point.startsWith('/')) throw invalid(`invalid mount path: '${point}' mount path must be absolute`)
  if (Object.keys(object(host, 'StorageOpt')).length > 0)
    throw new NetError('internal', "--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
  for (const entry of own.Env ?? []) if (entry === '' || entry.startsWith('=')) throw invalid(`invalid environment variable: ${entry}`)
  if (own.StopSignal) parseSignal(own.StopSignal)
  restartPolicyOf(host)
  const memory = host.Memory ?? 0
  if (memory > 0 && memory < MEMORY_MIN_BYTES) throw invalid('Minimum memory limit allowed is 6MB')
  if (memory > 0 && num(host, 'MemorySwap') > 0 && num(host, 'MemorySwap') < memory) {
    throw invalid('Minimum memoryswap limit should be larger than memory limit, see usage')
  }
  if (memory === 0 && num(host, 'MemorySwap') > 0)
    throw invalid('You should always set the Memory limit when using Memoryswap limit, see usage')
  if ((host.NanoCpus ?? 0) > 0 && (host.CpuQuota || host.CpuPeriod)) {
    throw invalid(`Conflicting options: Nano CPUs and CPU ${host.CpuPeriod ? 'Period' : 'Quota'} cannot both be set`)
  }
  if ((host.NanoCpus ?? 0) < 0) throw invalid('NanoCPUs cannot be negative')
  checkCpus(host)
  if (runtimes.find(runtime) === undefined) throw invalid(`unknown or invalid runtime name: ${runtime.slice(0, 100)}`)
  capabilitiesOf(host.CapAdd ?? [], host.CapDrop ?? [], host.Privileged === true)
  checkSecurityOptions(strings(host, 'SecurityOpt'))
  checkLogConfig(host)
  const warnings = checkNetworkMode(own, host)
  const empty = emptyBindingKeys(host)
  const config = completeHostname(id, mergeConfig(own, image.config), host)
  const argv = [...list(config.Entrypoint), ...(config.Cmd ?? [])]
  if (argv[0] === undefined || argv[0] === '') throw invalid('no command specified')
  const nameOf = (ref: string) => (isUserDefined(ref) ? (controller.findNetwork(ref)?.name ?? ref) : ref)
  const endpoints = normalizeEndpoints(mode, request.endpoints, own.MacAddress ?? '', nameOf)
  const links = (host.Links ?? []).map(parseLink)
  if (isUserDefined(mode)) {
    const main = nameOf(mode)
    const entry = endpoints[main] ?? {}
    const scoped = links.map((l) => `${l.target}:${l.alias}`)
    if (scoped.length > 0) endpoints[main] = { ...entry, Links: [...(entry.Links ?? []), ...scoped] }
  }
  for (const [network, settings] of Object.entries(endpoints)) controller.validateEndpoint(network, endpointSettings(settings))
  const legacy = isUserDefined(mode) ? [] : links.map((l) => resolveLink(l, name, registry))
  if (legacy.length > 0) {
    warnings.push(
      'Links on the default bridge network are deprecated and will be removed in a future release. Use a custom network instead.',
    )
  }
  return {
    config,
    hostConfig: backFill(host, empty),
    endpoints,
    links: legacy,
    path: argv[0],
    args: argv.slice(1),
    mounts: wantedMounts(config, host, inheritedMounts(host, registry)),
    warnings,
  }
}

function networkModeOf(host: HostConfig): string {
  const mode = host.NetworkMode ?? ''
  return mode === '' || mode === 'default' ? 'bridge' : mode
}

function completeHostname(id: string, config: ContainerConfig, host: HostConfig): ContainerConfig {
  if (config.Hostname || containerModeOf(host.NetworkMode ?? '') !== undefined) return config
  return { ...config, Hostname: host.NetworkMode === 'host' || host.UTSMode === 'host' ? hostName() : id.slice(0, 12) }
}

/** An empty list of bindings means one with an ephemeral port; stored so that inspect shows it, as Docker does. */
function backFill(host: HostConfig, keys: readonly string[]): HostConfig {
  const { Links: _links, ...rest } = host
  if (keys.length === 0) return rest
  const filled = Object.fromEntries(keys.map((key) => [key, [{ HostIp: '', HostPort: '' }]]))
  return { ...rest, PortBindings: { ...rest.PortBindings, ...filled } }
}

function resolveLink(link: { target: string; alias: string }, _self: string, registry: Registry): Link {
  let target = registry.find(link.target)
  if (target === undefined) throw new NetError('invalid', `could not get container for ${link.target}: No such container: ${link.target}`)
  for (let ref = containerModeOf(target.record.hostConfig.NetworkMode ?? ''); ref !== undefined; ) {
    const owner = registry.find(ref)
    if (owner === undefined) throw new NetError('invalid', `could not get container for ${ref}: No such container: ${ref}`)
    target = owner
    ref = containerModeOf(owner.record.hostConfig.NetworkMode ?? '')
  }
  if (target.record.hostConfig.NetworkMode === 'host') {
    throw new NetError(
      'invalid',
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    )
  }
  return { target: target.record.id, alias: link.alias }
}

function inheritedMounts(host: HostConfig, registry: Registry): MountPoint[] {
  return strings(host, 'VolumesFrom').flatMap((spec) => {
    const { container, readOnly } = parseVolumesFrom(spec)
    return registry
      .get(container)
      .record.mounts.map(({ copyUp: _c, anonymous: _a, ...mount }) => (readOnly ? { ...mount, RW: false } : mount))
  })
}

/** Makes volumes and bind sources. What it made itself is taken away again by the caller, through `made`. */
export async function realizeMounts(
  wanted: readonly (WantedMount & { readonly newName?: string })[],
  volumes: VolumeService,
  made: string[],
): Promise<MountPoint[]> {
  for (const mount of wanted) {
    if (mount.kind === 'bind' && mount.mustExist && !existsSync(mount.source)) {
      throw new NetError('invalid', `invalid mount config for type "bind": bind source path does not exist: ${mount.source}`)
    }
  }
  const out: MountPoint[] = []
  for (const mount of wanted) {
    if (mount.kind === 'ready') out.push(mount.point)
    else if (mount.kind === 'bind') {
      if (!existsSync(mount.source)) mkdirSync(mount.source, { recursive: true })
      out.push(mount.point)
    } else {
      const known = mount.name !== '' && volumes.list().some((v) => v.name === mount.name)
      const volume = await volumes.create({
        ...(mount.name === '' ? { name: mount.newName ?? '', anonymous: true } : { name: mount.name }),
        driver: mount.driver,
        labels: mount.name === '' ? { ...mount.labels, 'com.docker.volume.anonymous': '' } : { ...mount.labels },
        options: { ...mount.options },
      })
      if (!known) made.push(volume.name)
      const Source = mount.subpath === '' ? volume.mountpoint : `${volume.mountpoint}/${mount.subpath}`
      out.push({ ...mount.point, Name: volume.name, Source })
    }
  }
  return out
}

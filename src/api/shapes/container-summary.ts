/** One entry of `GET /containers/json`, and the sentence in its `Status`. */
import type { Container } from '../../containers/types.ts'
import { roughSpan, unixSeconds } from '../times.ts'
import type { ApiOptions } from '../types.ts'
import { endpointsJson, isLive } from './container-shape.ts'
import { portListJson } from './ports.ts'

type Sources = Pick<ApiOptions, 'controller' | 'images' | 'clock'> & { readonly apiVersion?: number }

/** Names that links give: target container's name -> `/linker/alias`, from `/target:/linker/alias`. */
export function linkNames(containers: readonly Container[]): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>()
  for (const container of containers) {
    for (const link of container.hostConfig.Links ?? []) {
      const match = /^\/?([^:]+):(\/.+)$/.exec(link)
      if (match === null) continue
      const [, target = '', name = ''] = match
      names.set(target, [...(names.get(target) ?? []), name])
    }
  }
  return names
}

/** `extra` are the size fields, when asked for. */
export function containerSummary(
  container: Container,
  sources: Sources,
  links: ReadonlyMap<string, readonly string[]>,
  extra: { SizeRw?: number; SizeRootFs?: number } = {},
): Record<string, unknown> {
  const { config, hostConfig } = container
  const sandbox = isLive(container.state) ? sources.controller.sandboxOf(container.id) : undefined
  return {
    Id: container.id,
    Names: [`/${container.name}`, ...(links.get(container.name) ?? []), ...(links.get(container.id) ?? [])],
    Image: imageName(container, sources),
    ImageID: container.imageId,
    Command: [container.path, ...container.args.map(quoteArgument)].join(' '),
    Created: unixSeconds(container.created),
    Ports: portListJson(container, sandbox?.ports),
    ...extra,
    Labels: config.Labels ?? {},
    State: container.state.status,
    Status: statusSentence(container, sources.clock.now()),
    HostConfig: { NetworkMode: hostConfig.NetworkMode || 'bridge', ...annotations(container, sources.apiVersion ?? 51) },
    NetworkSettings: { Networks: endpointsJson(container, sources, sources.apiVersion ?? 51) },
    Mounts: container.mounts,
  }
}

function annotations({ hostConfig }: Container, version: number): object {
  const given = hostConfig['Annotations']
  return version < 46 || given === undefined || given === null || Object.keys(given).length === 0 ? {} : { Annotations: given }
}

/** The name the container was made with, or the id when that name means another image by now. */
function imageName(container: Container, { images }: Sources): string {
  const name = container.config.Image ?? ''
  const now = name === '' ? undefined : images.find(name)
  return name === '' || (now !== undefined && now.id !== container.imageId) ? container.imageId : name
}

function quoteArgument(argument: string): string {
  return /\s/.test(argument) ? `'${argument}'` : argument
}

/** `Up 5 minutes`, `Exited (0) 3 hours ago`: what `docker ps` prints. */
function statusSentence({ state }: Container, nowMs: number): string {
  const since = (time: string): string => roughSpan(Math.max(0, nowMs / 1000 - Date.parse(time) / 1000))
  const health =
    state.health === undefined || state.health.status === 'none'
      ? ''
      : ` (${state.health.status === 'starting' ? 'health: starting' : state.health.status})`
  switch (state.status) {
    case 'running':
      return `Up ${since(state.startedAt)}${health}`
    case 'paused':
      return `Up ${since(state.startedAt)} (Paused)`
    case 'restarting':
      return `Restarting (${state.exitCode}) ${since(state.finishedAt)} ago`
    case 'removing':
      return 'Removal In Progress'
    case 'dead':
      return 'Dead'
    case 'created':
      return 'Created'
    case 'exited':
      return unixSeconds(state.finishedAt) === 0 ? 'Created' : `Exited (${state.exitCode}) ${since(state.finishedAt)} ago`
  }
}

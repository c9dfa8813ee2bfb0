/** `docker commit`: the image of a container as it is now. */
import { NetError } from '../base/errors.ts'
import type { ContainerDeps } from './deps.ts'
import { applyChanges } from './images-changes.ts'
import type { Entry } from './registry.ts'
import type { CommitOptions, ContainerConfig } from './types.ts'

export interface CommitParts {
  readonly deps: Pick<ContainerDeps, 'images' | 'rootfs'>
  readonly pause: () => Promise<void>
  readonly unpause: () => Promise<void>
  readonly emit: (action: string, attributes: Readonly<Record<string, string>>) => void
}

/** Returns the image's id. Throws `conflict` for a container that is going, `invalid` for a wrong name or change. */
export async function commitContainer(entry: Entry, options: CommitOptions, parts: CommitParts): Promise<{ id: string }> {
  const { id, state, config: own, imageId } = entry.record
  if (state.status === 'dead') throw new NetError('conflict', `You cannot commit container ${id} which is Dead`)
  if (state.status === 'removing') throw new NetError('conflict', `You cannot commit container ${id} which is being removed`)
  const config = inherit(applyChanges(options.config ?? own, options.changes), own)
  const pauses = options.pause && state.status === 'running'
  if (pauses) await parts.pause()
  try {
    const { repo, tag, author, comment } = options
    const image = { parent: imageId, containerId: id, containerConfig: own, config, author, comment, repo, tag }
    const made = await parts.deps.images.commit(parts.deps.rootfs.layer(id), image)
    parts.emit('commit', { comment, imageID: made.id, imageRef: made.ref })
    return { id: made.id }
  } finally {
    // killed meanwhile: there is nothing left to thaw
    if (pauses && entry.record.state.status === 'paused') await parts.unpause()
  }
}

/** What the wanted configuration leaves open comes from the container's (moby daemon/commit.go, merge). */
function inherit(wanted: ContainerConfig, own: ContainerConfig): ContainerConfig {
  const nameOf = (entry: string) => entry.split('=', 1)[0]
  const named = new Set((wanted.Env ?? []).map(nameOf))
  const hasEntrypoint = wanted.Entrypoint !== undefined && wanted.Entrypoint !== null
  return {
    ...wanted,
    User: wanted.User || own.User || '',
    WorkingDir: wanted.WorkingDir || own.WorkingDir || '',
    Env: [...(wanted.Env ?? []), ...(own.Env ?? []).filter((entry) => !named.has(nameOf(entry)))],
    Labels: { ...own.Labels, ...wanted.Labels },
    Cmd: !hasEntrypoint && !wanted.Cmd?.length ? (own.Cmd ?? null) : (wanted.Cmd ?? null),
    Entrypoint: hasEntrypoint ? (wanted.Entrypoint ?? null) : (own.Entrypoint ?? null),
    ...(wanted.ExposedPorts || own.ExposedPorts ? { ExposedPorts: { ...own.ExposedPorts, ...wanted.ExposedPorts } } : {}),
    ...(wanted.Volumes || own.Volumes ? { Volumes: { ...own.Volumes, ...wanted.Volumes } } : {}),
    ...(wanted.Healthcheck || own.Healthcheck ? { Healthcheck: { ...own.Healthcheck, ...wanted.Healthcheck } } : {}),
  }
}

/** Images as list, inspect and history print them. */
import type { ImageSummary } from '../../containers/types.ts'
import { unixSeconds } from '../times.ts'
import { configJson } from './config-defaults.ts'

/** An image as the list shows it. */
export function imageSummary(image: ImageSummary, version = 51): Record<string, unknown> {
  return {
    Containers: -1,
    Created: unixSeconds(image.created),
    Id: image.id,
    Labels: image.config.Labels ?? null,
    ParentId: image.parentId,
    RepoDigests: image.repoDigests,
    RepoTags: image.repoTags,
    SharedSize: -1,
    Size: image.size,
    ...(version < 44 ? { VirtualSize: image.size } : {}),
  }
}

/** `docker image inspect`. */
export function imageJson(image: ImageSummary, version: number): object {
  return {
    Id: image.id,
    RepoTags: image.repoTags,
    RepoDigests: image.repoDigests,
    Parent: image.parentId,
    Comment: image.comment,
    Created: image.created,
    ...(version < 45 ? { Container: image.container ?? '', ContainerConfig: image.containerConfig ?? null } : {}),
    DockerVersion: '',
    Author: image.author,
    Config: configJson(image.config, version),
    Architecture: image.architecture,
    Os: image.os,
    Size: image.size,
    ...(version < 44 ? { VirtualSize: image.size } : {}),
    GraphDriver: { Data: null, Name: 'overlay2' },
    RootFS: { Type: 'layers', Layers: image.layers },
    Metadata: { LastTagTime: '0001-01-01T00:00:00Z' },
  }
}

/** Bytes of an image's layers that another image of the list has too; -1 where the sizes are not known. */
export function sharedSizes(all: readonly ImageSummary[]): (image: ImageSummary) => number {
  const users = new Map<string, number>()
  for (const { layers } of all) for (const diffId of new Set(layers)) users.set(diffId, (users.get(diffId) ?? 0) + 1)
  return ({ layers, layerSizes }) =>
    layerSizes === undefined ? -1 : layers.reduce((sum, diffId, i) => sum + ((users.get(diffId) ?? 0) > 1 ? (layerSizes[i] ?? 0) : 0), 0)
}

/** Newest first; only the top one has an id, as for every image that was not built here. */
export function historyJson(image: ImageSummary): object[] {
  const steps: ImageSummary['history'] = image.history.length > 0 ? image.history : [{ created: image.created, comment: image.comment }]
  const sizes = stepSizes(image, steps)
  return steps
    .map((step, i) => ({
      Comment: step.comment ?? '',
      Created: unixSeconds(step.created ?? image.created),
      CreatedBy: step.created_by ?? '',
      Id: i === steps.length - 1 ? image.id : '<missing>',
      Size: sizes[i] ?? 0,
      Tags: i === steps.length - 1 && image.repoTags.length > 0 ? image.repoTags : null,
    }))
    .reverse()
}

/** Each step that is not empty made the next layer; without sizes of layers all of it is the last step's. */
function stepSizes({ layerSizes, size }: ImageSummary, steps: ImageSummary['history']): number[] {
  if (layerSizes === undefined) return steps.map((_, i) => (i === steps.length - 1 ? size : 0))
  let layer = 0
  return steps.map((step) => (step.empty_layer === true ? 0 : (layerSizes[layer++] ?? 0)))
}

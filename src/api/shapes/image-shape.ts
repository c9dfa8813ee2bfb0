/** Images as list, inspect and history print them. */
import type { ImageSummary } from '../../containers/types.ts'
import { unixSeconds } from '../times.ts'
import { configJson } from './config-defaults.ts'

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

/** Newest first; only the top one has an id, as for every image that was not built here. */
export function historyJson(image: ImageSummary): object[] {
  const steps: ImageSummary['history'] = image.history.length > 0 ? image.history : [{ created: image.created, comment: image.comment }]
  return [...steps].reverse().map((step, i) => ({
    Comment: step.comment ?? '',
    Created: unixSeconds(step.created ?? image.created),
    CreatedBy: step.created_by ?? '',
    Id: i === 0 ? image.id : '<missing>',
    // The size of one layer is not recorded; all of it is the image's.
    Size: i === 0 ? image.size : 0,
    Tags: i === 0 && image.repoTags.length > 0 ? image.repoTags : null,
  }))
}

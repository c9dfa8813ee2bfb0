/** `GET /system/df`: what images, containers and volumes take. */
import type { ImageSummary } from '../../containers/types.ts'
import type { Context } from '../context.ts'
import { badRequest } from '../errors.ts'
import type { ApiOptions } from '../types.ts'
import { containerSummary, linkNames } from './container-summary.ts'
import { imageSummary, sharedSizes } from './image-shape.ts'
import { volumeJson } from './volume-shape.ts'

const TYPES = ['container', 'image', 'volume', 'build-cache']

/** What was not asked for is null, as Docker leaves it. Throws `invalid` for an unknown type. */
export async function diskUsage(options: ApiOptions, { query, version }: Context): Promise<object> {
  const types = version < 42 ? [] : query.getAll('type')
  for (const type of types) if (!TYPES.includes(type)) throw badRequest(`unknown object type: ${type.slice(0, 100)}`)
  const wants = (type: string): boolean => types.length === 0 || types.includes(type)
  return {
    LayersSize: wants('image') ? layersSize(options.images.list()) : 0,
    Images: wants('image') ? imagesUsage(options, version) : null,
    Containers: wants('container') ? await containersUsage(options, version) : null,
    Volumes: wants('volume') ? await volumesUsage(options) : null,
    BuildCache: wants('build-cache') ? [] : null,
    ...(version < 42 ? { BuilderSize: 0 } : {}),
  }
}

/** Every layer once, however many images have it. */
function layersSize(images: readonly ImageSummary[]): number {
  const layers = new Map<string, number>()
  for (const image of images) {
    if (image.layerSizes === undefined) layers.set(image.id, image.size)
    else for (const [i, diffId] of image.layers.entries()) layers.set(diffId, image.layerSizes[i] ?? 0)
  }
  return [...layers.values()].reduce((sum, size) => sum + size, 0)
}

function imagesUsage({ images, containers }: ApiOptions, version: number): object[] {
  const all = images.list()
  const shared = sharedSizes(all)
  return all.map((image) => ({
    ...imageSummary(image, version),
    SharedSize: shared(image),
    Containers: containers.list().filter((c) => c.imageId === image.id).length,
  }))
}

function containersUsage(options: ApiOptions, version: number): Promise<object[]> {
  const all = options.containers.list()
  const names = linkNames(all)
  return Promise.all(
    all.map(async (container) => {
      const { rw, rootFs } = await options.containers.sizeOf(container.id)
      return containerSummary(container, { ...options, apiVersion: version }, names, { SizeRw: rw, SizeRootFs: rootFs })
    }),
  )
}

function volumesUsage({ volumes }: ApiOptions): Promise<object[]> {
  return Promise.all(
    volumes.list().map(async (volume) => ({
      ...volumeJson(volume),
      UsageData: { Size: await volumes.sizeOf(volume.name), RefCount: volumes.usersOf(volume.name).length },
    })),
  )
}

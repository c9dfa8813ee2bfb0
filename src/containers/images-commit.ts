/** One more layer over an image, and the configuration that names both. */
import type { Clock } from '../base/ports.ts'
import { TAR_END } from './archive-tar.ts'
import { type ImageStore, parseImageConfig } from './images-store.ts'
import type { LayerStore } from './layers.ts'
import type { CommittedImage } from './types.ts'

/**
 * Unpacks the layer and returns the new image's configuration with the size of all its layers. They are pinned until `release`, so that
 * removing the parent meanwhile takes none of them. Throws `not-found` when the parent is gone.
 */
export async function committed(
  layers: LayerStore,
  images: ImageStore,
  layer: AsyncIterable<Buffer>,
  image: CommittedImage,
  clock: Clock,
): Promise<{ text: string; size: number; release: () => void }> {
  const parent = parseImageConfig(images.configText(image.parent.slice(7)))
  const releases = parent.rootfs.diff_ids.map((diffId) => layers.pin(diffId))
  const release = () => {
    for (const each of releases) each()
  }
  try {
    const diffIds = [...parent.rootfs.diff_ids]
    let size = diffIds.reduce((sum, diffId) => sum + layers.get(diffId).size, 0)
    const chunks = layer[Symbol.asyncIterator]()
    const first = await chunks.next()
    if (first.done !== true) {
      const added = await layers.add(whole(first.value, chunks))
      releases.push(added.release)
      diffIds.push(added.info.diffId)
      size += added.info.size
    }
    const created = new Date(clock.now()).toISOString()
    const { author, comment, config, containerConfig } = image
    const step = {
      created,
      ...(author === '' ? {} : { author }),
      created_by: (containerConfig.Cmd ?? []).join(' '),
      ...(comment === '' ? {} : { comment }),
      ...(first.done === true ? { empty_layer: true } : {}),
    }
    const text = JSON.stringify({
      architecture: parent.architecture,
      author,
      comment,
      config,
      container: image.containerId,
      container_config: containerConfig,
      created,
      history: [...(parent.history ?? []), step],
      os: parent.os,
      parent: image.parent,
      rootfs: { type: 'layers', diff_ids: diffIds },
    })
    return { text, size, release }
  } catch (error) {
    release()
    throw error
  }
}

async function* whole(first: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  yield first
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value
  yield TAR_END
}

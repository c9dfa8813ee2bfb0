/** Makes an image of a configuration and the archives of its layers, wherever they came from. */
import { NetError } from '../base/errors.ts'
import { type ImageStore, parseImageConfig } from './images-store.ts'
import type { LayerStore } from './layers.ts'

export interface InstallHooks {
  /** Before a layer is unpacked; not called for one that is there. */
  readonly unpacking?: (index: number, diffId: string) => void
  readonly done?: (index: number, diffId: string, wasThere: boolean) => void
}

/**
 * Unpacks the layers that are missing and stores the image; returns its id (hex). `blob(i)` opens the archive of layer i, lowest first;
 * it is not called for a layer that is there. Layers are pinned until the image refers to them, so a prune meanwhile takes none.
 */
export async function installImage(
  layers: LayerStore,
  images: ImageStore,
  configText: string,
  blobCount: number,
  blob: (index: number) => AsyncIterable<Uint8Array> | Promise<AsyncIterable<Uint8Array>>,
  hooks: InstallHooks = {},
): Promise<string> {
  const diffIds = parseImageConfig(configText).rootfs.diff_ids
  if (diffIds.length !== blobCount) {
    throw new NetError('invalid', `invalid manifest, layers length mismatch: expected ${diffIds.length}, got ${blobCount}`)
  }
  const releases: (() => void)[] = []
  try {
    let size = 0
    for (const [i, diffId] of diffIds.entries()) {
      const there = layers.has(diffId)
      if (!there) hooks.unpacking?.(i, diffId)
      const { info, release } = await layers.add(there ? nothing() : await blob(i), diffId)
      releases.push(release)
      size += info.size
      hooks.done?.(i, diffId, there)
    }
    return images.put(configText, size)
  } finally {
    for (const release of releases) release()
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

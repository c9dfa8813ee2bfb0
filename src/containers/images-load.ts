/**
 * `docker load`: archives as `docker save` writes them (manifest.json, with layers anywhere, also as links) and OCI layouts as a tar.
 * The archive is unpacked into a scratch directory first, because its table of contents may come last; everything in it is read
 * inside that directory, so names and links in a hostile archive lead nowhere else.
 */
import { createReadStream, fstatSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf, NetError } from '../base/errors.ts'
import { below, closeFd, O_NONBLOCK, openRoot, tryOpenInRoot } from '../sys/rooted.ts'
import { decompress } from './archive-compress.ts'
import { extractTar } from './archive-extract.ts'
import { TarReader } from './archive-tar.ts'
import { goArch } from './images-bootstrap.ts'
import { installImage } from './images-install.ts'
import { parseReference, type Reference } from './images-reference.ts'
import type { ImageStore } from './images-store.ts'
import { isDigest, type LayerStore } from './layers.ts'
import { choosePlatform, type PlatformJson } from './platform.ts'
import type { Progress } from './types.ts'

/** Called for each image as soon as it is stored, in the same step: until it is named, a prune may take it. */
export type OnLoaded = (hex: string, refs: readonly Reference[]) => void

/** An image inside an unpacked archive: paths of its configuration and layers, and the names it wants. */
interface Found {
  readonly config: string
  readonly layers: readonly string[]
  readonly names: readonly string[]
}

interface Descriptor {
  readonly mediaType?: string
  readonly digest?: string
  readonly platform?: PlatformJson
  readonly annotations?: Readonly<Record<string, string>>
}

const MAX_JSON_BYTES = 16 << 20
const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'

/** Loads every image of an archive; naming them is the caller's. Throws `invalid`. */
export async function loadArchive(
  layers: LayerStore,
  images: ImageStore,
  tar: AsyncIterable<Uint8Array>,
  progress: Progress,
  onLoaded: OnLoaded,
): Promise<void> {
  const scratch = layers.scratch('load')
  try {
    const directory = join(scratch, 'archive')
    mkdirSync(directory, { mode: 0o700 })
    const root = openRoot(directory)
    try {
      const reader = new TarReader(decompress(tar))
      try {
        await extractTar(reader, root, { owner: { uid: 0, gid: 0 } })
        await reader.finish()
      } finally {
        await reader.cancel()
      }
      await installFrom(layers, images, new Tree(root), progress, onLoaded)
    } finally {
      closeFd(root)
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** Loads every image of a directory that is laid out like an archive, for example an OCI layout that another program wrote. */
export async function loadDirectory(
  layers: LayerStore,
  images: ImageStore,
  directory: string,
  progress: Progress,
  onLoaded: OnLoaded,
): Promise<void> {
  const root = openRoot(directory)
  try {
    await installFrom(layers, images, new Tree(root), progress, onLoaded)
  } finally {
    closeFd(root)
  }
}

/** Files of an unpacked archive. */
class Tree {
  readonly #root: number

  constructor(root: number) {
    this.#root = root
  }

  has(path: string): boolean {
    const fd = this.#open(path)
    if (fd !== undefined) closeFd(fd)
    return fd !== undefined
  }

  text(path: string): string {
    const fd = this.#open(path)
    if (fd === undefined) throw new NetError('invalid', `invalid archive: "${path}" is missing`)
    try {
      if (fstatSync(fd).size > MAX_JSON_BYTES) throw new NetError('invalid', `invalid archive: "${path}" is too large`)
      return readFileSync(below(fd), 'utf8')
    } finally {
      closeFd(fd)
    }
  }

  json(path: string): unknown {
    const text = this.text(path)
    try {
      return JSON.parse(text)
    } catch (cause) {
      throw new NetError('invalid', `invalid archive: "${path}" is not JSON: ${messageOf(cause)}`, {}, cause)
    }
  }

  stream(path: string): AsyncIterable<Buffer> {
    const fd = this.#open(path)
    if (fd === undefined) throw new NetError('invalid', `invalid archive: layer "${path}" is missing`)
    return createReadStream('', { fd }) // closes the descriptor at its end
  }

  size(path: string): number {
    const fd = this.#open(path)
    if (fd === undefined) return 0
    const { size } = fstatSync(fd)
    closeFd(fd)
    return size
  }

  /** Regular files only: an archive may hold a fifo by that name. */
  #open(path: string): number | undefined {
    const fd = tryOpenInRoot(this.#root, path, O_NONBLOCK, ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENAMETOOLONG'])
    if (fd === undefined || fstatSync(fd).isFile()) return fd
    closeFd(fd)
    return undefined
  }
}

async function installFrom(layers: LayerStore, images: ImageStore, tree: Tree, progress: Progress, onLoaded: OnLoaded): Promise<void> {
  const found = tree.has('manifest.json') ? dockerImages(tree) : tree.has('index.json') ? ociImages(tree, 'index.json') : undefined
  if (found === undefined) throw new NetError('invalid', 'invalid archive: does not contain a manifest.json')
  for (const image of found) {
    const refs = image.names.map(parseReference) // before anything is unpacked
    const hex = await installImage(
      layers,
      images,
      tree.text(image.config),
      image.layers.length,
      (i) => tree.stream(image.layers[i] as string),
      {
        unpacking: (i, diffId) => {
          const total = tree.size(image.layers[i] as string)
          progress({ status: 'Loading layer', progressDetail: { current: 0, total }, id: diffId.slice(7, 19) })
        },
        done: (i, diffId, wasThere) => {
          const total = tree.size(image.layers[i] as string)
          if (!wasThere) progress({ status: 'Loading layer', progressDetail: { current: total, total }, id: diffId.slice(7, 19) })
        },
      },
    )
    onLoaded(hex, refs)
  }
}

function dockerImages(tree: Tree): Found[] {
  const list = tree.json('manifest.json')
  const strings = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string')
  if (!Array.isArray(list)) throw new NetError('invalid', 'invalid archive: manifest.json is not a list')
  return list.map((item: { Config?: unknown; Layers?: unknown; RepoTags?: unknown } | null) => {
    if (typeof item?.Config !== 'string' || !strings(item.Layers)) {
      throw new NetError('invalid', 'invalid archive: manifest.json has an image without Config or Layers')
    }
    return { config: item.Config, layers: item.Layers, names: strings(item.RepoTags) ? item.RepoTags : [] }
  })
}

/** Images of an OCI index; of an index inside it, the one for this machine. */
function ociImages(tree: Tree, path: string, depth = 0): Found[] {
  const index = tree.json(path) as { manifests?: Descriptor[] } | null
  if (!Array.isArray(index?.manifests) || depth > 3) throw new NetError('invalid', `invalid archive: "${path}" is no image index`)
  return index.manifests.flatMap((descriptor) => {
    const blob = blobPath(descriptor.digest)
    const names = namesOf(descriptor.annotations)
    if (descriptor.mediaType === OCI_INDEX || descriptor.mediaType === DOCKER_LIST) {
      return platformImages(tree, blob, depth).map((image) => ({ ...image, names: names.length > 0 ? names : image.names }))
    }
    const manifest = tree.json(blob) as { config?: Descriptor; layers?: Descriptor[] } | null
    if (manifest?.config === undefined || !Array.isArray(manifest.layers))
      throw new NetError('invalid', `invalid archive: "${blob}" is no manifest`)
    return [{ config: blobPath(manifest.config.digest), layers: manifest.layers.map((layer) => blobPath(layer.digest)), names }]
  })
}

function platformImages(tree: Tree, blob: string, depth: number): Found[] {
  const index = tree.json(blob) as { manifests?: Descriptor[] } | null
  const chosen = choosePlatform(index?.manifests ?? [])
  if (chosen === undefined) throw new NetError('invalid', `no image for linux/${goArch()} in the archive`)
  const at = blobPath(chosen.digest)
  if (chosen.mediaType === OCI_INDEX || chosen.mediaType === DOCKER_LIST) return ociImages(tree, at, depth + 1)
  const manifest = tree.json(at) as { config?: Descriptor; layers?: Descriptor[] } | null
  if (manifest?.config === undefined || !Array.isArray(manifest.layers))
    throw new NetError('invalid', `invalid archive: "${at}" is no manifest`)
  return [{ config: blobPath(manifest.config.digest), layers: manifest.layers.map((layer) => blobPath(layer.digest)), names: [] }]
}

function blobPath(digest: string | undefined): string {
  if (digest === undefined || !isDigest(digest)) throw new NetError('invalid', `invalid archive: unsupported digest "${digest ?? ''}"`)
  return `blobs/sha256/${digest.slice(7)}`
}

/** containerd writes the whole name, the OCI specification's own annotation may be a bare tag: that one names nothing by itself. */
function namesOf(annotations: Readonly<Record<string, string>> | undefined): string[] {
  const full = annotations?.['io.containerd.image.name']
  if (full !== undefined) return [full]
  const name = annotations?.['org.opencontainers.image.ref.name']
  return name?.includes(':') === true || name?.includes('/') === true ? [name] : []
}

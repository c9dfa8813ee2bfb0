/**
 * `docker save`: one tar that is both a docker-archive (manifest.json, repositories) and an OCI layout (index.json, blobs), as dockerd
 * since 25 writes it. Layers come out byte for byte as they came in.
 */

import { encodeHeader, paddingOf, TAR_END } from './archive-tar.ts'
import { canonical, familiar, familiarName, type Reference } from './images-reference.ts'
import { type ImageStore, parseImageConfig, sha256 } from './images-store.ts'
import type { LayerStore } from './layers.ts'

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json'
const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar'

export interface SavedImage {
  readonly hex: string
  readonly refs: readonly Reference[]
}

/** The archive's bytes. Reads layers as it goes; destroy it to stop. */
export async function* saveArchive(layers: LayerStore, images: ImageStore, saved: readonly SavedImage[]): AsyncGenerator<Buffer> {
  const releases = saved.flatMap(({ hex }) => images.summary(hex).layers.map((diffId) => layers.pin(diffId)))
  try {
    yield* entries(layers, images, saved)
  } finally {
    for (const release of releases) release()
  }
}

async function* entries(layers: LayerStore, images: ImageStore, saved: readonly SavedImage[]): AsyncGenerator<Buffer> {
  const written = new Set<string>()
  function* file(name: string, body: string): Generator<Buffer> {
    if (written.has(name)) return
    written.add(name)
    const bytes = Buffer.from(body)
    yield encodeHeader({ name, type: 'file', size: bytes.length })
    yield bytes
    yield paddingOf(bytes.length)
  }
  const blob = (hex: string): string => `blobs/sha256/${hex}`
  for (const name of ['blobs/', 'blobs/sha256/']) yield encodeHeader({ name, type: 'directory' })

  const manifest: object[] = []
  const index: object[] = []
  const repositories: Record<string, Record<string, string>> = {}
  for (const { hex, refs } of saved) {
    const configText = images.configText(hex)
    const diffIds = parseImageConfig(configText).rootfs.diff_ids
    for (const diffId of diffIds) {
      const name = blob(diffId.slice(7))
      if (written.has(name)) continue
      written.add(name)
      const { tarSize } = layers.get(diffId)
      yield encodeHeader({ name, type: 'file', size: tarSize })
      yield* layers.tar(diffId)
      yield paddingOf(tarSize)
    }
    yield* file(blob(hex), configText)
    const ociManifest = JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: OCI_CONFIG, digest: `sha256:${hex}`, size: Buffer.byteLength(configText) },
      layers: diffIds.map((diffId) => ({ mediaType: OCI_LAYER, digest: diffId, size: layers.get(diffId).tarSize })),
    })
    const digest = sha256(ociManifest)
    yield* file(blob(digest), ociManifest)
    const descriptor = { mediaType: OCI_MANIFEST, digest: `sha256:${digest}`, size: Buffer.byteLength(ociManifest) }
    const tags = refs.filter((ref) => ref.tag !== undefined)
    for (const ref of tags) {
      index.push({
        ...descriptor,
        annotations: { 'io.containerd.image.name': canonical(ref), 'org.opencontainers.image.ref.name': ref.tag as string },
      })
      const repository = familiarName(ref)
      repositories[repository] = { ...repositories[repository], [ref.tag as string]: (diffIds.at(-1) ?? `sha256:${hex}`).slice(7) }
    }
    if (tags.length === 0) index.push(descriptor)
    manifest.push({
      Config: blob(hex),
      RepoTags: tags.length === 0 ? null : tags.map(familiar),
      Layers: diffIds.map((diffId) => blob(diffId.slice(7))),
    })
  }
  yield* file('index.json', JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: index }))
  yield* file('manifest.json', JSON.stringify(manifest))
  yield* file('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  yield* file('repositories', JSON.stringify(repositories))
  yield TAR_END
}

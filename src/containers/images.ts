/**
 * The image service: what `docker image …` does, over the layer store (layers.ts) and the image store (images-store.ts).
 * Refuses to do: builds, searches, signatures.
 *
 * Pulls and loads run side by side; what changes names, images or the set of layers does so in one synchronous stretch, and layers
 * on their way into an image are pinned, so a removal or a prune never meets half of a new image.
 */
import { Readable } from 'node:stream'
import { NetError } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import type { Store } from '../store/types.ts'
import { inChunks } from './archive-pack.ts'
import { busyboxImage, goArch } from './images-bootstrap.ts'
import { applyChanges } from './images-changes.ts'
import { committed } from './images-commit.ts'
import { fetchArchive, importUrl } from './images-fetch.ts'
import { installImage } from './images-install.ts'
import { loadArchive, loadDirectory } from './images-load.ts'
import { checkLogin } from './images-login.ts'
import { canonical, familiar, familiarName, fullIdOf, parseReference, type Reference, withDefaultTag } from './images-reference.ts'
import { type Auth, pullImage, pushImage, type RegistryOptions } from './images-registry.ts'
import { planRemoval } from './images-remove.ts'
import { type SavedImage, saveArchive } from './images-save.ts'
import { ImageStore, noSuchImage, sha256 } from './images-store.ts'
import type { LayerStore } from './layers.ts'
import { hostPlatform, parsePlatform, showPlatform } from './platform.ts'
import type { CommittedImage, EventBus, ImageService, ImageSummary, ImportOptions, LoginAnswer, LoginRequest, Progress } from './types.ts'

export interface ImagesOptions {
  readonly store: Store
  readonly layers: LayerStore
  readonly clock: Clock
  readonly events?: Pick<EventBus, 'publish'>
  /** Containers made from an image (`sha256:…`). */
  readonly usersOf?: (imageId: string) => readonly { readonly id: string; readonly isRunning: boolean }[]
  /** Layers that writable layers stand on: {@link OverlayRootfs.layersInUse}. They stay when their image goes by force. */
  readonly layersHeld?: () => ReadonlySet<string>
  readonly registry?: RegistryOptions
}

export class Images implements ImageService {
  readonly #options: ImagesOptions
  readonly #images: ImageStore
  readonly #layers: LayerStore

  constructor(options: ImagesOptions) {
    this.#options = options
    this.#images = new ImageStore(options.store)
    this.#layers = options.layers
  }

  /** After a start: layers that no image and no container refers to are left from a crash, and go. */
  async restore(): Promise<void> {
    await this.#collect()
  }

  list(): readonly ImageSummary[] {
    return this.#images.list().map((image) => this.#sized(image))
  }

  get(ref: string): ImageSummary {
    const hex = this.#images.find(ref)
    if (hex === undefined) throw noSuchImage(ref)
    return this.#sized(this.#images.summary(hex))
  }

  find(ref: string): ImageSummary | undefined {
    let hex: string | undefined
    try {
      hex = this.#images.find(ref)
    } catch {
      return undefined // no reference at all
    }
    return hex === undefined ? undefined : this.#sized(this.#images.summary(hex))
  }

  #sized(image: ImageSummary): ImageSummary {
    return { ...image, layerSizes: image.layers.map((diffId) => (this.#layers.has(diffId) ? this.#layers.get(diffId).size : 0)) }
  }

  async bootstrap(): Promise<string> {
    const ref = parseReference('busybox:latest')
    const present = this.#images.lookup(ref)
    if (present !== undefined) return `sha256:${present}`
    const { tar, config } = await busyboxImage()
    const diffId = `sha256:${sha256(tar)}`
    const text = JSON.stringify({ ...config, rootfs: { type: 'layers', diff_ids: [diffId] } })
    const hex = await installImage(this.#layers, this.#images, text, 1, () => chunks(tar))
    this.#name(ref, hex)
    this.#publish('import', hex, familiar(ref))
    return `sha256:${hex}`
  }

  async import(tar: Readable, options: ImportOptions): Promise<string> {
    const ref = options.repo === undefined || options.repo === '' ? undefined : tagged(options.repo, options.tag)
    const config = applyChanges({}, options.changes ?? [])
    const { info, release } = await this.#layers.add(tar)
    try {
      const created = new Date(this.#options.clock.now()).toISOString()
      const comment = options.message ?? ''
      const text = JSON.stringify({
        architecture: goArch(),
        comment,
        config,
        created,
        history: [{ created, comment }],
        os: 'linux',
        rootfs: { type: 'layers', diff_ids: [info.diffId] },
      })
      const hex = this.#images.put(text, info.size)
      if (ref !== undefined) this.#name(ref, hex)
      this.#publish('import', hex, ref === undefined ? `sha256:${hex}` : familiar(ref))
      return `sha256:${hex}`
    } finally {
      release()
    }
  }

  async importUrl(source: string, options: ImportOptions, progress: Progress, signal: AbortSignal): Promise<string> {
    const url = importUrl(source)
    // what is wrong with the request is said before anything is fetched
    if (options.repo !== undefined && options.repo !== '') tagged(options.repo, options.tag)
    applyChanges({}, options.changes ?? [])
    return this.import(await fetchArchive(url, progress, signal), options)
  }

  async commit(layer: AsyncIterable<Buffer>, image: CommittedImage): Promise<{ id: string; ref: string }> {
    const ref = image.repo === '' ? undefined : tagged(image.repo, image.tag)
    const { text, size, release } = await committed(this.#layers, this.#images, layer, image, this.#options.clock)
    try {
      const hex = this.#images.put(text, size)
      if (ref !== undefined) {
        this.#name(ref, hex)
        this.#publish('tag', hex, familiar(ref))
      }
      return { id: `sha256:${hex}`, ref: ref === undefined ? '' : familiar(ref) }
    } finally {
      release()
    }
  }

  async load(tar: Readable, progress: Progress): Promise<void> {
    await loadArchive(this.#layers, this.#images, tar, progress, (hex, refs) => this.#announce(hex, refs, progress))
  }

  /** Like load, from a directory laid out like an archive, for example an OCI layout. */
  async loadDirectory(directory: string, progress: Progress): Promise<void> {
    await loadDirectory(this.#layers, this.#images, directory, progress, (hex, refs) => this.#announce(hex, refs, progress))
  }

  async save(refs: readonly string[]): Promise<Readable> {
    const saved = new Map<string, Reference[]>()
    for (const text of refs) {
      const { hex, names } = this.#savedBy(text)
      saved.set(hex, [...(saved.get(hex) ?? []), ...names])
      // `docker save busybox` means every tag of the repository
      for (const [other, ref] of this.#allTags(text)) saved.set(other, [...(saved.get(other) ?? []), ref])
    }
    const list: SavedImage[] = [...saved].map(([hex, names]) => ({
      hex,
      refs: [...new Map(names.map((ref) => [canonical(ref), ref])).values()],
    }))
    for (const { hex } of list) this.#publish('save', hex, `sha256:${hex}`)
    return Readable.from(inChunks(saveArchive(this.#layers, this.#images, list)), { objectMode: false, highWaterMark: 1 << 18 })
  }

  async pull(ref: string, tag: string, auth: Auth | undefined, progress: Progress, signal: AbortSignal, asked = ''): Promise<void> {
    const wanted = tagged(ref, tag)
    const platform = asked === '' ? hostPlatform() : parsePlatform(asked)
    const pulled = await pullImage(this.#layers, this.#images, wanted, auth, this.#options.registry ?? {}, platform, progress, signal)
    if (wanted.digest !== undefined && wanted.digest !== pulled.digest) {
      throw new NetError('invalid', `manifest verification failed for digest ${wanted.digest}`)
    }
    if (!this.#images.has(pulled.hex)) throw noSuchImage(ref) // removed while it was being unpacked
    const before = wanted.digest === undefined ? this.#images.lookup(wanted) : pulled.hex
    const { tag: _, ...untagged } = wanted
    this.#images.setRef({ ...untagged, digest: pulled.digest }, pulled.hex)
    if (wanted.digest === undefined) this.#images.setRef(wanted, pulled.hex)
    progress({ status: `Digest: ${pulled.digest}` })
    const isSame = !pulled.isNew && before === pulled.hex
    const { os, architecture } = this.#images.summary(pulled.hex)
    // an image that is for one platform only is had all the same
    if (asked !== '' && (os !== platform.os || architecture !== platform.architecture))
      progress({
        status: `WARNING: image with reference ${familiar(wanted)} was found but does not match the specified platform: wanted ${showPlatform(platform)}, actual: ${os}/${architecture}`,
      })
    progress({ status: `Status: ${isSame ? 'Image is up to date for' : 'Downloaded newer image for'} ${familiar(wanted)}` })
    this.#publish('pull', pulled.hex, familiar(wanted))
  }

  async push(ref: string, tag: string, auth: Auth | undefined, progress: Progress, signal: AbortSignal): Promise<void> {
    const wanted = tagged(ref, tag)
    const hex = this.#images.lookup(wanted)
    if (hex === undefined) {
      throw new NetError('not-found', `An image does not exist locally with the tag: ${familiarName(wanted)}`, {
        subject: familiar(wanted),
      })
    }
    const digest = await pushImage(this.#layers, this.#images, hex, wanted, auth, this.#options.registry ?? {}, progress, signal)
    const { tag: _, ...untagged } = wanted
    this.#images.setRef({ ...untagged, digest }, hex)
    progress({ status: `${wanted.tag}: digest: ${digest}` })
    progress({ progressDetail: {}, aux: { Tag: wanted.tag, Digest: digest } })
    this.#publish('push', hex, familiar(wanted))
  }

  login(request: LoginRequest, signal: AbortSignal): Promise<LoginAnswer> {
    return checkLogin(() => this.#layers.scratch('login'), request, this.#options.registry ?? {}, signal)
  }

  async tag(ref: string, repo: string, tag: string): Promise<void> {
    const { id } = this.get(ref)
    const name = parseReference(tag === '' ? repo : `${repo}:${tag}`)
    if (name.digest !== undefined) throw new NetError('invalid', 'refusing to create a tag with a digest reference')
    if (familiarName(name) === 'sha256') {
      throw new NetError('invalid', 'refusing to create an ambiguous tag using digest algorithm as name')
    }
    this.#images.setRef(withDefaultTag(name), id.slice(7))
    this.#publish('tag', id.slice(7), familiar(withDefaultTag(name)))
  }

  async remove(ref: string, options: { force: boolean; noPrune: boolean }): Promise<({ Untagged: string } | { Deleted: string })[]> {
    const hex = this.#images.find(ref)
    if (hex === undefined) throw noSuchImage(ref)
    const users = this.#options.usersOf?.(`sha256:${hex}`) ?? []
    const plan = planRemoval({ text: ref, hex, refs: this.#images.refsOf(hex), users, force: options.force })
    const { records } = await this.#drop(hex, plan.untag, plan.deletes)
    return records
  }

  async prune(options: {
    dangling: boolean
    until?: number
    matches?: (labels: Readonly<Record<string, string>>) => boolean
  }): Promise<{ deleted: ({ Untagged: string } | { Deleted: string })[]; reclaimed: number }> {
    const deleted: ({ Untagged: string } | { Deleted: string })[] = []
    let reclaimed = 0
    for (const image of this.#images.list()) {
      const hex = image.id.slice(7)
      if (options.dangling && image.repoTags.length > 0) continue
      if (options.until !== undefined && Date.parse(image.created) > options.until * 1000) continue
      if (options.matches?.(image.config.Labels ?? {}) === false) continue
      if ((this.#options.usersOf?.(image.id) ?? []).length > 0) continue
      const { records, bytes } = await this.#drop(hex, this.#images.refsOf(hex), true)
      deleted.push(...records)
      reclaimed += bytes
    }
    return { deleted, reclaimed }
  }

  /** Takes names away and, when `deletes`, the image with the layers that nothing else needs. */
  async #drop(
    hex: string,
    untag: readonly Reference[],
    deletes: boolean,
  ): Promise<{ records: ({ Untagged: string } | { Deleted: string })[]; bytes: number }> {
    const records: ({ Untagged: string } | { Deleted: string })[] = []
    for (const ref of untag) {
      this.#images.removeRef(ref)
      records.push({ Untagged: familiar(ref) })
      this.#publish('untag', hex, `sha256:${hex}`)
    }
    if (!deletes) return { records, bytes: 0 }
    const { layers } = this.#images.summary(hex)
    this.#images.remove(hex)
    records.push({ Deleted: `sha256:${hex}` })
    this.#publish('delete', hex, `sha256:${hex}`)
    const { removed, bytes } = await this.#collect()
    const chains = chainIds(layers)
    for (const [i, diffId] of [...layers.entries()].reverse()) {
      if (removed.includes(diffId)) records.push({ Deleted: chains[i] as string })
    }
    return { records, bytes }
  }

  #collect(): Promise<{ removed: string[]; bytes: number }> {
    const used = this.#images.layersInUse()
    const held = this.#options.layersHeld?.() ?? new Set<string>()
    return this.#layers.collect((diffId) => used.has(diffId) || held.has(diffId))
  }

  #announce(hex: string, refs: readonly Reference[], progress: Progress): void {
    for (const ref of refs.map(withDefaultTag)) {
      const before = this.#name(ref, hex)
      if (before !== undefined && before !== hex) {
        progress({ stream: `The image ${familiar(ref)} already exists, renaming the old one with ID sha256:${before} to empty string\n` })
      }
      progress({ stream: `Loaded image: ${familiar(ref)}\n` })
    }
    if (refs.length === 0) progress({ stream: `Loaded image ID: sha256:${hex}\n` })
    this.#publish('load', hex, `sha256:${hex}`)
  }

  #name(ref: Reference, hex: string): string | undefined {
    return this.#images.setRef(ref, hex)
  }

  #savedBy(text: string): { hex: string; names: Reference[] } {
    const hex = this.#images.find(text)
    if (hex === undefined) {
      // a repository without `latest` still has its other tags
      const first = this.#allTags(text)[0]
      if (first === undefined) throw noSuchImage(text)
      return { hex: first[0], names: [first[1]] }
    }
    const plain = text.startsWith('sha256:') ? text.slice(7) : text
    if (hex.startsWith(plain)) return { hex, names: [] }
    const ref = withDefaultTag(parseReference(text))
    return { hex, names: ref.tag === undefined ? [] : [ref] }
  }

  /** All tags of the repository that `text` names without a tag. */
  #allTags(text: string): [string, Reference][] {
    if (fullIdOf(text) !== undefined) return []
    let ref: Reference
    try {
      ref = parseReference(text)
    } catch {
      return []
    }
    if (ref.tag !== undefined || ref.digest !== undefined) return []
    return this.#images.refs().filter(([, other]) => other.name === ref.name && other.tag !== undefined)
  }

  #publish(action: string, hex: string, name: string): void {
    const labels = action === 'delete' ? {} : ((this.#images.has(hex) ? this.#images.summary(hex).config.Labels : undefined) ?? {})
    this.#options.events?.publish({
      Type: 'image',
      Action: action,
      Actor: {
        ID: action === 'pull' || action === 'push' || action === 'import' ? name : `sha256:${hex}`,
        Attributes: { ...labels, name },
      },
    })
  }
}

/** `repo`, with `tag` when it is not empty; a tag that is a digest is one. The API gives them apart. */
function tagged(repo: string, tag: string | undefined): Reference {
  const ref = parseReference(tag === undefined || tag === '' ? repo : tag.includes(':') ? `${repo}@${tag}` : repo)
  const isDigest = tag?.includes(':') === true
  return withDefaultTag(tag === undefined || tag === '' || isDigest ? ref : parseReference(`${canonical({ ...ref, tag })}`))
}

/** Names of layer stacks: https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid. */
function chainIds(diffIds: readonly string[]): string[] {
  const out: string[] = []
  for (const diffId of diffIds) out.push(out.length === 0 ? diffId : `sha256:${sha256(`${out.at(-1)} ${diffId}`)}`)
  return out
}

async function* chunks(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}

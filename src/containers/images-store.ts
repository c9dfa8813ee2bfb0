/**
 * Images and their names, in the store. An image is its configuration, byte for byte (its digest is the image's id), and the layers it
 * names; `image/<hex>` holds it, `image-ref/<full name>:<tag>` and `image-ref/<full name>@<digest>` hold the id they point to.
 */
import { createHash } from 'node:crypto'
import { NetError } from '../base/errors.ts'
import type { Store } from '../store/types.ts'
import { canonical, familiar, fullIdOf, idPrefixOf, parseReference, type Reference, withDefaultTag } from './images-reference.ts'
import { isDigest } from './layers.ts'
import type { ContainerConfig, ImageSummary } from './types.ts'

/** The configuration of an image: https://github.com/opencontainers/image-spec/blob/main/config.md and Docker's own fields. */
export interface ImageConfig {
  readonly architecture?: string
  readonly os?: string
  readonly author?: string
  readonly comment?: string
  readonly created?: string
  readonly parent?: string
  readonly container?: string
  readonly container_config?: ContainerConfig | null
  readonly config?: ContainerConfig | null
  readonly rootfs: { readonly type: string; readonly diff_ids: readonly string[] }
  readonly history?: ImageSummary['history'] | null
}

interface ImageRecord {
  readonly config: string
  readonly size: number
}

const IMAGE = 'image/'
const REF = 'image-ref/'

/** Hexadecimal digest. */
export function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Parses and checks an image configuration. Throws `invalid`. */
export function parseImageConfig(text: string): ImageConfig {
  let config: ImageConfig
  try {
    config = JSON.parse(text) as ImageConfig
  } catch (cause) {
    throw new NetError('invalid', 'invalid image configuration: not JSON', {}, cause)
  }
  const ids: unknown = config?.rootfs?.diff_ids
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === 'string' && isDigest(id))) {
    throw new NetError('invalid', 'invalid image configuration: no layer digests in rootfs.diff_ids')
  }
  if (ids.length > 127) throw new NetError('invalid', `max depth exceeded: the image has ${ids.length} layers`)
  return config
}

export class ImageStore {
  readonly #store: Store
  /** What does not change while an image is there, by hex. */
  readonly #parsed = new Map<string, Omit<ImageSummary, 'repoTags' | 'repoDigests'>>()

  constructor(store: Store) {
    this.#store = store
  }

  /** Stores an image and returns its id (hex). Idempotent. `size` = bytes of the files of its layers. */
  put(configText: string, size: number): string {
    parseImageConfig(configText)
    const hex = sha256(configText)
    const record: ImageRecord = { config: configText, size }
    if (this.#store.get(IMAGE + hex) === undefined) this.#store.put(IMAGE + hex, record)
    return hex
  }

  remove(hex: string): void {
    this.#store.transaction(() => {
      for (const ref of this.refsOf(hex)) this.removeRef(ref)
      this.#store.remove(IMAGE + hex)
    })
    this.#parsed.delete(hex)
  }

  has(hex: string): boolean {
    return this.#parsed.has(hex) || this.#store.get(IMAGE + hex) !== undefined
  }

  /** The configuration's own bytes. Throws `not-found`. */
  configText(hex: string): string {
    return this.#record(hex).config
  }

  ids(): string[] {
    return this.#store.list<ImageRecord>(IMAGE).map(([key]) => key.slice(IMAGE.length))
  }

  /** All images, newest first. */
  list(): ImageSummary[] {
    const refs = new Map<string, Reference[]>()
    for (const [hex, ref] of this.refs()) refs.set(hex, [...(refs.get(hex) ?? []), ref])
    return this.ids()
      .map((hex) => this.#summary(hex, refs.get(hex) ?? []))
      .sort((a, b) => Date.parse(b.created) - Date.parse(a.created) || (a.id < b.id ? -1 : 1))
  }

  summary(hex: string): ImageSummary {
    return this.#summary(hex, this.refsOf(hex))
  }

  /** Layers of all images, for the layer store's collection. */
  layersInUse(): Set<string> {
    return new Set(this.ids().flatMap((hex) => [...this.#parse(hex).layers]))
  }

  /** Every name with the id it points to. */
  refs(): [string, Reference][] {
    return this.#store.list<string>(REF).map(([key, hex]) => [hex, parseReference(key.slice(REF.length))])
  }

  refsOf(hex: string): Reference[] {
    return this.refs()
      .filter(([id]) => id === hex)
      .map(([, ref]) => ref)
  }

  /** Points a name at an image and returns the id it pointed to before. */
  setRef(ref: Reference, hex: string): string | undefined {
    const key = REF + canonical(ref)
    const before = this.#store.get<string>(key)
    if (before !== hex) this.#store.put(key, hex)
    return before
  }

  removeRef(ref: Reference): void {
    this.#store.remove(REF + canonical(ref))
  }

  lookup(ref: Reference): string | undefined {
    return this.#store.get<string>(REF + canonical(ref))
  }

  /**
   * The image that a person means: full id, name, name with tag or digest, then the beginning of an id that only one image has.
   * Undefined when there is none. Throws `invalid` for text that cannot name an image.
   */
  find(text: string): string | undefined {
    const full = fullIdOf(text)
    if (full !== undefined) return this.has(full) ? full : undefined
    const prefix = idPrefixOf(text)
    let ref: Reference | undefined
    try {
      ref = withDefaultTag(parseReference(text))
    } catch (error) {
      if (prefix === undefined) throw error // "sha256:12ab" parses as no name of this kind but is the beginning of an id
    }
    if (ref !== undefined) {
      // name:tag@digest means the digest
      const named = ref.digest === undefined ? ref : { name: ref.name, domain: ref.domain, path: ref.path, digest: ref.digest }
      const hex = this.lookup(named)
      if (hex !== undefined) return hex
      // name@<image id> is taken too: what `docker images --no-trunc` shows
      const byId = ref.digest === undefined ? undefined : fullIdOf(ref.digest)
      if (byId !== undefined && this.has(byId) && this.refsOf(byId).some((r) => r.name === named.name)) return byId
    }
    if (prefix === undefined) return undefined
    const matches = this.ids().filter((hex) => hex.startsWith(prefix))
    return matches.length === 1 ? matches[0] : undefined
  }

  #record(hex: string): ImageRecord {
    const record = this.#store.get<ImageRecord>(IMAGE + hex)
    if (record === undefined) throw new NetError('not-found', `No such image: sha256:${hex}`, { subject: hex })
    return record
  }

  #summary(hex: string, refs: readonly Reference[]): ImageSummary {
    return {
      ...this.#parse(hex),
      repoTags: refs.filter((ref) => ref.digest === undefined).map(familiar),
      repoDigests: refs.filter((ref) => ref.digest !== undefined).map(familiar),
    }
  }

  #parse(hex: string): Omit<ImageSummary, 'repoTags' | 'repoDigests'> {
    const cached = this.#parsed.get(hex)
    if (cached !== undefined) return cached
    const record = this.#record(hex)
    const config = parseImageConfig(record.config)
    const parsed = {
      id: `sha256:${hex}`,
      parentId: config.parent ?? '',
      created: config.created ?? '0001-01-01T00:00:00Z',
      size: record.size,
      architecture: config.architecture ?? '',
      os: config.os ?? '',
      author: config.author ?? '',
      config: config.config ?? {},
      layers: config.rootfs.diff_ids,
      comment: config.comment ?? config.history?.at(-1)?.comment ?? '',
      history: config.history ?? [],
      ...(config.container === undefined ? {} : { container: config.container }),
      ...(config.container_config === undefined || config.container_config === null ? {} : { containerConfig: config.container_config }),
    }
    this.#parsed.set(hex, parsed)
    return parsed
  }
}

/** Docker's text for an image that is not there: the name with its tag, or the text as given when it is no name. */
export function noSuchImage(text: string): NetError {
  let shown = text
  try {
    if (fullIdOf(text) === undefined) shown = familiar(withDefaultTag(parseReference(text)))
  } catch {
    // no name: shown as it is
  }
  return new NetError('not-found', `No such image: ${shown}`, { subject: text })
}

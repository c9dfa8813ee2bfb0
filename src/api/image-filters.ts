/** The filters of `GET /images/json`. */
import type { ImageService, ImageSummary } from '../containers/types.ts'
import { notFound } from './errors.ts'
import { Filters } from './filters.ts'

const KEYS = ['before', 'dangling', 'label', 'label!', 'reference', 'since', 'until']

/** `legacyReference` is the `filter` parameter of API 1.24. Throws `invalid`, and `not-found` for a missing before/since. */
export function selectImages(text: string | null, legacyReference: string, images: ImageService, nowMs: number): readonly ImageSummary[] {
  const filters = Filters.parse(text, KEYS)
  const dangling = filters.bool('dangling')
  const until = filters.until(nowMs)
  const before = createdOf(filters, 'before', images)
  const since = createdOf(filters, 'since', images)
  const references = [...filters.get('reference'), ...(legacyReference === '' ? [] : [legacyReference])].map(referencePattern)
  return images.list().filter((image) => {
    const made = Date.parse(image.created)
    return (
      (dangling === undefined || dangling === (image.repoTags.length === 0)) &&
      (until === undefined || made / 1000 < until) &&
      (before === undefined || made < before) &&
      (since === undefined || made > since) &&
      filters.labels(image.config.Labels ?? {}) &&
      (references.length === 0 || [...image.repoTags, ...image.repoDigests].some((name) => references.some((matches) => matches(name))))
    )
  })
}

function createdOf(filters: Filters, key: 'before' | 'since', images: ImageService): number | undefined {
  const ref = filters.get(key)[0]
  if (ref === undefined) return undefined
  const image = images.find(ref)
  if (image === undefined) throw notFound(`No such image: ${ref}`)
  return Date.parse(image.created)
}

/** A reference with shell wildcards, with or without tag; the default registry's prefixes may be left out. */
function referencePattern(text: string): (name: string) => boolean {
  const source = text
    .slice(0, 256)
    .replace(/\*+/g, '*')
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '[^/]*')
    .replaceAll('?', '[^/]')
  const tooWild = (source.match(/\[\^\/\]\*/g)?.length ?? 0) > 4 // a backtracking matcher must stay quick
  const pattern = new RegExp(`^(?:docker\\.io/(?:library/)?|library/)?${tooWild ? '(?!)' : source}$`)
  return (name) => {
    const bare = name.replace(/^docker\.io\/(library\/)?/, '')
    const repo = bare.replace(/(@[^/]*|:[^/:]*)$/, '')
    return pattern.test(bare) || pattern.test(repo) || text === name
  }
}

/**
 * Image references: `[domain/]path[:tag][@digest]`, with Docker's short forms (`busybox` is `docker.io/library/busybox:latest`).
 * Grammar and texts: github.com/distribution/reference, as dockerd 28 answers.
 */
import { NetError } from '../base/errors.ts'

export interface Reference {
  /** Full name: `docker.io/library/busybox`. */
  readonly name: string
  readonly domain: string
  readonly path: string
  readonly tag?: string
  /** `sha256:<64 hex>`. */
  readonly digest?: string
}

const DEFAULT_DOMAIN = 'docker.io'
const MAX_NAME = 255
const DOMAIN_PART = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])'
const DOMAIN = new RegExp(`^(?:${DOMAIN_PART}(?:\\.${DOMAIN_PART})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`)
const PATH = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/
const TAG = /^\w[\w.-]{0,127}$/
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/
const HEX_LENGTH: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 }

function malformed(why = ''): NetError {
  return new NetError('invalid', `invalid reference format${why === '' ? '' : `: ${why}`}`)
}

/** Parses any reference that names a repository. Throws `invalid` with Docker's texts. */
export function parseReference(text: string): Reference {
  if (/^[0-9a-f]{64}$/.test(text)) {
    throw new NetError('invalid', `invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`, { subject: text })
  }
  let rest = text
  let digest: string | undefined
  const at = rest.indexOf('@')
  if (at >= 0) {
    digest = rest.slice(at + 1)
    rest = rest.slice(0, at)
  }
  const slash = rest.indexOf('/')
  const first = rest.slice(0, slash)
  const isDomain = slash > 0 && (/[.:]/.test(first) || first === 'localhost' || first.toLowerCase() !== first)
  const domain = isDomain && first !== 'index.docker.io' ? first : DEFAULT_DOMAIN
  let path = isDomain ? rest.slice(slash + 1) : rest
  let tag: string | undefined
  const colon = path.indexOf(':')
  if (colon >= 0) {
    tag = path.slice(colon + 1)
    path = path.slice(0, colon)
  }
  if (domain === DEFAULT_DOMAIN && !path.includes('/')) path = `library/${path}`
  if (path.toLowerCase() !== path) throw malformed(`repository name (${path}) must be lowercase`)
  if (!DOMAIN.test(domain) || !PATH.test(path)) throw malformed()
  if (tag !== undefined && !TAG.test(tag)) throw malformed()
  if (digest !== undefined) checkDigest(digest)
  const name = `${domain}/${path}`
  if (path.length > MAX_NAME) throw new NetError('invalid', `repository name must not be more than ${MAX_NAME} characters`)
  return { name, domain, path, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) }
}

function checkDigest(digest: string): void {
  if (!DIGEST.test(digest)) throw malformed()
  const [algorithm = '', hex = ''] = digest.split(':')
  const length = HEX_LENGTH[algorithm]
  if (length === undefined) throw malformed('unsupported digest algorithm')
  if (hex.length !== length || /[A-F]/.test(hex)) throw malformed('invalid checksum digest length')
}

/** The reference with `latest` when it has neither tag nor digest. */
export function withDefaultTag(ref: Reference): Reference {
  return ref.tag === undefined && ref.digest === undefined ? { ...ref, tag: 'latest' } : ref
}

/** The name as people write it: `busybox`, `user/app`, `localhost:5000/app`. */
export function familiarName(ref: Pick<Reference, 'domain' | 'path'>): string {
  if (ref.domain !== DEFAULT_DOMAIN) return `${ref.domain}/${ref.path}`
  const short = ref.path.startsWith('library/') ? ref.path.slice('library/'.length) : ref.path
  // library/a/b is not a/b
  return short.includes('/') && short !== ref.path ? ref.path : short
}

/** The whole reference as people write it. */
export function familiar(ref: Reference): string {
  return suffixed(familiarName(ref), ref)
}

/** The whole reference in full, for other programs. */
export function canonical(ref: Reference): string {
  return suffixed(ref.name, ref)
}

function suffixed(name: string, ref: Reference): string {
  return `${name}${ref.tag === undefined ? '' : `:${ref.tag}`}${ref.digest === undefined ? '' : `@${ref.digest}`}`
}

/** The hex of a digest-shaped id (`sha256:<64>`) or of a bare full id; undefined for anything else. */
export function fullIdOf(text: string): string | undefined {
  const hex = text.startsWith('sha256:') ? text.slice(7) : text
  return /^[0-9a-f]{64}$/.test(hex) ? hex : undefined
}

/** The hex of what may be the beginning of an id; undefined for anything else. */
export function idPrefixOf(text: string): string | undefined {
  const hex = text.startsWith('sha256:') ? text.slice(7) : text
  return /^[0-9a-f]{1,64}$/.test(hex) ? hex : undefined
}

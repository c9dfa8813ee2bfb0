/** Image references as people type them. */

export interface ImageName {
  /** Everything before the tag or digest. */
  readonly repository: string
  /** Tag, or `sha256:...`; empty when none was given. */
  readonly tag: string
  readonly isDigest: boolean
}

/** `host:5000/a/b:tag` -> repository and tag. */
export function splitImageName(text: string): ImageName {
  const at = text.indexOf('@')
  if (at >= 0) return { repository: text.slice(0, at).replace(/:[^/:]*$/, ''), tag: text.slice(at + 1), isDigest: true }
  const colon = text.lastIndexOf(':')
  if (colon < 0 || text.slice(colon).includes('/')) return { repository: text, tag: '', isDigest: false }
  return { repository: text.slice(0, colon), tag: text.slice(colon + 1), isDigest: false }
}

/** With the tag that is meant when none is given. */
export function withTag(text: string): string {
  const { tag } = splitImageName(text)
  return tag === '' ? `${text}:latest` : text
}

/** `docker.io/library/busybox:latest`, what a bare name stands for. */
export function fullImageName(text: string): string {
  const tagged = withTag(text)
  const first = tagged.split('/')[0] as string
  const hasHost = tagged.includes('/') && (/[.:]/.test(first) || first === 'localhost')
  return hasHost ? tagged : `docker.io/${tagged.includes('/') ? tagged : `library/${tagged}`}`
}

/** For which machines an image is: `os[/architecture[/variant]]`, as clients write it and as manifests say it. */
import { NetError } from '../base/errors.ts'
import { goArch } from './images-bootstrap.ts'

export interface Platform {
  readonly os: string
  readonly architecture: string
  /** '' = any of the architecture, the newest first. */
  readonly variant: string
}

/** What manifests say of one. */
export interface PlatformJson {
  readonly os?: string
  readonly architecture?: string
  readonly variant?: string
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64', i386: '386', armhf: 'arm' }
/** What an entry without a variant is, and what runs older ones too. */
const DEFAULT_VARIANT: Readonly<Record<string, string>> = { arm64: 'v8', arm: 'v7' }
const ARM_VARIANTS = ['v8', 'v7', 'v6', 'v5']

export const hostPlatform = (): Platform => ({ os: 'linux', architecture: goArch(), variant: '' })

/** Throws `invalid` for what is none. An operating system alone is one of this machine's architecture. */
export function parsePlatform(text: string): Platform {
  const [os = '', architecture = '', variant = '', ...more] = text.toLowerCase().split('/')
  if (!/^[a-z0-9_-]+$/.test(os) || !/^[a-z0-9_-]*$/.test(architecture) || !/^[a-z0-9_.-]*$/.test(variant) || more.length > 0)
    throw new NetError(
      'invalid',
      `invalid platform: ${JSON.stringify(text.slice(0, 100))}, expected os/architecture, for example linux/amd64`,
    )
  return { os, architecture: ARCHITECTURES[architecture] ?? (architecture || goArch()), variant }
}

export function showPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter(Boolean).join('/')
}

/** The entry of a multi-platform index that fits; one without a platform fits any. */
export function choosePlatform<T extends { readonly platform?: PlatformJson }>(
  manifests: readonly T[],
  wanted: Platform = hostPlatform(),
): T | undefined {
  const fitting = manifests.filter(({ platform }) => platform?.os === wanted.os && platform.architecture === wanted.architecture)
  const fallback = DEFAULT_VARIANT[wanted.architecture] ?? ''
  const of = (variant: string) => fitting.find(({ platform }) => (platform?.variant || fallback) === variant)
  const chosen =
    wanted.architecture === 'arm'
      ? ARM_VARIANTS.slice(Math.max(0, ARM_VARIANTS.indexOf(wanted.variant || fallback)))
          .map(of)
          .find((entry) => entry !== undefined)
      : wanted.variant === ''
        ? fitting[0]
        : of(wanted.variant)
  return chosen ?? manifests.find(({ platform }) => platform === undefined)
}

/** The `platform` of a request: `os[/architecture[/variant]]`. */
import type { ImageSummary } from '../containers/types.ts'
import { badRequest, notFound } from './errors.ts'

const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64', i386: '386', armhf: 'arm' }

/** Refuses an image of another platform than the one asked for, in Docker's words, on which its CLI pulls. Variants are not compared. */
export function checkPlatform(asked: string, ref: string, image: ImageSummary | undefined): void {
  if (asked === '') return
  const [os = '', architecture = '', ...variant] = asked.toLowerCase().split('/')
  if (!/^[a-z0-9_-]+$/.test(os) || !/^[a-z0-9_-]*$/.test(architecture) || variant.length > 1)
    throw badRequest(`invalid platform: ${JSON.stringify(asked.slice(0, 100))}, expected os/architecture, for example linux/amd64`)
  if (image === undefined) return
  const wanted = ARCHITECTURES[architecture] ?? architecture
  if (os === image.os && (wanted === '' || wanted === image.architecture)) return
  throw notFound(
    `image with reference ${ref} was found but its platform (${image.os}/${image.architecture}) does not match the specified platform (${os}${wanted === '' ? '' : `/${wanted}`})`,
  )
}

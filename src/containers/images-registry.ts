/**
 * Pull and push, by skopeo as a child process: registries are its trade (protocols, mirrors, certificates, tokens). It copies into an
 * OCI layout in a scratch directory, which we unpack ourselves; blobs of layers that we have already stand there as empty files, so
 * that skopeo does not fetch them again.
 */
import { promises as fs, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NetError } from '../base/errors.ts'
import { runLines } from '../sys/pipeline.ts'
import { run } from '../sys/process.ts'
import { inChunks } from './archive-pack.ts'
import { installImage } from './images-install.ts'
import { canonical, familiar, familiarName, type Reference } from './images-reference.ts'
import { saveArchive } from './images-save.ts'
import { type ImageStore, parseImageConfig, sha256 } from './images-store.ts'
import { isDigest, type LayerStore } from './layers.ts'
import { choosePlatform, type Platform, type PlatformJson, showPlatform } from './platform.ts'
import type { Progress } from './types.ts'

export interface Auth {
  readonly username?: string
  readonly password?: string
}

export interface RegistryOptions {
  /** Registries (`host:port`) spoken to without checking certificates, and over plain HTTP where they do not speak TLS. */
  readonly insecureRegistries?: readonly string[]
  /** Where skopeo finds an image; `docker://<name>` when absent. For mirrors and tests. */
  readonly location?: (ref: Reference) => string
}

interface Manifest {
  readonly schemaVersion?: number
  readonly config?: { readonly digest?: string }
  readonly layers?: readonly { readonly digest?: string; readonly size?: number }[]
  readonly manifests?: readonly { readonly digest?: string; readonly platform?: PlatformJson }[]
}

const PROGRAM = ['skopeo', '--insecure-policy']
const INSPECT_TIMEOUT_MS = 120_000

/** Without a digest beside the tag: skopeo takes one of the two, and the digest is the stronger. */
function locationOf(options: RegistryOptions, ref: Reference): string {
  const { tag: _, ...untagged } = ref
  const pinned = ref.digest === undefined ? ref : untagged
  return options.location?.(pinned) ?? `docker://${canonical(pinned)}`
}

/** Docker's rule: loopback registries, and the ones that are listed. */
export function isInsecureHost(options: RegistryOptions, domain: string): boolean {
  const host = domain.replace(/:\d+$/, '')
  return host === 'localhost' || host.startsWith('127.') || host === '[::1]' || options.insecureRegistries?.includes(domain) === true
}

/** skopeo's last sentence. */
export function lastWords(stderr: string): string {
  const fatal = /level=fatal msg="((?:\\.|[^"])*)"/.exec(stderr)?.[1]?.replace(/\\(["\\])/g, '$1')
  return fatal ?? (stderr.trim().split('\n').at(-1) || 'skopeo failed')
}

/** A file with the password, so that it does not stand in the process list. */
function authArguments(scratch: string, ref: Reference, auth: Auth | undefined): string[] {
  if (auth?.username === undefined || auth.username === '') return ['--no-creds']
  const path = join(scratch, 'auth.json')
  const host = ref.domain === 'docker.io' ? 'https://index.docker.io/v1/' : ref.domain
  const secret = Buffer.from(`${auth.username}:${auth.password ?? ''}`).toString('base64')
  writeFileSync(path, JSON.stringify({ auths: { [host]: { auth: secret } } }), { mode: 0o600 })
  return ['--authfile', path]
}

/** skopeo's last sentence as Docker would put it. */
function refusal(ref: Reference, stderr: string, verb: 'pull' | 'push'): NetError {
  const why = lastWords(stderr)
  const name = familiarName(ref)
  if (/manifest unknown|name unknown|repository name not known|not found: manifest/i.test(why) && verb === 'pull') {
    return new NetError('not-found', `manifest for ${familiar(ref)} not found: manifest unknown: manifest unknown`, {
      subject: familiar(ref),
    })
  }
  if (/denied|unauthorized|authentication required/i.test(why)) {
    const text =
      verb === 'pull'
        ? `pull access denied for ${name}, repository does not exist or may require 'docker login': ${why}`
        : `push access denied for ${name}: ${why}`
    return new NetError(verb === 'pull' ? 'not-found' : 'denied', text, { subject: name })
  }
  if (/no such file or directory/.test(why)) return new NetError('not-found', `manifest for ${familiar(ref)} not found: ${why}`)
  // what the registry could not be asked: the request itself, without skopeo's account of how it got there
  const request = /(?:Get|Head|Post|Put|Patch) "https?:.*$/s.exec(why)?.[0]
  return new NetError('internal', request ?? why, { op: verb, subject: familiar(ref) })
}

async function inspect(args: readonly string[], ref: Reference, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted()
  const result = await run([...PROGRAM, 'inspect', ...args], { timeoutMs: INSPECT_TIMEOUT_MS, signal })
  signal.throwIfAborted()
  if (result.code !== 0) throw refusal(ref, result.stderr, 'pull')
  return result.stdout
}

export interface Pulled {
  readonly hex: string
  /** Digest of the manifest, or of the list that it was chosen from: what `name@digest` means. */
  readonly digest: string
  /** False when the image was there already. */
  readonly isNew: boolean
}

/** Fetches an image and unpacks it; naming it is the caller's. Throws `not-found`, `internal` (the registry's own words), `unavailable`. */
export async function pullImage(
  layers: LayerStore,
  images: ImageStore,
  ref: Reference,
  auth: Auth | undefined,
  options: RegistryOptions,
  platform: Platform,
  progress: Progress,
  signal: AbortSignal,
): Promise<Pulled> {
  const scratch = layers.scratch('pull')
  try {
    const common = [...authArguments(scratch, ref, auth), ...(isInsecureHost(options, ref.domain) ? ['--tls-verify=false'] : [])]
    const { digest, source, configDigest, blobs } = await readManifest(ref, platform, options, common, signal)
    progress({ status: `Pulling from ${ref.domain === 'docker.io' ? ref.path : familiarName(ref)}`, id: ref.digest ?? ref.tag ?? 'latest' })
    if (isDigest(configDigest) && images.has(configDigest.slice(7))) return { hex: configDigest.slice(7), digest, isNew: false }
    const config = await readConfig(ref, source, configDigest, common, signal)
    const diffIds = parseImageConfig(config).rootfs.diff_ids
    const layout = join(scratch, 'oci')
    const idOf = (i: number): string => (blobs[i] ?? '').slice(7, 19)
    const say = (status: string, id: string) => progress({ status, progressDetail: {}, id })
    diffIds.forEach((diffId, i) => void say(layers.has(diffId) ? 'Already exists' : 'Pulling fs layer', idOf(i)))
    passOver(
      blobs.filter((_, i) => layers.has(diffIds[i] ?? '')),
      layout,
    )
    const pins = diffIds.filter((diffId) => layers.has(diffId)).map((diffId) => layers.pin(diffId))
    try {
      const from = [...prefixed('src', common), '--dest-oci-accept-uncompressed-layers', source]
      await copy([...from, `oci:${layout}:image`], ref, 'pull', signal, (line) => {
        const started = /Copying blob (?:sha256:)?([0-9a-f]{12})/.exec(line)?.[1]
        if (started !== undefined) say('Downloading', started)
      })
      const written = writtenLayers(layout)
      const open = async (i: number) => (await fs.open(written[i] as string)).createReadStream()
      const hex = await installImage(layers, images, config, written.length, open, {
        unpacking: (i) => {
          say('Download complete', idOf(i))
          say('Extracting', idOf(i))
        },
        done: (i, _diffId, wasThere) => {
          if (!wasThere) say('Pull complete', idOf(i))
        },
      })
      return { hex, digest, isNew: true }
    } finally {
      for (const release of pins) release()
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** What a registry says of an image for one platform. */
interface Offered {
  /** Digest of the manifest, or of the list that it was chosen from. */
  readonly digest: string
  /** Where skopeo finds this very image. */
  readonly source: string
  readonly configDigest: string
  /** Digests of the layers as they are transferred, lowest first. */
  readonly blobs: readonly string[]
}

/** Reads the manifest; of a list, the one for the platform. Throws `not-found`, and `not-implemented` for the old schema 1. */
async function readManifest(
  ref: Reference,
  platform: Platform,
  options: RegistryOptions,
  common: readonly string[],
  signal: AbortSignal,
): Promise<Offered> {
  let source = locationOf(options, ref)
  const raw = await inspect(['--raw', ...common, source], ref, signal)
  let manifest = JSON.parse(raw) as Manifest
  if (manifest.manifests !== undefined) {
    const chosen = choosePlatform(manifest.manifests, platform)
    if (chosen?.digest === undefined)
      throw new NetError('not-found', `no matching manifest for ${showPlatform(platform)} in the manifest list entries`)
    const { tag: _, ...untagged } = ref
    source = locationOf(options, { ...untagged, digest: chosen.digest })
    manifest = JSON.parse(await inspect(['--raw', ...common, source], ref, signal)) as Manifest
  }
  const configDigest = manifest.config?.digest
  if (configDigest === undefined || manifest.layers === undefined) {
    throw new NetError(
      'not-implemented',
      `Cannot pull "${familiar(ref)}": its manifest has schema ${manifest.schemaVersion ?? '?'}, expected 2`,
    )
  }
  return { digest: `sha256:${sha256(raw)}`, source, configDigest, blobs: manifest.layers.map((layer) => layer.digest ?? '') }
}

/** The image's configuration, byte for byte what its digest was made of. Throws `invalid` when it is not. */
async function readConfig(ref: Reference, source: string, digest: string, common: readonly string[], signal: AbortSignal): Promise<string> {
  const text = await inspect(['--config', '--raw', ...common, source], ref, signal)
  // the last byte may be a line feed that `inspect` added
  const exact = [text, text.replace(/\n$/, '')].find((candidate) => `sha256:${sha256(candidate)}` === digest)
  if (exact === undefined) throw new NetError('invalid', `image config verification failed for digest ${digest}`)
  return exact
}

/** Puts empty files where skopeo looks before it fetches a layer: it takes these as fetched. */
function passOver(blobs: readonly string[], layout: string): void {
  const store = join(layout, 'blobs', 'sha256')
  mkdirSync(store, { recursive: true })
  for (const blob of blobs) if (isDigest(blob)) writeFileSync(join(store, blob.slice(7)), '')
}

/** Files of the layers in an OCI layout with one image, lowest first. */
function writtenLayers(layout: string): string[] {
  const blob = (digest: string | undefined): string => {
    if (digest === undefined || !isDigest(digest)) throw new NetError('invalid', `unsupported digest "${digest ?? ''}"`)
    return join(layout, 'blobs', 'sha256', digest.slice(7))
  }
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as Manifest
  const manifest = JSON.parse(readFileSync(blob(index.manifests?.[0]?.digest), 'utf8')) as Manifest
  return (manifest.layers ?? []).map((layer) => blob(layer.digest))
}

/** `--tls-verify=false` is `--src-tls-verify=false` or `--dest-…` to `skopeo copy`. */
function prefixed(side: 'src' | 'dest', args: readonly string[]): string[] {
  return args.map((arg) => (arg.startsWith('--') ? `--${side}-${arg.slice(2)}` : arg))
}

async function copy(
  args: readonly string[],
  ref: Reference,
  verb: 'pull' | 'push',
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<void> {
  const { code, stderr } = await runLines([...PROGRAM, 'copy', ...args], onLine, signal)
  if (code !== 0) throw refusal(ref, stderr, verb)
}

/** Sends an image to its registry; returns the digest of the manifest there. */
export async function pushImage(
  layers: LayerStore,
  images: ImageStore,
  hex: string,
  ref: Reference,
  auth: Auth | undefined,
  options: RegistryOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<string> {
  const scratch = layers.scratch('push')
  try {
    progress({ status: `The push refers to repository [${ref.name}]` })
    const diffIds = images.summary(hex).layers
    for (const diffId of diffIds) progress({ status: 'Preparing', progressDetail: {}, id: diffId.slice(7, 19) })
    const archive = join(scratch, 'image.tar')
    await fs.writeFile(archive, inChunks(saveArchive(layers, images, [{ hex, refs: [ref] }])), { signal })
    const args = [...authArguments(scratch, ref, auth), ...(isInsecureHost(options, ref.domain) ? ['--tls-verify=false'] : [])]
    const digestFile = join(scratch, 'digest')
    const from = `docker-archive:${archive}:${canonical(ref)}`
    await copy(
      [...prefixed('dest', args), '--digestfile', digestFile, '--format', 'v2s2', from, locationOf(options, ref)],
      ref,
      'push',
      signal,
      (line) => {
        const started = /Copying blob (?:sha256:)?([0-9a-f]{12})/.exec(line)?.[1]
        if (started !== undefined) progress({ status: 'Pushing', progressDetail: {}, id: started })
      },
    )
    for (const diffId of diffIds) progress({ status: 'Pushed', progressDetail: {}, id: diffId.slice(7, 19) })
    return readFileSync(digestFile, 'utf8').trim()
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** Image, root file system and volume services in a scratch directory, and tar archives good and hostile. */
import { execFileSync } from 'node:child_process'
import { createReadStream, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after } from 'node:test'
import { systemClock } from '../../src/base/clock.ts'
import { systemRng } from '../../src/base/rng.ts'
import { encodeHeader, paddingOf, TAR_END, type TarHeader } from '../../src/containers/archive-tar.ts'
import { Images, type ImagesOptions } from '../../src/containers/images.ts'
import { LayerStore } from '../../src/containers/layers.ts'
import { OverlayRootfs } from '../../src/containers/rootfs.ts'
import { Volumes, type VolumesOptions } from '../../src/containers/volumes.ts'
import { memoryStore } from '../../src/store/memory-store.ts'
import type { Store } from '../../src/store/types.ts'

export interface Lab {
  readonly root: string
  readonly store: Store
  readonly layers: LayerStore
  readonly images: Images
  readonly rootfs: OverlayRootfs
  readonly volumes: Volumes
}

/** A directory that goes when the process does. */
export function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), 'causeway-images-'))
  process.setMaxListeners(0)
  process.once('exit', () => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Progress that nobody reads. */
export const silent = (): void => {}

/** The digest that sha256sum, not the code under test, gives a file. */
export const sha256 = (file: string): string => execFileSync('sha256sum', [file], { encoding: 'utf8' }).slice(0, 64)

/** `openLab` for a test file: everything is unmounted and removed after its last test. */
export function labsOfThisFile(): typeof openLab {
  const labs: Lab[] = []
  after(() => {
    for (const each of labs) closeLab(each)
  })
  return (...args) => {
    const made = openLab(...args)
    labs.push(made)
    return made
  }
}

/** The services as the daemon wires them. Opening the same root and store again is a restart of the engine. */
export function openLab(
  root = scratch(),
  store = memoryStore(),
  images: Partial<ImagesOptions> = {},
  volumes: Partial<VolumesOptions> = {},
): Lab {
  const layers = new LayerStore(root)
  const service = new Images({ store, layers, clock: systemClock, layersHeld: () => rootfs.layersInUse(), ...images })
  const rootfs: OverlayRootfs = new OverlayRootfs({ root, store, layers, image: (id) => service.get(id) })
  return {
    root,
    store,
    layers,
    images: service,
    rootfs,
    volumes: new Volumes({ root, store, clock: systemClock, rng: systemRng, ...volumes }),
  }
}

function closeLab(lab: Lab): void {
  const mounts = mountsBelow(lab.root)
  for (const path of mounts.reverse()) execFileSync('umount', ['-l', path])
  rmSync(lab.root, { recursive: true, force: true })
}

/** Asked of the system, not of the code under test. */
export function mountsBelow(path: string): string[] {
  return execFileSync('findmnt', ['-rno', 'TARGET'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.startsWith(`${path}/`))
}

export function sh(command: string): string {
  return execFileSync('bash', ['-euo', 'pipefail', '-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
}

/** Every extended attribute below a directory, as `path name=hex` lines, read by Python. */
export function xattrsBelow(path: string): string[] {
  const script = `import os,sys
for d,_,files in os.walk(sys.argv[1]):
  for p in [d]+[os.path.join(d,f) for f in files]:
    for n in os.listxattr(p,follow_symlinks=False): print(os.path.relpath(p,sys.argv[1]),n+'='+os.getxattr(p,n,follow_symlinks=False).hex())`
  return execFileSync('python3', ['-c', script, path], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line !== '')
    .sort()
}

export function tarOf(entries: readonly [TarHeader, string?][]): Buffer {
  const parts = entries.flatMap(([header, body = '']) => {
    const bytes = Buffer.from(body)
    return [encodeHeader({ ...header, size: bytes.length }), bytes, paddingOf(bytes.length)]
  })
  return Buffer.concat([...parts, TAR_END])
}

export function stream(bytes: Buffer): Readable {
  return Readable.from([bytes], { objectMode: false })
}

export async function collect(readable: Readable): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of readable) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

/** Descriptors that this process holds, by what they point to. */
export function openFiles(): number {
  return readdirSync('/proc/self/fd').length
}

export function readText(path: string): string {
  return readFileSync(path, 'utf8')
}

/** A docker-archive of layers, as another tool would write it. */
export function dockerArchive(at: string, layers: readonly Buffer[], config: object = {}, tags: readonly string[] = ['made:1']): string {
  rmSync(at, { recursive: true, force: true })
  mkdirSync(at, { recursive: true })
  const diffIds = layers.map((layer, i) => {
    writeFileSync(join(at, `${i}.tar`), layer)
    return `sha256:${sha256(join(at, `${i}.tar`))}`
  })
  writeFileSync(
    join(at, 'config.json'),
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      created: '2024-01-01T00:00:00Z',
      rootfs: { type: 'layers', diff_ids: diffIds },
      ...config,
    }),
  )
  writeFileSync(
    join(at, 'manifest.json'),
    JSON.stringify([{ Config: 'config.json', RepoTags: tags, Layers: layers.map((_, i) => `${i}.tar`) }]),
  )
  sh(`cd ${at} && tar cf ../${at.split('/').at(-1)}.tar *`)
  return `${at}.tar`
}

/** Loads an image of these layers; gives its id. */
export async function loadLayers(to: Lab, layers: readonly Buffer[], tag = 'made:1'): Promise<string> {
  await to.images.load(createReadStream(dockerArchive(join(to.root, 'archive'), layers, {}, [tag])), silent)
  return to.images.get(tag).id
}

/** Entries of a tar, as `tarOf` takes them. */
export const dir = (name: string, more: Partial<TarHeader> = {}): [TarHeader] => [{ name: `${name}/`, type: 'directory', ...more }]
export const file = (name: string, body: string): [TarHeader, string] => [{ name, type: 'file' }, body]

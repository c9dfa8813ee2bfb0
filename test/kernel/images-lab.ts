/** Image, root file system and volume services in a scratch directory, and tar archives good and hostile. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
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

export function closeLab(lab: Lab): void {
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

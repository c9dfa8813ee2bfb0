/**
 * Making a container: volumes, writable layer, record, in that order. The ids of volumes that are made for this container alone are written
 * down first (`creating/<id>`), so that an engine killed before the record is there takes them away at its next start; the layer and the
 * folder are found without that.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { messageOf } from '../base/errors.ts'
import { newId } from '../base/ids.ts'
import type { Store } from '../store/types.ts'
import { checkCreate, realizeMounts } from './create.ts'
import type { ContainerDeps } from './deps.ts'
import { checkName, inventName } from './names.ts'
import { type ContainerRecord, containerDir } from './record.ts'
import type { Entry, Registry } from './registry.ts'
import type { Runtimes } from './runtimes.ts'
import { rfc3339, ZERO_TIME } from './time.ts'
import type { CreateRequest } from './types.ts'

const CREATING = 'creating/'

/** Throws with Docker's texts; then nothing is left of it. */
export async function createContainer(
  request: CreateRequest,
  deps: ContainerDeps & { readonly runtimes: Runtimes },
  registry: Registry,
  newEntry: (record: ContainerRecord) => Entry,
): Promise<{ entry: Entry; warnings: string[] }> {
  const id = newId(deps.rng)
  const name = request.name ? checkName(request.name) : inventName(deps.rng, (n) => registry.isTaken(n))
  const image = deps.images.get(request.config.Image ?? '')
  const checked = checkCreate(id, name, request, image, registry, deps)
  registry.reserve(name, id)
  const made: string[] = []
  // Docker's anonymous volumes have ids for names too
  const wanted = checked.mounts.map((mount) =>
    mount.kind === 'volume' && mount.name === '' ? { ...mount, newName: newId(deps.rng) } : mount,
  )
  const anonymous = wanted.flatMap((mount) => ('newName' in mount ? [mount.newName] : []))
  if (anonymous.length > 0) deps.store.put(CREATING + id, anonymous)
  try {
    const mounts = await realizeMounts(wanted, deps.volumes, made)
    const { graph } = await deps.rootfs.prepare(id, image.id)
    mkdirSync(containerDir(deps.root, id), { recursive: true, mode: 0o710 })
    const { mounts: _m, warnings, ...rest } = checked
    const record: ContainerRecord = {
      id,
      name,
      created: rfc3339(deps.clock.now()),
      ...rest,
      imageId: image.id,
      mounts,
      graph,
      state: { status: 'created', pid: 0, exitCode: 0, oomKilled: false, error: '', startedAt: ZERO_TIME, finishedAt: ZERO_TIME },
      restartCount: 0,
      manuallyStopped: false,
      copiedUp: !mounts.some((m) => m.copyUp === true),
    }
    const entry = newEntry(record)
    registry.add(entry)
    return { entry, warnings }
  } catch (error) {
    registry.release(name, id)
    await deps.rootfs.remove(id).catch((e) => deps.log.warn(messageOf(e), { container: id }))
    rmSync(containerDir(deps.root, id), { recursive: true, force: true })
    for (const volume of made) await deps.volumes.remove(volume, true).catch((e) => deps.log.warn(messageOf(e), { volume }))
    throw error
  } finally {
    if (anonymous.length > 0) deps.store.remove(CREATING + id)
  }
}

/** Anonymous volumes of creations that a crash cut short, to be removed; their notes go with {@link forgetUnfinished}. */
export function unfinishedVolumes(store: Store, isContainer: (id: string) => boolean): string[] {
  return store.list<string[]>(CREATING).flatMap(([key, volumes]) => (isContainer(key.slice(CREATING.length)) ? [] : volumes))
}

/** Forgets the creations that a crash cut off, once the engine's start has taken back what they had made. */
export function forgetUnfinished(store: Store): void {
  for (const [key] of store.list<string[]>(CREATING)) store.remove(key)
}

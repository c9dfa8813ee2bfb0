/** Volumes that are a name. */
import { NetError } from '../../src/base/errors.ts'
import type { Volume, VolumeService } from '../../src/containers/types.ts'
import { idOf } from './ids.ts'

/** Makes, finds and forgets; nothing is mounted. */
export class MemoryVolumes implements VolumeService {
  readonly all = new Map<string, Volume>()
  async create(options: Parameters<VolumeService['create']>[0]): Promise<Volume> {
    const name = options.name ?? idOf(`volume ${this.all.size}`)
    const found = this.all.get(name)
    if (found !== undefined) return found
    const volume: Volume = {
      name,
      driver: options.driver ?? 'local',
      mountpoint: `/volumes/${name}/_data`,
      createdAt: '2026-01-01T00:00:00Z',
      labels: options.labels ?? {},
      options: options.options ?? {},
      scope: 'local',
      anonymous: options.name === undefined,
    }
    this.all.set(name, volume)
    return volume
  }
  list(): readonly Volume[] {
    return [...this.all.values()]
  }
  get(name: string): Volume {
    const volume = this.all.get(name)
    if (volume === undefined) throw new NetError('not-found', `get ${name}: no such volume`)
    return volume
  }
  usersOf(): readonly string[] {
    return []
  }
  async remove(name: string, force: boolean): Promise<void> {
    if (!force) this.get(name)
    this.all.delete(name)
  }
  async sizeOf(): Promise<number> {
    return 42
  }
}

/**
 * Volumes of the `local` driver: <root>/volumes/<name>/_data, described by `volume/<name>` in the store.
 *
 * A volume with options (`type`, `device`, `o`) is something mounted on its _data: a directory of the host, a tmpfs, a device, NFS.
 * It is mounted when it is made and again by {@link Volumes.restore}, so a container never meets it unmounted (Docker mounts at the
 * first container's start; the error then comes later than ours).
 *
 * Data is never deleted on a guess: a directory without a record that holds something becomes a volume again at start.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf, NetError } from '../base/errors.ts'
import { newId } from '../base/ids.ts'
import type { Clock, Rng } from '../base/ports.ts'
import type { Store } from '../store/types.ts'
import { MS_BIND, MS_REC, MS_REMOUNT, mount } from '../sys/libc.ts'
import { listMounts, unmountAll } from '../sys/mounts.ts'
import { deleteTree } from '../sys/rooted.ts'
import { treeSize } from './rootfs-changes.ts'
import type { EventBus, Volume, VolumeService } from './types.ts'
import { finishFilling } from './volumes-fill.ts'
import { checkVolumeOptions, mountPlan } from './volumes-options.ts'

export interface VolumesOptions {
  readonly root: string
  readonly store: Store
  readonly clock: Clock
  readonly rng: Rng
  readonly events?: Pick<EventBus, 'publish'>
  /** Ids of the containers that use a volume, running or not. */
  readonly usersOf?: (name: string) => readonly string[]
}

type VolumeRecord = Omit<Volume, 'mountpoint'>

const KEY = 'volume/'
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/
const GONE = '.gone-'

export class Volumes implements VolumeService {
  readonly #options: VolumesOptions
  readonly #root: string

  constructor(options: VolumesOptions) {
    this.#options = options
    this.#root = join(options.root, 'volumes')
    mkdirSync(this.#root, { recursive: true, mode: 0o711 })
  }

  /** After a start: finishes removals, drops records without data, adopts data without a record, mounts what has options. */
  async restore(warn: (message: string, fields: object) => void = () => {}): Promise<void> {
    const records = new Map(this.#records().map((record) => [record.name, record]))
    for (const name of readdirSync(this.#root)) {
      const path = join(this.#root, name)
      if (name.startsWith(GONE)) await deleteData(path)
      else if (!records.has(name) && NAME.test(name)) await this.#adopt(name, path)
    }
    for (const record of records.values()) {
      if (!existsSync(join(this.#root, record.name))) {
        this.#options.store.remove(KEY + record.name)
        continue
      }
      try {
        await finishFilling(join(this.#root, record.name))
        this.#mount(record)
      } catch (error) {
        warn('cannot take up volume', { volume: record.name, error: messageOf(error) })
      }
    }
  }

  async create(options: {
    name?: string
    anonymous?: boolean
    driver?: string
    labels?: Record<string, string>
    options?: Record<string, string>
  }): Promise<Volume> {
    const name = options.name || newId(this.#options.rng)
    const anonymous = options.anonymous === true || name !== options.name
    const driver = options.driver === undefined || options.driver === '' ? 'local' : options.driver
    if (driver !== 'local') {
      throw new NetError('not-found', `create ${name}: error looking up volume plugin ${driver}: plugin "${driver}" not found`, {
        subject: name,
      })
    }
    checkName(name)
    const present = this.#find(name)
    if (present !== undefined) return present
    checkVolumeOptions(name, options.options ?? {})
    const record: VolumeRecord = {
      name,
      driver,
      createdAt: new Date(this.#options.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z'),
      labels: { ...options.labels, ...(anonymous ? { 'com.docker.volume.anonymous': '' } : {}) },
      options: { ...options.options },
      scope: 'local',
      anonymous,
    }
    const directory = join(this.#root, name)
    mkdirSync(join(directory, '_data'), { recursive: true, mode: 0o755 })
    try {
      this.#mount(record)
    } catch (error) {
      await this.#discard(name)
      throw error
    }
    this.#options.store.put(KEY + name, record)
    this.#publish('create', name)
    return this.#volume(record)
  }

  list(): readonly Volume[] {
    return this.#records().map((record) => this.#volume(record))
  }

  get(name: string): Volume {
    const volume = this.#find(name)
    if (volume === undefined) throw new NetError('not-found', `get ${name}: no such volume`, { subject: name })
    return volume
  }

  usersOf(name: string): readonly string[] {
    return this.#options.usersOf?.(name) ?? []
  }

  async remove(name: string, force: boolean): Promise<void> {
    if (this.#find(name) === undefined) {
      if (force) return
      throw new NetError('not-found', `get ${name}: no such volume`, { subject: name })
    }
    const users = this.usersOf(name)
    if (users.length > 0) throw new NetError('conflict', `remove ${name}: volume is in use - [${users.join(', ')}]`, { subject: name })
    await this.#discard(name)
    this.#publish('destroy', name)
  }

  async sizeOf(name: string): Promise<number> {
    return treeSize(this.get(name).mountpoint)
  }

  #records(): VolumeRecord[] {
    return this.#options.store.list<VolumeRecord>(KEY).map(([, record]) => record)
  }

  #find(name: string): Volume | undefined {
    const record = isName(name) ? this.#options.store.get<VolumeRecord>(KEY + name) : undefined
    return record === undefined ? undefined : this.#volume(record)
  }

  #volume(record: VolumeRecord): Volume {
    return { ...record, mountpoint: join(this.#root, record.name, '_data') }
  }

  #mount(record: VolumeRecord): void {
    const plan = mountPlan(record.options)
    const target = join(this.#root, record.name, '_data')
    if (plan === undefined || listMounts(target).includes(target)) return
    try {
      mount(plan.source, target, plan.type, plan.flags, plan.data)
      // a bind takes no other flags at first: fs/namespace.c do_loopback()
      if ((plan.flags & MS_BIND) !== 0 && (plan.flags & ~(MS_BIND | MS_REC)) !== 0) {
        mount('', target, '', (plan.flags & ~MS_REC) | MS_REMOUNT, '')
      }
    } catch (cause) {
      const why = `failed to mount local volume: mount ${plan.source}:${target}, flags: 0x${plan.flags.toString(16)}: ${messageOf(cause)}`
      throw new NetError('internal', why, { subject: record.name }, cause)
    }
  }

  /** Takes the directory out of the way by one rename, then the record, then the data: a crash leaves nothing in between. */
  async #discard(name: string): Promise<void> {
    const directory = join(this.#root, name)
    await unmountAll(join(directory, '_data'))
    const gone = join(this.#root, `${GONE}${newId(this.#options.rng)}`)
    refuseMounted(directory)
    if (existsSync(directory)) renameSync(directory, gone)
    this.#options.store.remove(KEY + name)
    await deleteData(gone)
  }

  async #adopt(name: string, path: string): Promise<void> {
    const data = join(path, '_data')
    const isEmpty = !existsSync(data) || readdirSync(data).length === 0
    if (isEmpty) return this.#discard(name) // a creation that a crash cut short
    const record: VolumeRecord = {
      name,
      driver: 'local',
      createdAt: new Date(statSync(path).birthtimeMs).toISOString().replace(/\.\d+Z$/, 'Z'),
      labels: {},
      options: {},
      scope: 'local',
      anonymous: false,
    }
    this.#options.store.put(KEY + name, record)
  }

  #publish(action: string, name: string): void {
    this.#options.events?.publish({ Type: 'volume', Action: action, Actor: { ID: name, Attributes: { driver: 'local' } } })
  }
}

/** Deleting must never walk into something mounted: it may be a directory of the host. */
function refuseMounted(path: string): void {
  const mounted = listMounts(path)
  if (mounted.length > 0) throw new NetError('busy', `Cannot remove "${path}": "${mounted[0]}" is still mounted`)
}

async function deleteData(path: string): Promise<void> {
  refuseMounted(path)
  await deleteTree(path)
}

function isName(name: string): boolean {
  return NAME.test(name) && name.length <= 255
}

function checkName(name: string): void {
  if (isName(name)) return
  if (name.length === 1) {
    throw new NetError('invalid', `create ${name}: volume name is too short, names should be at least two alphanumeric characters`)
  }
  throw new NetError(
    'invalid',
    `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
  )
}

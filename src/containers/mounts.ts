/**
 * Binds, volumes, the Mounts API, tmpfs and `--volumes-from` as one list of wanted mounts. Pure: volumes are named here and made
 * by the caller.
 */
import { posix } from 'node:path'
import { NetError } from '../base/errors.ts'
import { flag, num, object, text } from './fields.ts'
import type { MountPoint } from './record.ts'
import type { ContainerConfig, HostConfig } from './types.ts'

export type WantedMount =
  | { readonly kind: 'bind'; readonly source: string; readonly point: MountPoint; readonly mustExist: boolean }
  /** `name` '' = anonymous. */
  | {
      readonly kind: 'volume'
      readonly name: string
      readonly driver: string
      readonly labels: Readonly<Record<string, string>>
      readonly options: Readonly<Record<string, string>>
      readonly subpath: string
      readonly point: MountPoint
    }
  | { readonly kind: 'ready'; readonly point: MountPoint }

const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave']

function invalid(message: string): NetError {
  return new NetError('invalid', message)
}

function destinationOf(path: string, spec: string): string {
  if (!path.startsWith('/'))
    throw invalid(
      `invalid volume specification: '${spec}': invalid mount config for type "bind": invalid mount path: '${path}' mount path must be absolute`,
    )
  const clean = posix.normalize(path).replace(/(.)\/$/, '$1')
  if (clean === '/')
    throw invalid(
      `invalid volume specification: '${spec}': invalid mount config for type "bind": invalid specification: destination can't be '/'`,
    )
  return clean
}

/** One entry of HostConfig.Binds or `-v`: `[source:]destination[:mode]`. */
export function parseBind(spec: string): WantedMount {
  const parts = spec.split(':')
  if (parts.length > 3 || parts.some((p, i) => p === '' && i < 2)) throw invalid(`invalid volume specification: '${spec}'`)
  const [source, target, mode] =
    parts.length === 1 ? ['', parts[0] as string, ''] : [parts[0] as string, parts[1] as string, parts[2] ?? '']
  const modes = mode.split(',').filter(Boolean)
  const bad = modes.find((m) => !['ro', 'rw', 'z', 'Z', 'nocopy', 'cached', 'delegated', 'consistent', ...PROPAGATIONS].includes(m))
  if (bad !== undefined) throw invalid(`invalid mode: ${mode}`)
  const destination = destinationOf(target, spec)
  const RW = !modes.includes('ro')
  const propagation = modes.find((m) => PROPAGATIONS.includes(m))
  if (source.startsWith('/')) {
    const point = {
      Type: 'bind',
      Source: posix.normalize(source),
      Destination: destination,
      Mode: mode,
      RW,
      Propagation: propagation ?? 'rprivate',
    }
    return { kind: 'bind', source: point.Source, mustExist: false, point }
  }
  if (source !== '' && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(source)) {
    throw invalid(
      `create ${source}: "${source}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    )
  }
  return {
    kind: 'volume',
    name: source,
    driver: 'local',
    labels: {},
    options: {},
    subpath: '',
    point: {
      Type: 'volume',
      Source: '',
      Destination: destination,
      Driver: 'local',
      Mode: mode === '' && source !== '' ? 'z' : mode,
      RW,
      Propagation: propagation ?? '',
      copyUp: !modes.includes('nocopy'),
      ...(source === '' ? { anonymous: true } : { Name: source }),
    },
  }
}

function tmpfsOptions(sizeBytes: number, mode: number): string[] {
  return [...(sizeBytes > 0 ? [`size=${sizeBytes}`] : []), ...(mode > 0 ? [`mode=${mode.toString(8)}`] : [])]
}

/** One entry of HostConfig.Mounts. */
export function parseMount(mount: Readonly<Record<string, unknown>>): WantedMount {
  const type = text(mount, 'Type')
  const target = text(mount, 'Target')
  const source = text(mount, 'Source')
  const bad = (why: string) => invalid(`invalid mount config for type "${type}": ${why}`)
  if (target === '') throw bad('field Target must not be empty')
  if (!target.startsWith('/')) throw bad(`invalid mount path: '${target}' mount path must be absolute`)
  const Destination = posix.normalize(target).replace(/(.)\/$/, '$1')
  if (Destination === '/') throw bad("invalid specification: destination can't be '/'")
  const RW = !flag(mount, 'ReadOnly')
  switch (type) {
    case 'bind': {
      if (source === '') throw bad('field Source must not be empty')
      if (!source.startsWith('/')) throw bad(`invalid mount path: '${source}' mount path must be absolute`)
      const options = object(mount, 'BindOptions')
      const Propagation = text(options, 'Propagation') || 'rprivate'
      const point = { Type: 'bind', Source: posix.normalize(source), Destination, Mode: '', RW, Propagation }
      return {
        kind: 'bind',
        source: point.Source,
        mustExist: !flag(options, 'CreateMountpoint'),
        point: flag(options, 'NonRecursive') ? { ...point, options: ['bind'] } : point,
      }
    }
    case 'volume': {
      const options = object(mount, 'VolumeOptions')
      const driver = object(options, 'DriverConfig')
      const pairs = (from: Readonly<Record<string, unknown>>) =>
        Object.fromEntries(Object.entries(from).filter((e): e is [string, string] => typeof e[1] === 'string'))
      return {
        kind: 'volume',
        name: source,
        driver: text(driver, 'Name') || 'local',
        labels: pairs(object(options, 'Labels')),
        options: pairs(object(driver, 'Options')),
        subpath: text(options, 'Subpath'),
        point: {
          Type: 'volume',
          Source: '',
          Destination,
          Driver: text(driver, 'Name') || 'local',
          Mode: 'z',
          RW,
          Propagation: '',
          copyUp: !flag(options, 'NoCopy'),
          ...(source === '' ? { anonymous: true } : { Name: source }),
        },
      }
    }
    case 'tmpfs': {
      if (source !== '') throw bad('field Source must not be specified')
      const options = object(mount, 'TmpfsOptions')
      const point = { Type: 'tmpfs', Source: '', Destination, Mode: '', RW, Propagation: '' }
      return { kind: 'ready', point: { ...point, options: tmpfsOptions(num(options, 'SizeBytes'), num(options, 'Mode')) } }
    }
    default:
      throw invalid(`invalid mount config for type "${type}": mount type unknown`)
  }
}

/**
 * All mounts of a container, later sources yielding to earlier ones: Binds and Mounts (a destination named twice is an error),
 * then `--volumes-from`, then the volumes that config or image declare. Throws `invalid` with Docker's texts.
 */
export function wantedMounts(config: ContainerConfig, host: HostConfig, inherited: readonly MountPoint[]): WantedMount[] {
  const out = new Map<string, WantedMount>()
  const explicit = [...(host.Binds ?? []).map(parseBind), ...(host.Mounts ?? []).map(parseMount)]
  for (const mount of explicit) {
    const { Destination } = mount.point
    if (out.has(Destination)) throw invalid(`Duplicate mount point: ${Destination}`)
    out.set(Destination, mount)
  }
  for (const destination of Object.keys(host.Tmpfs ?? {})) {
    if (out.has(posix.normalize(destination))) throw invalid(`Duplicate mount point: ${destination}`)
  }
  for (const point of inherited) if (!out.has(point.Destination)) out.set(point.Destination, { kind: 'ready', point })
  for (const path of Object.keys(config.Volumes ?? {})) {
    const mount = parseBind(path)
    const tmpfs = Object.keys(host.Tmpfs ?? {}).some((t) => posix.normalize(t) === mount.point.Destination)
    if (!tmpfs && !out.has(mount.point.Destination)) out.set(mount.point.Destination, mount)
  }
  return [...out.values()]
}

/** An entry of HostConfig.VolumesFrom: `container[:ro|rw]`. */
export function parseVolumesFrom(spec: string): { readonly container: string; readonly readOnly: boolean } {
  const [container = '', mode = ''] = spec.split(':')
  if (container === '' || !['', 'ro', 'rw', 'z', 'Z'].includes(mode)) throw invalid(`invalid volumes-from specification: ${spec}`)
  return { container, readOnly: mode === 'ro' }
}

/** Options of a `--tmpfs` value (`size=64m,mode=1777`), over Docker's defaults. */
export function tmpfsMountOptions(value: string): string[] {
  const given = value.split(',').filter(Boolean)
  const defaults = ['noexec', 'nosuid', 'nodev'].filter((d) => !given.includes(d.slice(2)) && !given.includes(d))
  return [...defaults, ...given]
}

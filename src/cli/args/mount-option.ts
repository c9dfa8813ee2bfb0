/** `--mount`, `-v`, `--tmpfs` and `--device`. */
import { resolve } from 'node:path'
import { NetError } from '../../base/errors.ts'
import { splitCsv } from './csv.ts'
import { parseBytes } from './units.ts'

const bad = (message: string): NetError => new NetError('invalid', message)

type Options = Record<string, unknown>

/** `type=bind,source=/a,target=/b,readonly` -> Docker's Mount. Throws NetError `invalid`. */
export function parseMount(text: string): Record<string, unknown> {
  if (text === '') throw bad('EOF')
  const mount: Record<string, unknown> = { Type: 'volume' }
  const part: Record<'bind' | 'volume' | 'tmpfs' | 'image', Options> = { bind: {}, volume: {}, tmpfs: {}, image: {} }
  const labels: Record<string, string> = {}
  const driver: { Name?: string; Options?: Record<string, string> } = {}
  for (const field of splitCsv(text)) {
    const eq = field.indexOf('=')
    const key = (eq < 0 ? field : field.slice(0, eq)).toLowerCase()
    if (eq < 0 && !['readonly', 'ro', 'volume-nocopy', 'bind-nonrecursive'].includes(key))
      throw bad(`invalid field '${field}' must be a key=value pair`)
    const item = eq < 0 ? 'true' : field.slice(eq + 1)
    const flag = (): boolean => {
      if (/^(1|t|true)$/i.test(item)) return true
      if (/^(0|f|false)$/i.test(item)) return false
      throw bad(`invalid value for ${key}: ${item}`)
    }
    switch (key) {
      case 'type':
        mount['Type'] = item.toLowerCase()
        break
      case 'source':
      case 'src':
        mount['Source'] = item.startsWith('./') || item.startsWith('../') || item === '.' ? resolve(item) : item
        break
      case 'target':
      case 'dst':
      case 'destination':
        mount['Target'] = item
        break
      case 'readonly':
      case 'ro':
        if (flag()) mount['ReadOnly'] = true
        break
      case 'consistency':
        mount['Consistency'] = item.toLowerCase()
        break
      case 'bind-propagation':
        part.bind['Propagation'] = item.toLowerCase()
        break
      case 'bind-nonrecursive':
        part.bind['NonRecursive'] = flag()
        break
      case 'bind-recursive':
        if (!['enabled', 'disabled', 'writable', 'readonly'].includes(item))
          throw bad(`invalid value for bind-recursive: ${item} (must be "enabled", "disabled", "writable", or "readonly")`)
        if (item === 'disabled') part.bind['NonRecursive'] = true
        if (item === 'writable') part.bind['ReadOnlyNonRecursive'] = true
        if (item === 'readonly') part.bind['ReadOnlyForceRecursive'] = true
        break
      case 'volume-subpath':
        part.volume['Subpath'] = item
        break
      case 'volume-nocopy':
        part.volume['NoCopy'] = flag()
        break
      case 'volume-label':
        setPair(labels, item)
        break
      case 'volume-driver':
        driver.Name = item
        break
      case 'volume-opt':
        driver.Options ??= {}
        setPair(driver.Options, item)
        break
      case 'image-subpath':
        part.image['Subpath'] = item
        break
      case 'tmpfs-size':
        part.tmpfs['SizeBytes'] = sizeOr(item, key)
        break
      case 'tmpfs-mode':
        if (!/^[0-7]+$/.test(item)) throw bad(`invalid value for ${key}: ${item}`)
        part.tmpfs['Mode'] = Number.parseInt(item, 8)
        break
      default:
        throw bad(`unexpected key '${key}' in '${field}'`)
    }
  }
  if (mount['Type'] === '') throw bad('type is required')
  if (mount['Target'] === undefined || mount['Target'] === '') throw bad('target is required')
  if (Object.keys(labels).length > 0) part.volume['Labels'] = labels
  if (Object.keys(part.volume).length > 0 || Object.keys(driver).length > 0) part.volume['DriverConfig'] = driver
  return { ...mount, ...typed(mount['Type'] as string, part) }
}

const FIELD: Readonly<Record<string, string>> = {
  bind: 'BindOptions',
  volume: 'VolumeOptions',
  tmpfs: 'TmpfsOptions',
  image: 'ImageOptions',
}

function typed(type: string, part: Readonly<Record<string, Options>>): Record<string, unknown> {
  for (const [kind, options] of Object.entries(part))
    if (kind !== type && Object.keys(options).length > 0) throw bad(`cannot mix '${kind}-*' options with mount type '${type}'`)
  const options = part[type]
  return options === undefined || Object.keys(options).length === 0 ? {} : { [FIELD[type] as string]: options }
}

function setPair(into: Record<string, string>, item: string): void {
  const eq = item.indexOf('=')
  into[eq < 0 ? item : item.slice(0, eq)] = eq < 0 ? '' : item.slice(eq + 1)
}

function sizeOr(item: string, key: string): number {
  try {
    return parseBytes(item)
  } catch {
    throw bad(`invalid value for ${key}: ${item}`) // the reason is always the same: not a size
  }
}

/** `-v`: a bind or named volume when it has two parts, else a place for an anonymous volume. A leading `.` is the current folder. */
export function parseVolume(text: string): { readonly bind: string } | { readonly anonymous: string } {
  const [source, ...rest] = text.split(':')
  if (rest.length === 0 || text === ':') return { anonymous: text }
  if (source === '') return { bind: text }
  const absolute = (source as string).startsWith('.') ? resolve(source as string) : (source as string)
  return { bind: [absolute, ...rest].join(':') }
}

/** `--tmpfs /run:size=64m`. */
export function parseTmpfs(text: string): readonly [path: string, options: string] {
  const colon = text.indexOf(':')
  return colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)]
}

/** `/dev/a[:/dev/b][:rwm]`. */
export function parseDevice(text: string): { PathOnHost: string; PathInContainer: string; CgroupPermissions: string } {
  const parts = text.split(':')
  if (parts.length > 3) throw bad(`invalid device specification: ${text}`)
  const [onHost = '', second, third] = parts
  const isMode = (t: string) => /^[rwm]{1,3}$/.test(t)
  const inside = second === undefined || second === '' || (third === undefined && isMode(second)) ? onHost : second
  return {
    PathOnHost: onHost,
    PathInContainer: inside,
    CgroupPermissions: third ?? (second !== undefined && isMode(second) ? second : 'rwm'),
  }
}

/** Options of the `local` volume driver to a mount(2). Names and texts: moby volume/local. */
import { NetError } from '../base/errors.ts'

export interface MountPlan {
  readonly source: string
  readonly type: string
  readonly flags: number
  readonly data: string
}

const KNOWN = new Set(['type', 'device', 'o', 'size'])
const REQUIRES: Readonly<Record<string, readonly string[]>> = { device: ['type'], type: ['device'], o: ['device', 'type'] }

/** Flags of mount(2), include/uapi/linux/mount.h; [set, clear]. */
const FLAGS: Readonly<Record<string, readonly [number, number]>> = {
  defaults: [0, 0],
  ro: [1, 0],
  rw: [0, 1],
  nosuid: [2, 0],
  suid: [0, 2],
  nodev: [4, 0],
  dev: [0, 4],
  noexec: [8, 0],
  exec: [0, 8],
  sync: [16, 0],
  async: [0, 16],
  noatime: [1024, 0],
  nodiratime: [2048, 0],
  bind: [4096, 0],
  rbind: [4096 | 16384, 0],
  relatime: [1 << 21, 0],
  strictatime: [1 << 24, 0],
}

/** Throws `invalid` in Docker's words. */
export function checkVolumeOptions(name: string, options: Readonly<Record<string, string>>): void {
  const refuse = (why: string): NetError => new NetError('invalid', `create ${name}: ${why}`, { subject: name })
  for (const key of Object.keys(options)) if (!KNOWN.has(key)) throw refuse(`invalid option: "${key}"`)
  if (options['size'] !== undefined) throw refuse('quota size requested but no quota support')
  for (const [key, needed] of Object.entries(REQUIRES)) {
    if (options[key] === undefined) continue
    for (const other of needed) if (options[other] === undefined) throw refuse(`missing required option: "${other}"`)
  }
}

/** What to mount on the volume's data directory; undefined for a plain volume. */
export function mountPlan(options: Readonly<Record<string, string>>): MountPlan | undefined {
  const device = options['device']
  if (device === undefined) return undefined
  let flags = 0
  const data: string[] = []
  for (const word of (options['o'] ?? '').split(',')) {
    const flag = FLAGS[word.trim()]
    if (flag !== undefined) flags = (flags & ~flag[1]) | flag[0]
    else if (word.trim() !== '') data.push(word.trim())
  }
  return { source: device, type: options['type'] === 'none' ? '' : (options['type'] ?? ''), flags, data: data.join(',') }
}

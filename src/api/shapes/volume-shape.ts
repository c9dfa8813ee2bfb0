/** A volume as Docker prints it. */
import type { Volume } from '../../containers/types.ts'

/** A volume as list and inspect show it. */
export function volumeJson(volume: Volume): Record<string, unknown> {
  return {
    CreatedAt: volume.createdAt,
    Driver: volume.driver,
    Labels: Object.keys(volume.labels).length === 0 ? null : volume.labels,
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: Object.keys(volume.options).length === 0 ? null : volume.options,
    Scope: volume.scope,
  }
}

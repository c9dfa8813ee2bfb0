/** What the running kernel has. */
import { existsSync } from 'node:fs'

/** The module is loaded, or built in with parameters of its own; one that is only on the disk does not count. */
export function isModuleLoaded(name: string): boolean {
  return existsSync(`/sys/module/${name}`)
}

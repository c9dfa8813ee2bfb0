/** Versions of the CNI specification that are spoken here. */
import { CNI, CniError } from './errors.ts'

export const SUPPORTED_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const
export type CniVersion = (typeof SUPPORTED_VERSIONS)[number]

/** A configuration that says none means the first. */
const UNSAID: CniVersion = '0.1.0'

/** Throws code 1. */
export function supportedVersion(said: unknown): CniVersion {
  if (said === undefined || said === '') return UNSAID
  const found = SUPPORTED_VERSIONS.find((version) => version === said)
  if (found !== undefined) return found
  const details = `config is ${JSON.stringify(said)}, plugin supports ${JSON.stringify(SUPPORTED_VERSIONS)}`
  throw new CniError(CNI.incompatibleVersion, 'incompatible CNI versions', details)
}

export function isAtLeast(version: CniVersion, least: CniVersion): boolean {
  return SUPPORTED_VERSIONS.indexOf(version) >= SUPPORTED_VERSIONS.indexOf(least)
}

/** Throws code 1 when the command came with a later version than the configuration's. */
export function requireVersion(version: CniVersion, least: CniVersion, command: string): void {
  if (isAtLeast(version, least)) return
  const details = `config is "${version}", ${command} needs "${least}" or later`
  throw new CniError(CNI.incompatibleVersion, `config version does not allow ${command}`, details)
}

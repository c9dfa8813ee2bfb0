/** API versions: the path prefix, the limits, and the headers that every reply carries. */
import { badRequest } from './errors.ts'
import type { VersionFacts } from './types.ts'

const DEFAULT_MAX = '1.51'
const DEFAULT_MIN = '1.24'
/** Below this, errors were plain text; a client that old could not read a JSON one. */
const JSON_ERRORS_SINCE = 24

/** Minor number of `1.x`. Throws a plain Error for anything else: only called with our own constants and facts. */
export function minorOf(version: string): number {
  const match = /^1\.(\d+)$/.exec(version)
  if (match === null) throw new Error(`"${version}" is not an API version`)
  return Number(match[1])
}

export const maxVersion = (facts: VersionFacts): string => facts.apiVersion ?? DEFAULT_MAX
export const minVersion = (facts: VersionFacts): string => facts.minApiVersion ?? DEFAULT_MIN

export interface VersionedPath {
  readonly version: number
  /** Path and query without the prefix. */
  readonly rest: string
}

/** Splits `/v1.43/containers/json`. A path without prefix means the newest version. Throws `invalid` with Docker's texts. */
export function splitVersion(url: string, facts: VersionFacts): VersionedPath {
  const max = maxVersion(facts)
  const match = /^\/v(\d[0-9.]*)(?=[/?]|$)/.exec(url)
  if (match === null) return { version: minorOf(max), rest: url }
  const asked = match[1] as string
  const parts = asked.split('.').map(Number)
  const major = parts[0] ?? 0
  const minor = parts[1] ?? 0
  if (major > 1 || (major === 1 && minor > minorOf(max))) {
    throw badRequest(`client version ${asked} is too new. Maximum supported API version is ${max}`)
  }
  const min = minVersion(facts)
  if (major < 1 || minor < minorOf(min)) {
    throw badRequest(
      `client version ${asked} is too old. Minimum supported API version is ${min}, please upgrade your client to a newer version`,
    )
  }
  return { version: minor, rest: url.slice(match[0].length) || '/' }
}

/** True when the client reads only plain-text errors (API below 1.24). */
export function wantsPlainErrors(url: string): boolean {
  const match = /^\/v(\d+)(?:\.(\d+))?/.exec(url)
  return match !== null && (Number(match[1]) < 1 || (Number(match[1]) === 1 && Number(match[2] ?? 0) < JSON_ERRORS_SINCE))
}

/** Headers that every answer carries. */
export function commonHeaders(facts: VersionFacts): Readonly<Record<string, string>> {
  return {
    'Api-Version': maxVersion(facts),
    'Docker-Experimental': String(facts.experimental ?? false),
    Ostype: facts.os,
    Server: `Docker/${facts.dockerVersion} (${facts.os})`,
  }
}

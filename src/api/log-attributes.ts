/** What `docker logs --details` prints before each line: the labels and variables that the container's log options name. */
import type { Container } from '../containers/types.ts'
import { safePattern } from './filters.ts'

/** `key=value` of all that is named, sorted and joined by commas; '' for none. */
export function logAttributes({ config, hostConfig }: Container): string {
  const { labels, env, 'labels-regex': labelsPattern, 'env-regex': envPattern } = hostConfig.LogConfig?.Config ?? {}
  const variables = (config.Env ?? []).flatMap((entry): [string, string][] => {
    const equals = entry.indexOf('=')
    return equals < 0 ? [] : [[entry.slice(0, equals), entry.slice(equals + 1)]]
  })
  const chosen = new Map([
    ...Object.entries(config.Labels ?? {}).filter(isNamed(labels, labelsPattern)),
    ...variables.filter(isNamed(env, envPattern)),
  ])
  return [...chosen]
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`)
    .sort()
    .join(',')
}

function isNamed(list: string | undefined, pattern: string | undefined): (entry: readonly [string, string]) => boolean {
  const keys = (list ?? '').split(',')
  const regexp = pattern === undefined || pattern === '' ? undefined : safePattern(pattern)
  return ([key]) => key !== '' && (keys.includes(key) || regexp?.test(key) === true)
}

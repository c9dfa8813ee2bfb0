/** `-p` and `--expose` in every spelling, with the texts of Docker's client. */
import { tryParseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'

export interface PublishedPort {
  /** `80/tcp`. */
  readonly port: string
  readonly hostIp: string
  /** Empty = any free port; `8000-8010` = one of them. */
  readonly hostPort: string
}

const bad = (message: string): NetError => new NetError('invalid', message)

interface Range {
  readonly first: number
  readonly last: number
}

/** `80` or `80-85`; undefined when it is no port range. */
function parseRange(text: string): Range | undefined {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text)
  if (match === null) return undefined
  const first = Number(match[1])
  const last = Number(match[2] ?? match[1])
  return first > 65535 || last > 65535 || first > last ? undefined : { first, last }
}

/** `published=8080,target=80,protocol=udp` in the short spelling. */
function shortSpelling(text: string): string {
  if (!text.includes('=')) return text
  const fields: Record<string, string> = {}
  for (const item of text.split(',')) {
    const eq = item.indexOf('=')
    if (eq <= 0) throw bad(`invalid publish opts format (should be name=value but got '${item}')`)
    fields[item.slice(0, eq)] = item.slice(eq + 1)
  }
  return `${fields['published'] ?? ''}:${fields['target'] ?? ''}/${fields['protocol'] ?? 'tcp'}`
}

/**
 * `[[ip:][hostPort]:]containerPort[/proto]`, ranges on both sides, `[::1]:80:80`, or the long spelling.
 * One item per container port. Throws NetError `invalid`.
 */
export function parsePublish(given: string): PublishedPort[] {
  const text = shortSpelling(given)
  const slash = text.lastIndexOf('/')
  const protocol = (slash < 0 ? 'tcp' : text.slice(slash + 1) || 'tcp').toLowerCase()
  const parts = (slash < 0 ? text : text.slice(0, slash)).split(':')
  const containerText = parts.pop() as string
  const hostText = parts.pop() ?? ''
  const ipText = parts.join(':')
  const hostIp = ipText.startsWith('[') && ipText.endsWith(']') ? ipText.slice(1, -1) : ipText
  if (hostIp !== '' && tryParseIp(hostIp) === undefined) throw bad(`invalid IP address: ${hostIp}`)
  if (containerText === '') throw bad(`no port specified: ${text}<empty>`)
  const container = parseRange(containerText)
  if (container === undefined) throw bad(`invalid containerPort: ${containerText}`)
  const host = hostText === '' ? undefined : parseRange(hostText)
  if (hostText !== '' && host === undefined) throw bad(`invalid hostPort: ${hostText}`)
  const count = container.last - container.first
  if (host !== undefined && host.last - host.first !== count && count !== 0)
    throw bad(`invalid ranges specified for container and host Ports: ${containerText} and ${hostText}`)
  if (!['tcp', 'udp', 'sctp'].includes(protocol)) throw bad(`invalid proto: ${protocol}`)
  return Array.from({ length: count + 1 }, (_, i) => ({
    port: `${container.first + i}/${protocol}`,
    hostIp,
    hostPort: host === undefined ? '' : count === 0 && host.last !== host.first ? `${host.first}-${host.last}` : String(host.first + i),
  }))
}

/** `80`, `80/udp`, `5000-5010/tcp` -> `80/tcp` keys. */
export function parseExpose(text: string): string[] {
  if (text.includes(':')) throw bad(`invalid port format for --expose: ${text}`)
  const [portText = '', protocolText] = text.split('/')
  const protocol = (protocolText || 'tcp').toLowerCase()
  const range = parseRange(portText)
  if (range === undefined) throw bad(`invalid range format for --expose: ${text}, error: ${rangeProblem(portText)}`)
  if (!['tcp', 'udp', 'sctp'].includes(protocol)) throw bad(`invalid proto: ${protocol}`)
  return Array.from({ length: range.last - range.first + 1 }, (_, i) => `${range.first + i}/${protocol}`)
}

function rangeProblem(text: string): string {
  if (text === '') return 'empty string specified for ports'
  for (const part of text.split('-')) {
    if (!/^\d+$/.test(part)) return `strconv.ParseUint: parsing "${part}": invalid syntax`
    if (Number(part) > 65535) return `strconv.ParseUint: parsing "${part}": value out of range`
  }
  return `invalid range specified for port: ${text}`
}

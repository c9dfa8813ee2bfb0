/** HostConfig.PortBindings, ExposedPorts and PublishAllPorts as the controller's port requests. */

import { tryParseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { PortRequest, Proto } from '../model/endpoint.ts'
import type { ContainerConfig, HostConfig } from './types.ts'

export interface ContainerPort {
  readonly proto: Proto
  readonly port: number
}

function parseNumber(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined
  const n = Number(text)
  return n <= 65535 ? n : undefined
}

/** `8000-8010` or `80`; '' gives undefined. Throws `invalid`. */
function parseRange(text: string): [first: number, last: number] | undefined {
  if (text === '') return undefined
  const [a = '', b] = text.split(/-(.*)/s)
  const first = parseNumber(a)
  const last = b === undefined ? first : parseNumber(b)
  if (first === undefined || last === undefined || last < first) throw new NetError('invalid', `invalid port specification: "${text}"`)
  return [first, last]
}

/**
 * A key of PortBindings or ExposedPorts (`80/tcp`, `80`, `8000-8010/udp`) as ports. Throws `invalid` for a bad number.
 * A protocol other than tcp, udp and sctp passes create in Docker and publishes nothing: it gives no ports here.
 */
export function parsePortKey(key: string): ContainerPort[] {
  const slash = key.indexOf('/')
  const numbers = slash < 0 ? key : key.slice(0, slash)
  const proto = slash < 0 ? 'tcp' : key.slice(slash + 1).toLowerCase()
  let range: [number, number] | undefined
  try {
    range = parseRange(numbers)
  } catch {
    range = undefined
  }
  if (range === undefined) throw new NetError('invalid', `invalid JSON: invalid port '${numbers}': invalid syntax`)
  if (proto !== 'tcp' && proto !== 'udp' && proto !== 'sctp') return []
  const out: ContainerPort[] = []
  for (let port = range[0]; port <= range[1]; port++) out.push({ proto, port })
  return out
}

/** The port requests of a container about to start. Throws `invalid` with Docker's texts, so create calls it too. */
export function portRequests(config: ContainerConfig, host: HostConfig): PortRequest[] {
  const out: PortRequest[] = []
  const bound = new Set<string>()
  for (const [key, bindings] of Object.entries(host.PortBindings ?? {})) {
    for (const { proto, port } of parsePortKey(key)) {
      bound.add(`${port}/${proto}`)
      // Docker back-fills an empty list with one empty binding
      for (const binding of bindings?.length ? bindings : [{}]) {
        const hostIp = binding.HostIp ?? ''
        if (hostIp !== '' && tryParseIp(hostIp) === undefined) throw new NetError('invalid', `invalid IP address: ${hostIp}`)
        const range = parseRange(binding.HostPort ?? '') ?? [0, 0]
        out.push({ proto, containerPort: port, hostIp, hostPort: range[0], hostPortEnd: range[1] })
      }
    }
  }
  for (const { proto, port } of exposedPorts(config)) {
    if (host.PublishAllPorts && !bound.has(`${port}/${proto}`)) {
      out.push({ proto, containerPort: port, hostIp: '', hostPort: 0, hostPortEnd: 0 })
    }
  }
  return out
}

/** Config.ExposedPorts as numbers. Throws `invalid`. */
export function exposedPorts(config: ContainerConfig): ContainerPort[] {
  return Object.keys(config.ExposedPorts ?? {}).flatMap(parsePortKey)
}

/** Warning of Docker's API 1.52 and later for bindings that are an empty list. */
export function emptyBindingKeys(host: HostConfig): string[] {
  return Object.entries(host.PortBindings ?? {})
    .filter(([, bindings]) => !bindings?.length)
    .map(([key]) => key)
}

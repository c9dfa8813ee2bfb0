/** Ports as requests and answers write them: `80/tcp`, `{"HostIp":"","HostPort":""}`, `{"IP":"","PrivatePort":80}`. */
import type { Container } from '../../containers/types.ts'
import type { PortBinding } from '../../model/endpoint.ts'
import { badRequest } from '../errors.ts'

export interface PortKey {
  readonly port: number
  readonly proto: string
}

/** `80`, `80/tcp`; undefined when it is no port. */
export function parsePortKey(text: string): PortKey | undefined {
  const match = /^(\d{1,5})(?:\/([A-Za-z0-9]+))?$/.exec(text)
  if (match === null || Number(match[1]) > 65_535) return undefined
  return { port: Number(match[1]), proto: (match[2] ?? 'tcp').toLowerCase() }
}

/** Throws `invalid` for the first key that is no port (or port range). */
export function checkPortKeys(ports: Readonly<Record<string, unknown>> | null | undefined): void {
  for (const key of Object.keys(ports ?? {})) {
    const range = /^(\d+)-(\d+)(\/[A-Za-z0-9]+)?$/.exec(key)
    if (parsePortKey(key) !== undefined || (range !== null && Number(range[1]) <= Number(range[2]) && Number(range[2]) <= 65_535)) continue
    throw badRequest(`invalid JSON: invalid port '${key.slice(0, 100)}': invalid syntax`)
  }
}

/** Exposed ports of a container, in order, each once; ranges taken apart. */
export function exposedPorts(container: Container): readonly PortKey[] {
  const seen = new Map<string, PortKey>()
  for (const text of [...Object.keys(container.config.ExposedPorts ?? {}), ...Object.keys(container.hostConfig.PortBindings ?? {})]) {
    const [numbers = '', proto = 'tcp'] = text.split('/')
    const [first = 0, last = first] = numbers.split('-').map(Number)
    for (let port = first; port <= last && port <= 65_535; port++) seen.set(`${port}/${proto}`, { port, proto })
  }
  return [...seen.values()].sort((a, b) => a.port - b.port || a.proto.localeCompare(b.proto))
}

interface Mapping {
  readonly key: string
  readonly containerPort: number
  readonly proto: string
  readonly hostIp: string
  readonly hostPort: number
}

/** Bindings in force, ranges taken apart. */
function* mappings(bindings: readonly PortBinding[]): Generator<Mapping> {
  for (const binding of bindings) {
    for (let i = 0; i < binding.count; i++) {
      const containerPort = binding.containerPort + i
      const hostPort = binding.hostPort === 0 ? 0 : binding.hostPort + i
      yield { key: `${containerPort}/${binding.proto}`, containerPort, proto: binding.proto, hostIp: binding.hostIp, hostPort }
    }
  }
}

/** `NetworkSettings.Ports`: null for exposed ports that are not published; `{}` when the container does not run. */
export function portMapJson(container: Container, bindings: readonly PortBinding[] | undefined): Record<string, object[] | null> {
  if (bindings === undefined) return {}
  const map = new Map<string, object[] | null>(exposedPorts(container).map(({ port, proto }) => [`${port}/${proto}`, null]))
  for (const { key, hostIp, hostPort } of mappings(bindings)) {
    // In routed mode there is no port of the host: '' as Docker prints it.
    const entry = { HostIp: hostIp, HostPort: hostPort === 0 ? '' : String(hostPort) }
    map.set(key, [...(map.get(key) ?? []), entry])
  }
  return Object.fromEntries(map)
}

export interface ListedPort {
  readonly IP?: string
  readonly PrivatePort: number
  readonly PublicPort?: number
  readonly Type: string
}

/** `Ports` of the container list. */
export function portListJson(container: Container, bindings: readonly PortBinding[] | undefined): readonly ListedPort[] {
  if (bindings === undefined) return []
  const published = [...mappings(bindings)]
  const taken = new Set(published.map((mapping) => mapping.key))
  const exposed = exposedPorts(container).filter(({ port, proto }) => !taken.has(`${port}/${proto}`))
  return [
    ...exposed.map(({ port, proto }) => ({ PrivatePort: port, Type: proto })),
    ...published.map(({ containerPort, proto, hostIp, hostPort }) =>
      hostPort === 0
        ? { PrivatePort: containerPort, Type: proto }
        : { IP: hostIp, PrivatePort: containerPort, PublicPort: hostPort, Type: proto },
    ),
  ]
}

/** A `publish`/`expose` filter value: `80`, `80/udp`, `8000-8010/tcp`. Throws `invalid`. */
export function portFilter(value: string): (port: number, proto: string) => boolean {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/([a-z0-9]+))?$/.exec(value)
  if (match === null) throw badRequest(`invalid port specification: "${value.slice(0, 100)}"`)
  const first = Number(match[1])
  const last = match[2] === undefined ? first : Number(match[2])
  const wanted = match[3] ?? 'tcp'
  return (port, proto) => port >= first && port <= last && proto === wanted
}

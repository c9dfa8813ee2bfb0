/** Ports that were published or taken back while a container runs, as its configuration has them for the next start (pure). */
import type { PortBinding, PortRequest } from '../model/endpoint.ts'
import { parsePortKey } from './ports.ts'
import type { HostConfig, PortBindingJson } from './types.ts'

export interface PortChange {
  readonly added?: readonly PortRequest[]
  readonly removed?: readonly PortRequest[]
}

/** The configuration after a change; `left` are the ports that are still published. */
export function changedPorts(host: HostConfig, { added = [], removed = [] }: PortChange, left: readonly PortBinding[]): HostConfig {
  return withPorts(withoutPorts(host, removed, left), added)
}

/** The configuration with these requests behind what is there. */
export function withPorts(host: HostConfig, added: readonly PortRequest[]): HostConfig {
  const byPort = bindingsByPort(host)
  for (const { proto, containerPort, hostIp, hostPort, hostPortEnd } of added) {
    const HostPort = hostPort === 0 ? '' : hostPort === hostPortEnd ? String(hostPort) : `${hostPort}-${hostPortEnd}`
    const key = `${containerPort}/${proto}`
    byPort.set(key, [...(byPort.get(key) ?? []), { HostIp: hostIp, HostPort }])
  }
  return { ...host, PortBindings: Object.fromEntries(byPort) }
}

/** The configuration without what was taken back; `left` are the ports that are still published. */
export function withoutPorts(host: HostConfig, removed: readonly PortRequest[], left: readonly PortBinding[]): HostConfig {
  const byPort = bindingsByPort(host)
  for (const request of removed) {
    const key = `${request.containerPort}/${request.proto}`
    const bindings = byPort.get(key) ?? []
    const stay = without(bindings, request)
    if (stay.length === 0 || !left.some((b) => covers(b, request))) byPort.delete(key)
    else byPort.set(key, stay)
  }
  return { ...host, PortBindings: Object.fromEntries(byPort) }
}

function without(bindings: PortBindingJson[], { hostIp, hostPort }: PortRequest): PortBindingJson[] {
  if (hostPort === 0) return bindings.filter((b) => hostIp !== '' && b.HostIp !== hostIp)
  const stay = bindings.filter((b) => b.HostPort !== String(hostPort) || (hostIp !== '' && b.HostIp !== hostIp))
  if (stay.length < bindings.length) return stay
  // the number was chosen at the start, out of a range or of all
  const open = bindings.findIndex((b) => !/^\d+$/.test(b.HostPort ?? ''))
  return open < 0 ? bindings : bindings.toSpliced(open, 1)
}

function covers(binding: PortBinding, { proto, containerPort }: PortRequest): boolean {
  return binding.proto === proto && binding.containerPort <= containerPort && containerPort < binding.containerPort + binding.count
}

/** One entry for each container port: `8000-8010/udp` and `80` are keys too. */
function bindingsByPort(host: HostConfig): Map<string, PortBindingJson[]> {
  const byPort = new Map<string, PortBindingJson[]>()
  for (const [key, bindings] of Object.entries(host.PortBindings ?? {})) {
    const ports = parsePortKey(key)
    if (ports.length === 0) byPort.set(key, bindings ?? []) // of a protocol that is not published
    for (const { port, proto } of ports)
      byPort.set(`${port}/${proto}`, [...(byPort.get(`${port}/${proto}`) ?? []), ...(bindings?.length ? bindings : [{}])])
  }
  return byPort
}

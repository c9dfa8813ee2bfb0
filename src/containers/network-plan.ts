/** What a container asks of the network controller, derived from its record; and the rules for network modes. Pure. */
import { tryParseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { EndpointSettings } from '../model/endpoint.ts'
import { strings } from './fields.ts'
import { exposedPorts, portRequests } from './ports.ts'
import type { ContainerConfig, EndpointSettingsJson, HostConfig } from './types.ts'

/** Default bridge, `host` and `none`: networks on which aliases, links as aliases and fixed addresses do not exist. */
const PREDEFINED = ['bridge', 'host', 'none', 'default']

/** Neither the default bridge nor a mode (`host`, `none`, `container:…`). */
export function isUserDefined(network: string): boolean {
  return !PREDEFINED.includes(network) && !network.startsWith('container:')
}

/** `container:<ref>` gives the ref. Throws `invalid` when nothing stands behind the colon. */
export function containerModeOf(mode: string): string | undefined {
  if (mode !== 'container' && !mode.startsWith('container:')) return undefined
  const ref = mode.slice('container:'.length)
  if (ref === '') throw new NetError('invalid', 'invalid network mode: invalid container format container:<name|id>')
  return ref
}

/** Docker's form of `-v`-like link entries: `name` or `name:alias`; also the stored form `/target:/self/alias`. Throws `internal` as Docker. */
export function parseLink(spec: string): { readonly target: string; readonly alias: string } {
  const parts = spec.split(':')
  const [target = '', given] = parts
  if (target === '' || given === '' || parts.length > 2) throw new NetError('internal', `bad format for links: ${spec}`)
  if (given === undefined) return { target: target.replace(/^\//, ''), alias: target.replace(/^\//, '') }
  return { target: target.replace(/^\//, ''), alias: given.slice(given.lastIndexOf('/') + 1) }
}

/** The engine's form of Docker's EndpointSettings. */
export function endpointSettings(json: EndpointSettingsJson): EndpointSettings {
  const { IPv4Address, IPv6Address, LinkLocalIPs } = json.IPAMConfig ?? {}
  return {
    ...(IPv4Address ? { ipv4: IPv4Address } : {}),
    ...(IPv6Address ? { ipv6: IPv6Address } : {}),
    ...(LinkLocalIPs?.length ? { linkLocalIps: LinkLocalIPs } : {}),
    ...(json.Links?.length ? { links: json.Links } : {}),
    ...(json.Aliases?.length ? { aliases: json.Aliases } : {}),
    ...(json.DriverOpts ? { driverOpts: json.DriverOpts } : {}),
    ...(json.GwPriority ? { gwPriority: json.GwPriority } : {}),
    ...(json.MacAddress ? { mac: json.MacAddress } : {}),
  }
}

/** The endpoints of a container in the order of attachment: the network mode's first. */
export function orderedEndpoints(
  mode: string,
  endpoints: Readonly<Record<string, EndpointSettingsJson>>,
): { readonly network: string; readonly settings: EndpointSettings }[] {
  const names = Object.keys(endpoints)
  const first = names.filter((name) => name === mode)
  return [...first, ...names.filter((name) => name !== mode)].map((network) => ({
    network,
    settings: endpointSettings(endpoints[network] as EndpointSettingsJson),
  }))
}

/** `name:ip`, the address unbracketed IPv6 or `host-gateway`. Throws `invalid` with Docker's texts. */
function checkExtraHosts(hosts: readonly string[]): void {
  for (const entry of hosts) {
    const at = entry.search(/[:=]/)
    const name = entry.slice(0, at)
    const ip = entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1')
    if (at < 1 || name === '') throw new NetError('invalid', `bad format for add-host: "${entry}"`)
    if (ip !== 'host-gateway' && tryParseIp(ip) === undefined) throw new NetError('invalid', `invalid IP address in add-host: "${ip}"`)
  }
}

/** Conflicts between the network mode and other options, with Docker's texts. Returns the warnings. Throws `invalid`. */
export function checkNetworkMode(config: ContainerConfig, host: HostConfig): string[] {
  const mode = host.NetworkMode ?? ''
  const invalid = (message: string) => new NetError('invalid', message)
  const hasPorts = Object.keys(host.PortBindings ?? {}).length > 0
  if (config.Hostname && host.UTSMode === 'host') throw invalid('conflicting options: hostname and the UTS mode')
  if (mode === 'host' && host.Links?.length) {
    throw invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
  }
  if (containerModeOf(mode) !== undefined) {
    if (config.Hostname) throw invalid('conflicting options: hostname and the network mode')
    if (host.Links?.length) {
      throw invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
    }
    if (host.Dns?.length) throw invalid('conflicting options: dns and the network mode')
    if (host.ExtraHosts?.length) throw invalid('conflicting options: custom host-to-IP mapping and the network mode')
    if (config.MacAddress) throw invalid('conflicting options: mac-address and the network mode')
    if (hasPorts || host.PublishAllPorts) throw invalid('conflicting options: port publishing and the container type network mode')
    if (Object.keys(config.ExposedPorts ?? {}).length > 0) {
      throw invalid('conflicting options: port exposing and the container type network mode')
    }
  }
  if (config.MacAddress && mode === 'host') throw invalid('conflicting options: mac-address and the network mode')
  checkExtraHosts(host.ExtraHosts ?? [])
  for (const server of strings(host, 'Dns')) {
    if (tryParseIp(server) === undefined) throw invalid(`invalid IP address: ${server}`)
  }
  for (const key of Object.keys(host.Sysctls ?? {})) {
    if (/^net\.[^.]+\.[^.]+\.eth0\./.test(key)) {
      throw new NetError(
        'internal',
        `interface specific sysctl setting "${key}" must be supplied using driver option 'com.docker.network.endpoint.sysctls'`,
      )
    }
  }
  portRequests(config, host)
  exposedPorts(config)
  return mode === 'host' && (hasPorts || host.PublishAllPorts) ? ['Published ports are discarded when using host network mode'] : []
}

/**
 * Endpoints as stored: `default` re-keyed to the mode's network, the mode's network present, the container-wide MAC address moved
 * into it. `nameOf` turns a network's id into its name when it is known. Throws `invalid` with Docker's texts.
 */
export function normalizeEndpoints(
  mode: string,
  given: Readonly<Record<string, EndpointSettingsJson>>,
  macAddress: string,
  nameOf: (ref: string) => string,
): Record<string, EndpointSettingsJson> {
  if (containerModeOf(mode) !== undefined) return {}
  const out: Record<string, EndpointSettingsJson> = {}
  const main = nameOf(mode)
  for (const [key, settings] of Object.entries(given)) out[key === 'default' ? main : nameOf(key)] = settings ?? {}
  if (mode === 'none' || mode === 'host') {
    const others = Object.keys(out).filter((name) => name !== main)
    if (others.length > 0) {
      throw new NetError(
        'invalid',
        mode === 'none'
          ? 'container cannot be connected to multiple networks with one of the networks in private (none) mode'
          : 'cannot connect container to host network - container must be created in host network mode',
      )
    }
  } else if ('host' in out) {
    throw new NetError('invalid', 'cannot connect container to host network - container must be created in host network mode')
  }
  const settings = out[main] ?? {}
  if (macAddress !== '') {
    if (settings.MacAddress && settings.MacAddress !== macAddress) {
      throw new NetError(
        'invalid',
        'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty',
      )
    }
    out[main] = { ...settings, MacAddress: macAddress }
  } else out[main] = settings
  return out
}

/**
 * Environment that a legacy link brings: `DB_NAME`, `DB_PORT`, `DB_PORT_5432_TCP…`, `DB_ENV_x`. `self` is the linking container's name.
 */
export function linkEnvironment(
  self: string,
  alias: string,
  address: string,
  ports: readonly { readonly proto: string; readonly port: number }[],
  env: readonly string[],
): string[] {
  const prefix = alias.toUpperCase().replaceAll('-', '_')
  const sorted = [...ports].sort((a, b) => a.port - b.port || (a.proto < b.proto ? -1 : 1))
  const url = (p: { proto: string; port: number }) => `${p.proto}://${address}:${p.port}`
  const [first] = sorted
  return [
    ...(first === undefined ? [] : [`${prefix}_PORT=${url(first)}`]),
    ...sorted.flatMap((p) => {
      const key = `${prefix}_PORT_${p.port}_${p.proto.toUpperCase()}`
      return [`${key}=${url(p)}`, `${key}_ADDR=${address}`, `${key}_PORT=${p.port}`, `${key}_PROTO=${p.proto}`]
    }),
    `${prefix}_NAME=/${self}/${alias}`,
    ...env.filter((e) => e.includes('=') && !/^(HOME|PATH)=/.test(e)).map((e) => `${prefix}_ENV_${e}`),
  ]
}

/**
 * The text of a container's /etc/hosts, /etc/resolv.conf and /etc/hostname. Byte for byte what Docker 29 writes, because programs and tests
 * compare it. Pure: `container-file.ts` puts it on disk.
 */
import { familyOf, type Ip, parseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { ndotsOf, parseResolvConf } from './host-resolv.ts'

/** One line of a hosts file. */
export interface HostsLine {
  readonly ip: Ip
  /** The canonical name first. */
  readonly names: readonly string[]
}

function formatHostsLine(line: HostsLine): string {
  return `${line.ip}\t${line.names.join(' ')}`
}

/** The lines of one endpoint: the full name and, when it has a domain, the part before the first dot. */
export function endpointHostsLines(endpoint: {
  readonly ipv4?: Ip | ''
  readonly ipv6?: Ip | ''
  readonly hostname: string
  readonly domainname: string
}): HostsLine[] {
  const full = endpoint.domainname === '' ? endpoint.hostname : `${endpoint.hostname}.${endpoint.domainname}`
  const dot = full.indexOf('.')
  const names = dot < 0 ? [full] : [full, full.slice(0, dot)]
  return [endpoint.ipv4, endpoint.ipv6].flatMap((ip) => (ip === undefined || ip === '' ? [] : [{ ip, names }]))
}

/**
 * `--add-host`: `name:address` or `name=address`; the address may be in brackets. `gateway` stands for the word host-gateway.
 * Throws `invalid` with Docker's text.
 */
export function parseExtraHost(text: string, gateway?: Ip): HostsLine {
  const at = /[:=]/.exec(text)?.index ?? -1
  const name = text.slice(0, at)
  const address = text.slice(at + 1).replace(/^\[(.*)\]$/, '$1')
  if (at <= 0 || address === '') throw new NetError('invalid', `bad format for add-host: "${text}"`, { subject: text })
  if (address === 'host-gateway') {
    if (gateway === undefined) throw new NetError('invalid', 'unable to derive the IP value for host-gateway', { subject: text })
    return { ip: gateway, names: [name] }
  }
  try {
    return { ip: parseIp(address), names: [name] }
  } catch (cause) {
    throw new NetError('invalid', `invalid IP address in add-host: "${address}"`, { subject: text }, cause)
  }
}

const LOOPBACK4 = ['127.0.0.1\tlocalhost']
const LOOPBACK6 = [
  '::1\tlocalhost ip6-localhost ip6-loopback',
  'fe00::\tip6-localnet',
  'ff00::\tip6-mcastprefix',
  'ff02::1\tip6-allnodes',
  'ff02::2\tip6-allrouters',
]

/** A new hosts file. Link lines of the default bridge are `endpoints` too: they come after the container's own. */
export function renderHosts(parts: {
  readonly hasIpv6: boolean
  readonly extra: readonly HostsLine[]
  readonly endpoints: readonly HostsLine[]
}): string {
  // without IPv6 the names that resolve to IPv6 only would be a trap; an extra host asked for by the user stays
  const lines = [...LOOPBACK4, ...(parts.hasIpv6 ? LOOPBACK6 : []), ...[...parts.extra, ...parts.endpoints].map(formatHostsLine)]
  return `${lines.join('\n')}\n`
}

/** Adds lines that are not there yet, in front of the first of `before` or at the end; everything else stays as users left it. */
export function hostsWith(text: string, lines: readonly HostsLine[], before: readonly HostsLine[] = []): string {
  const all = text.split('\n')
  const present = new Set(all)
  const added = lines.map(formatHostsLine).filter((line) => !present.has(line))
  if (added.length === 0) return text
  const followers = new Set(before.map(formatHostsLine))
  const place = all.findIndex((line) => followers.has(line))
  if (place >= 0) return all.toSpliced(place, 0, ...added).join('\n')
  const start = text === '' || text.endsWith('\n') ? text : `${text}\n`
  return `${start}${added.join('\n')}\n`
}

/** Takes exactly these lines out; a line that a user changed is the user's. */
export function hostsWithout(text: string, lines: readonly HostsLine[]): string {
  const gone = new Set(lines.map(formatHostsLine))
  return text
    .split('\n')
    .filter((line) => !gone.has(line))
    .join('\n')
}

/** Content of /etc/hostname. */
export function renderHostname(hostname: string): string {
  return `${hostname}\n`
}

/** `--dns`, `--dns-search`, `--dns-option`, or the daemon's. Empty = as the host has it. */
export interface ResolvOverrides {
  readonly servers: readonly string[]
  /** `.` alone means: no search list. */
  readonly search: readonly string[]
  readonly options: readonly string[]
}

export interface ResolvConfRequest {
  /** `internal`: the embedded resolver. `legacy`: the default bridge. `host`: the host's network. */
  readonly kind: 'internal' | 'legacy' | 'host'
  /** For `legacy` what `readHostResolv` calls legacyText. */
  readonly hostText: string
  readonly hostPath: string
  readonly overrides: ResolvOverrides
  readonly hasIpv6: boolean
}

export interface RenderedResolvConf {
  readonly text: string
  /** `internal`: where the embedded resolver asks. hostLoopback = asked from the host's namespace (all servers of the host's file). */
  readonly externalServers: readonly { readonly ip: Ip; readonly hostLoopback: boolean }[]
  readonly ndotsFrom: '' | 'internal' | 'host' | 'override'
  /** `ndots` is above 0: what a DnsView calls ndotsSet. */
  readonly ndotsSet: boolean
}

const RESOLVER = '127.0.0.11'
const PUBLIC4 = ['8.8.8.8', '8.8.4.4']
const PUBLIC6 = ['2001:4860:4860::8888', '2001:4860:4860::8844']

/** Throws `invalid` when an override is not an address. */
export function renderResolvConf(request: ResolvConfRequest): RenderedResolvConf {
  const { kind, hostText, hostPath, overrides, hasIpv6 } = request
  const host = parseResolvConf(hostText)
  const hasOverrides = overrides.servers.length + overrides.search.length + overrides.options.length > 0
  if (kind === 'host' && !hasOverrides) return { text: hostText, externalServers: [], ndotsFrom: '', ndotsSet: false }

  const isOwnServers = overrides.servers.length > 0
  let servers: readonly string[] = isOwnServers ? overrides.servers.map(parseIp) : host.nameservers
  const search = (overrides.search.length > 0 ? overrides.search : host.search).filter((domain) => domain !== '.' && domain !== '')
  let options = overrides.options.length > 0 ? [...overrides.options] : [...host.options]
  let ndotsFrom: RenderedResolvConf['ndotsFrom'] = ''
  if (options.some(isNdots)) ndotsFrom = overrides.options.length > 0 ? 'override' : 'host'

  const notes: string[] = []
  let externalServers: RenderedResolvConf['externalServers'] = []
  if (kind === 'internal') {
    externalServers = (servers as readonly Ip[]).map((ip) => ({ ip, hostLoopback: !isOwnServers }))
    servers = [RESOLVER]
    options = options.filter((option) => !isNdots(option) || ndotsOf([option]) !== undefined)
    if (!options.some(isNdots)) {
      options.push('ndots:0') // the resolver itself tells names of the network from others
      ndotsFrom = 'internal'
    }
    if (externalServers.length === 0) notes.push('NO EXTERNAL NAMESERVERS DEFINED')
    else notes.push(`ExtServers: [${externalServers.map(({ ip, hostLoopback }) => (hostLoopback ? `host(${ip})` : ip)).join(' ')}]`)
  } else if (kind === 'legacy' && !isOwnServers) {
    servers = host.nameservers.filter((ip) => !isLoopback(ip) && (hasIpv6 || familyOf(ip) === 4))
    if (servers.length === 0) {
      servers = hasIpv6 ? [...PUBLIC4, ...PUBLIC6] : PUBLIC4
      notes.push('Used default nameservers.')
    }
  }
  if (host.invalid.length > 0) notes.push(`Invalid nameservers: [${host.invalid.join(' ')}]`)
  notes.push(`Overrides: [${overrideNames(overrides).join(' ')}]`)
  if (ndotsFrom !== '') notes.push(`Option ndots from: ${ndotsFrom}`)

  const how = { internal: ' (internal resolver)', legacy: ' (legacy)', host: '' }[kind]
  const lines = [
    ...HEAD,
    '',
    ...servers.map((server) => `nameserver ${server}`),
    ...(search.length > 0 ? [`search ${search.join(' ')}`] : []),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
    ...host.other,
    '',
    `# Based on host file: '${hostPath}'${how}`,
    ...notes.map((note) => `# ${note}`),
  ]
  return { text: `${lines.join('\n')}\n`, externalServers, ndotsFrom, ndotsSet: (ndotsOf(options) ?? 0) > 0 }
}

const HEAD = [
  '# Generated by Docker Engine.',
  '# This file can be edited; Docker Engine will not make further changes once it',
  '# has been modified.',
]

const isNdots = (option: string): boolean => option === 'ndots' || option.startsWith('ndots:')
const isLoopback = (ip: Ip): boolean => ip.startsWith('127.') || ip === '::1'

function overrideNames(overrides: ResolvOverrides): string[] {
  return [
    ...(overrides.servers.length > 0 ? ['nameservers'] : []),
    ...(overrides.search.length > 0 ? ['search'] : []),
    ...(overrides.options.length > 0 ? ['options'] : []),
  ]
}

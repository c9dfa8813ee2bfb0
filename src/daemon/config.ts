/** The daemon's configuration: dockerd's flags and daemon.json keys, checked together with Docker's words. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { bitsOf, familyOf, parseCidr, splitPrefix, tryParseCidr } from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import type { ConfiguredRuntime } from '../containers/runtimes.ts'
import type { NetworkingConfig } from '../engine/environment.ts'
import { type ClusterFlags, checkClusterFlags } from './cluster-flags.ts'
import { checkFileTypes, checkHost, checkLogLevel, checkNetworking, checkProxyPath } from './config-checks.ts'
import { daemonCommand, FLAGS, type Flag, optionName } from './flags.ts'
import { parseRuntimes } from './runtime-config.ts'

export interface DaemonConfig {
  readonly hosts: readonly string[]
  readonly group: string
  readonly dataRoot: string
  readonly execRoot: string
  readonly pidfile: string
  readonly logLevel: string
  readonly tls: { readonly enabled: boolean; readonly verify: boolean; readonly ca?: string; readonly cert?: string; readonly key?: string }
  readonly networking: NetworkingConfig
  /** Folder for the sockets of the drivers that Docker Engines use; '' = none. */
  readonly dockerPlugins: string
  /** Socket of the Docker Engine that uses them; '' = it is not asked for anything. */
  readonly dockerSocket: string
  /** OCI runtimes by name, and which of them is the default; '' = what is installed. */
  readonly runtimes: Readonly<Record<string, ConfiguredRuntime>>
  readonly runtime: string
  readonly cluster: ClusterFlags
  readonly labels: readonly string[]
  /** Keys that are accepted and mean nothing here, with the reason. */
  readonly notes: readonly string[]
}

/** Where the engine serves its CNI executable. */
export function cniSocket(config: DaemonConfig): string {
  return `${config.execRoot}/cni.sock`
}

const attribute = (name: string) => name.replace(/-([a-z0-9])/g, (_, c: string) => c.toUpperCase())

/** dockerd takes `-b=br0` for `-b br0`; commander only knows that spelling with long names. */
function longSpelling(argument: string): string {
  const short = /^(-[A-Za-z])=(.*)$/s.exec(argument)
  const flag = short === null ? undefined : FLAGS.find((f) => f.flag.startsWith(`${short[1]},`))
  return flag === undefined ? argument : `--${optionName(flag)}=${short?.[2]}`
}

/** What commander found wrong, as dockerd says it; everything else as it is. */
function inDockerdsWords(error: unknown): unknown {
  const { code, message = '' } = error as { code?: string; message?: string }
  const quoted = /'([^']*)'/.exec(message)?.[1] ?? ''
  if (code === 'commander.unknownOption')
    return new NetError('invalid', `unknown flag: ${quoted}; see \`causeway daemon --help\``, {}, error)
  if (code === 'commander.optionMissingArgument')
    return new NetError('invalid', `flag needs an argument: ${/--[a-z0-9-]+/.exec(quoted)?.[0] ?? quoted}`, {}, error)
  if (code === 'commander.excessArguments') return new NetError('invalid', '"causeway daemon" accepts no arguments', {}, error)
  return error
}

/** Parses arguments and the configuration file. Throws NetError `invalid` with Docker's sentences. */
export function parseDaemonConfig(argv: readonly string[]): { config: DaemonConfig; validateOnly: boolean } {
  const command = daemonCommand()
  command.configureOutput({ writeErr: () => {} }) // the caller says what was thrown
  try {
    command.parse(argv.map(longSpelling), { from: 'user' })
  } catch (error) {
    throw inDockerdsWords(error)
  }
  const given = command.opts<Record<string, unknown>>()
  const path = (given['configFile'] as string | undefined) ?? '/etc/causeway/daemon.json'
  const file = readConfigFile(path, given['configFile'] !== undefined)
  const unknown = Object.keys(file).filter((key) => !FLAGS.some((f) => f.key === key) && key !== 'host-gateway-ips' && key !== 'features')
  if (unknown.length > 0)
    throw new NetError(
      'invalid',
      `unable to configure the Docker daemon with file ${path}: the following directives don't match any configuration option: ${unknown.join(', ')}`,
    )
  checkFileTypes(path, file, (key) => FLAGS.find((f) => f.key === key && key !== 'host-gateway-ip')?.kind)
  const twice = FLAGS.filter(
    (f) => f.key !== '' && f.key !== 'runtimes' && file[f.key] !== undefined && given[attribute(optionName(f))] !== undefined,
  )
  const shown = (values: unknown) =>
    Array.isArray(values) ? `[${values.map((v) => (typeof v === 'string' ? v : JSON.stringify(v))).join(' ')}]` : String(values)
  if (twice.length > 0)
    throw new NetError(
      'invalid',
      `unable to configure the Docker daemon with file ${path}: the following directives are specified both as a flag and in the configuration file: ${twice
        .map((f) => `${f.key}: (from flag: ${shown(given[attribute(optionName(f))])}, from file: ${shown(file[f.key])})`)
        .join(', ')}`,
    )
  const value = <T>(key: string): T | undefined => {
    const flag = FLAGS.find((f) => f.key === key) as Flag
    return (given[attribute(optionName(flag))] ?? file[key]) as T | undefined
  }
  const notes = FLAGS.filter((f) => f.inert && value(f.key) !== undefined).map((f) => `${f.key}: ${f.inert}`)
  const execRoot = value<string>('exec-root') ?? '/run/causeway'
  if (value<boolean>('iptables') === false && value<boolean>('icc') === false)
    throw new NetError(
      'invalid',
      'You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true',
    )
  const optional = <K extends string, T>(name: K, v: T | undefined) =>
    (v === undefined || v === '' ? {} : { [name]: v }) as { [P in K]?: T }
  const networking: NetworkingConfig = {
    ...optional('bip', value<string>('bip')),
    ...optional('bip6', value<string>('bip6')),
    ...optional('bridge', value<string>('bridge')),
    ...optional('fixedCidr', value<string>('fixed-cidr')),
    ...optional('fixedCidrV6', value<string>('fixed-cidr-v6')),
    ...optional('defaultGateway', value<string>('default-gateway')),
    ...optional('defaultGatewayV6', value<string>('default-gateway-v6')),
    ...optional('addressPools', parsePools(value<unknown[]>('default-address-pools'))),
    ...optional('defaultNetworkOpts', parseNetworkOpts(value<unknown>('default-network-opts'))),
    ...optional('mtu', value<number>('mtu')),
    ...optional('icc', value<boolean>('icc')),
    ...optional('ip', value<string>('ip')),
    ...optional('ipForward', value<boolean>('ip-forward')),
    ...optional('ipMasq', value<boolean>('ip-masq')),
    ...optional('ipv6', value<boolean>('ipv6')),
    ...optional('dns', value<string[]>('dns')),
    ...optional('dnsOpts', value<string[]>('dns-opts')),
    ...optional('dnsSearch', value<string[]>('dns-search')),
    ...optional(
      'hostGatewayIp',
      // dockerd has called the key by both names
      [value<string | string[]>('host-gateway-ip') ?? (file['host-gateway-ips'] as string[] | undefined) ?? []]
        .flat()
        .filter((x) => x !== ''),
    ),
  }
  checkNetworking(networking)
  const proxyPath = value<string>('userland-proxy-path')
  if (proxyPath) checkProxyPath(proxyPath)
  const logLevel = value<boolean>('debug') ? 'debug' : (value<string>('log-level') ?? 'info')
  checkLogLevel(logLevel)
  for (const host of value<string[]>('hosts') ?? []) checkHost(host)
  const cluster: ClusterFlags = {
    store: value<string>('cluster-store') ?? '',
    advertise: value<string>('cluster-advertise') ?? '',
    options: parsePairs(value<unknown>('cluster-store-opts')),
  }
  checkClusterFlags(cluster)
  const verify = value<boolean>('tlsverify') ?? false
  return {
    validateOnly: given['validate'] === true,
    config: {
      hosts: value<string[]>('hosts') ?? [`unix://${execRoot}/causeway.sock`],
      group: value<string>('group') ?? '',
      dataRoot: value<string>('data-root') ?? '/var/lib/causeway',
      execRoot,
      pidfile: value<string>('pidfile') ?? `${execRoot}/causeway.pid`,
      logLevel,
      tls: {
        enabled: verify || (value<boolean>('tls') ?? false),
        verify,
        ...optional('ca', value<string>('tlscacert')),
        ...optional('cert', value<string>('tlscert')),
        ...optional('key', value<string>('tlskey')),
      },
      networking,
      dockerPlugins: value<string>('docker-plugins') ?? '',
      dockerSocket: (value<string>('docker-socket') ?? '/var/run/docker.sock').replace(/^unix:\/\/|^none$/, ''),
      runtimes: { ...parseRuntimes(file['runtimes']), ...parseRuntimes(given['addRuntime']) },
      runtime: value<string>('default-runtime') ?? '',
      cluster,
      labels: value<string[]>('labels') ?? [],
      notes,
    },
  }
}

function readConfigFile(path: string, must: boolean): Record<string, unknown> {
  if (!existsSync(path)) {
    if (must)
      throw new NetError('invalid', `unable to configure the Docker daemon with file ${path}: open ${path}: no such file or directory`)
    return {}
  }
  if (!statSync(path).isFile()) return {} // /dev/null is how people say "no file"
  const text = readFileSync(path, 'utf8')
  if (text.trim() === '') return {}
  const fail = (why: string, cause?: unknown) =>
    new NetError('invalid', `unable to configure the Docker daemon with file ${path}: ${why}`, {}, cause)
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (cause) {
    throw fail(messageOf(cause), cause)
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) throw fail('expected an object of directives')
  return content as Record<string, unknown>
}

function parsePools(values: unknown[] | undefined): { base: string; size: number }[] | undefined {
  return values?.map((value) => {
    if (typeof value === 'string' && !value.split(',').every((part) => part.includes('=')))
      throw new NetError('invalid', `invalid default-address-pool "${value}": expected base=CIDR,size=N`)
    const pool: Record<string, unknown> =
      typeof value === 'string'
        ? Object.fromEntries(value.split(',').map((part) => part.split('=', 2) as [string, string]))
        : (value as Record<string, unknown>)
    for (const key of Object.keys(pool))
      if (key !== 'base' && key !== 'size') throw new NetError('invalid', `unexpected key '${key}' in '${key}=${String(pool[key])}'`)
    const base = tryParseCidr(String(pool['base'] ?? ''))
    if (base === undefined) throw new NetError('invalid', `invalid base prefix: ${String(pool['base'])}`)
    const size = Number(pool['size'])
    if (!Number.isInteger(size) || size < splitPrefix(base).length || size > bitsOf(familyOf(base)))
      throw new NetError('invalid', `invalid size value: ${String(pool['size'])}`)
    return { base: parseCidr(base), size }
  })
}

/** A list of `key=value` on the command line, a map in the file. */
function parsePairs(value: unknown): string[] {
  if (value === undefined) return []
  if (Array.isArray(value)) return value as string[]
  return Object.entries(value as Record<string, unknown>).map(([key, text]) => `${key}=${String(text)}`)
}

function parseNetworkOpts(value: unknown): Record<string, Record<string, string>> | undefined {
  if (value === undefined) return undefined
  if (!Array.isArray(value)) return value as Record<string, Record<string, string>>
  const out: Record<string, Record<string, string>> = {}
  for (const entry of value as string[]) {
    const [driver, key, ...rest] = entry.split('=')
    if (!driver || !key || rest.length === 0)
      throw new NetError('invalid', `invalid default network option: ${entry}, expected driver=option=value`)
    out[driver] = { ...out[driver], [key]: rest.join('=') }
  }
  return out
}

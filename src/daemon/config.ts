/** The daemon's configuration: dockerd's flags and daemon.json keys, checked together with Docker's words. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { Command, Option } from 'commander'
import { bitsOf, familyOf, parseCidr, splitPrefix, tryParseCidr } from '../base/address.ts'
import { messageOf, NetError } from '../base/errors.ts'
import type { ConfiguredRuntime } from '../containers/runtimes.ts'
import type { NetworkingConfig } from '../engine/environment.ts'
import { type ClusterFlags, checkClusterFlags } from './cluster-flags.ts'
import { checkFileTypes, checkHost, checkLogLevel, checkNetworking, checkProxyPath, type Kind } from './config-checks.ts'
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

const bool = (text: string): boolean => {
  if (/^(1|t|true)$/i.test(text)) return true
  if (/^(0|f|false)$/i.test(text)) return false
  throw new NetError('invalid', `invalid boolean value "${text}"`)
}
const number = (text: string): number => {
  if (!/^[+-]?\d+$/.test(text)) throw new NetError('invalid', `invalid number "${text}"`)
  return Number(text)
}
const list = (value: string, before: string[] | undefined) => [...(before ?? []), value]

/** Name on the command line, key in daemon.json, and how one value is written. */
interface Flag {
  readonly flag: string
  readonly key: string
  readonly kind: Kind
  readonly help: string
  /** Accepted for compatibility; says why nothing happens. */
  readonly inert?: string
}

const NFT = 'Causeway has one firewall, its own nftables table'
const FLAGS: readonly Flag[] = [
  { flag: '-H, --host <url>', key: 'hosts', kind: 'list', help: 'where to listen: unix:///path, tcp://host:port' },
  { flag: '-G, --group <name>', key: 'group', kind: 'text', help: 'group of the unix socket' },
  { flag: '--data-root <dir>', key: 'data-root', kind: 'text', help: 'persistent state' },
  { flag: '--exec-root <dir>', key: 'exec-root', kind: 'text', help: 'run-time state' },
  { flag: '-p, --pidfile <path>', key: 'pidfile', kind: 'text', help: 'file that holds the daemon pid' },
  { flag: '-l, --log-level <level>', key: 'log-level', kind: 'text', help: 'debug, info, warn, error' },
  { flag: '-D, --debug [bool]', key: 'debug', kind: 'bool', help: 'same as --log-level debug' },
  { flag: '--label <k=v>', key: 'labels', kind: 'list', help: 'label of the daemon' },
  { flag: '--add-runtime <name=path>', key: 'runtimes', kind: 'list', help: 'an OCI runtime that containers can ask for' },
  {
    flag: '--default-runtime <name>',
    key: 'default-runtime',
    kind: 'text',
    help: 'OCI runtime of containers that ask for none: a name or a path',
  },
  { flag: '--bip <cidr>', key: 'bip', kind: 'text', help: 'address and prefix of the default bridge' },
  { flag: '--bip6 <cidr>', key: 'bip6', kind: 'text', help: 'IPv6 address and prefix of the default bridge' },
  { flag: '-b, --bridge <name>', key: 'bridge', kind: 'text', help: 'attach the default network to an existing bridge, or "none"' },
  { flag: '--fixed-cidr <cidr>', key: 'fixed-cidr', kind: 'text', help: 'range of the default bridge to take addresses from' },
  { flag: '--fixed-cidr-v6 <cidr>', key: 'fixed-cidr-v6', kind: 'text', help: 'IPv6 subnet of the default bridge' },
  { flag: '--default-gateway <ip>', key: 'default-gateway', kind: 'text', help: 'gateway handed to containers of the default bridge' },
  { flag: '--default-gateway-v6 <ip>', key: 'default-gateway-v6', kind: 'text', help: 'the same for IPv6' },
  {
    flag: '--default-address-pool <base=cidr,size=n>',
    key: 'default-address-pools',
    kind: 'list',
    help: 'pool for networks without a subnet',
  },
  {
    flag: '--default-network-opt <driver=k=v>',
    key: 'default-network-opts',
    kind: 'list',
    help: 'default option of user-defined networks',
  },
  { flag: '--mtu <bytes>', key: 'mtu', kind: 'number', help: 'MTU of the default bridge' },
  { flag: '--icc [bool]', key: 'icc', kind: 'bool', help: 'containers of the default bridge reach each other' },
  { flag: '--ip <ip>', key: 'ip', kind: 'text', help: 'default host address of published ports' },
  { flag: '--ip-forward [bool]', key: 'ip-forward', kind: 'bool', help: 'enable forwarding on the interfaces concerned' },
  { flag: '--ip-masq [bool]', key: 'ip-masq', kind: 'bool', help: 'masquerade the default bridge' },
  { flag: '--ipv6 [bool]', key: 'ipv6', kind: 'bool', help: 'IPv6 on the default bridge' },
  { flag: '--dns <ip>', key: 'dns', kind: 'list', help: 'name server of containers' },
  { flag: '--dns-opt <option>', key: 'dns-opts', kind: 'list', help: 'resolver option of containers' },
  { flag: '--dns-search <domain>', key: 'dns-search', kind: 'list', help: 'search domain of containers' },
  { flag: '--host-gateway-ip <ip>', key: 'host-gateway-ip', kind: 'list', help: 'address that host-gateway stands for' },
  { flag: '--tls [bool]', key: 'tls', kind: 'bool', help: 'TLS on tcp listeners' },
  { flag: '--tlsverify [bool]', key: 'tlsverify', kind: 'bool', help: 'TLS, and clients must show a certificate' },
  { flag: '--tlscacert <file>', key: 'tlscacert', kind: 'text', help: 'CA of the clients' },
  { flag: '--tlscert <file>', key: 'tlscert', kind: 'text', help: 'certificate' },
  { flag: '--tlskey <file>', key: 'tlskey', kind: 'text', help: 'key' },
  {
    flag: '--cluster-store <url>',
    key: 'cluster-store',
    kind: 'text',
    help: 'store that hosts share: etcd://h1:2379,h2:2379[/prefix], consul://h:8500[/prefix]',
  },
  {
    flag: '--cluster-advertise <addr>',
    key: 'cluster-advertise',
    kind: 'text',
    help: 'address or interface that other hosts reach this one by: ip:port, eth0:2377',
  },
  {
    flag: '--cluster-store-opt <k=v>',
    key: 'cluster-store-opts',
    kind: 'list',
    help: 'option of the store: kv.cacertfile, kv.username, kv.path, …',
  },
  { flag: '--live-restore [bool]', key: 'live-restore', kind: 'bool', help: 'accepted', inert: 'containers always outlive the engine' },
  { flag: '--iptables [bool]', key: 'iptables', kind: 'bool', help: 'accepted', inert: NFT },
  { flag: '--ip6tables [bool]', key: 'ip6tables', kind: 'bool', help: 'accepted', inert: NFT },
  { flag: '--firewall-backend <name>', key: 'firewall-backend', kind: 'text', help: 'accepted', inert: NFT },
  {
    flag: '--ip-forward-no-drop [bool]',
    key: 'ip-forward-no-drop',
    kind: 'bool',
    help: 'accepted',
    inert: 'no policy is ever set to drop',
  },
  {
    flag: '--allow-direct-routing [bool]',
    key: 'allow-direct-routing',
    kind: 'bool',
    help: 'accepted',
    inert: 'use gateway modes per network',
  },
  {
    flag: '--userland-proxy [bool]',
    key: 'userland-proxy',
    kind: 'bool',
    help: 'accepted',
    inert: 'ports are published by the kernel; there is no proxy process',
  },
  { flag: '--userland-proxy-path <path>', key: 'userland-proxy-path', kind: 'text', help: 'accepted', inert: 'there is no proxy process' },
  { flag: '--containerd <path>', key: 'containerd', kind: 'text', help: 'accepted', inert: 'there is no containerd' },
  { flag: '-s, --storage-driver <name>', key: 'storage-driver', kind: 'text', help: 'accepted', inert: 'the storage driver is overlayfs' },
  { flag: '--exec-opt <opt>', key: 'exec-opts', kind: 'list', help: 'accepted', inert: 'the runtime decides' },
  { flag: '--experimental [bool]', key: 'experimental', kind: 'bool', help: 'accepted', inert: 'nothing is experimental' },
  {
    flag: '--docker-plugins <dir>',
    key: 'docker-plugins',
    kind: 'text',
    help: 'offer the drivers causeway, causeway-overlay, causeway-macvlan and causeway-dhcp to Docker Engines; their sockets go into this folder (/run/docker/plugins)',
  },
  {
    flag: '--docker-socket <path>',
    key: 'docker-socket',
    kind: 'text',
    help: "with --docker-plugins: the Docker Engine's socket, asked for the names of its overlay networks (/var/run/docker.sock); 'none' asks nobody",
  },
  { flag: '--config-file <path>', key: '', kind: 'text', help: 'daemon configuration file' },
]

const optionName = (flag: Flag) => flag.flag.match(/--([a-z0-9-]+)/)?.[1] as string
const attribute = (name: string) => name.replace(/-([a-z0-9])/g, (_, c: string) => c.toUpperCase())

/** `causeway daemon`'s options as commander declares them, for parsing and for --help. */
function daemonOptions(command: Command): Command {
  for (const flag of FLAGS) {
    const option = new Option(flag.flag, flag.help)
    if (flag.kind === 'bool') option.argParser(bool).preset('true')
    else if (flag.kind === 'number') option.argParser(number)
    else if (flag.kind === 'list') option.argParser(list)
    if (flag.inert) option.hideHelp()
    command.addOption(option)
  }
  return command.option('--validate', 'check the configuration and exit')
}

/** dockerd takes `-b=br0` for `-b br0`; commander only knows that spelling with long names. */
function longSpelling(argument: string): string {
  const short = /^(-[A-Za-z])=(.*)$/s.exec(argument)
  const flag = short === null ? undefined : FLAGS.find((f) => f.flag.startsWith(`${short[1]},`))
  return flag === undefined ? argument : `--${optionName(flag)}=${short?.[2]}`
}

/** Parses arguments and the configuration file. Throws NetError `invalid` with Docker's sentences. */
export function parseDaemonConfig(argv: readonly string[]): { config: DaemonConfig; validateOnly: boolean } {
  const command = daemonOptions(new Command('causeway daemon')).allowExcessArguments(false).exitOverride()
  command.configureOutput({ writeErr: () => {} }) // the caller says what was thrown
  command.parse(argv.map(longSpelling), { from: 'user' })
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
    (f) => f.key !== '' && f.kind !== 'list' && file[f.key] !== undefined && given[attribute(optionName(f))] !== undefined,
  )
  if (twice.length > 0)
    throw new NetError(
      'invalid',
      `unable to configure the Docker daemon with file ${path}: the following directives are specified both as a flag and in the configuration file: ${twice
        .map((f) => `${f.key}: (from flag: ${String(given[attribute(optionName(f))])}, from file: ${String(file[f.key])})`)
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
      [value<string | string[]>('host-gateway-ip') ?? []].flat().filter((x) => x !== ''),
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
      runtimes: parseRuntimes(value<unknown>('runtimes')),
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

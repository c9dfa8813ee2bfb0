/** The daemon's options: name on the command line, key in daemon.json, what each means. One table for parsing, help and docs/daemon.md. */
import { Command, Option } from 'commander'
import { NetError } from '../base/errors.ts'
import { optionTable } from '../cli/help.ts'
import type { Kind } from './config-checks.ts'

export interface Flag {
  /** As commander declares it: `-H, --host <url>`. */
  readonly flag: string
  readonly key: string
  readonly kind: Kind
  readonly help: string
  /** What holds when neither says anything; absent: nothing is set. */
  readonly initial?: string
  /** Accepted for compatibility; says why nothing happens. */
  readonly inert?: string
}

const text = (flag: string, key: string, help: string, initial?: string): Flag => one('text', flag, key, help, initial)
const bool = (flag: string, key: string, help: string, initial?: string): Flag => one('bool', flag, key, help, initial)
const list = (flag: string, key: string, help: string, initial?: string): Flag => one('list', flag, key, help, initial)
const number = (flag: string, key: string, help: string, initial?: string): Flag => one('number', flag, key, help, initial)
const one = (kind: Kind, flag: string, key: string, help: string, initial: string | undefined): Flag =>
  initial === undefined ? { flag, key, kind, help } : { flag, key, kind, help, initial }
const inert = (kind: Kind, flag: string, key: string, why: string): Flag => ({ flag, key, kind, help: 'accepted', inert: why })

const NFT = 'Causeway has one firewall, its own nftables table'
const NO_PROXY = 'ports are published by the kernel; there is no proxy process'

export const FLAGS: readonly Flag[] = [
  list('-H, --host <url>', 'hosts', 'Where to listen: unix:///path, tcp://host:port; repeatable', 'unix://EXEC_ROOT/causeway.sock'),
  text('-G, --group <name>', 'group', 'Group of the unix socket'),
  text('--data-root <dir>', 'data-root', 'Persistent state', '/var/lib/causeway'),
  text('--exec-root <dir>', 'exec-root', 'Run-time state: namespaces, sockets', '/run/causeway'),
  text('-p, --pidfile <path>', 'pidfile', 'File that holds the pid', 'EXEC_ROOT/causeway.pid'),
  text('--config-file <path>', '', 'Configuration file', '/etc/causeway/daemon.json'),
  text('-l, --log-level <level>', 'log-level', 'debug, info, warn, error or fatal', 'info'),
  bool('-D, --debug [bool]', 'debug', 'Same as --log-level debug'),
  list('--label <k=v>', 'labels', 'Label of the engine, shown by info'),
  list('--add-runtime <name=path>', 'runtimes', 'An OCI runtime that containers can ask for'),
  text('--default-runtime <name>', 'default-runtime', 'OCI runtime of containers that ask for none: a name or a path'),
  text('--bip <cidr>', 'bip', 'Address and prefix length of the default bridge, as 10.200.0.1/16'),
  text('--bip6 <cidr>', 'bip6', 'The same for IPv6'),
  text('-b, --bridge <name>', 'bridge', 'Attach the default network to an existing bridge, or "none" for no default network'),
  text('--fixed-cidr <cidr>', 'fixed-cidr', 'Range of the default bridge that containers get addresses from'),
  text('--fixed-cidr-v6 <cidr>', 'fixed-cidr-v6', 'IPv6 subnet of the default bridge'),
  text('--default-gateway <ip>', 'default-gateway', 'Gateway that containers of the default bridge get'),
  text('--default-gateway-v6 <ip>', 'default-gateway-v6', 'The same for IPv6'),
  list(
    '--default-address-pool <base=cidr,size=n>',
    'default-address-pools',
    'Pool for networks without a subnet of their own, as base=10.201.0.0/16,size=24; repeatable',
    "Docker's pools, then /24s of 10.112.0.0/12",
  ),
  list('--default-network-opt <driver=k=v>', 'default-network-opts', 'Default option of user-defined networks, as driver=option=value'),
  number('--mtu <bytes>', 'mtu', 'MTU of the default bridge', '1500'),
  bool('--icc [bool]', 'icc', 'Containers of the default bridge reach each other', 'true'),
  text('--ip <ip>', 'ip', 'Host address of published ports that name none', '0.0.0.0'),
  bool('--ip-forward [bool]', 'ip-forward', 'Enable forwarding on the interfaces concerned', 'true'),
  bool('--ip-masq [bool]', 'ip-masq', 'Masquerade what leaves the default bridge', 'true'),
  bool('--ipv6 [bool]', 'ipv6', 'IPv6 on the default bridge', 'false'),
  list('--dns <ip>', 'dns', 'Name server of containers; repeatable'),
  list('--dns-opt <option>', 'dns-opts', 'Resolver option of containers'),
  list('--dns-search <domain>', 'dns-search', 'Search domain of containers'),
  list(
    '--host-gateway-ip <ip>',
    'host-gateway-ip',
    'Address that host-gateway stands for, one of each family',
    'gateway of the default bridge',
  ),
  bool('--tls [bool]', 'tls', 'TLS on tcp listeners; implied by --tlsverify', 'false'),
  bool('--tlsverify [bool]', 'tlsverify', 'TLS, and clients must show a certificate', 'false'),
  text('--tlscacert <file>', 'tlscacert', 'CA of the clients'),
  text('--tlscert <file>', 'tlscert', 'Certificate'),
  text('--tlskey <file>', 'tlskey', 'Its key'),
  text('--cluster-store <url>', 'cluster-store', 'Store that hosts share: etcd://h1:2379,h2:2379[/prefix], consul://h:8500[/prefix]'),
  text('--cluster-advertise <addr>', 'cluster-advertise', 'Where other hosts reach this one: ip:port or interface:port, as eth0:2377'),
  list('--cluster-store-opt <k=v>', 'cluster-store-opts', 'Option of the store: kv.cacertfile, kv.username, kv.path, …'),
  text(
    '--docker-plugins <dir>',
    'docker-plugins',
    'Offer the drivers causeway, causeway-overlay, causeway-macvlan and causeway-dhcp to Docker Engines; their sockets go into this folder, usually /run/docker/plugins',
  ),
  text(
    '--docker-socket <path>',
    'docker-socket',
    "With --docker-plugins: the Docker Engine's socket, asked for the names of its overlay networks; 'none' asks nobody",
    '/var/run/docker.sock',
  ),
  inert('bool', '--live-restore [bool]', 'live-restore', 'containers always outlive the engine'),
  inert('bool', '--iptables [bool]', 'iptables', NFT),
  inert('bool', '--ip6tables [bool]', 'ip6tables', NFT),
  inert('text', '--firewall-backend <name>', 'firewall-backend', NFT),
  inert('bool', '--ip-forward-no-drop [bool]', 'ip-forward-no-drop', 'no policy is ever set to drop'),
  inert('bool', '--allow-direct-routing [bool]', 'allow-direct-routing', 'use gateway modes per network'),
  inert(
    'text',
    '--bridge-accept-fwmark <mark>',
    'bridge-accept-fwmark',
    "use a network's option com.docker.network.bridge.trusted_host_interfaces",
  ),
  inert('bool', '--userland-proxy [bool]', 'userland-proxy', NO_PROXY),
  inert('text', '--userland-proxy-path <path>', 'userland-proxy-path', NO_PROXY),
  inert('number', '--network-control-plane-mtu <bytes>', 'network-control-plane-mtu', 'hosts meet in their store; there is no gossip'),
  inert('number', '--network-diagnostic-port <port>', 'network-diagnostic-port', '`causeway cluster verify` and doctor diagnose'),
  inert('text', '--containerd <path>', 'containerd', 'there is no containerd'),
  inert('text', '-s, --storage-driver <name>', 'storage-driver', 'the storage driver is overlayfs'),
  inert('list', '--exec-opt <opt>', 'exec-opts', 'the runtime decides'),
  inert('number', '--shutdown-timeout <seconds>', 'shutdown-timeout', 'containers always outlive the engine'),
  inert('number', '--max-concurrent-downloads <n>', 'max-concurrent-downloads', 'skopeo decides'),
  inert('number', '--max-concurrent-uploads <n>', 'max-concurrent-uploads', 'skopeo decides'),
  inert('bool', '--experimental [bool]', 'experimental', 'nothing is experimental'),
]

/** `default-address-pool` of `--default-address-pool <…>`. */
export const optionName = (flag: Flag) => flag.flag.match(/--([a-z0-9-]+)/)?.[1] as string

const parseBool = (word: string): boolean => {
  if (/^(1|t|true)$/i.test(word)) return true
  if (/^(0|f|false)$/i.test(word)) return false
  throw new NetError('invalid', `invalid boolean value "${word}"`)
}
const parseNumber = (word: string): number => {
  if (!/^[+-]?\d+$/.test(word)) throw new NetError('invalid', `invalid number "${word}"`)
  return Number(word)
}
const collect = (value: string, before: string[] | undefined) => [...(before ?? []), value]

/** The parser of the daemon's arguments; `--help` prints {@link daemonHelp}. */
export function daemonCommand(): Command {
  const command = new Command('causeway daemon').allowExcessArguments(false).exitOverride()
  for (const flag of FLAGS) {
    const option = new Option(flag.flag, flag.help)
    if (flag.kind === 'bool') option.argParser(parseBool).preset('true')
    else if (flag.kind === 'number') option.argParser(parseNumber)
    else if (flag.kind === 'list') option.argParser(collect)
    command.addOption(option)
  }
  command.helpInformation = () => daemonHelp(process.stdout.columns ?? 80)
  return command.option('--validate', 'check the configuration and exit')
}

const PLACEHOLDERS: Readonly<Record<Kind, string>> = { text: ' string', list: ' list', number: ' int', bool: '', map: ' map' }

/** The text of `causeway daemon --help`, in the shape of every other command's. */
export function daemonHelp(width: number): string {
  const rows = FLAGS.filter((f) => f.inert === undefined).map((f) => ({
    name: optionName(f),
    short: /^-([A-Za-z]),/.exec(f.flag)?.[1] ?? '',
    placeholder: PLACEHOLDERS[f.kind].trim(),
    help: f.help + (f.initial === undefined || f.initial === 'false' ? '' : ` (default ${f.initial})`),
  }))
  const validate = { name: 'validate', short: '', placeholder: '', help: 'Check the configuration and exit' }
  const names = FLAGS.filter((f) => f.inert !== undefined).map((f) => `--${optionName(f)}`)
  return `${[
    'Usage:  causeway daemon [OPTIONS]',
    '',
    'Run the engine in the foreground',
    '',
    'Options:',
    ...optionTable([...rows, validate], width),
    '',
    'Accepted without effect, as dockerd has them:',
    ...names.sort().map((name) => `  ${name}`),
    '',
    'All but --config-file and --validate are also keys of the configuration file: docs/daemon.md',
  ].join('\n')}\n`
}

/** The rows of the table in docs/daemon.md. */
export function daemonDocRows(): string[] {
  return FLAGS.map((f) => {
    const key = f.key === '' ? '' : `\`${f.key}\``
    const meaning = f.inert === undefined ? f.help : `no effect: ${f.inert}`
    return `| \`${f.flag.replace(/ \[bool\]$/, '')}\` | ${key} | ${f.initial ?? ''} | ${meaning} |`
  })
}

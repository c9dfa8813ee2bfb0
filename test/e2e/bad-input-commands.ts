/** Wrong commands: what Docker's client checks on its side (reference 1.12), and how an engine's refusal is shown. */
import type { WrongCommand } from './bad-input-world.ts'

const wrong = (line: string, code: number, text: string | RegExp): WrongCommand => ({ what: line, argv: line.split(' '), code, text })
const DAEMON = 'Error response from daemon: '
const run = (options: string, text: string | RegExp) => wrong(`run ${options} busybox true`, 125, text)
const create = (options: string, text: string | RegExp) => wrong(`network create ${options} x1`, 1, text)

export const COMMANDS: readonly WrongCommand[] = [
  create('--ip-range 10.9.0.0/30', 'every ip-range or gateway must have a corresponding subnet'),
  create('--gateway 10.9.0.1', 'every ip-range or gateway must have a corresponding subnet'),
  create('--subnet 10.9.0.0/16 --subnet 10.9.1.0/24', 'multiple overlapping subnet configuration is not supported'),
  create(
    '--subnet 10.9.0.0/24 --subnet 10.8.0.0/24 --gateway 10.9.0.1 --gateway 10.9.0.2',
    'cannot configure multiple gateways (10.9.0.2, 10.9.0.1) for the same subnet (10.9.0.0/24)',
  ),
  create('--subnet 10.9.0.0/24 --gateway 10.8.0.1', 'no matching subnet for gateway 10.8.0.1'),
  create('--subnet 10.9.0.0/24 --ip-range 10.8.0.0/30', 'no matching subnet for range 10.8.0.0/30'),
  create('--subnet 10.9.0.0/24 --aux-address a=10.8.0.9', 'no matching subnet for aux-address 10.8.0.9'),
  create('--subnet 10.10.0.0/24', /^Error response from daemon: invalid pool request: Pool overlaps with other one on this address space/),
  create('-d nope', /^Error response from daemon: .*plugin "nope" not found/),
  wrong('network create --no-such-flag x1', 125, 'unknown flag: --no-such-flag'),
  wrong('network create front', 1, `${DAEMON}network with name front already exists`),
  wrong('network create bridge', 1, `${DAEMON}operation is not permitted on predefined bridge network`),
  wrong('network create', 1, /requires 1 argument/),
  wrong('network rm nope', 1, `${DAEMON}network nope not found`),
  wrong('network rm bridge', 1, `${DAEMON}bridge is a pre-defined network and cannot be removed`),
  wrong('network rm front', 1, /^Error response from daemon: error while removing network: network front has active endpoints/),
  wrong('network inspect nope', 1, `${DAEMON}network nope not found`),
  wrong('network connect front web1', 1, `${DAEMON}endpoint with name web1 already exists in network front`),
  wrong('network connect nope web1', 1, `${DAEMON}network nope not found`),
  wrong('network connect front nobody', 1, `${DAEMON}No such container: nobody`),
  wrong('network disconnect back web1', 1, /^Error response from daemon: container [0-9a-f]{64} is not connected to network back$/),
  wrong('network ls --filter colour=red', 1, `${DAEMON}invalid filter 'colour'`),
  wrong('network nope', 1, /nope/),
  run('--network-alias a1', 'network-scoped aliases are only supported for user-defined networks'),
  run('--network front --network bridge', 'conflicting options: cannot attach both user-defined and non-user-defined network-modes'),
  run('--network front --network front', 'network "front" is specified multiple times'),
  run('--mac-address mine', 'mine is not a valid mac address'),
  run('--network name=front,mac-address=mine', 'mine is not a valid mac address'),
  run('--network alias=a1', 'invalid argument "alias=a1" for "--network" flag: network name/id is not specified'),
  run('--network name=front,colour=red', 'invalid argument "name=front,colour=red" for "--network" flag: invalid field key colour'),
  run('--network name=front,gw-priority=high', /^invalid argument .* for "--network" flag: invalid gw-priority \(high\)/),
  run('--network name=front,ip=10.10.0.9 --ip 10.10.0.8', 'conflicting options: cannot specify both --ip and per-network IPv4 address'),
  run('--ip 172.17.0.9', /user-specified IP address is supported on user-defined networks only$/),
  run('--network front --ip 10.99.0.9', /no configured subnet contains IP address 10\.99\.0\.9$/),
  run('-p 80:x', /^invalid containerPort: x$/),
  run('-p x:80', /^invalid hostPort: x$/),
  run('-p 8000-8002:80-81', 'invalid ranges specified for container and host Ports: 80-81 and 8000-8002'),
  run('-p 80/quic', 'invalid proto: quic'),
  run('-p home:80:80', 'invalid IP address: home'),
  run('--expose 80:80', /^invalid port format for --expose: 80:80$/),
  run('--add-host db', /db/),
  run('--link a:b:c', /a:b:c/),
  run('--dns resolver', /resolver/),
  run('--restart sometimes', /sometimes/),
  run('--rm --restart always', 'conflicting options: cannot specify both --restart and --rm'),
  run('--no-such-flag', /unknown flag: --no-such-flag/),
  run('--name a', `${DAEMON}Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`),
  run('--network container:', `${DAEMON}invalid network mode: invalid container format container:<name|id>`),
  wrong('port nobody', 1, `${DAEMON}No such container: nobody`),
  wrong('port web1 99', 1, /No public port '99' published for web1/),
  wrong('inspect nobody', 1, /No such object: nobody/),
  wrong('exec nobody true', 1, `${DAEMON}No such container: nobody`),
  wrong('start nobody', 1, /No such container: nobody/),
  wrong('rm web1', 1, /cannot remove container "\/web1": container is running/),
  wrong('netns nobody', 1, /nobody/),
  wrong('veth nobody', 1, /nobody/),
  wrong('nope', 1, /nope/),
]

/** Flags of `causeway daemon` and keys of its file, refused before anything is touched (reference 2). */
export interface WrongStart {
  readonly argv: readonly string[]
  /** Text of daemon.json. */
  readonly file?: string
  readonly text: string | RegExp
}

const flags = (line: string, text: string | RegExp): WrongStart => ({ argv: line.split(' '), text })
const file = (content: unknown, text: string | RegExp, line = ''): WrongStart => ({
  argv: line === '' ? [] : line.split(' '),
  file: typeof content === 'string' ? content : JSON.stringify(content),
  text,
})

export const STARTS: readonly WrongStart[] = [
  flags('-b br0 --bip 10.1.0.1/24', 'You specified -b & --bip, mutually exclusive options. Please specify only one'),
  flags('-b br0 --bip6 fd01::1/64', 'You specified -b & --bip6, mutually exclusive options. Please specify only one'),
  flags(
    '--iptables=false --icc=false',
    'You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true',
  ),
  flags('--bip 10.1.0.300/24', /10\.1\.0\.300\/24/),
  flags('--bip 10.1.0.0/24', /10\.1\.0\.0\/24/),
  flags('--bip fd01::1/64', /fd01::1\/64/),
  flags('--bip6 10.1.0.1/24', /10\.1\.0\.1\/24/),
  flags('--fixed-cidr ten', /ten/),
  flags('--fixed-cidr fd00::/64', /fd00::\/64/),
  flags('--fixed-cidr-v6 ten', /ten/),
  flags('--fixed-cidr-v6 ff02::/64', /ff02::\/64/),
  flags('--default-gateway here', /here/),
  flags('--default-gateway fd00::1', /fd00::1/),
  flags('--default-gateway-v6 10.0.0.1', /10\.0\.0\.1/),
  flags('--default-address-pool base=10.0.0.0,size=24', /invalid base prefix/),
  flags('--default-address-pool base=10.0.0.0/8,size=x', /invalid size value/),
  flags('--default-address-pool base=10.0.0.0/16,size=8', /size|8/),
  flags('--default-address-pool base=10.0.0.0/8,width=24', /unexpected key/),
  flags('--default-address-pool 10.0.0.0/8', /10\.0\.0\.0\/8/),
  flags('--default-network-opt bridge', /bridge/),
  flags('--mtu big', /big/),
  flags('--mtu -1', /-1/),
  flags('--icc=maybe', /maybe/),
  flags('--ip home', /home/),
  flags('--dns resolver', /resolver/),
  flags('--host-gateway-ip here', /here/),
  flags('--host-gateway-ip 10.0.0.1 --host-gateway-ip 10.0.0.2', /host-gateway/),
  flags('--userland-proxy-path docker-proxy', 'invalid userland-proxy-path: must be an absolute path: docker-proxy'),
  flags('--log-level loud', /loud/),
  flags('-H ftp://x', /ftp:\/\/x/),
  flags('--cluster-advertise eth0:2376', /cluster/),
  flags('--no-such-flag', /^unknown flag: --no-such-flag; see `causeway daemon --help`$/),
  flags('--bip', 'flag needs an argument: --bip'),
  flags('surplus', '"causeway daemon" accepts no arguments'),
  file('{', /^unable to configure the Docker daemon with file /),
  file('[]', /^unable to configure the Docker daemon with file /),
  file({ colour: 'red' }, /the following directives don't match any configuration option: colour$/),
  file(
    { mtu: 1400 },
    /the following directives are specified both as a flag and in the configuration file: mtu: \(from flag: 1300, from file: 1400\)$/,
    '--mtu 1300',
  ),
  file(
    { dns: ['9.9.9.9'] },
    /specified both as a flag and in the configuration file: dns: \(from flag: \[1\.1\.1\.1 8\.8\.8\.8\], from file: \[9\.9\.9\.9\]\)$/,
    '--dns 1.1.1.1 --dns 8.8.8.8',
  ),
  file({ mtu: 'big' }, /mtu/),
  file({ icc: 'yes' }, /icc/),
  file({ dns: '1.1.1.1' }, /dns/),
  file({ dns: ['resolver'] }, /resolver/),
  file({ bip: 5 }, /bip/),
  file({ bip: '10.1.0.300/24' }, /10\.1\.0\.300/),
  file({ 'default-address-pools': [{ base: 'x', size: 24 }] }, /invalid base prefix/),
  file({ 'default-address-pools': [{ base: '10.0.0.0/8', size: 99 }] }, /invalid size value|99/),
  file({ bridge: 'br0', bip: '10.1.0.1/24' }, 'You specified -b & --bip, mutually exclusive options. Please specify only one'),
]

/** Wrong requests to create, list, inspect, remove and prune networks: docker-networking reference 1.1 to 1.6. */
import { row, starting, type WrongRequest } from './bad-input-world.ts'

const LABEL = 'com.docker.network.'
const OVERLAY =
  'an overlay network needs the store that its hosts share: start etcd or Consul and then every engine with --cluster-store etcd://HOST:2379 (or consul://HOST:8500) and --cluster-advertise ADDRESS:2377'
const OPERATOR =
  'configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.'

const create = (what: string, body: unknown, status: number, text: string | RegExp) =>
  row(`network create: ${what}`, 'POST', '/networks/create', body, status, text)
/** A create whose IPAM has these pools; the problems come below one first line. */
const ipam = (what: string, Config: object[], problems: string | RegExp, extra: object = {}, status = 400) =>
  create(
    what,
    { Name: 'x1', IPAM: { Config }, ...extra },
    status,
    typeof problems === 'string' && !problems.startsWith('invalid JSON: ') ? `invalid network config:\n${problems}` : problems,
  )
const option = (name: string, value: string, status: number, text: string | RegExp, extra: object = {}) =>
  create(`option ${name}=${value}`, { Name: 'x1', Options: { [LABEL + name]: value }, ...extra }, status, text)
const get = (what: string, path: string, status: number, text: string | RegExp) => row(what, 'GET', path, undefined, status, text)
const filters = (value: unknown) => `?filters=${encodeURIComponent(typeof value === 'string' ? value : JSON.stringify(value))}`

export const NETWORK_ROWS: readonly WrongRequest[] = [
  // ---- the body as such
  create('no body', undefined, 400, 'invalid name: name is empty'),
  create('empty object', {}, 400, 'invalid name: name is empty'),
  create('null', 'null', 400, 'invalid name: name is empty'),
  create('cut off', '{"Name":"x1"', 400, 'invalid JSON: unexpected EOF'),
  create('two values', '{"Name":"x1"} 7', 400, 'unexpected content after JSON'),
  create('no JSON', 'Name=x1', 400, /^invalid JSON: invalid character 'N'/),
  create('a list', '[]', 400, /^invalid JSON: /),
  create('name is a number', { Name: 5 }, 400, /^invalid JSON: Name: /),
  create('labels are a list', { Name: 'x1', Labels: ['a'] }, 400, /^invalid JSON: Labels: /),
  create('label value is a number', { Name: 'x1', Labels: { a: 1 } }, 400, /^invalid JSON: Labels.a: /),
  create('options are text', { Name: 'x1', Options: 'mtu=5' }, 400, /^invalid JSON: Options: /),
  create('option value is an object', { Name: 'x1', Options: { a: {} } }, 400, /^invalid JSON: Options.a: /),
  create('internal is text', { Name: 'x1', Internal: 'true' }, 400, /^invalid JSON: Internal: /),
  create('IPAM config is an object', { Name: 'x1', IPAM: { Config: {} } }, 400, /^invalid JSON: IPAM.Config: /),
  create('subnet is a number', { Name: 'x1', IPAM: { Config: [{ Subnet: 10 }] } }, 400, /^invalid JSON: IPAM.Config\[0\].Subnet: /),
  // ---- names
  create('empty name', { Name: '' }, 400, 'invalid name: name is empty'),
  create('name taken', { Name: 'front' }, 409, 'network with name front already exists'),
  create(
    'name taken, duplicates allowed by the client',
    { Name: 'front', CheckDuplicate: false },
    409,
    'network with name front already exists',
  ),
  ...['bridge', 'host', 'none', 'default'].map((name) =>
    create(`reserved name ${name}`, { Name: name }, 403, `operation is not permitted on predefined ${name} network `),
  ),
  // ---- drivers and scope
  create('driver unknown', { Name: 'x1', Driver: 'nope' }, 404, /plugin "nope" not found/),
  create('IPAM driver unknown', { Name: 'x1', IPAM: { Driver: 'nope' } }, 404, /plugin "nope" not found/),
  create('overlay without a cluster', { Name: 'x1', Driver: 'overlay' }, 403, OVERLAY),
  create('second host network', { Name: 'x1', Driver: 'host' }, 403, 'only one instance of "host" network is allowed'),
  create('second null network', { Name: 'x1', Driver: 'null' }, 403, 'only one instance of "null" network is allowed'),
  create('null IPAM on a bridge', { Name: 'x1', IPAM: { Driver: 'null' } }, 400, 'ipv4 pool is empty'),
  create('swarm scope', { Name: 'x1', Scope: 'swarm' }, 403, 'cannot create a swarm scoped network when swarm is not active'),
  create('ingress', { Name: 'x1', Ingress: true }, 403, 'Ingress network can only be global scope network'),
  create('no address family', { Name: 'x1', EnableIPv4: false }, 400, 'IPv4 or IPv6 must be enabled'),
  // ---- configuration networks
  create('config-only and internal', { Name: 'x1', ConfigOnly: true, Internal: true }, 403, OPERATOR),
  create('config-only and attachable', { Name: 'x1', ConfigOnly: true, Attachable: true }, 403, OPERATOR),
  create('config-only and ingress', { Name: 'x1', ConfigOnly: true, Ingress: true }, 403, OPERATOR),
  create('config-only and scope', { Name: 'x1', ConfigOnly: true, Scope: 'global' }, 403, OPERATOR),
  create('config-only name taken', { Name: 'front', ConfigOnly: true }, 409, 'network with name front already exists'),
  create(
    'config-only from another',
    { Name: 'x1', ConfigOnly: true, ConfigFrom: { Network: 'cfg' } },
    403,
    'a configuration network cannot depend on another configuration network',
  ),
  create('config-from missing', { Name: 'x1', ConfigFrom: { Network: 'nope' } }, 404, 'configuration network "nope" does not exist'),
  create(
    'config-from an ordinary network',
    { Name: 'x1', ConfigFrom: { Network: 'front' } },
    404,
    'configuration network "front" does not exist',
  ),
  create(
    'config-from with own IPAM',
    { Name: 'x1', ConfigFrom: { Network: 'cfg' }, IPAM: { Config: [{ Subnet: '10.99.0.0/24' }] } },
    403,
    'user-specified configurations are not supported if the network depends on a configuration network',
  ),
  create(
    'config-from with own options',
    { Name: 'x1', ConfigFrom: { Network: 'cfg' }, Options: { a: 'b' } },
    403,
    'network driver options are not supported if the network depends on a configuration network',
  ),
  create(
    'config-from whose subnet is in use',
    { Name: 'x1', ConfigFrom: { Network: 'cfg' } },
    403,
    starting('invalid pool request: Pool overlaps with other one on this address space'),
  ),
  // ---- subnets, ranges, gateways, auxiliary addresses
  ipam('host bits in the subnet', [{ Subnet: '10.9.1.1/16' }], 'invalid subnet 10.9.1.1/16: it should be 10.9.0.0/16'),
  ipam('subnet without length', [{ Subnet: '10.9.0.0' }], `invalid JSON: netip.ParsePrefix("10.9.0.0"): no '/'`),
  ipam('subnet is a word', [{ Subnet: 'any/8' }], 'invalid JSON: netip.ParsePrefix("any/8"): ParseAddr("any"): unable to parse IP'),
  ipam('prefix too long', [{ Subnet: '10.16.0.0/33' }], 'invalid JSON: netip.ParsePrefix("10.16.0.0/33"): prefix length out of range'),
  ipam(
    'octet too large',
    [{ Subnet: '10.300.0.0/16' }],
    'invalid JSON: netip.ParsePrefix("10.300.0.0/16"): ParseAddr("10.300.0.0"): IPv4 field has value >255',
  ),
  ipam(
    'range of the other family',
    [{ Subnet: '10.9.0.0/24', IPRange: 'fd00::/120' }],
    'invalid ip-range fd00::/120: parent subnet is an IPv4 block',
  ),
  ipam(
    'range bigger than its subnet',
    [{ Subnet: '10.9.0.0/24', IPRange: '10.9.0.0/16' }],
    'invalid ip-range 10.9.0.0/16: CIDR block is bigger than its parent subnet 10.9.0.0/24',
  ),
  ipam(
    'host bits in the range',
    [{ Subnet: '10.9.0.0/24', IPRange: '10.9.0.5/30' }],
    'invalid ip-range 10.9.0.5/30: it should be 10.9.0.4/30',
  ),
  ipam(
    'range elsewhere',
    [{ Subnet: '10.9.0.0/24', IPRange: '10.8.0.0/30' }],
    "invalid ip-range 10.8.0.0/30: parent subnet 10.9.0.0/24 doesn't contain ip-range",
  ),
  ipam('range is a word', [{ Subnet: '10.9.0.0/24', IPRange: 'some' }], `invalid JSON: netip.ParsePrefix("some"): no '/'`),
  ipam(
    'gateway elsewhere',
    [{ Subnet: '10.9.0.0/24', Gateway: '10.8.0.1' }],
    "invalid gateway 10.8.0.1: parent subnet 10.9.0.0/24 doesn't contain this address",
  ),
  ipam(
    'gateway of the other family',
    [{ Subnet: '10.9.0.0/24', Gateway: 'fd00::1' }],
    'invalid gateway fd00::1: parent subnet is an IPv4 block',
  ),
  ipam('gateway is a word', [{ Subnet: '10.9.0.0/24', Gateway: 'bogus' }], 'invalid JSON: ParseAddr("bogus"): unable to parse IP'),
  ipam(
    'gateway without subnet',
    [{ Gateway: '10.13.0.1' }],
    "invalid gateway 10.13.0.1: parent subnet invalid Prefix doesn't contain this address",
  ),
  ipam(
    'range without subnet',
    [{ IPRange: '10.13.0.0/30' }],
    "invalid ip-range 10.13.0.0/30: parent subnet invalid Prefix doesn't contain ip-range",
  ),
  ipam(
    'auxiliary address elsewhere',
    [{ Subnet: '10.9.0.0/24', AuxiliaryAddresses: { router: '10.8.0.2' } }],
    "invalid auxiliary address router: parent subnet 10.9.0.0/24 doesn't contain this address",
  ),
  ipam(
    'auxiliary address of the other family',
    [{ Subnet: '10.9.0.0/24', AuxiliaryAddresses: { router: 'fd00::2' } }],
    'invalid auxiliary address router: parent subnet is an IPv4 block',
  ),
  ipam(
    'auxiliary address is a word',
    [{ Subnet: '10.9.0.0/24', AuxiliaryAddresses: { router: 'here' } }],
    'invalid JSON: ParseAddr("here"): unable to parse IP',
  ),
  ipam(
    'three problems at once',
    [{ Subnet: '10.9.1.0/16', IPRange: '10.8.0.0/30', Gateway: '10.7.0.1' }],
    "* invalid subnet 10.9.1.0/16: it should be 10.9.0.0/16\n* invalid ip-range 10.8.0.0/30: parent subnet 10.9.1.0/16 doesn't contain ip-range\n* invalid gateway 10.7.0.1: parent subnet 10.9.1.0/16 doesn't contain this address",
  ),
  ipam('IPv6 host bits', [{ Subnet: 'fd09::1/64' }], 'invalid subnet fd09::1/64: it should be fd09::/64', { EnableIPv6: true }),
  ipam(
    'IPv6 gateway elsewhere',
    [{ Subnet: 'fd09::/64', Gateway: 'fd08::1' }],
    "invalid gateway fd08::1: parent subnet fd09::/64 doesn't contain this address",
    { EnableIPv6: true },
  ),
  ipam(
    'gateway is an auxiliary address',
    [{ Subnet: '10.14.0.0/24', Gateway: '10.14.0.1', AuxiliaryAddresses: { x: '10.14.0.1' } }],
    starting('failed to allocate secondary ip address (x:10.14.0.1): Address already in use'),
    {},
    500,
  ),
  ipam(
    'two IPv4 subnets on a bridge',
    [{ Subnet: '10.9.0.0/24' }, { Subnet: '10.8.0.0/24' }],
    starting("bridge driver doesn't support multiple subnets"),
    {},
    403,
  ),
  ipam(
    'subnet taken',
    [{ Subnet: '10.10.0.0/24' }],
    starting('invalid pool request: Pool overlaps with other one on this address space'),
    {},
    403,
  ),
  ipam(
    'subnet inside another',
    [{ Subnet: '10.10.0.128/25' }],
    starting('invalid pool request: Pool overlaps with other one on this address space'),
    {},
    403,
  ),
  ipam(
    'subnet around another',
    [{ Subnet: '10.10.0.0/16' }],
    starting('invalid pool request: Pool overlaps with other one on this address space'),
    {},
    403,
  ),
  ipam(
    'subnet of the default bridge',
    [{ Subnet: '172.17.0.0/16' }],
    starting('invalid pool request: Pool overlaps with other one on this address space'),
    {},
    403,
  ),
  ipam(
    'gateway is the network address',
    [{ Subnet: '10.9.0.0/24', Gateway: '10.9.0.0' }],
    /^failed to allocate gateway \(10\.9\.0\.0\): Address already in use/,
    {},
    403,
  ),
  // ---- driver options
  ...['bridge.enable_icc', 'bridge.enable_ip_masquerade', 'bridge.inhibit_ipv4', 'bridge.default_bridge'].map((name) =>
    option(name, 'maybe', 400, `failed to parse ${LABEL}${name} value: maybe (strconv.ParseBool: parsing "maybe": invalid syntax)`),
  ),
  option('driver.mtu', 'big', 400, `failed to parse ${LABEL}driver.mtu value: big (strconv.Atoi: parsing "big": invalid syntax)`),
  option('driver.mtu', '-5', 400, 'invalid MTU number: -5'),
  option('driver.mtu', '70000', 400, 'invalid MTU number: 70000'),
  option('bridge.gateway_mode_ipv4', 'sideways', 400, /sideways/),
  option('bridge.gateway_mode_ipv6', 'sideways', 400, /sideways/),
  option('bridge.gateway_mode_ipv4', 'isolated', 500, "gateway mode 'isolated' can only be used for an internal network"),
  option('bridge.host_binding_ipv4', 'home', 400, starting(`failed to parse ${LABEL}bridge.host_binding_ipv4 value: home`)),
  option('host_ipv4', 'fd00::1', 400, starting(`failed to parse ${LABEL}host_ipv4 value: fd00::1`)),
  option('host_ipv6', '10.0.0.1', 400, starting(`failed to parse ${LABEL}host_ipv6 value: 10.0.0.1`)),
  option('enable_ipv4', 'perhaps', 400, `driver-opt "${LABEL}enable_ipv4" is not a valid bool`),
  option('enable_ipv6', 'perhaps', 400, `driver-opt "${LABEL}enable_ipv6" is not a valid bool`),
  option('advertise_addr_ms', '99', 500, `${LABEL}advertise_addr_ms must be in the range 100 to 2000`),
  option('advertise_addr_ms', '2001', 500, `${LABEL}advertise_addr_ms must be in the range 100 to 2000`),
  option('advertise_addr_ms', 'soon', 500, `value for option ${LABEL}advertise_addr_ms "soon" must be an integer milliseconds`),
  option('advertise_addr_nmsgs', '4', 500, `${LABEL}advertise_addr_nmsgs must be in the range 0 to 3`),
  option('advertise_addr_nmsgs', '-1', 500, `${LABEL}advertise_addr_nmsgs must be in the range 0 to 3`),
  option('advertise_addr_nmsgs', 'few', 500, `value for option ${LABEL}advertise_addr_nmsgs "few" must be an integer`),
  option(
    'bridge.name',
    'cwback0',
    403,
    /^cannot create network [0-9a-f]{64} \(cwback0\): conflicts with network [0-9a-f]{64} \(cwback0\): networks have same bridge name$/,
  ),
  option('bridge.name', 'sixteen-letters-', 400, /^invalid bridge name "sixteen-letters-"/),
  option('bridge.name', 'a/b', 400, /^invalid bridge name "a\/b"/),
  option('bridge.name', 'lo', 409, 'existing interface lo is not a bridge'),
  option('bridge.name', 'cwforeign0', 409, 'existing interface cwforeign0 is not a bridge'),
  // ---- list, inspect, delete, prune
  get('list: filter key unknown', `/networks${filters({ colour: ['red'] })}`, 400, "invalid filter 'colour'"),
  get('list: filters are no JSON', `/networks${filters('name=x')}`, 400, 'invalid filter'),
  get('list: filters are a list', `/networks${filters(['name'])}`, 400, 'invalid filter'),
  get('list: filter values are a text', `/networks${filters({ name: 'x' })}`, 400, 'invalid filter'),
  get('list: type unknown', `/networks${filters({ type: ['x'] })}`, 500, "invalid filter: 'type'='x'"),
  get(
    'list: dangling twice',
    `/networks${filters({ dangling: ['true', 'false'] })}`,
    400,
    'got more than one value for filter key "dangling"',
  ),
  get(
    'list: dangling is no boolean',
    `/networks${filters({ dangling: ['maybe'] })}`,
    400,
    `invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`,
  ),
  get('inspect: missing', '/networks/nope', 404, 'network nope not found'),
  get('inspect: name with a slash', '/networks/no/pe', 404, 'network no/pe not found'),
  get('inspect: verbose is no boolean', '/networks/front?verbose=loud', 400, /^invalid value for verbose: /),
  get('inspect: other scope', '/networks/front?scope=swarm', 404, 'network front not found'),
  row('delete: missing', 'DELETE', '/networks/nope', undefined, 404, 'network nope not found'),
  ...['bridge', 'host', 'none'].map((name) =>
    row(`delete: ${name}`, 'DELETE', `/networks/${name}`, undefined, 403, `${name} is a pre-defined network and cannot be removed`),
  ),
  row(
    'delete: in use',
    'DELETE',
    '/networks/front',
    undefined,
    403,
    /^error while removing network: network front has active endpoints \(name:"web1" id:"[0-9a-f]{12}"\)$/,
  ),
  row(
    'delete: configuration in use',
    'DELETE',
    '/networks/cfg',
    undefined,
    403,
    'error while removing network: configuration network "cfg" is in use',
  ),
  row('prune: filter key unknown', 'POST', `/networks/prune${filters({ name: ['x'] })}`, undefined, 400, "invalid filter 'name'"),
  row(
    'prune: until twice',
    'POST',
    `/networks/prune${filters({ until: ['1h', '2h'] })}`,
    undefined,
    400,
    'more than one until filter specified',
  ),
  row('prune: until is no time', 'POST', `/networks/prune${filters({ until: ['teatime'] })}`, undefined, 400, /teatime/),
]

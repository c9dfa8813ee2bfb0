/** What must be true of flags and daemon.json before anything is touched (pure). Docker's sentences where it has one. */
import { cidrContains, cidrOf, type Family, familyOf, splitPrefix, tryParseIp, trySplitPrefix } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { NetworkingConfig } from '../engine/environment.ts'

export type Kind = 'text' | 'bool' | 'number' | 'list' | 'map'

const invalid = (message: string) => new NetError('invalid', message)
const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'fatal']

/** The type of each value of the file; `kindOf` gives undefined for keys that may hold anything. Throws `invalid` naming file and key. */
export function checkFileTypes(path: string, file: Readonly<Record<string, unknown>>, kindOf: (key: string) => Kind | undefined): void {
  const fail = (key: string, expected: string, found: unknown) =>
    invalid(`unable to configure the Docker daemon with file ${path}: ${key}: expected ${expected}, found ${JSON.stringify(found)}`)
  for (const [key, found] of Object.entries(file)) {
    const kind = kindOf(key)
    if (kind === 'text' && typeof found !== 'string') throw fail(key, 'a text', found)
    if (kind === 'bool' && typeof found !== 'boolean') throw fail(key, 'true or false', found)
    if (kind === 'number' && !Number.isInteger(found)) throw fail(key, 'a whole number', found)
    // maps by name (runtimes, default-network-opts) are lists on the command line
    if (kind === 'list' && (typeof found !== 'object' || found === null)) throw fail(key, 'a list', found)
  }
}

/** Throws `invalid` for the first value that cannot work. */
export function checkNetworking(config: NetworkingConfig): void {
  if (config.bridge && config.bip) throw invalid('You specified -b & --bip, mutually exclusive options. Please specify only one')
  if (config.bridge && config.bip6) throw invalid('You specified -b & --bip6, mutually exclusive options. Please specify only one')
  checkBridgeAddress('bip', config.bip, 4)
  checkBridgeAddress('bip6', config.bip6, 6)
  checkSubnet('fixed-cidr', config.fixedCidr, 4)
  checkSubnet('fixed-cidr-v6', config.fixedCidrV6, 6)
  if (config.fixedCidrV6 && cidrContains(cidrOf('ff00::' as never, 8), splitPrefix(config.fixedCidrV6 as never).ip))
    throw invalid(`invalid fixed-cidr-v6: ${config.fixedCidrV6} is a multicast range`)
  checkAddress('default-gateway', config.defaultGateway, 4)
  checkAddress('default-gateway-v6', config.defaultGatewayV6, 6)
  checkAddress('ip', config.ip)
  for (const server of config.dns ?? []) checkAddress('dns', server)
  const gateways = config.hostGatewayIp ?? []
  for (const ip of gateways) checkAddress('host-gateway-ip', ip)
  for (const family of [4, 6] as const)
    if (gateways.filter((ip) => ip.includes(':') === (family === 6)).length > 1)
      throw invalid(`invalid host-gateway-ip: only one IPv${family} host gateway IP address can be specified`)
  const mtu = config.mtu ?? 0
  if (!Number.isInteger(mtu) || mtu < 0 || mtu > 65535 || (mtu > 0 && mtu < 68))
    throw invalid(`invalid mtu: ${mtu}, expected 68 to 65535, or 0 for the default`)
}

export function checkLogLevel(level: string): void {
  if (!LOG_LEVELS.includes(level)) throw invalid(`invalid logging level: ${level}, expected one of ${LOG_LEVELS.join(', ')}`)
}

/** Throws `invalid` for an endpoint that cannot be listened on. */
export function checkHost(host: string): void {
  const url = /^([a-z0-9+]+):\/\//i.exec(host)
  if (url !== null && !['unix', 'tcp', 'fd'].includes(url[1] as string))
    throw invalid(`invalid bind address (${host}): unsupported proto ${url[1]}, expected unix://, tcp:// or fd://`)
}

export function checkProxyPath(path: string): void {
  if (!path.startsWith('/')) throw invalid(`invalid userland-proxy-path: must be an absolute path: ${path}`)
}

function checkAddress(key: string, text: string | undefined, family?: Family): void {
  if (!text) return
  const ip = tryParseIp(text)
  if (ip === undefined) throw invalid(`invalid ${key}: invalid IP address: ${text}`)
  if (family !== undefined && familyOf(ip) !== family) throw invalid(`invalid ${key}: ${text} is not an IPv${family} address`)
}

function checkSubnet(key: string, text: string | undefined, family: Family): void {
  if (!text) return
  const split = trySplitPrefix(text)
  if (split === undefined) throw invalid(`invalid ${key}: invalid CIDR address: ${text}`)
  if (familyOf(split.ip) !== family) throw invalid(`invalid ${key}: ${text} is not an IPv${family} subnet`)
}

/** The address of a bridge with its length: host bits say which. */
function checkBridgeAddress(key: string, text: string | undefined, family: Family): void {
  if (!text) return
  checkSubnet(key, text, family)
  const { ip, length } = splitPrefix(text as never)
  if (length < (family === 4 ? 31 : 127) && splitPrefix(cidrOf(ip, length)).ip === ip)
    throw invalid(`invalid ${key}: ${text} is the address of the subnet, expected one inside it for the bridge`)
}

/** One attachment of CNI (container id and interface name) as a sandbox of the engine. */
import { type Family, familyOf, type Ip } from '../../base/address.ts'
import { type Rate, routesText } from '../../drivers/endpoint-options.ts'
import { OPTION } from '../../drivers/options.ts'
import type { EndpointInfo, EndpointSettings, PortRequest, SandboxRequest } from '../../model/endpoint.ts'
import type { Network } from '../../model/network.ts'
import type { CniConf } from './conf.ts'
import type { CniCall } from './environment.ts'
import type { CniKernel } from './kernel.ts'
import type { CniDns, CniResult, CniRoute } from './result.ts'

/** The engine's id of an attachment. The slash keeps it apart from containers of the engine itself. */
export function attachmentId(containerId: string, ifname: string): string {
  return `${containerId}/${ifname}`
}

/** The two halves of {@link attachmentId}, undefined for the engine's own containers. */
export function parseAttachmentId(id: string): { containerId: string; ifname: string } | undefined {
  const slash = id.indexOf('/')
  return slash < 0 ? undefined : { containerId: id.slice(0, slash), ifname: id.slice(slash + 1) }
}

const DEFAULT: Readonly<Record<4 | 6, string>> = { 4: '0.0.0.0/0', 6: '::/0' }
const isDefault = (route: CniRoute): boolean => route.dst === DEFAULT[4] || route.dst === DEFAULT[6]
const routeFamily = (route: CniRoute): 4 | 6 => (route.dst.includes(':') ? 6 : 4)

/**
 * Families in which this attachment carries the default route: where the configuration lists one or says `isDefaultGateway`, else
 * where it says nothing and the namespace has none yet. A second network does not take the first one's away.
 */
export function defaultFamilies(conf: CniConf, network: Network, netns: string, kernel: CniKernel): Family[] {
  const families = ([4, 6] as const).filter((family) => (family === 4 ? network.enableIpv4 : network.enableIpv6))
  if (conf.isDefaultGateway === true) return families
  const wanted = families.filter((family) => {
    const listed = conf.routes.find((route) => isDefault(route) && routeFamily(route) === family)
    if (listed?.gw !== undefined) return false // it is added as it is written
    return listed !== undefined || (conf.isDefaultGateway === undefined && !conf.hasRoutes)
  })
  if (wanted.length === 0) return wanted
  const taken = kernel.defaultRoutes(netns, wanted)
  return wanted.filter((family) => !taken.includes(family))
}

/** A default route without a gateway says that there shall be one, see {@link defaultFamilies}. */
function isLeftToEngine(route: CniRoute): boolean {
  return isDefault(route) && route.gw === undefined
}

function rateText({ rate, burst }: Rate): string {
  return `${rate}/${burst}`
}

/** Whether the engine's resolver serves this attachment: there are no names on a predefined network. */
export function wantsResolver(conf: CniConf, network: Network): boolean {
  return conf.resolver && !network.predefined
}

/** Routes besides the default one that the engine chooses. Those without a gateway go over the network's. */
function extraRoutes(conf: CniConf, endpoint: EndpointInfo): CniRoute[] {
  return conf.routes.flatMap((route) => {
    if (isLeftToEngine(route)) return []
    const gw = route.gw ?? (routeFamily(route) === 4 ? endpoint.gateway4 : endpoint.gateway6)
    return [{ dst: route.dst, ...(gw === '' ? {} : { gw }) }]
  })
}

/** What was decided for an attachment beyond its configuration. */
export interface Decided {
  /** May have their default route here. */
  readonly families: readonly Family[]
  readonly resolver: boolean
}

/** What the engine is asked for. `chosen` are addresses that were chosen here. */
export function sandboxRequest(
  call: CniCall,
  conf: CniConf,
  network: Network,
  { families, resolver }: Decided,
  chosen: readonly Ip[],
  ports: readonly PortRequest[],
): SandboxRequest {
  const routes = routesText(conf.routes.filter((route) => !isLeftToEngine(route)))
  const ips = [...conf.ips, ...chosen]
  const ipv4 = ips.find((ip) => familyOf(ip) === 4)
  const ipv6 = ips.find((ip) => familyOf(ip) === 6)
  const podName = call.args['K8S_POD_NAME'] ?? ''
  const settings: EndpointSettings = {
    ...(ipv4 ? { ipv4 } : {}),
    ...(ipv6 ? { ipv6 } : {}),
    ...(conf.mac ? { mac: conf.mac } : {}),
    aliases: network.predefined ? [] : [...(podName === '' ? [] : [podName]), ...conf.aliases],
    driverOpts: {
      [OPTION.endpointIfname]: call.ifname,
      [OPTION.defaultRoute]: families.length === 2 ? 'true' : families.length === 0 ? 'false' : `ipv${families[0]}`,
      ...(routes === '' ? {} : { [OPTION.endpointRoutes]: routes }),
      ...(conf.ingress ? { [OPTION.rateIn]: rateText(conf.ingress) } : {}),
      ...(conf.egress ? { [OPTION.rateOut]: rateText(conf.egress) } : {}),
    },
  }
  return {
    containerId: attachmentId(call.containerId, call.ifname),
    containerName: `cni-${call.containerId}`,
    hostname: '',
    domainname: '',
    mode: 'private',
    netns: call.netns,
    ...(resolver ? { resolver } : {}),
    endpoints: [{ network: network.id, settings }],
    ports,
    exposed: [],
    extraHosts: [],
    dns: { servers: resolver ? (conf.dns.nameservers ?? []) : [], search: [], options: [] },
    legacyLinks: [],
    filesDir: '',
  }
}

/** What is known of the network's outside without asking the kernel each time. */
export interface NetworkFacts {
  /** The bridge on the host, '' when there is none. */
  readonly bridge: string
  readonly bridgeMac: string
  readonly mtu: number
}

/** Where the engine's resolver is found in every namespace that has one. */
const RESOLVER = '127.0.0.11'

/** What the runtime shall write into resolv.conf. The servers of a configuration are those that the resolver asks. */
function dnsOf(conf: CniConf, resolver: boolean): CniDns {
  return resolver ? { ...conf.dns, nameservers: [RESOLVER], options: conf.dns.options ?? ['ndots:0'] } : conf.dns
}

/** The attachment as CNI reports it. */
export function resultOf(
  call: CniCall,
  conf: CniConf,
  facts: NetworkFacts,
  endpoint: EndpointInfo,
  { families, resolver }: Decided,
  hostMac: string,
): CniResult {
  const withMac = (name: string, mac: string) => (name === '' ? [] : [mac === '' ? { name } : { name, mac }])
  const outside = [...withMac(facts.bridge, facts.bridgeMac), ...withMac(endpoint.hostIfname, hostMac)]
  const ip = (address: Ip | '', length: number, gateway: Ip | '') =>
    address === '' ? [] : [{ address: `${address}/${length}`, ...(gateway === '' ? {} : { gateway }), interface: outside.length }]
  const leadsOut = (family: Family, gw: Ip | '') => (gw !== '' && families.includes(family) ? [{ dst: DEFAULT[family], gw }] : [])
  return {
    interfaces: [...outside, { name: call.ifname, mac: endpoint.mac, mtu: facts.mtu, sandbox: call.netns }],
    ips: [...ip(endpoint.ipv4, endpoint.ipv4Length, endpoint.gateway4), ...ip(endpoint.ipv6, endpoint.ipv6Length, endpoint.gateway6)],
    routes: [...leadsOut(4, endpoint.gateway4), ...leadsOut(6, endpoint.gateway6), ...extraRoutes(conf, endpoint)],
    dns: dnsOf(conf, resolver),
  }
}

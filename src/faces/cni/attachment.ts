/** One attachment of CNI (container id and interface name) as a sandbox of the engine. */
import { familyOf, type Ip } from '../../base/address.ts'
import { OPTION } from '../../drivers/options.ts'
import type { EndpointInfo, EndpointSettings, PortRequest, SandboxRequest } from '../../model/endpoint.ts'
import type { Network } from '../../model/network.ts'
import type { CniConf } from './conf.ts'
import type { CniCall } from './environment.ts'
import type { CniKernel, Inside } from './kernel.ts'
import type { CniResult, CniRoute } from './result.ts'

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
function defaultFamilies(conf: CniConf, before: Inside): (4 | 6)[] {
  return ([4, 6] as const).filter((family) => {
    if (conf.isDefaultGateway === true) return true
    const listed = conf.routes.find((route) => isDefault(route) && routeFamily(route) === family)
    if (listed?.gw !== undefined) return false // it is added as it is written
    const wanted = listed !== undefined || (conf.isDefaultGateway === undefined && !conf.hasRoutes)
    return wanted && !before.defaultRoutes.includes(family)
  })
}

/** Routes that the engine does not make by itself. Those without a gateway go over the network's. */
export function extraRoutes(conf: CniConf, endpoint: EndpointInfo): CniRoute[] {
  return conf.routes.flatMap((route) => {
    if (isDefault(route) && route.gw === undefined) return []
    const gw = route.gw ?? (routeFamily(route) === 4 ? endpoint.gateway4 : endpoint.gateway6)
    return [{ dst: route.dst, ...(gw === '' ? {} : { gw }) }]
  })
}

/** What the engine is asked for. `chosen` are addresses that were chosen here. */
export function sandboxRequest(
  call: CniCall,
  conf: CniConf,
  network: Network,
  before: Inside,
  chosen: readonly Ip[],
  ports: readonly PortRequest[],
): SandboxRequest {
  const ips = [...conf.ips, ...chosen]
  const ipv4 = ips.find((ip) => familyOf(ip) === 4)
  const ipv6 = ips.find((ip) => familyOf(ip) === 6)
  const families = defaultFamilies(conf, before)
  const podName = call.args['K8S_POD_NAME'] ?? ''
  const settings: EndpointSettings = {
    ...(ipv4 ? { ipv4 } : {}),
    ...(ipv6 ? { ipv6 } : {}),
    ...(conf.mac ? { mac: conf.mac } : {}),
    aliases: network.predefined ? [] : [...(podName === '' ? [] : [podName]), ...conf.aliases],
    driverOpts: {
      [OPTION.endpointIfname]: call.ifname,
      [OPTION.defaultRoute]: families.length === 2 ? 'true' : families.length === 0 ? 'false' : `ipv${families[0]}`,
    },
  }
  return {
    containerId: attachmentId(call.containerId, call.ifname),
    containerName: `cni-${call.containerId}`,
    hostname: '',
    domainname: '',
    mode: 'private',
    netns: call.netns,
    endpoints: [{ network: network.id, settings }],
    ports,
    exposed: [],
    extraHosts: [],
    dns: { servers: [], search: [], options: [] },
    legacyLinks: [],
    filesDir: '',
  }
}

/** The attachment as CNI reports it. */
export function resultOf(
  call: CniCall,
  conf: CniConf,
  bridge: string,
  endpoint: EndpointInfo,
  after: Inside,
  kernel: CniKernel,
): CniResult {
  const outside = [bridge, endpoint.hostIfname].filter((name) => name !== '')
  const withMac = (name: string) => {
    const mac = kernel.hostMac(name)
    return mac === '' ? { name } : { name, mac }
  }
  const inside = {
    name: call.ifname,
    mac: after.link?.mac ?? endpoint.mac,
    ...(after.link ? { mtu: after.link.mtu } : {}),
    sandbox: call.netns,
  }
  const ip = (address: Ip | '', length: number, gateway: Ip | '') =>
    address === '' ? [] : [{ address: `${address}/${length}`, ...(gateway === '' ? {} : { gateway }), interface: outside.length }]
  const routes = (after.link?.routes ?? []).filter((route) => route.dst === 'default' || route.gw !== undefined)
  return {
    interfaces: [...outside.map(withMac), inside],
    ips: [...ip(endpoint.ipv4, endpoint.ipv4Length, endpoint.gateway4), ...ip(endpoint.ipv6, endpoint.ipv6Length, endpoint.gateway6)],
    routes: routes.map(({ dst, gw }) => ({
      dst: dst === 'default' ? DEFAULT[gw?.includes(':') ? 6 : 4] : dst,
      ...(gw === undefined ? {} : { gw }),
    })),
    dns: conf.dns,
  }
}

/** CHECK: whether an attachment is still what ADD made of it. */

import type { IpPrefix } from '../../base/address.ts'
import { splitPrefix } from '../../base/address.ts'
import type { PortBinding, PortRequest, SandboxInfo } from '../../model/endpoint.ts'
import type { CniConf } from './conf.ts'
import type { CniCall } from './environment.ts'
import type { CniKernel } from './kernel.ts'
import type { CniResult } from './result.ts'

/** Everything that is not as it should be, one sentence each. `ports`: those that this attachment, and no sibling of it, should publish. */
export function differences(
  call: CniCall,
  conf: CniConf,
  before: CniResult,
  sandbox: SandboxInfo,
  ports: readonly PortRequest[],
  kernel: CniKernel,
): string[] {
  const endpoint = sandbox.endpoints[0]
  const found: string[] = []
  if (sandbox.key !== call.netns) found.push(`the attachment is in ${sandbox.key}, not in ${call.netns}`)
  const link = kernel.look(sandbox.key, call.ifname)
  if (endpoint === undefined) return ['the attachment has no endpoint']
  if (link === undefined) return [...found, `there is no interface ${call.ifname} in ${sandbox.key}`]
  if (!link.up) found.push(`${call.ifname} is down`)
  const own = before.interfaces.findIndex((i) => i.name === call.ifname && (i.sandbox ?? '') !== '')
  if (own < 0 && before.interfaces.length > 0) found.push(`prevResult has no interface ${call.ifname} with a sandbox`)
  // a plugin behind this one may have given another, which the source guard would not let through
  const mac = (conf.sourceGuard ? undefined : before.interfaces[own]?.mac) ?? endpoint.mac
  if (mac !== '' && link.mac !== mac.toLowerCase()) found.push(`${call.ifname} has the hardware address ${link.mac}, not ${mac}`)
  const said = before.ips.filter((ip) => ip.interface === own && own >= 0).map((ip) => ip.address)
  const expected = [...new Set([...said, ...[endpoint.ipv4, endpoint.ipv6].filter((ip) => ip !== '')])]
  for (const address of expected)
    if (!link.addresses.some((a) => a === address || splitPrefix(a as IpPrefix).ip === address))
      found.push(`${call.ifname} does not have the address ${address}`)
  for (const route of before.routes) {
    const dst = route.dst === '0.0.0.0/0' || route.dst === '::/0' ? 'default' : route.dst
    const isOwn = said.length > 0 && route.gw !== undefined && before.ips.some((ip) => ip.interface === own && ip.gateway === route.gw)
    if (isOwn && !link.routes.some((r) => r.dst === dst && r.gw === route.gw))
      found.push(`the route to ${route.dst} by ${route.gw} is missing`)
  }
  if (endpoint.hostIfname !== '' && kernel.hostMac(endpoint.hostIfname) === '')
    found.push(`there is no interface ${endpoint.hostIfname} on the host`)
  for (const port of ports)
    if (!sandbox.ports.some((binding) => isMet(port, binding)))
      found.push(`port ${port.hostPort}/${port.proto} of the host is not published to port ${port.containerPort}`)
  found.push(...kernel.missingLimits(sandbox.key, call.ifname, endpoint.hostIfname, conf))
  return found
}

function isMet(port: PortRequest, binding: PortBinding): boolean {
  const offset = port.hostPort - binding.hostPort
  return binding.proto === port.proto && offset >= 0 && offset < binding.count && binding.containerPort + offset === port.containerPort
}

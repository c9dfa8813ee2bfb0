/** Container <-> interface <-> bridge port <-> addresses: what people piece together from `ip link`, `brctl show` and `ethtool -S`. */
import type { ContainerService } from '../containers/types.ts'
import type { NetworkController } from '../engine/types.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { VethRow } from '../model/own-answers.ts'

/** One row per live endpoint, in the order of containers and their interfaces. */
export function vethRows(parts: { controller: NetworkController; containers: ContainerService; rtnl: Rtnl }): VethRow[] {
  const links = parts.rtnl.links()
  const byName = new Map(links.map((l) => [l.name, l]))
  const byIndex = new Map(links.map((l) => [l.index, l]))
  const rows: VethRow[] = []
  for (const container of parts.containers.list()) {
    const sandbox = parts.controller.sandboxOf(container.id)
    if (sandbox === undefined) continue
    for (const e of [...sandbox.endpoints, ...(sandbox.gatewayBridge ? [sandbox.gatewayBridge] : [])]) {
      const link = byName.get(e.hostIfname)
      const bridge = link === undefined ? undefined : byIndex.get(link.master)
      rows.push({
        container: container.name,
        containerId: container.id,
        network: e.networkName,
        driver: parts.controller.findNetwork(e.networkId)?.driver ?? '',
        interface: e.ifname,
        mac: e.mac,
        ipv4: e.ipv4 === '' ? '' : `${e.ipv4}/${e.ipv4Length}`,
        ipv6: e.ipv6 === '' ? '' : `${e.ipv6}/${e.ipv6Length}`,
        hostInterface: e.hostIfname,
        hostIndex: link?.index ?? 0,
        bridge: bridge?.name ?? '',
        state: e.hostIfname === '' ? '-' : link === undefined ? 'missing' : link.up ? (link.running ? 'up' : 'no carrier') : 'down',
        mtu: link?.mtu ?? 0,
        sandbox: sandbox.key,
      })
    }
  }
  return rows
}

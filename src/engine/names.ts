/** What the embedded DNS and the files of a sandbox should say (pure translations of the model). */
import type { DnsView } from '../dns/types.ts'
import type { Network } from '../model/network.ts'
import type { EndpointRecord } from './records.ts'

/** Links of an endpoint as aliases that only this sandbox sees: alias -> names it stands for. */
function linkAliases(links: readonly string[] | undefined): Record<string, string[]> {
  const out: Record<string, string[]> = {}
  for (const link of links ?? []) {
    const colon = link.indexOf(':')
    const name = colon < 0 ? link : link.slice(0, colon)
    const alias = colon < 0 ? name : link.slice(colon + 1)
    const target = name.startsWith('/') ? name.slice(1) : name
    const short = alias.slice(alias.lastIndexOf('/') + 1)
    out[short] = [...(out[short] ?? []), target]
  }
  return out
}

/** The resolver's view of one sandbox: its user-defined networks in gateway order, and where other names are asked. */
export function dnsViewOf(
  endpoints: readonly { readonly record: EndpointRecord; readonly network: Network }[],
  upstreams: DnsView['upstreams'],
  hasGateway: boolean,
  options: readonly string[],
): DnsView {
  return {
    networks: endpoints.map(({ record, network }) => ({ id: network.id, name: network.name, aliases: linkAliases(record.settings.links) })),
    upstreams,
    hasGateway,
    ndotsSet: options.some((o) => /^ndots:[1-9]/.test(o)),
  }
}

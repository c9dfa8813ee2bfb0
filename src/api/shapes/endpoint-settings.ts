/** `EndpointSettings` in both directions: as requests carry them, and as container inspect prints them. */
import type { EndpointSettingsJson } from '../../containers/types.ts'
import type { EndpointInfo } from '../../model/endpoint.ts'
import { int, list, nullable, object, str, strMap } from '../decode.ts'

/** What requests may set. Operational fields (IPAddress, EndpointID ...) are accepted and ignored. */
export const ENDPOINT_SETTINGS = object({
  IPAMConfig: object({ IPv4Address: str, IPv6Address: str, LinkLocalIPs: list(str) }),
  Links: list(str),
  Aliases: list(str),
  DriverOpts: strMap,
  GwPriority: int,
  MacAddress: str,
})

export const ENDPOINTS = nullable(ENDPOINT_SETTINGS)

/** A MAC address that the API version does not apply: Docker shows it until the container starts. */
const SHOWN_MAC = 'ShownMacAddress'

/** Takes out what this API version did not have yet. */
export function gateEndpoint(settings: EndpointSettingsJson, version: number, where: 'create' | 'connect'): EndpointSettingsJson {
  const { GwPriority, MacAddress, ...rest } = settings
  const macSince = where === 'connect' ? 54 : 44
  return {
    ...rest,
    ...(GwPriority === undefined || version < 48 ? {} : { GwPriority }),
    ...(MacAddress === undefined || MacAddress === '' ? {} : version < macSince ? { [SHOWN_MAC]: MacAddress } : { MacAddress }),
  }
}

/** One entry of `NetworkSettings.Networks`. `live` is undefined while the container is not attached. */
export function endpointJson(
  settings: EndpointSettingsJson,
  live: EndpointInfo | undefined,
  context: { version: number; shortId: string; networkId: string; isUserDefined: boolean; hasStarted: boolean },
): Record<string, unknown> {
  const { version } = context
  const ipam = settings.IPAMConfig
  return {
    IPAMConfig: ipam === undefined || ipam === null ? null : ipamJson(ipam),
    Links: orNull(settings.Links),
    Aliases: aliasesJson(settings, context),
    MacAddress: live?.mac ?? settings.MacAddress ?? (context.hasStarted ? '' : (settings[SHOWN_MAC] ?? '')),
    DriverOpts: settings.DriverOpts ?? null,
    ...(version >= 48 ? { GwPriority: settings.GwPriority ?? 0 } : {}),
    NetworkID: live?.networkId ?? context.networkId,
    EndpointID: live?.id ?? '',
    Gateway: live?.gateway4 ?? '',
    IPAddress: live?.ipv4 ?? '',
    IPPrefixLen: live?.ipv4Length ?? 0,
    IPv6Gateway: live?.gateway6 ?? '',
    GlobalIPv6Address: live?.ipv6 ?? '',
    GlobalIPv6PrefixLen: live?.ipv6Length ?? 0,
    ...(version >= 44 ? { DNSNames: live === undefined ? null : orNull(live.dnsNames) } : {}),
  }
}

function ipamJson(ipam: NonNullable<EndpointSettingsJson['IPAMConfig']>): object {
  return {
    ...(ipam.IPv4Address ? { IPv4Address: ipam.IPv4Address } : {}),
    ...(ipam.IPv6Address ? { IPv6Address: ipam.IPv6Address } : {}),
    ...(ipam.LinkLocalIPs && ipam.LinkLocalIPs.length > 0 ? { LinkLocalIPs: ipam.LinkLocalIPs } : {}),
  }
}

/** Before 1.45 the short id was printed among the aliases, from the first start on. */
function aliasesJson(
  settings: EndpointSettingsJson,
  { version, shortId, isUserDefined, hasStarted }: { version: number; shortId: string; isUserDefined: boolean; hasStarted: boolean },
): readonly string[] | null {
  const own = settings.Aliases ?? []
  if (version >= 45 || !isUserDefined || !hasStarted) return orNull(own)
  return own.includes(shortId) ? own : [...own, shortId]
}

function orNull(values: readonly string[] | null | undefined): readonly string[] | null {
  return values === undefined || values === null || values.length === 0 ? null : values
}

/**
 * Plugins as drivers of the engine: found by name at first use, remembered, and usable as a driver and an authority even while the
 * plugin itself is away.
 */
import { NetError } from '../base/errors.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import type { Authority } from '../drivers/authority.ts'
import { builtinDrivers } from '../drivers/registry.ts'
import { IPAM_DRIVER, NETWORK_DRIVER } from '../drivers/remote/protocol.ts'
import { remoteDriver } from '../drivers/remote/remote.ts'
import type { Driver, NetworkDraft } from '../drivers/types.ts'
import { DEFAULT_PLUGIN_DIRS, type PluginDirs } from './discovery.ts'
import { Later } from './later.ts'
import { Plugin } from './plugin.ts'
import { RemoteAuthority } from './remote-authority.ts'
import { RemoteIpam } from './remote-ipam.ts'
import { RemoteNetwork } from './remote-network.ts'

export interface RemoteDriversOptions {
  readonly log: Logger
  readonly clock: Clock
  readonly rng: Rng
  readonly pluginDirs?: PluginDirs
  /** Longest wait for one answer; a minute unless given. */
  readonly callTimeoutMs?: number
  /** Subnets that the host itself uses: a plugin's IPAM that offers one for a local network is asked again. */
  readonly isUsedByHost?: (subnet: string) => boolean
  /** The engine makes networks for a cluster. */
  readonly isManager?: boolean
  /** The engine's other drivers, for networks of theirs with a plugin's IPAM; the built-in ones unless given. */
  readonly ownDriver?: (name: string) => Driver | undefined
}

/** What a plugin can be used as. */
export interface PluginKind {
  readonly network: boolean
  readonly ipam: boolean
  readonly scope: 'local' | 'global'
}

export interface RemoteDrivers {
  /**
   * Looks a plugin up and asks what it is. Waits for one that is coming up (Docker's pauses).
   * @throws NetError `not-found` (`plugin "x" not found`), `unavailable`, `internal`
   */
  find(name: string): Promise<PluginKind>
  /** {@link find} for who does not know whether there is such a plugin; finding none is fine. */
  discover(name: string): Promise<void>
  /** Names that stored networks use: their drivers work from now on, whether or not the plugin is there. */
  adopt(names: Iterable<string>): void
  /** The driver of a plugin that was found or adopted. */
  findDriver(name: string): Driver | undefined
  /** The authority over networks of this pair of drivers; undefined when neither is a plugin that was found or adopted. */
  findAuthority(driver: string, ipamDriver: string): Authority | undefined
  /** Tells drivers of global scope of a node that came or went. */
  announceNode(node: { readonly address: string; readonly self: boolean }, isNew: boolean): Promise<void>
  /** Ends what is repeated in the background. */
  close(): void
}

interface Known {
  readonly plugin: Plugin
  readonly network: RemoteNetwork
  readonly ipam: RemoteIpam
  readonly driver: Driver
  scope: 'local' | 'global'
  checksGateways: boolean
  /** Its capabilities are known (asked once, as Docker does). */
  isAsked: boolean
  /** Answers to GwAllocCheck for networks that are being made. */
  readonly skips: Map<string, { ipv4: boolean; ipv6: boolean }>
}

/** Networks are made a few at a time: older answers are of networks long made, or given up. */
const SKIPS_KEPT = 64
/** Names that are nobody's plugin. */
const RESERVED: ReadonlySet<string> = new Set([
  ...['', 'default', 'null', 'none', 'bridge', 'host', 'overlay', 'macvlan', 'ipvlan', 'dhcp'],
  // what we are ourselves to Docker Engines
  ...['docker', 'causeway', 'causeway-macvlan', 'causeway-overlay', 'causeway-dhcp'],
])

export function createRemoteDrivers(options: RemoteDriversOptions): RemoteDrivers {
  const { log, clock, rng } = options
  const known = new Map<string, Known>()
  const authorities = new Map<string, Authority>()
  const later = new Later(clock, log)
  const ownDriver = options.ownDriver ?? ((name: string) => builtinDrivers.find((driver) => driver.name === name))

  const get = (name: string): Known => {
    const existing = known.get(name)
    if (existing !== undefined) return existing
    const plugin = new Plugin(name, {
      clock,
      log,
      dirs: options.pluginDirs ?? DEFAULT_PLUGIN_DIRS,
      ...(options.callTimeoutMs === undefined ? {} : { callTimeoutMs: options.callTimeoutMs }),
    })
    const skips: Known['skips'] = new Map()
    const made: Known = {
      plugin,
      network: new RemoteNetwork(plugin, log),
      ipam: new RemoteIpam(plugin, log, options.isUsedByHost ?? (() => false)),
      scope: 'local',
      checksGateways: false,
      isAsked: false,
      skips,
      driver: remoteDriver(name, {
        get scope() {
          return made.scope
        },
        skipGateway: (draft) => skips.get(draft.id) ?? { ipv4: false, ipv6: false },
      }),
    }
    known.set(name, made)
    return made
  }

  const checkGateways = (at: Known) => async (draft: NetworkDraft, body: Readonly<Record<string, unknown>>) => {
    if (!at.checksGateways) return
    for (const old of at.skips.keys()) if (at.skips.size >= SKIPS_KEPT) at.skips.delete(old)
    at.skips.set(draft.id, await at.network.gatewayCheck(body))
  }

  const authority = (driver: string, ipamDriver: string): Authority => {
    const at = known.get(driver)
    const own = at === undefined ? ownDriver(driver) : undefined
    const ipam = known.get(ipamDriver)?.ipam
    return new RemoteAuthority({
      name: at === undefined ? ipamDriver : driver,
      ...(at === undefined ? {} : { network: at.network }),
      ...(ipam === undefined ? {} : { ipam }),
      withoutIpam: ipamDriver === 'null',
      ready: async () => {
        for (const name of [driver, ipamDriver]) if (known.has(name)) await find(name)
      },
      scope: () => at?.scope ?? own?.scope ?? 'local',
      skipGateway: (draft) => (own ?? at?.driver)?.skipGateway(draft) ?? { ipv4: false, ipv6: false },
      checkGateways: at === undefined ? async () => {} : checkGateways(at),
      isManager: options.isManager ?? false,
      later,
      rng,
      log,
    })
  }

  const find = async (name: string): Promise<PluginKind> => {
    const isNew = !known.has(name)
    const at = get(name)
    let interfaces: readonly string[]
    try {
      interfaces = await at.plugin.activate()
    } catch (error) {
      if (isNew) known.delete(name) // a mistyped name is not kept
      throw error
    }
    const network = interfaces.includes(NETWORK_DRIVER)
    const ipam = interfaces.includes(IPAM_DRIVER)
    if (!network && !ipam) {
      if (isNew) known.delete(name)
      throw new NetError(
        'not-found',
        `plugin "${name}" implements neither ${NETWORK_DRIVER} nor ${IPAM_DRIVER}, only ${interfaces.join(', ') || 'nothing'}`,
      )
    }
    if (network && !at.isAsked) {
      const { scope, checksGateways } = await at.network.capabilities()
      at.scope = scope
      at.checksGateways = checksGateways
      at.isAsked = true
    }
    return { network, ipam, scope: at.scope }
  }

  return {
    find,

    async discover(name) {
      if (RESERVED.has(name)) return
      try {
        await find(name)
      } catch (error) {
        if (!(error instanceof NetError && error.code === 'not-found')) throw error
      }
    },

    adopt(names) {
      for (const name of names) if (!RESERVED.has(name)) get(name)
    },

    findDriver: (name) => known.get(name)?.driver,

    findAuthority(driver, ipamDriver) {
      if (!known.has(driver) && !known.has(ipamDriver)) return undefined
      const key = `${driver} ${ipamDriver}`
      const existing = authorities.get(key)
      if (existing !== undefined) return existing
      const made = authority(driver, ipamDriver)
      authorities.set(key, made)
      return made
    },

    async announceNode(node, isNew) {
      for (const at of known.values()) if (at.scope === 'global') await at.network.discover(node, isNew)
    },

    close: () => later.close(),
  }
}

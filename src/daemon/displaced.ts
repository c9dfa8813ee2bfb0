/**
 * Containers whose place on a cluster network was given to another one while this host was evicted. The place has one owner at any time, so
 * the container leaves it; it comes back with another address when nobody has asked for the one that it had.
 */
import type { Ip } from '../base/address.ts'
import { hasCode, messageOf } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { Conflict } from '../cluster/endpoint-claims.ts'
import type { Containers } from '../containers/service.ts'
import type { EndpointSettingsJson } from '../containers/types.ts'
import type { NetworkController } from '../engine/types.ts'

/** How long a container waits for another address while the store does not answer. */
const PATIENCE_MS = 60_000
const AGAIN_MS = 500

export interface DisplacedOptions {
  readonly controller: () => Pick<NetworkController, 'findNetwork' | 'endpointsOf' | 'disconnect'>
  readonly containers: () => Pick<Containers, 'find' | 'connectNetwork' | 'disconnectNetwork'> | undefined
  readonly clock: Clock
  readonly log: Logger
}

/** Returns what carries a conflict out and says what became of the container. It does not throw. */
export function displacer(options: DisplacedOptions): (conflict: Conflict) => Promise<string> {
  return async (conflict) => {
    try {
      return await displace(options, conflict)
    } catch (error) {
      options.log.error('a container cannot be taken off a network that it has no place on', { ...conflict, error: messageOf(error) })
      return `it could not be taken off the network: ${messageOf(error)}`
    }
  }
}

async function displace(options: DisplacedOptions, conflict: Conflict): Promise<string> {
  const { networkId, endpointId } = conflict
  const controller = options.controller()
  const network = controller.findNetwork(networkId)
  const endpoint = network && controller.endpointsOf(networkId).find(({ id }) => id === endpointId)
  if (network === undefined || endpoint === undefined) return 'it is no container of this engine, or has gone: reconnect it where it runs'
  const { containerId, ipv4, ipv6 } = endpoint
  const containers = options.containers()
  const container = containers?.find(containerId)
  if (containers === undefined || container === undefined) {
    await controller.disconnect(containerId, networkId, true)
    return `it was taken off network ${network.name}`
  }
  const settings = container.endpoints[network.name] ?? {}
  await containers.disconnectNetwork(containerId, network.name, true)
  options.log.warn('a container was disconnected: its place on the network belongs to another one', {
    container: container.name,
    network: network.name,
    why: conflict.why,
  })
  const again = `"causeway network connect ${network.name} ${container.name}" connects it again`
  if (conflict.isNameTaken) return `it was taken off network ${network.name}: rename it, then ${again}`
  if (asksForOneOf(settings, conflict.addresses ?? [ipv4, ipv6]))
    return `it was taken off network ${network.name}: ${again} with another address`
  try {
    await whenAnswered(options.clock, () => containers.connectNetwork(containerId, network.name, settings))
  } catch (error) {
    options.log.error('a container that was disconnected cannot be connected again', { container: container.name, error: messageOf(error) })
    return `it was taken off network ${network.name} and got no other address (${messageOf(error)}): ${again}`
  }
  const now = controller.endpointsOf(networkId).find((other) => other.containerId === containerId)
  const addresses = [now?.ipv4, now?.ipv6].filter(Boolean).join(' and ')
  options.log.warn('a container has another address now', { container: container.name, network: network.name, addresses })
  return `it has ${addresses} now`
}

/** The host has just come back: it may not be a member again yet. */
async function whenAnswered(clock: Clock, ask: () => Promise<void>): Promise<void> {
  for (const until = clock.now() + PATIENCE_MS; ; await clock.sleep(AGAIN_MS))
    try {
      return await ask()
    } catch (error) {
      if (!hasCode(error, 'unavailable') || clock.now() > until) throw error
    }
}

function asksForOneOf({ IPAMConfig }: EndpointSettingsJson, taken: readonly (Ip | '')[]): boolean {
  return taken.some((ip) => ip !== '' && (ip === IPAMConfig?.IPv4Address || ip === IPAMConfig?.IPv6Address))
}

/** The drivers that are built in, by the name users type. */

import { NetError } from '../base/errors.ts'
import { bridgeDriver } from './bridge/bridge.ts'
import { ipvlanDriver } from './ipvlan/ipvlan.ts'
import { macvlanDriver } from './macvlan/macvlan.ts'
import type { Driver } from './types.ts'

const NOTHING = { links: [] } as const

function singleton(name: string): Driver {
  return {
    name,
    scope: 'local',
    singleton: true,
    withoutIpam: true,
    userDefined: false,
    validate() {},
    skipGateway: () => ({ ipv4: true, ipv6: true }),
    networkWanted: () => NOTHING,
    endpointWanted() {
      throw new Error(`a ${name} endpoint has no interface`)
    },
    gatewayOf: () => ({ ipv4: '', ipv6: '' }),
  }
}

/**
 * Stands in for a driver that is not there (its plugin does not run, no cluster's store was named): its networks can be listed and
 * removed, running containers keep their interfaces, nothing can be attached anew.
 */
export function absentDriver(name: string): Driver {
  return {
    ...singleton(name),
    singleton: false,
    userDefined: true,
    isAbsent: true,
    validate() {
      throw new NetError('not-found', `plugin "${name}" not found`)
    },
    endpointWanted: (_network, { ifname, hostIfname }) => ({
      plug: { kind: 'taken', hostIfname },
      inside: { ifname, addresses: [], sysctls: [], routes: [] },
    }),
  }
}

/** Drivers that every engine has; overlay, ovs, flannel and plugins come with what they need. */
export const builtinDrivers: readonly Driver[] = [bridgeDriver, macvlanDriver, ipvlanDriver, singleton('host'), singleton('null')]

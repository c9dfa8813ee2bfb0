/** The drivers that are built in, by the name users type. */

import { bridgeDriver } from './bridge/bridge.ts'
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

export const builtinDrivers: readonly Driver[] = [bridgeDriver, singleton('host'), singleton('null')]

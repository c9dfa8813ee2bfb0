/** Networks that other software makes and this host takes part in: Open vSwitch. Wired here, used by `engine.ts`. */
import type { Clock, Logger } from '../base/ports.ts'
import { ovsDriver } from '../drivers/ovs/ovs.ts'
import type { Rtnl } from '../kernel/types.ts'
import { OVSDB_SOCKET, OvsAuthority } from '../lan/ovs/ovs-authority.ts'
import type { Network } from '../model/network.ts'
import type { Store } from '../store/types.ts'
import type { Outside } from './outside.ts'

export interface Sdn extends Outside {
  close(): void
}

export function openSdn(parts: {
  readonly store: Store
  readonly rtnl: Rtnl
  readonly clock: Clock
  readonly log: Logger
  readonly hostId: string
  readonly env: NodeJS.ProcessEnv
}): Sdn {
  const { store, rtnl, clock, log, hostId, env } = parts
  const ovs = new OvsAuthority({ rtnl, clock, log, engineId: hostId, socket: socketPath(env['CAUSEWAY_OVSDB']) })
  ovs.markDevices(store.list<Network>('network/').map(([, network]) => network))
  return {
    drivers: [ovsDriver],
    findAuthority: (driver) => (driver === 'ovs' ? ovs : undefined),
    close() {
      ovs.close()
    },
  }
}

/** As `ovs-vsctl --db` takes it, or a bare path. */
function socketPath(text: string | undefined): string {
  return text === undefined || text === '' ? OVSDB_SOCKET : text.replace(/^unix:/, '')
}

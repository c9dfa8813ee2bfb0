/** Networks that other software makes and this host takes part in: Open vSwitch, Flannel. Wired here, used by `engine.ts`. */
import { messageOf, NetError } from '../base/errors.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import { openClusterStore } from '../cluster/store/open.ts'
import { parseStoreUrl } from '../cluster/store/url.ts'
import { FLANNEL_OPTION, flannelDriver } from '../drivers/flannel/flannel.ts'
import { ovsDriver } from '../drivers/ovs/ovs.ts'
import type { Rtnl } from '../kernel/types.ts'
import { FlannelAuthority } from '../lan/flannel/flannel-authority.ts'
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
  readonly rng: Rng
  readonly log: Logger
  readonly hostId: string
  readonly env: NodeJS.ProcessEnv
}): Sdn {
  const { store, rtnl, clock, rng, log, hostId, env } = parts
  const ovs = new OvsAuthority({ rtnl, clock, log, engineId: hostId, socket: socketPath(env['CAUSEWAY_OVSDB']) })
  ovs.markDevices(store.list<Network>('network/').map(([, network]) => network))
  const flannel = new FlannelAuthority({ rtnl, clock, log, readStore: (url) => readFolder(url, { clock, rng, logger: log }) })
  return {
    drivers: [ovsDriver, flannelDriver],
    findAuthority: (driver) => (driver === 'ovs' ? ovs : driver === 'flannel' ? flannel : undefined),
    close() {
      ovs.close()
      flannel.close()
    },
  }
}

/** Everything in the folder of etcd that a URL names, by keys relative to it. Throws `invalid` or `unavailable`. */
async function readFolder(url: string, ports: Parameters<typeof openClusterStore>[1]): Promise<ReadonlyMap<string, string>> {
  const config = parseFlannelUrl(url)
  const folder = config.root.replace(/\/causeway$/, '') // the store's own folder there is not what is wanted
  const store = openClusterStore({ ...config, root: folder }, ports)
  try {
    const { entries } = await store.list('')
    return new Map(entries.map(({ key, value }) => [key, value]))
  } finally {
    await store.close()
  }
}

/** The same URLs as --cluster-store's, in errors under their own option's name. */
function parseFlannelUrl(url: string): ReturnType<typeof parseStoreUrl> {
  try {
    return parseStoreUrl(url)
  } catch (cause) {
    throw new NetError('invalid', messageOf(cause).replace('--cluster-store', FLANNEL_OPTION.etcd), {}, cause)
  }
}

/** As `ovs-vsctl --db` takes it, or a bare path. */
function socketPath(text: string | undefined): string {
  return text === undefined || text === '' ? OVSDB_SOCKET : text.replace(/^unix:/, '')
}

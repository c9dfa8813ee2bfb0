/** A network controller on the real kernel, in this process: for tests of the engine without containers. Call `isolate()` first. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../src/base/clock.ts'
import { silentLogger } from '../src/base/ports.ts'
import { systemRng } from '../src/base/rng.ts'
import { DnsService } from '../src/dns/service.ts'
import { Controller, type ControllerOptions } from '../src/engine/controller.ts'
import { AddressSpace } from '../src/ipam/address-space.ts'
import { Conntrack } from '../src/kernel/conntrack.ts'
import { Nft } from '../src/kernel/nft.ts'
import { openRtnl } from '../src/kernel/rtnl.ts'
import { socketTable } from '../src/kernel/sockets.ts'
import type { SandboxRequest } from '../src/model/endpoint.ts'
import { openLmdbStore } from '../src/store/lmdb-store.ts'
import type { Store } from '../src/store/types.ts'
import { initNetns } from '../src/sys/netns.ts'
import { Reactor } from '../src/sys/reactor.ts'

export interface ControllerLab {
  readonly dir: string
  readonly store: Store
  readonly controller: Controller
  /** A controller over the same store, as after `kill -9`: nothing of the old one's memory is left. Not restored yet. */
  again(): Controller
  /** A request for a sandbox of container `n` on these networks. */
  request(n: number, ...networks: string[]): SandboxRequest
  close(): Promise<void>
}

type Outside = Pick<ControllerOptions, 'drivers' | 'findDriver' | 'discover' | 'findAuthority'>

export async function startControllerLab(outside: Outside = {}): Promise<ControllerLab> {
  const dir = mkdtempSync(join(tmpdir(), 'causeway-controller-'))
  await initNetns()
  const dns = await DnsService.start()
  const reactor = await Reactor.start()
  const rtnl = openRtnl()
  const nft = Nft.open()
  const conntrack = Conntrack.open()
  const store = openLmdbStore({ dir: `${dir}/store` })
  const make = () => {
    const controller = new Controller({
      env: {
        store,
        rtnl,
        nft,
        conntrack,
        dns,
        reactor,
        clock: systemClock,
        rng: systemRng,
        log: silentLogger,
        netnsDir: `${dir}/netns`,
      },
      config: {},
      ipam: new AddressSpace({ hostId: 'lab' }),
      sockets: socketTable(),
      ephemeral: () => ({ first: 32_768, last: 60_999 }),
      hostUse: () => ({ reserved: [], avoid: [] }),
      hostFile: () => ({ path: '/etc/hosts', text: '' }),
      ...outside,
    })
    controller.start()
    return controller
  }
  let controller = make()
  return {
    dir,
    store,
    get controller() {
      return controller
    },
    again() {
      controller = make()
      return controller
    },
    request: (n, ...networks) => ({
      containerId: `${n}`.padStart(64, '0'),
      containerName: `c${n}`,
      hostname: `c${n}`,
      domainname: '',
      mode: 'private',
      endpoints: networks.map((network) => ({ network, settings: {} })),
      ports: [],
      exposed: [],
      extraHosts: [],
      dns: { servers: [], search: [], options: [] },
      legacyLinks: [],
      filesDir: `${dir}/files/${n}`,
    }),
    async close() {
      for (const record of controller.registry.all()) await controller.closeSandbox(record.containerId)
      await controller.removeEverything()
      await controller.close()
      await dns.close()
      await reactor.close()
      nft.close()
      conntrack.close()
      rtnl.close()
      await store.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** What touches the physical network: addresses of the LAN's DHCP server, cards of the host in bridges, wires. Wired here, used by `engine.ts`. */
import { messageOf, NetError } from '../base/errors.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import type { Container, ContainerService, EventBus } from '../containers/types.ts'
import type { Authority } from '../drivers/authority.ts'
import type { Controller } from '../engine/controller.ts'
import type { CardMover } from '../engine/environment.ts'
import type { Rtnl } from '../kernel/types.ts'
import { type AddressChange, DhcpAuthority } from '../lan/dhcp/dhcp-authority.ts'
import { DHCP_IPAM } from '../lan/dhcp/parent.ts'
import { InterfaceState } from '../lan/nic-move/interface-state.ts'
import { NicMove } from '../lan/nic-move/nic-move.ts'
import { Wires } from '../lan/wires/wires.ts'
import type { Store } from '../store/types.ts'
import { bootId } from '../sys/pidfile.ts'
import type { Reactor } from '../sys/reactor.ts'
import type { CrashPoint } from './crash-point.ts'
import type { Outside } from './outside.ts'

export interface Lan extends Outside {
  readonly cards: CardMover
  readonly wires: Wires
  /** Leases for containers of a Docker Engine (faces/docker-plugin/dhcp-ipam.ts), apart from the engine's own. */
  readonly dockerLeases: Authority
  /** Takes up wires of before, and plugs them in and out from now on as containers start and end. */
  begin(events: EventBus): Promise<void>
  close(): void
}

export function openLan(parts: {
  readonly store: Store
  readonly rtnl: Rtnl
  readonly reactor: Reactor
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly crashing: CrashPoint
  readonly controller: () => Controller
  readonly containers: () => ContainerService | undefined
}): Lan {
  const { store, rtnl, log, crashing, controller } = parts
  const state = InterfaceState.open()
  const cards = new NicMove({
    store,
    rtnl,
    log,
    state: crashing(state, ['addAddresses', 'cross', 'leadRoutes', 'deleteRoutes']),
    bootId: bootId(),
  })
  const seen = ({ id, name, state: { pid } }: Container) => ({ id, name, netns: pid > 0 ? `/proc/${pid}/ns/net` : '' })
  const wires = new Wires({
    ...parts,
    container: (ref) => {
      const containers = parts.containers()
      if (containers === undefined) throw new NetError('unavailable', 'the engine is still starting')
      return seen(containers.get(ref))
    },
    findContainer: (id) => {
      const container = parts.containers()?.find(id)
      return container && seen(container)
    },
  })
  let unsubscribe = () => {}
  const dhcp = new DhcpAuthority({ ...parts, onAddressChange: (change) => void reconnect(controller(), change, log) })
  const dockerLeases = new DhcpAuthority({ ...parts, prefix: 'docker-dhcp/' })
  return {
    cards,
    wires,
    dockerLeases,
    async begin(events) {
      await wires.restore()
      unsubscribe = events.subscribe((event) => {
        if (event.Type === 'container') follow(wires, event.Action, event.Actor.ID, log)
      })
    },
    findAuthority: (_driver, ipamDriver) => (ipamDriver === DHCP_IPAM ? dhcp : undefined),
    close() {
      unsubscribe()
      dhcp.close()
      dockerLeases.close()
      state.close()
    },
  }
}

function follow(wires: Wires, action: string, containerId: string, log: Logger): void {
  const behind = (work: Promise<void>) => {
    work.catch((error) => log.warn('cannot take wires away', { container: containerId.slice(0, 12), error: messageOf(error) }))
  }
  if (action === 'start') wires.containerStarted(containerId)
  else if (action === 'die') behind(wires.containerStopped(containerId))
  else if (action === 'destroy') behind(wires.containerRemoved(containerId))
}

/** Names, firewall and the interface itself know the old address: attaching anew tells all of them. The server keeps the new one for the same client. */
async function reconnect(controller: Controller, { containerId, networkId, settings, now }: AddressChange, log: Logger): Promise<void> {
  const container = containerId.slice(0, 12)
  try {
    await controller.disconnect(containerId, networkId, false)
    await controller.connect(containerId, networkId, settings)
    log.info(`container ${container} was attached anew for its address ${now}`)
  } catch (error) {
    log.error(`container ${container} cannot be attached with its new address ${now}: connect it again by hand`, {
      error: messageOf(error),
    })
  }
}

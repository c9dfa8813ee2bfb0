/** What `causeway doctor` reports of this engine: the programs it needs, the firewalls beside it, subnets that clash with the host's routes. */

import { findInitProgram } from '../containers/start-facts.ts'
import type { Controller } from '../engine/controller.ts'
import { type Check, examine } from '../insight/doctor.ts'
import { subnetConflicts } from '../ipam/host-subnets.ts'
import type { ForeignFirewall } from '../kernel/foreign-firewall.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { DaemonConfig } from './config.ts'

const PROGRAMS = [
  { name: 'runc', need: 'no container can be started: install runc' },
  { name: 'conmon', need: 'no container can be started: install conmon' },
  { name: 'busybox', need: '`causeway image bootstrap` has nothing to make an image of: install busybox-static' },
  { name: 'skopeo', need: 'images cannot be pulled or pushed: install skopeo' },
  { name: 'nft', need: 'nothing; people read the rules with it' },
  { name: 'conntrack', need: 'nothing; people read flows with it' },
]

/** Networks whose subnet the host has come to use otherwise, for example because a VPN was started. */
function conflicts(controller: Controller, rtnl: Rtnl): Check[] {
  const networks = controller.listNetworks()
  const subnets = networks.flatMap((network) => network.pools.map((pool) => pool.subnet))
  const ownDevices = new Set(controller.host.wantedNames())
  return subnetConflicts(subnets, rtnl.routes({ table: 'all' }), ownDevices).map(({ subnet, route }) => ({
    area: 'subnets',
    name: networks.find((network) => network.pools.some((pool) => pool.subnet === subnet))?.name ?? subnet,
    state: 'note',
    found: `${subnet} overlaps the route to ${route.dst}${route.dev === undefined ? '' : ` by ${route.dev}`}`,
    cost: 'one of the two is not reached: make the network anew with another subnet',
  }))
}

/** Everything that is missing or in the way, with what that costs. Tries the kernel's features in a namespace that it makes and removes. */
export function doctor(config: DaemonConfig, foreign: ForeignFirewall, controller: Controller, rtnl: Rtnl): Check[] {
  const firewalls: Check[] = foreign
    .describe()
    .map((f) => ({ area: 'firewall', name: f.name, state: 'note', found: f.found, cost: f.effect }))
  const init = { name: 'catatonit', need: 'containers cannot have an init process (--init): install catatonit', path: findInitProgram() }
  return examine(`${config.execRoot}/netns/doctor`, [...PROGRAMS, init], [...firewalls, ...conflicts(controller, rtnl)])
}

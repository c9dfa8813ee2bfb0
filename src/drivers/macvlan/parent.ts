/**
 * The parent interface of macvlan and ipvlan networks: a link of the host that is there already, a VLAN sub-interface that is made when
 * it is missing, or a dummy of the network's own when no parent was named. Texts are Docker's (drivers/macvlan/macvlan_setup.go).
 */
import { NetError } from '../../base/errors.ts'
import type { Network } from '../../model/network.ts'
import type { WantedLink } from '../../plan/wanted.ts'
import type { Options } from '../options.ts'
import type { Driver, HostFacts } from '../types.ts'

/** Names of the options that choose the parent. */
export const PARENT = {
  parent: 'parent',
  /** Ours: VLAN on the parent, the same as writing `parent.id`. */
  vlan: 'vlan',
} as const

/** What drivers of interfaces on a parent (macvlan, ipvlan) have in common. */
export const ON_A_PARENT = {
  scope: 'local',
  singleton: false,
  withoutIpam: false,
  userDefined: true,
  sharesLinks: true,
  sharesSubnets: true,
  /** A gateway is a machine on the LAN: only one that the user names exists. */
  skipGateway: () => ({ ipv4: true, ipv6: true }),
} as const satisfies Partial<Driver>

/** Longest name of a link: IFNAMSIZ without the final zero. */
const NAME_MAX = 15

export interface Parent {
  /** Link on which the containers' interfaces are made. */
  readonly name: string
  /** No parent was named: containers of this network reach each other and nobody else. */
  readonly isDummy: boolean
  /** The name reads as a VLAN of another link. */
  readonly vlan?: { readonly lower: string; readonly id: number }
}

/** The parent that options name; `dummyPrefix` begins the name of a dummy (`dm`, `di`). Throws NetError for what is wrong on any host. */
export function parentOf(network: { readonly id: string; readonly options: Options }, driver: string, dummyPrefix: string): Parent {
  const named = network.options[PARENT.parent] ?? ''
  const vlan = network.options[PARENT.vlan]
  if (named === '') {
    if (vlan !== undefined) throw new NetError('internal', `option vlan=${vlan} needs a parent interface: give -o parent=NAME too`)
    return { name: `${dummyPrefix}-${network.id.slice(0, 12)}`, isDummy: true }
  }
  if (named === 'lo') throw new NetError('internal', `loopback interface is not a valid ${driver} parent link`)
  if (vlan === undefined) {
    const [lower, id, ...rest] = named.split('.')
    const isVlan = lower !== undefined && lower !== '' && id !== undefined && rest.length === 0 && /^[+-]?\d+$/.test(id)
    return { name: named, isDummy: false, ...(isVlan ? { vlan: { lower, id: Number(id) } } : {}) }
  }
  if (!/^[+-]?\d+$/.test(vlan)) throw new NetError('internal', `unable to parse a valid vlan id from: ${vlan} (ex. eth0.10 for vlan 10)`)
  const id = Number(vlan)
  checkVlanId(id)
  const name = `${named}.${id}`
  if (name.length > NAME_MAX)
    throw new NetError('internal', `the VLAN interface would be called ${name}, and names of links have at most ${NAME_MAX} characters`)
  return { name, isDummy: false, vlan: { lower: named, id } }
}

/** Checks the parent against the links of the host. Throws Docker's texts. */
export function checkParent(parent: Parent, host: HostFacts): void {
  const there = host.link(parent.name)
  if (there?.loopback) throw new NetError('internal', `loopback interface ${parent.name} cannot be a parent link`)
  if (parent.isDummy || there !== undefined) return
  if (!parent.name.includes('.'))
    throw new NetError('internal', `invalid subinterface vlan name ${parent.name}, example formatting is eth0.10`, { subject: parent.name })
  if (parent.vlan === undefined) {
    const [, id, ...rest] = parent.name.split('.')
    throw new NetError(
      'internal',
      rest.length > 0
        ? `required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received ${parent.name}`
        : `unable to parse a valid vlan id from: ${id} (ex. eth0.10 for vlan 10)`,
    )
  }
  const { lower, id } = parent.vlan
  const below = host.link(lower)
  if (below === undefined) throw new NetError('internal', `-o parent interface was not found on the host: ${lower}`, { subject: lower })
  if (below.loopback) throw new NetError('internal', `loopback interface ${lower} cannot be a parent link`)
  checkVlanId(id)
}

function checkVlanId(id: number): void {
  if (id < 1 || id > 4094) throw new NetError('internal', `vlan id must be between 1-4094, received: ${id}`)
}

/** What has to exist on the host for the parent: nothing for a plain link, which belongs to somebody else. */
export function parentWanted(parent: Parent, network: Network): WantedLink[] {
  const empty = { addresses: [], sysctls: [] }
  if (parent.isDummy)
    return [
      { spec: { name: parent.name, kind: 'dummy', up: true, alias: `causeway:network:${network.id}`, addrGenMode: 'none' }, ...empty },
    ]
  if (parent.vlan === undefined) return []
  const { lower, id } = parent.vlan
  // several networks may share it: its mark names none of them
  const alias = `causeway:parent:${parent.name}`
  return [
    {
      spec: { name: parent.name, kind: 'vlan', parent: lower, vlanId: id, up: true, alias, addrGenMode: 'none' },
      ...empty,
      madeWhenMissing: true,
    },
  ]
}

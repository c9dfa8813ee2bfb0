/**
 * A bridged NIC: the host's card becomes a port of a network's bridge, and the host lives on the bridge from then on, with the card's
 * MAC, addresses and routes. Nothing is taken away before it stands at its new place, so the host has its address at every moment, and
 * connections go on. What is done is a comparison with what is there: an engine that finds a move half done finishes it or undoes it.
 */
import { hasCode, messageOf, NetError } from '../../base/errors.ts'
import type { Logger } from '../../base/ports.ts'
import { parseBridgeConfig } from '../../drivers/bridge/config.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { Link } from '../../model/kernel-state.ts'
import type { Network, NetworkSpec } from '../../model/network.ts'
import type { Store } from '../../store/types.ts'
import { tryReadSysctl, writeSysctl } from '../../sys/sysctl.ts'
import { PF_INET6 } from '../../wire/rtnetlink.ts'
import type { AddressMessage } from '../../wire/rtnetlink-addr.ts'
import type { InterfaceState, StateRoute } from './interface-state.ts'
import { cardOf, completeFromCard } from './lan-of-card.ts'
import { fromStored, NIC_RECORDS, type NicRecord, nicKey, toStored } from './record.ts'

/** How the host treats packets of an interface: what the card had, the bridge gets. */
const CARRIED_SYSCTLS = [
  ...['rp_filter', 'forwarding', 'arp_ignore', 'arp_announce', 'proxy_arp', 'accept_redirects', 'log_martians'].map((k) => `ipv4 ${k}`),
  ...['disable_ipv6', 'forwarding', 'accept_ra', 'autoconf', 'use_tempaddr', 'accept_redirects'].map((k) => `ipv6 ${k}`),
]

export interface NicMoveParts {
  readonly store: Store
  readonly rtnl: Rtnl
  readonly state: InterfaceState
  readonly log: Logger
  readonly bootId: string
}

export class NicMove {
  readonly #parts: NicMoveParts

  constructor(parts: NicMoveParts) {
    this.#parts = parts
  }

  /** True for networks that this unit has to do with. */
  concerns(network: Network): boolean {
    return cardOf(network) !== ''
  }

  /** A request for such a network, with what the card says of its LAN. Throws `invalid` or `not-found`. */
  complete(spec: NetworkSpec): NetworkSpec {
    return completeFromCard(spec, this.#parts.rtnl)
  }

  /**
   * Makes the network's bridge out of the card, or finishes what was begun. On an error everything is back on the card. Throws
   * `not-found`, `invalid`, `conflict`, or what the kernel says.
   */
  take(network: Network): void {
    const { nic, bridge } = namesOf(network)
    const { store, log } = this.#parts
    const before = this.#recordOf(network.id)
    if (before !== undefined && this.#link(before.bridge) === undefined) {
      // somebody deleted the bridge, and with it the addresses that were on it
      this.#putBack(before)
      store.remove(nicKey(network.id))
    }
    const known = this.#recordOf(network.id)
    if (known === undefined) this.#check(nic, bridge)
    const record = known ?? this.#snapshot(network.id, nic, bridge)
    try {
      store.put(nicKey(network.id), { ...record, phase: record.phase === 'taken' ? 'taken' : 'taking' } satisfies NicRecord)
      this.#moveToBridge(record)
      if (record.phase !== 'taken') {
        store.put(nicKey(network.id), { ...record, phase: 'taken' } satisfies NicRecord)
        log.info(`${nic} is a port of ${bridge} now, which has its addresses and routes`, { network: network.name })
      }
    } catch (error) {
      try {
        this.giveBack(network)
      } catch (second) {
        log.error(`cannot put everything back on ${nic}; the next start of the engine tries again`, { error: messageOf(second) })
      }
      throw error
    }
  }

  /** Puts everything back on the card and deletes the bridge. A network that has taken none is fine. */
  giveBack(network: Pick<Network, 'id' | 'name'>): void {
    const record = this.#recordOf(network.id)
    if (record === undefined) return
    const { store, log } = this.#parts
    store.put(nicKey(network.id), { ...record, phase: 'returning' } satisfies NicRecord)
    this.#putBack(record)
    store.remove(nicKey(network.id))
    log.info(`${record.nic} has its addresses and routes back`, { network: network.name })
  }

  /**
   * Undoes what was begun for networks that are not there (any more): a crash while one was made or removed. `isNetwork` knows the ones
   * that are. Records of an earlier boot are forgotten.
   */
  recover(isNetwork: (id: string) => boolean): void {
    for (const [key, record] of this.#parts.store.list<NicRecord>(NIC_RECORDS)) {
      if (record.bootId !== this.#parts.bootId) this.#parts.store.remove(key)
      else if (!isNetwork(record.networkId) || record.phase === 'returning')
        try {
          this.giveBack({ id: record.networkId, name: record.networkId.slice(0, 12) })
        } catch (error) {
          this.#parts.log.error(`cannot put everything back on ${record.nic}`, { error: messageOf(error) })
        }
    }
  }

  /** Puts back every card. For the end of the engine when nothing runs any more. */
  giveBackAll(): void {
    for (const [, { networkId }] of this.#parts.store.list<NicRecord>(NIC_RECORDS))
      this.giveBack({ id: networkId, name: networkId.slice(0, 12) })
  }

  /** The bridge is one that a card was made a port of: an interface of the host, not one of containers alone. */
  holds(dev: string): boolean {
    return this.#parts.store.list<NicRecord>(NIC_RECORDS).some(([, record]) => record.bridge === dev)
  }

  #recordOf(networkId: string): NicRecord | undefined {
    const record = this.#parts.store.get<NicRecord>(nicKey(networkId))
    return record?.bootId === this.#parts.bootId ? record : undefined
  }

  #link(name: string): Link | undefined {
    return this.#parts.rtnl.link(name)
  }

  #check(nic: string, bridge: string): void {
    const link = this.#link(nic)
    const refuse = (code: 'invalid' | 'conflict', why: string): never => {
      throw new NetError(code, `cannot bridge parent interface ${nic}: ${why}`, { subject: nic })
    }
    if (link === undefined) throw new NetError('not-found', `parent interface ${nic} does not exist`, { subject: nic })
    if (link.loopback) refuse('invalid', 'it is the loopback interface')
    if (link.kind === 'bridge') refuse('invalid', `it is a bridge already, use it with -o com.docker.network.bridge.name=${nic}`)
    if (link.alias.startsWith('causeway:')) refuse('invalid', 'it belongs to another network of this engine')
    const upper = this.#parts.rtnl.links().find((l) => l.link === link.index && (l.kind === 'macvlan' || l.kind === 'ipvlan'))
    if (upper !== undefined)
      refuse('conflict', `it is the parent of ${upper.name} (${upper.kind}), and the kernel lets it be one of the two`)
    if (link.master !== 0) refuse('conflict', `it is a port of ${this.#parts.rtnl.nameOf(link.master)}`)
    if (this.#link(bridge) !== undefined)
      refuse('conflict', `there is an interface ${bridge} already; to use a bridge as it is, leave parent out`)
  }

  #snapshot(networkId: string, nic: string, bridge: string): NicRecord {
    const { state, rtnl, bootId } = this.#parts
    return {
      networkId,
      nic,
      bridge,
      bootId,
      wasUp: rtnl.link(nic)?.up ?? true,
      phase: 'taking',
      addresses: state.addresses(nic).map(toStored),
      routes: state.routes(nic).map(toStored),
    }
  }

  /** Every step finds done what is done. */
  #moveToBridge({ nic, bridge, networkId }: NicRecord): void {
    const { rtnl, state, store } = this.#parts
    const card = this.#link(nic)
    if (card === undefined) throw new NetError('not-found', `parent interface ${nic} does not exist`, { subject: nic })
    const mac = card.mac === '' ? {} : { mac: card.mac }
    if (this.#link(bridge) === undefined)
      rtnl.apply([{ op: 'link.add', link: { name: bridge, kind: 'bridge', mtu: card.mtu, ...mac, alias: `causeway:nic:${networkId}` } }])
    const there = this.#link(bridge) as Link
    if (!there.up) {
      // what the engine switched on for the card it switches on for the bridge itself, and guards it
      carrySysctls(nic, bridge, (path) => store.get(`sysctl/${path}`) === undefined)
      rtnl.apply([{ op: 'link.set', dev: bridge, set: { up: true } }])
    }
    const addresses = state.addresses(nic)
    state.addAddresses(bridge, addresses, nic)
    const refused = state.cross({ card: nic, master: bridge, from: nic, to: bridge, addresses, routes: state.routes(nic) })
    const [first] = refused
    if (first?.detail.errno === 'EBUSY')
      throw new NetError(
        'conflict',
        `cannot bridge parent interface ${nic}: a macvlan or ipvlan interface is on it, of a container perhaps`,
        first.detail,
        first,
      )
    if (first !== undefined) throw first
    state.deleteRoutes(state.routes(nic))
  }

  /** The other way round. What has changed on the bridge meanwhile goes along; what the record knows is for a bridge that has gone. */
  #putBack(record: NicRecord): void {
    const { nic, bridge } = record
    const { rtnl, state, log } = this.#parts
    const card = this.#link(nic)
    if (card === undefined) {
      log.warn(`${nic} has gone: what ${bridge} had of it goes with the bridge`)
      this.#deleteBridge(bridge)
      return
    }
    const there = this.#link(bridge)
    if (there === undefined) {
      if (!card.up) rtnl.apply([{ op: 'link.set', dev: nic, set: { up: true } }])
      state.addAddresses(nic, record.addresses.map(fromStored<AddressMessage>), nic)
      this.#warn(nic, state.leadRoutes(nic, record.routes.map(fromStored<StateRoute>)))
      return
    }
    const known = record.addresses.map(fromStored<AddressMessage>)
    const live = state.addresses(bridge)
    const onCard = state.addresses(nic)
    // a family whose addresses are nowhere was interrupted by somebody: what the record knows is better than none
    const lost = [2, PF_INET6].flatMap((family) =>
      [...live, ...onCard].some((a) => a.family === family) ? [] : known.filter((a) => a.family === family),
    )
    state.addAddresses(nic, lost, nic)
    state.addAddresses(
      nic,
      live.map((a) => withLabelOf(a, known)),
      bridge,
    )
    // a route whose gateway is there no longer must not keep the rest from it
    this.#warn(nic, state.cross({ card: nic, master: '', from: bridge, to: nic, addresses: live, routes: state.routes(bridge) }))
    this.#deleteBridge(bridge)
    if (!record.wasUp) rtnl.apply([{ op: 'link.set', dev: nic, set: { up: false } }])
  }

  #warn(nic: string, refused: readonly NetError[]): void {
    for (const error of refused) this.#parts.log.warn(`not all of ${nic} is as it was`, { error: error.message })
  }

  #deleteBridge(bridge: string): void {
    try {
      this.#parts.rtnl.apply([{ op: 'link.delete', dev: bridge }])
    } catch (error) {
      if (!hasCode(error, 'not-found')) throw error
    }
  }
}

function namesOf(network: Network): { nic: string; bridge: string } {
  return { nic: network.options['parent'] ?? '', bridge: parseBridgeConfig(network).bridge }
}

function withLabelOf(address: AddressMessage, known: readonly AddressMessage[]): AddressMessage {
  const label = known.find((a) => a.local === address.local && a.prefixLength === address.prefixLength)?.label
  return label === undefined ? address : { ...address, label }
}

function carrySysctls(from: string, to: string, isHosts: (path: string) => boolean): void {
  for (const entry of CARRIED_SYSCTLS) {
    const [family, name] = entry.split(' ') as [string, string]
    const path = `net/${family}/conf/${from}/${name}`
    const value = isHosts(path) ? tryReadSysctl(path) : undefined
    if (value !== undefined) writeSysctl(`net/${family}/conf/${to}/${name}`, value)
  }
  // the card's addresses are in use already, and nobody else has the bridge's MAC
  if (tryReadSysctl(`net/ipv6/conf/${to}/accept_dad`) !== undefined) writeSysctl(`net/ipv6/conf/${to}/accept_dad`, '0')
}

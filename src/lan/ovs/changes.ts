/**
 * What to ask of the database so that it holds a network or an endpoint, or no longer does (pure). Everything of ours is marked in
 * `external_ids`, so that whoever comes after a crash knows it again: on bridges `causeway-network:<id>` for each network that uses it
 * (the value names engine and uplink) and `causeway` when the bridge is ours, on ports `causeway=<network id>` and what it is for.
 */
import type { Mac } from '../../base/address.ts'
import type { OvsConfig } from '../../drivers/ovs/config.ts'
import type { BridgeRow, PortRow, Replica } from './replica.ts'
import { isRow, map, named, type Operation, set, type Uuid, uuid } from './values.ts'

const MARK = 'causeway'
const USER = 'causeway-network:'
const ENDPOINT = 'causeway-endpoint'
const ENGINE = 'causeway-engine'
/** The value of {@link MARK} on a port that networks share. */
const UPLINK = 'uplink'

export interface WantedNetwork {
  readonly id: string
  readonly config: OvsConfig
  /** MAC of the gateway's device; undefined: it has none. */
  readonly gatewayMac: Mac | undefined
  /** `netdev` or '' (the kernel's), for a bridge that has to be made. */
  readonly datapath: string
}

export interface WantedEndpoint {
  readonly id: string
  readonly hostIfname: string
  readonly mac: Mac | ''
  readonly containerId: string
  /** Under which an SDN controller knows the port. */
  readonly ifaceId: string
}

/** The switch makes its changes visible in `cur_cfg` when this one is reached. */
const TELL_SWITCH: Operation = { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] }

/** Names for rows that one transaction inserts. */
class Inserts {
  readonly operations: Operation[] = []
  #count = 0

  insert(table: string, row: Operation): readonly ['named-uuid', string] {
    const name = `row${this.#count++}`
    this.operations.push({ op: 'insert', table, row, 'uuid-name': name })
    return named(name)
  }

  port(name: string, port: Operation, iface: Operation): readonly ['named-uuid', string] {
    return this.insert('Port', { name, interfaces: this.insert('Interface', { name, ...iface }), ...port })
  }
}

/** Operations by which a network gets its bridge, uplink and gateway device; none when it has them. Throws nothing: what is in the way the database says. */
export function addNetwork(replica: Replica, network: WantedNetwork, engineId: string): Operation[] {
  const { id, config } = network
  const rows = new Inserts()
  const ports: unknown[] = []
  const tag = config.vlan > 0 ? { tag: config.vlan } : {}
  const mtu = config.mtu > 0 ? { mtu_request: config.mtu } : {}
  const bridge = replica.bridge(config.bridge)
  const has = (name: string) => bridge?.ports.some((port) => replica.ports.get(port)?.name === name) ?? false
  if (network.gatewayMac !== undefined && !has(config.device))
    ports.push(
      rows.port(
        config.device,
        { ...tag, external_ids: map({ [MARK]: id, [ENGINE]: engineId }) },
        { type: 'internal', mac: network.gatewayMac, ...mtu },
      ),
    )
  if (config.parent !== '' && !has(config.parent))
    ports.push(rows.port(config.parent, { external_ids: map({ [MARK]: UPLINK, [ENGINE]: engineId }) }, {}))
  const user = { [USER + id]: userValue(engineId, config.parent) }
  if (bridge === undefined) {
    ports.push(rows.port(config.bridge, {}, { type: 'internal' }))
    const made = rows.insert('Bridge', {
      name: config.bridge,
      ports: set(ports),
      datapath_type: network.datapath,
      external_ids: map({ [MARK]: id, ...user }),
    })
    return [
      ...rows.operations,
      { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'insert', set([made])]] },
      TELL_SWITCH,
    ]
  }
  const mutations: unknown[] = []
  if (ports.length > 0) mutations.push(['ports', 'insert', set(ports)])
  if (bridge.externalIds[USER + id] === undefined) mutations.push(['external_ids', 'insert', map(user)])
  if (mutations.length === 0) return []
  return [unchanged(bridge), ...rows.operations, { op: 'mutate', table: 'Bridge', where: isRow(bridge.id), mutations }, TELL_SWITCH]
}

/** Operations by which nothing of a network is left; none when that is so. A bridge that others use, or that was there before, stays. */
export function removeNetwork(replica: Replica, networkId: string): Operation[] {
  return [...replica.bridges.values()].flatMap((bridge) => {
    const mine = portsOf(replica, bridge).filter((port) => port.externalIds[MARK] === networkId)
    const isUser = bridge.externalIds[USER + networkId] !== undefined
    if (mine.length === 0 && !isUser) return []
    const others = Object.entries(bridge.externalIds).filter(([key]) => key.startsWith(USER) && key !== USER + networkId)
    const uplinks = portsOf(replica, bridge).filter(
      (port) => port.externalIds[MARK] === UPLINK && !others.some(([, value]) => uplinkOf(value) === port.name),
    )
    const gone = [...mine, ...uplinks]
    const stays = portsOf(replica, bridge).some((port) => port.name !== bridge.name && !gone.includes(port))
    if (bridge.externalIds[MARK] !== undefined && others.length === 0 && !stays)
      return [
        unchanged(bridge),
        { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'delete', set([uuid(bridge.id)])]] },
        TELL_SWITCH,
      ]
    return [unchanged(bridge), ...takePorts(bridge, gone, [['external_ids', 'delete', set([USER + networkId])]])]
  })
}

/** Operations by which the switch takes up an endpoint's outer end, in its network's VLAN; none when it has. The bridge must be there. */
export function addEndpoint(replica: Replica, network: WantedNetwork, endpoint: WantedEndpoint, engineId: string): Operation[] {
  const { config, id } = network
  const bridge = replica.bridge(config.bridge)
  if (bridge === undefined) return []
  const there = portsOf(replica, bridge).find((port) => port.externalIds[ENDPOINT] === endpoint.id)
  if (there?.name === endpoint.hostIfname) {
    if ((there.tag ?? 0) === config.vlan) return []
    const row = { tag: config.vlan > 0 ? config.vlan : set([]) }
    return [{ op: 'update', table: 'Port', where: isRow(there.id), row }, TELL_SWITCH]
  }
  const rows = new Inserts()
  const mark = { [MARK]: id, [ENDPOINT]: endpoint.id, [ENGINE]: engineId }
  const port = rows.port(
    endpoint.hostIfname,
    { ...(config.vlan > 0 ? { tag: config.vlan } : {}), external_ids: map(mark) },
    {
      // what Open vSwitch's integration guide names (Documentation/topics/integration.rst), and ovs-docker's container_id
      external_ids: map({
        'iface-id': endpoint.ifaceId,
        'iface-status': 'active',
        container_id: endpoint.containerId,
        ...(endpoint.mac === '' ? {} : { 'attached-mac': endpoint.mac }),
        ...mark,
      }),
    },
  )
  const old = there === undefined ? [] : [['ports', 'delete', set([uuid(there.id)])]]
  return [
    ...rows.operations,
    { op: 'mutate', table: 'Bridge', where: isRow(bridge.id), mutations: [...old, ['ports', 'insert', set([port])]] },
    TELL_SWITCH,
  ]
}

/** Operations by which nothing of an endpoint is left. */
export function removeEndpoint(replica: Replica, endpointId: string): Operation[] {
  return [...replica.bridges.values()].flatMap((bridge) =>
    takePorts(
      bridge,
      portsOf(replica, bridge).filter((port) => port.externalIds[ENDPOINT] === endpointId),
    ),
  )
}

/** What this engine put there for networks and endpoints that it no longer has. */
export function leftovers(
  replica: Replica,
  engineId: string,
  alive: { readonly networks: ReadonlySet<string>; readonly endpoints: ReadonlySet<string> },
): { readonly networks: readonly string[]; readonly endpoints: readonly string[] } {
  const networks = new Set<string>()
  const endpoints = new Set<string>()
  for (const bridge of replica.bridges.values()) {
    for (const [key, value] of Object.entries(bridge.externalIds))
      if (key.startsWith(USER) && value.startsWith(`${engineId}/`)) networks.add(key.slice(USER.length))
    for (const { externalIds } of portsOf(replica, bridge)) {
      if (externalIds[ENGINE] !== engineId) continue
      const { [MARK]: network = UPLINK, [ENDPOINT]: endpoint } = externalIds
      if (network !== UPLINK) networks.add(network)
      if (endpoint !== undefined) endpoints.add(endpoint)
    }
  }
  return {
    networks: [...networks].filter((id) => !alive.networks.has(id)),
    endpoints: [...endpoints].filter((id) => !alive.endpoints.has(id)),
  }
}

const userValue = (engineId: string, parent: string): string => `${engineId}/${parent}`
const uplinkOf = (value: string): string => value.slice(value.indexOf('/') + 1)

function portsOf(replica: Replica, bridge: BridgeRow): PortRow[] {
  return bridge.ports.flatMap((id: Uuid) => replica.ports.get(id) ?? [])
}

function takePorts(bridge: BridgeRow, ports: readonly PortRow[], more: readonly unknown[] = []): Operation[] {
  const mutations = [...(ports.length > 0 ? [['ports', 'delete', set(ports.map((port) => uuid(port.id)))]] : []), ...more]
  return mutations.length === 0 ? [] : [{ op: 'mutate', table: 'Bridge', where: isRow(bridge.id), mutations }, TELL_SWITCH]
}

/** The rest happens only while the same networks use the bridge (RFC 7047 5.2.6); otherwise it is thought over again. */
function unchanged(bridge: BridgeRow): Operation {
  return {
    op: 'wait',
    timeout: 0,
    table: 'Bridge',
    where: isRow(bridge.id),
    columns: ['external_ids'],
    until: '==',
    rows: [{ external_ids: map(bridge.externalIds) }],
  }
}

/**
 * docker_gwbridge: the bridge by which sandboxes without another way out reach the outside and publish ports (overlay networks,
 * plugins that ask for it). Made when the first sandbox needs it; its containers do not reach each other over it.
 */
import type { Logger } from '../base/ports.ts'
import { OPTION } from '../drivers/options.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Network, NetworkSpec } from '../model/network.ts'
import type { Networks } from './networks.ts'
import type { SandboxRecord } from './records.ts'
import type { Parts } from './sandbox-parts.ts'
import type { UndoStack } from './undo.ts'

const GATEWAY_BRIDGE = 'docker_gwbridge'
const ELSE = 'causeway_gwbrdg'

export class GatewayBridge {
  readonly #networks: Networks
  readonly #rtnl: Rtnl
  readonly #log: Logger
  readonly #create: (spec: NetworkSpec) => Network

  /** `create` makes a network with all that belongs to it, synchronously. */
  constructor(options: { networks: Networks; rtnl: Rtnl; log: Logger; create: (spec: NetworkSpec) => Network }) {
    this.#networks = options.networks
    this.#rtnl = options.rtnl
    this.#log = options.log
    this.#create = options.create
  }

  /** The network, made now if it is not there. A user may have made it before with a subnet of his own. */
  network(): Network {
    return (
      this.#networks.byName(GATEWAY_BRIDGE) ??
      this.#create({
        name: GATEWAY_BRIDGE,
        driver: 'bridge',
        options: {
          [OPTION.bridgeName]: this.#device(),
          [OPTION.enableIcc]: 'false',
          [OPTION.enableMasquerade]: 'true',
        },
      })
    )
  }

  #device(): string {
    const there = this.#rtnl.link(GATEWAY_BRIDGE)
    if (there === undefined || there.alias.startsWith('causeway:')) return GATEWAY_BRIDGE
    this.#log.warn(`${GATEWAY_BRIDGE} belongs to another engine on this machine: the way out of overlay networks uses ${ELSE}`)
    return ELSE
  }
}

/** Adds the way out to a sandbox that needs one and has none yet. */
export function withGatewayBridge(
  parts: Parts,
  record: SandboxRecord,
  undo: UndoStack,
  isTaken?: (ifname: string) => boolean,
): SandboxRecord {
  if (record.endpoints.some((e) => e.gatewayBridge) || !parts.attachments.needsGatewayBridge(record)) return record
  const e = parts.reserver.reserve(record, parts.gatewayBridge(), {}, record.endpoints, undo, {
    gatewayBridge: true,
    ...(isTaken ? { isTaken } : {}),
  })
  return { ...record, endpoints: [...record.endpoints, e] }
}

/** As Docker names the endpoint of a sandbox on docker_gwbridge. */
export function gatewayEndpointName(sandboxId: string): string {
  return `gateway_${sandboxId.slice(0, 12)}`
}

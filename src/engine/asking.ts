/** What is asked of authorities while one sandbox opens or one endpoint is connected, and how it is taken back. */
import { newId } from '../base/ids.ts'
import type { Authority, AuthorityData, EndpointAsk, EndpointFinal, EndpointGrant } from '../drivers/authority.ts'
import type { EndpointSettings } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import { type Attached, isUserDefined } from './attachments.ts'
import { dnsNamesOf } from './endpoint-rules.ts'
import { tellGateways } from './gateway-tell.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import type { Parts } from './sandbox-parts.ts'

export interface GrantedEndpoint {
  readonly id: string
  readonly grant: EndpointGrant
}

interface Asked {
  readonly authority: Authority
  readonly network: Network
  readonly ask: EndpointAsk
  data: AuthorityData
  final?: EndpointFinal
}

export class Asking {
  readonly #parts: Parts
  readonly #sandbox: SandboxRecord
  readonly #asked = new Map<string, Asked>()

  constructor(parts: Parts, sandbox: SandboxRecord) {
    this.#parts = parts
    this.#sandbox = sandbox
  }

  /** First question: may there be such an endpoint, and with which addresses? Undefined when the network has no authority. */
  async grant(network: Network, settings: EndpointSettings): Promise<GrantedEndpoint | undefined> {
    const { desk, env } = this.#parts
    const authority = desk.of(network)
    if (authority === undefined) return undefined
    const id = newId(env.rng)
    const asked: Asked = { authority, network, ask: askOf(this.#sandbox, id, network, settings), data: {} }
    this.#asked.set(id, asked)
    desk.begin({ kind: 'endpoint', network, endpointId: id, data: {} })
    const grant = (await authority.grantEndpoint?.(network, asked.ask)) ?? {}
    this.#learn(asked, grant.data)
    return { id, grant }
  }

  /** Second: the addresses are settled. Returns the record with what the authority wants to keep, undefined when nobody was asked. */
  async create(e: EndpointRecord): Promise<EndpointRecord | undefined> {
    const asked = this.#asked.get(e.id)
    if (asked === undefined) return undefined
    const { ipv4, ipv6, mac, hostIfname } = e
    const final: EndpointFinal = { ...asked.ask, ipv4, ipv6, mac, hostIfname, data: asked.data }
    this.#learn(asked, await asked.authority.createEndpoint?.(asked.network, final))
    asked.final = { ...final, data: asked.data }
    return { ...e, data: asked.data }
  }

  /** Last: the interfaces are in place. From here on the records say what there is. `before`: the sandbox without them, if it was there. */
  async activate(before?: SandboxRecord): Promise<void> {
    for (const { authority, network, final } of this.#asked.values()) if (final) await authority.activateEndpoint?.(network, final)
    await tellGateways(this.#parts, before, this.#parts.registry.get(this.#sandbox.containerId))
    for (const id of this.#asked.keys()) this.#parts.desk.settle(id)
  }

  /** Takes back whatever was asked for. Never throws. */
  async withdraw(): Promise<void> {
    for (const [id, { network, data }] of this.#asked) await this.#parts.desk.removeEndpoint(network, id, data)
  }

  #learn(asked: Asked, data: AuthorityData | undefined): void {
    if (data === undefined) return
    asked.data = { ...asked.data, ...data }
    this.#parts.desk.begin({ kind: 'endpoint', network: asked.network, endpointId: asked.ask.endpointId, data: asked.data })
  }
}

function askOf(sandbox: SandboxRecord, endpointId: string, network: Network, settings: EndpointSettings): EndpointAsk {
  const { containerId, containerName, hostname } = sandbox
  return {
    endpointId,
    containerId,
    containerName,
    hostname,
    sandboxId: sandbox.id,
    sandboxKey: sandbox.key,
    settings,
    dnsNames: isUserDefined(network) ? dnsNamesOf(containerName, settings.aliases ?? [], containerId, hostname) : [],
    ports: sandbox.portRequests.map(({ proto, containerPort, hostIp, hostPort }) => ({ proto, containerPort, hostIp, hostPort })),
    exposed: sandbox.exposed,
  }
}

/** An endpoint of a live sandbox, as its authority knows it. */
export function finalOf(sandbox: SandboxRecord, { record: e, network }: Attached): EndpointFinal {
  const { ipv4, ipv6, mac, hostIfname, data = {} } = e
  return { ...askOf(sandbox, e.id, network, e.settings), ipv4, ipv6, mac, hostIfname, data }
}

/** Notes, before the record goes, that an authority is to be told: a crash after it must not leave the endpoint there for ever. */
export function rememberToRemove(parts: Parts, { record: e, network }: Attached): void {
  if (parts.desk.of(network)) parts.desk.begin({ kind: 'endpoint', network, endpointId: e.id, data: e.data ?? {} })
}

/** Tells the authorities of these endpoints that they have gone. Never throws. */
export async function tellGone(parts: Parts, endpoints: readonly Attached[]): Promise<void> {
  for (const { record: e, network } of endpoints) if (parts.desk.of(network)) await parts.desk.removeEndpoint(network, e.id, e.data ?? {})
}

/** Reserves what an endpoint needs before the kernel is touched: id, addresses, MAC, interface names. */
import { type Ip, parseIp, parseMac } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { hex, newId, randomMac } from '../base/ids.ts'
import type { Rng } from '../base/ports.ts'
import type { EndpointGrant } from '../drivers/authority.ts'
import { OPTION } from '../drivers/options.ts'
import type { EndpointWanted } from '../drivers/types.ts'
import type { AddressSpace } from '../ipam/address-space.ts'
import type { EndpointSettings } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import { type Attached, isUserDefined } from './attachments.ts'
import { dnsNamesOf, parseLinkLocal, refuseConfigOnly } from './endpoint-rules.ts'
import type { Networks } from './networks.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import type { UndoStack } from './undo.ts'

export class EndpointReserver {
  readonly #networks: Networks
  readonly #ipam: AddressSpace
  readonly #rng: Rng
  readonly #isIfnameTaken: (name: string) => boolean
  readonly #wanted: (at: Attached) => EndpointWanted

  constructor(options: {
    networks: Networks
    ipam: AddressSpace
    rng: Rng
    isIfnameTaken: (name: string) => boolean
    wanted: (at: Attached) => EndpointWanted
  }) {
    this.#wanted = options.wanted
    this.#networks = options.networks
    this.#ipam = options.ipam
    this.#rng = options.rng
    this.#isIfnameTaken = options.isIfnameTaken
  }

  /** Throws Docker's texts (`Address already in use`, …). `isTaken` tells of interface names inside the sandbox besides the siblings'. */
  reserve(
    sandbox: SandboxRecord,
    network: Network,
    settings: EndpointSettings,
    siblings: readonly EndpointRecord[],
    undo: UndoStack,
    options: {
      readonly isTaken?: (ifname: string) => boolean
      readonly id?: string
      readonly grant?: EndpointGrant
      readonly gatewayBridge?: boolean
    } = {},
  ): EndpointRecord {
    refuseConfigOnly(network)
    const driver = this.#networks.driverOf(network)
    if (driver.isAbsent) throw new NetError('not-found', `plugin "${driver.name}" not found`)
    const grant = options.grant ?? {}
    const base = {
      id: options.id ?? newId(this.#rng),
      networkId: network.id,
      networkName: network.name,
      containerId: sandbox.containerId,
      settings,
    }
    if (driver.withoutIpam && options.grant === undefined)
      return { ...base, ifname: '', hostIfname: '', mac: '', ipv4: '', ipv6: '', dnsNames: [] }
    parseLinkLocal(settings)
    const ipv4 = grant.ipv4 ?? this.#takeAddress(4, sandbox, network, settings.ipv4, undo)
    const ipv6 = grant.ipv6 ?? this.#takeAddress(6, sandbox, network, settings.ipv6, undo)
    return this.settle(
      {
        ...base,
        ifname: '',
        hostIfname: this.#newVethName(),
        mac: settings.mac ? parseMac(settings.mac) : (grant.mac ?? driver.macFor?.(ipv4, network) ?? randomMac(this.#rng)),
        ipv4,
        ipv6,
        dnsNames:
          isUserDefined(network) && !options.gatewayBridge
            ? dnsNamesOf(sandbox.containerName, settings.aliases ?? [], sandbox.containerId, sandbox.hostname)
            : [],
        ...(grant.data ? { data: grant.data } : {}),
        ...(options.gatewayBridge ? { gatewayBridge: true as const } : {}),
      },
      network,
      siblings,
      options.isTaken,
    )
  }

  /** Chooses the interface's names; done again when the authority has said more in `data`. */
  settle(
    e: EndpointRecord,
    network: Network,
    siblings: readonly EndpointRecord[],
    isTaken: (ifname: string) => boolean = () => false,
  ): EndpointRecord {
    const driver = this.#networks.driverOf(network)
    const prefix = driver.ifacePrefix?.(network, e.data ?? {}) || network.options[OPTION.ifacePrefix] || 'eth'
    const named = { ...e, ifname: chooseIfname(prefix, e.settings, siblings, isTaken) }
    const { plug } = this.#wanted({ record: named, network })
    if (plug.kind === 'none') return { ...named, ifname: '', hostIfname: '' }
    if (plug.kind === 'born') return { ...named, hostIfname: '' }
    if (plug.kind === 'taken') return { ...named, hostIfname: plug.hostIfname, mac: plug.mac ?? named.mac }
    const { name } = plug.link.spec
    return plug.place === undefined ? named : { ...named, hostIfname: name, place: plug.place }
  }

  /** Takes a stored endpoint's addresses again. Throws when somebody else has them. */
  retake(e: EndpointRecord, containerName: string): void {
    for (const { key, ip } of this.#addressesOf(e)) this.#ipam.requestAddress(key, { ip, holder: `container "${containerName}"` })
  }

  /** Frees an endpoint's addresses. Idempotent. */
  release(e: EndpointRecord): void {
    for (const { key, ip } of this.#addressesOf(e)) this.#ipam.releaseAddress(key, ip)
  }

  #addressesOf(e: EndpointRecord): { key: string; ip: Ip }[] {
    const network = this.#networks.find(e.networkId)
    if (network === undefined) return []
    return ([4, 6] as const).flatMap((family) => {
      const ip = family === 4 ? e.ipv4 : e.ipv6
      const key = ip === '' ? undefined : this.#networks.poolKey(network, family, ip)
      return ip === '' || key === undefined ? [] : [{ key, ip }]
    })
  }

  #takeAddress(family: 4 | 6, sandbox: SandboxRecord, network: Network, wanted: string | undefined, undo: UndoStack): Ip | '' {
    if (family === 4 ? !network.enableIpv4 : !network.enableIpv6) return ''
    const ip = wanted ? parseIp(wanted) : undefined
    const key = this.#networks.poolKey(network, family, ip)
    if (key === undefined) return ''
    const got = this.#ipam.requestAddress(key, {
      ...(ip ? { ip } : {}),
      holder: `container "${sandbox.containerName}"`,
      network: `${network.name} (${network.id})`,
    })
    undo.defer(`address ${got}`, () => this.#ipam.releaseAddress(key, got))
    return got
  }

  #newVethName(): string {
    for (;;) {
      const name = `veth${hex(this.#rng.bytes(4)).slice(0, 7)}`
      if (!this.#isIfnameTaken(name)) return name
    }
  }
}

function chooseIfname(
  prefix: string,
  settings: EndpointSettings,
  siblings: readonly EndpointRecord[],
  isTaken: (ifname: string) => boolean,
): string {
  const isUsed = (name: string) => siblings.some((e) => e.ifname === name) || isTaken(name)
  const asked = settings.driverOpts?.[OPTION.endpointIfname]
  if (asked) {
    if (isUsed(asked)) throw new NetError('internal', `error renaming interface to ${asked}: file exists`)
    return asked
  }
  for (let n = 0; ; n++) if (!isUsed(`${prefix}${n}`)) return `${prefix}${n}`
}

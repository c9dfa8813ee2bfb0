/** Reserves what an endpoint needs before the kernel is touched: id, addresses, MAC, interface names. */
import { type Ip, parseIp, parseMac } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { hex, newId, randomMac } from '../base/ids.ts'
import type { Rng } from '../base/ports.ts'
import { OPTION } from '../drivers/options.ts'
import type { AddressSpace } from '../ipam/address-space.ts'
import type { EndpointSettings } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'
import { isUserDefined } from './attachments.ts'
import { dnsNamesOf, parseLinkLocal, refuseConfigOnly } from './endpoint-rules.ts'
import type { Networks } from './networks.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import type { UndoStack } from './undo.ts'

export class EndpointReserver {
  readonly #networks: Networks
  readonly #ipam: AddressSpace
  readonly #rng: Rng
  readonly #isIfnameTaken: (name: string) => boolean

  constructor(options: { networks: Networks; ipam: AddressSpace; rng: Rng; isIfnameTaken: (name: string) => boolean }) {
    this.#networks = options.networks
    this.#ipam = options.ipam
    this.#rng = options.rng
    this.#isIfnameTaken = options.isIfnameTaken
  }

  /** Throws Docker's texts (`Address already in use`, …). `taken` are interface names inside the sandbox besides the siblings'. */
  reserve(
    sandbox: SandboxRecord,
    network: Network,
    settings: EndpointSettings,
    siblings: readonly EndpointRecord[],
    undo: UndoStack,
    taken: ReadonlySet<string> = new Set(),
  ): EndpointRecord {
    refuseConfigOnly(network)
    const base = { id: newId(this.#rng), networkId: network.id, networkName: network.name, containerId: sandbox.containerId, settings }
    if (this.#networks.driverOf(network).withoutIpam)
      return { ...base, ifname: '', hostIfname: '', mac: '', ipv4: '', ipv6: '', dnsNames: [] }
    parseLinkLocal(settings)
    const ifname = this.#chooseIfname(network, settings, siblings, taken)
    return {
      ...base,
      ifname,
      hostIfname: this.#newVethName(),
      mac: settings.mac ? parseMac(settings.mac) : randomMac(this.#rng),
      ipv4: this.#takeAddress(4, sandbox, network, settings.ipv4, undo),
      ipv6: this.#takeAddress(6, sandbox, network, settings.ipv6, undo),
      dnsNames: isUserDefined(network)
        ? dnsNamesOf(sandbox.containerName, settings.aliases ?? [], sandbox.containerId, sandbox.hostname)
        : [],
    }
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

  #chooseIfname(network: Network, settings: EndpointSettings, siblings: readonly EndpointRecord[], taken: ReadonlySet<string>): string {
    const used = new Set([...taken, ...siblings.map((e) => e.ifname)])
    const asked = settings.driverOpts?.[OPTION.endpointIfname]
    if (asked) {
      if (used.has(asked)) throw new NetError('internal', `error renaming interface to ${asked}: file exists`)
      return asked
    }
    const prefix = network.options[OPTION.ifacePrefix] || 'eth'
    for (let n = 0; ; n++) if (!used.has(`${prefix}${n}`)) return `${prefix}${n}`
  }

  #newVethName(): string {
    for (;;) {
      const name = `veth${hex(this.#rng.bytes(4)).slice(0, 7)}`
      if (!this.#isIfnameTaken(name)) return name
    }
  }
}

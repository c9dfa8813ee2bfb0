/** The registry of networks: validation, address pools, names. Owns the records; the kernel is `host-kernel.ts`'s matter. */
import { type Cidr, cidrOverlaps, familyOf, type Ip, isWholeSpace, parseIp, tryParseCidr, tryParseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { newId } from '../base/ids.ts'
import type { Clock, Rng } from '../base/ports.ts'
import type { NetworkGrant } from '../drivers/authority.ts'
import { OPTION, type Options } from '../drivers/options.ts'
import { absentDriver, builtinDrivers } from '../drivers/registry.ts'
import type { Driver, NetworkDraft } from '../drivers/types.ts'
import type { AddressSpace } from '../ipam/address-space.ts'
import type { HostSubnets } from '../ipam/host-subnets.ts'
import { validateIpam } from '../ipam/validate.ts'
import type { IpamPool, IpamPoolRequest, Network, NetworkSpec } from '../model/network.ts'
import type { Store } from '../store/types.ts'
import { KEY } from './records.ts'
import type { UndoStack } from './undo.ts'

const RESERVED: ReadonlySet<string> = new Set(['bridge', 'host', 'none', 'default'])

export interface NetworksOptions {
  /** Besides the built-in ones. */
  readonly drivers: readonly Driver[]
  /** A driver that is found by its name at run time (a plugin). */
  readonly findDriver: (name: string) => Driver | undefined
  /** Why networks may exist that are not known here (a cluster's store is away), as a sentence; undefined when all are known. */
  readonly whyUnknown: () => string | undefined
  readonly store: Store
  readonly ipam: AddressSpace
  readonly clock: Clock
  readonly rng: Rng
  /** What the host uses: its links and name servers are never taken automatically, what it routes to only as a last resort. */
  readonly hostUse: () => HostSubnets
  readonly defaultOpts: Readonly<Record<string, Options>>
}

export class Networks {
  readonly #byId = new Map<string, Network>()
  readonly #byName = new Map<string, Network>()
  /** Which network has a bridge. */
  readonly #byDevice = new Map<string, Network>()
  readonly #drivers: ReadonlyMap<string, Driver>
  /** Pool keys of a network, in the order of its pools. */
  readonly #pools = new Map<string, string[]>()
  readonly #options: NetworksOptions

  constructor(options: NetworksOptions) {
    this.#options = options
    this.#drivers = new Map([...builtinDrivers, ...options.drivers].map((driver) => [driver.name, driver]))
  }

  list(): readonly Network[] {
    return [...this.#byId.values()]
  }

  get size(): number {
    return this.#byId.size
  }

  /** Never throws: a network whose driver is not there now can be listed and removed. */
  driverOf(network: Network): Driver {
    const name = network.configOnly ? 'null' : network.driver
    return this.#drivers.get(name) ?? this.#options.findDriver(name) ?? absentDriver(name)
  }

  knows(driver: string): boolean {
    return this.#drivers.has(driver) || this.#options.findDriver(driver) !== undefined
  }

  driver(name: string): Driver {
    const driver = this.#drivers.get(name) ?? this.#options.findDriver(name)
    if (driver !== undefined) return driver
    if (name === 'overlay')
      throw new NetError(
        'denied',
        'an overlay network needs the store that its hosts share: start etcd or Consul and then every engine with ' +
          '--cluster-store etcd://HOST:2379 (or consul://HOST:8500) and --cluster-advertise ADDRESS:2377',
      )
    throw new NetError('not-found', `plugin "${name}" not found`)
  }

  /** Full id, then full name, then unique id prefix. Undefined when nothing matches; throws `invalid` when several do. */
  find(ref: string): Network | undefined {
    const exact = this.#byId.get(ref) ?? this.#byName.get(ref)
    if (exact !== undefined || ref === '') return exact
    if (!/^[0-9a-f]+$/.test(ref)) return undefined
    const matches = [...this.#byId.values()].filter((n) => n.id.startsWith(ref))
    if (matches.length > 1) throw new NetError('invalid', `${matches.length} matches found based on ID prefix: network ${ref} is ambiguous`)
    return matches[0]
  }

  get(ref: string): Network {
    const network = this.find(ref)
    if (network === undefined) throw this.unknown(ref)
    return network
  }

  /** What to throw for a network that is not known: that it does not exist is said only when that is certain. */
  unknown(ref: string): NetError {
    const why = this.#options.whyUnknown()
    if (why === undefined) return new NetError('not-found', `network ${ref} not found`)
    return new NetError('unavailable', `network ${ref} not found on this host, and the cluster cannot be asked: ${why}`)
  }

  byName(name: string): Network | undefined {
    return this.#byName.get(name)
  }

  /** Validates a request and reserves everything it needs; nothing is stored yet. `undo` takes the reservations back. */
  prepare(spec: NetworkSpec, undo: UndoStack, options: PrepareOptions = {}): Network {
    const { draft, source, driver, driverName, driverOptions, predefined } = this.draft(spec, options)
    if (draft === undefined) return this.#prepareConfigOnly(spec)
    const granted = options.grant?.pools
    const pools = driver.withoutIpam
      ? []
      : (granted ?? this.#reservePools(draft, driver, options.grant?.requests ?? source.ipam?.config ?? [], undo))
    const network: Network = {
      id: draft.id,
      name: draft.name,
      created: options.reuse?.created ?? rfc3339Nano(this.#options.clock.now()),
      driver: driverName,
      scope: options.scope ?? driver.scope,
      enableIpv4: draft.enableIpv4,
      enableIpv6: draft.enableIpv6,
      internal: draft.internal,
      attachable: source.attachable ?? false,
      ingress: false,
      configOnly: false,
      configFrom: spec.configFrom ?? '',
      ipamDriver: source.ipam?.driver || 'default',
      ipamOptions: source.ipam?.options ?? null,
      pools,
      options: driverOptions,
      labels: source.labels ?? {},
      predefined,
      ...(granted ? { grantedPools: true as const } : {}),
      ...(options.grant?.data ? { data: options.grant.data } : {}),
    }
    // subnets cannot overlap, the address space sees to that: only a device can be claimed twice
    const holder = this.#byDevice.get(driver.deviceOf?.(network) ?? '')
    const clash = holder === undefined ? undefined : driver.conflict?.(network, holder)
    if (clash !== undefined) throw new NetError('denied', clash)
    return network
  }

  /** Checks a request as far as is possible before anybody is asked for addresses; `draft` is absent for configuration networks. */
  draft(spec: NetworkSpec, options: PrepareOptions = {}): Drafted {
    const predefined = options.predefined ?? false
    if (spec.name === '') throw new NetError('invalid', 'invalid name: name is empty')
    if (!predefined && RESERVED.has(spec.name))
      throw new NetError('denied', `operation is not permitted on predefined ${spec.name} network `)
    if (this.#byName.has(spec.name)) throw new NetError('conflict', `network with name ${spec.name} already exists`)
    if (spec.configOnly)
      return {
        draft: undefined,
        source: spec,
        driver: this.driver('null'),
        driverName: 'null',
        driverOptions: spec.options ?? {},
        predefined,
      }
    const source = spec.configFrom ? this.#applyConfigFrom(spec, spec.configFrom) : spec
    const driverName = source.driver === '' || source.driver === 'default' ? 'bridge' : source.driver
    const driver = this.driver(driverName)
    if (driver.singleton && !predefined) throw new NetError('denied', `only one instance of "${driverName}" network is allowed`)
    if (source.ingress) throw new NetError('denied', 'Ingress network can only be global scope network')
    if (source.scope === 'swarm') throw new NetError('denied', 'cannot create a swarm scoped network when swarm is not active')
    const driverOptions =
      predefined || spec.configFrom ? (source.options ?? {}) : { ...this.#options.defaultOpts[driverName], ...source.options }
    const family = familySwitches(source, driverOptions)
    const draft: NetworkDraft = {
      id: options.id ?? options.reuse?.id ?? newId(this.#options.rng),
      name: source.name,
      ...family,
      internal: source.internal ?? false,
      options: driverOptions,
      subnets: source.ipam?.config ?? [],
    }
    driver.validate(draft)
    const ipamDriver = source.ipam?.driver || 'default'
    if (ipamDriver !== 'default' && ipamDriver !== 'null' && options.authority !== true)
      throw new NetError('not-found', `plugin "${ipamDriver}" not found`)
    // a plugin may find addresses by itself (DHCP, for example)
    if (!driver.withoutIpam && ipamDriver === 'null' && !options.authority) throw new NetError('invalid', 'ipv4 pool is empty')
    validateIpam(source.ipam?.config ?? [], { enableIpv6: family.enableIpv6 })
    return { draft, source, driver, driverName, driverOptions, predefined }
  }

  #prepareConfigOnly(spec: NetworkSpec): Network {
    if (spec.ingress || spec.internal || spec.attachable || (spec.scope && spec.scope !== 'local') || spec.configFrom)
      throw new NetError(
        'denied',
        spec.configFrom
          ? 'a configuration network cannot depend on another configuration network'
          : 'configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.',
      )
    validateIpam(spec.ipam?.config ?? [], { enableIpv6: spec.enableIpv6 ?? false })
    return {
      id: newId(this.#options.rng),
      name: spec.name,
      created: rfc3339Nano(this.#options.clock.now()),
      driver: 'null',
      scope: 'local',
      enableIpv4: spec.enableIpv4 ?? true,
      enableIpv6: spec.enableIpv6 ?? false,
      internal: false,
      attachable: false,
      ingress: false,
      configOnly: true,
      configFrom: '',
      ipamDriver: spec.ipam?.driver || 'default',
      ipamOptions: spec.ipam?.options ?? null,
      pools: (spec.ipam?.config ?? []).flatMap((c) => {
        const subnet = tryParseCidr(c.subnet ?? '')
        return subnet ? [poolFrom(subnet, c)] : []
      }),
      options: spec.options ?? {},
      labels: spec.labels ?? {},
      predefined: false,
    }
  }

  #applyConfigFrom(spec: NetworkSpec, from: string): NetworkSpec {
    const config = this.#byName.get(from)
    if (config === undefined || !config.configOnly) throw new NetError('not-found', `configuration network "${from}" does not exist`)
    if ((spec.ipam?.config?.length ?? 0) > 0)
      throw new NetError('denied', 'user-specified configurations are not supported if the network depends on a configuration network')
    if (Object.keys(spec.options ?? {}).length > 0)
      throw new NetError('denied', 'network driver options are not supported if the network depends on a configuration network')
    return {
      ...spec,
      enableIpv4: config.enableIpv4,
      enableIpv6: config.enableIpv6,
      options: config.options,
      labels: { ...config.labels, ...spec.labels },
      ipam: {
        driver: config.ipamDriver,
        options: config.ipamOptions,
        config: config.pools.map((p) => ({
          subnet: p.subnet,
          ...(p.gateway ? { gateway: p.gateway } : {}),
          ...(p.ipRange ? { ipRange: p.ipRange } : {}),
          aux: p.aux,
        })),
      },
    }
  }

  #reservePools(draft: NetworkDraft, driver: Driver, configs: readonly IpamPoolRequest[], undo: UndoStack): IpamPool[] {
    const { ipam } = this.#options
    const skip = driver.skipGateway(draft)
    const pools: IpamPool[] = []
    const keys: string[] = []
    this.#pools.set(draft.id, keys)
    undo.defer(`pools of network ${draft.name}`, () => this.#pools.delete(draft.id))
    for (const family of [4, 6] as const) {
      if (family === 4 ? !draft.enableIpv4 : !draft.enableIpv6) continue
      const wanted = configs.filter((c) => c.subnet && c.subnet.includes(':') === (family === 6))
      for (const config of wanted.length > 0 ? wanted : [{} as IpamPoolRequest]) {
        const got = ipam.requestPool({
          family,
          ...(config.subnet ? { subnet: config.subnet } : {}),
          ...(config.ipRange ? { ipRange: config.ipRange } : {}),
          shared: sharesSubnets(driver),
          ...(config.subnet ? {} : this.#inUse()),
          holder: `network "${draft.name}"`,
        })
        keys.push(got.key)
        undo.defer(`pool ${got.subnet}`, () => ipam.releasePool(got.key))
        const aux: Record<string, Ip> = {}
        for (const [name, text] of Object.entries(config.aux ?? {})) aux[name] = parseIp(text)
        let gateway: Ip | undefined
        const wantsGateway = family === 4 ? !skip.ipv4 : !skip.ipv6
        if (config.gateway) gateway = ipam.requestGateway(got.key, parseIp(config.gateway), `gateway of network "${draft.name}"`)
        for (const [name, ip] of Object.entries(aux)) {
          try {
            ipam.requestAddress(got.key, { ip, holder: `auxiliary address "${name}" of network "${draft.name}"` })
          } catch (cause) {
            throw new NetError('internal', `failed to allocate secondary ip address (${name}:${ip}): Address already in use`, {}, cause)
          }
        }
        if (!config.gateway && wantsGateway) gateway = ipam.requestGateway(got.key, undefined, `gateway of network "${draft.name}"`)
        pools.push({
          subnet: got.subnet,
          ...(gateway ? { gateway } : {}),
          ...(got.ipRange ? { ipRange: got.ipRange } : {}),
          aux,
        })
      }
    }
    return pools
  }

  /** What automatic choice keeps away from: the host's subnets, and those that an authority has given to networks. */
  #inUse(): HostSubnets {
    const host = this.#options.hostUse()
    const granted = this.list().flatMap((n) =>
      n.grantedPools ? n.pools.map((pool) => pool.subnet).filter((subnet) => !isWholeSpace(subnet)) : [],
    )
    return granted.length === 0 ? host : { reserved: [...host.reserved, ...granted], avoid: host.avoid }
  }

  /** Makes a prepared network visible and durable. */
  add(network: Network): void {
    this.#options.store.put(KEY.network(network.id), network)
    this.#index(network)
  }

  #index(network: Network): void {
    this.#byId.set(network.id, network)
    if (!this.#byName.has(network.name)) this.#byName.set(network.name, network)
    const device = this.driverOf(network).deviceOf?.(network)
    if (device !== undefined && !network.configOnly) this.#byDevice.set(device, network)
  }

  /** Takes up a stored network again: same pools, same gateway. */
  restore(network: Network): void {
    const keys: string[] = []
    for (const pool of network.configOnly || network.grantedPools ? [] : network.pools)
      keys.push(
        this.#options.ipam.restorePool({
          subnet: pool.subnet,
          ...(pool.ipRange ? { ipRange: pool.ipRange } : {}),
          shared: sharesSubnets(this.driverOf(network)),
          holder: `network "${network.name}"`,
          gateway: pool.gateway,
          aux: Object.values(pool.aux),
        }),
      )
    this.#pools.set(network.id, keys)
    this.#index(network)
  }

  /** Forgets a network and frees its pools. */
  delete(network: Network): void {
    this.#options.store.remove(KEY.network(network.id))
    this.#byId.delete(network.id)
    if (this.#byName.get(network.name)?.id === network.id) this.#byName.delete(network.name)
    const device = this.driverOf(network).deviceOf?.(network)
    if (device !== undefined && this.#byDevice.get(device)?.id === network.id) this.#byDevice.delete(device)
    for (const key of this.#pools.get(network.id) ?? []) this.#options.ipam.releasePool(key)
    this.#pools.delete(network.id)
  }

  /** Key of the pool that holds `ip`, or of the family's first pool. */
  poolKey(network: Network, family: 4 | 6, ip?: Ip): string | undefined {
    const keys = this.#pools.get(network.id) ?? []
    const at = network.pools.findIndex(
      (pool) =>
        familyOf(pool.subnet) === family && (ip === undefined || cidrOverlaps(pool.subnet, `${ip}/${family === 4 ? 32 : 128}` as Cidr)),
    )
    return at < 0 ? undefined : keys[at]
  }

  poolKeys(network: Network): readonly string[] {
    return this.#pools.get(network.id) ?? []
  }

  /** Config-only networks that others were made from cannot be removed. */
  usersOfConfig(name: string): readonly Network[] {
    return [...this.#byId.values()].filter((n) => n.configFrom === name)
  }
}

export interface PrepareOptions {
  readonly predefined?: boolean
  /** A stored network that is made anew under its id. */
  readonly reuse?: Network
  readonly id?: string
  readonly scope?: 'local' | 'global'
  /** Somebody outside decides on the network: its IPAM driver need not be ours. */
  readonly authority?: boolean
  readonly grant?: NetworkGrant
}

export interface Drafted {
  readonly draft: NetworkDraft | undefined
  readonly source: NetworkSpec
  readonly driver: Driver
  readonly driverName: string
  readonly driverOptions: Options
  readonly predefined: boolean
}

const sharesSubnets = (driver: Driver): boolean => driver.sharesSubnets ?? false

function poolFrom(subnet: Cidr, config: IpamPoolRequest): IpamPool {
  const gateway = tryParseIp(config.gateway ?? '')
  const ipRange = tryParseCidr(config.ipRange ?? '')
  const aux: Record<string, Ip> = {}
  for (const [name, text] of Object.entries(config.aux ?? {})) aux[name] = parseIp(text)
  return { subnet, ...(gateway ? { gateway } : {}), ...(ipRange ? { ipRange } : {}), aux }
}

/** EnableIPv4/EnableIPv6: explicit fields win over the driver options of the same meaning. */
function familySwitches(spec: NetworkSpec, options: Options): { enableIpv4: boolean; enableIpv6: boolean } {
  const read = (label: string, explicit: boolean | undefined, fallback: boolean) => {
    const text = options[label]
    if (text !== undefined && !/^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)$/.test(text))
      throw new NetError('invalid', `driver-opt "${label}" is not a valid bool`)
    return explicit ?? (text === undefined ? fallback : /^(1|t)/i.test(text))
  }
  return { enableIpv4: read(OPTION.enableIpv4, spec.enableIpv4, true), enableIpv6: read(OPTION.enableIpv6, spec.enableIpv6, false) }
}

/** Docker prints nanoseconds; the clock gives milliseconds. */
function rfc3339Nano(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000000Z')
}

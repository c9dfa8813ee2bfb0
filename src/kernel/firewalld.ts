/**
 * Our bridges and firewalld. What it has no zone for it treats as the default zone, which forwards nothing, and a packet that its chain
 * rejects no rule of ours can let pass. So our bridges get a zone of their own, `causeway` (target ACCEPT), and a policy that lets what our own
 * firewall admits in: what dockerd does with its zone `docker`. A bridge that somebody has put into another zone stays there.
 *
 * Zone and policy are files of firewalld's permanent configuration, which it takes up when it reloads; the bridges are in its running
 * state only. {@link FirewalldZone.remove} takes all of it away again.
 */
import { existsSync } from 'node:fs'
import { hasCode, messageOf } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import { type DbusCall, DbusConnection, SYSTEM_BUS } from '../sys/dbus.ts'
import type { DbusValue } from '../wire/dbus.ts'

export const FIREWALLD_ZONE = 'causeway'
const POLICY = 'causeway-in'
const NAME = 'org.fedoraproject.FirewallD1'
const PATH = '/org/fedoraproject/FirewallD1'
const CONFIG = { path: `${PATH}/config`, interface: `${NAME}.config` }
const ZONE = { path: PATH, interface: `${NAME}.zone` }
const POLICIES = { path: PATH, interface: `${NAME}.policy` }
/** It writes all of its rules anew. */
const RELOAD_MS = 60_000
/** Longest that a start of a container waits for it. */
const PATIENCE_MS = 10_000
/** Pause after a failure. */
const RETRY_MS = 5_000

const text = (value: string) => ({ signature: 's', value })
const texts = (...value: string[]) => ({ signature: 'as', value })
const ZONE_SETTINGS: DbusValue = [
  ['short', text('Causeway')],
  ['description', text('Bridges of container networks. What may pass between them decides the nftables table inet causeway.')],
  ['target', text('ACCEPT')],
]
const POLICY_SETTINGS: DbusValue = [
  ['short', text('Causeway, inwards')],
  ['description', text('Into container networks. What may pass decides the nftables table inet causeway.')],
  ['target', text('ACCEPT')],
  ['ingress_zones', texts('ANY')],
  ['egress_zones', texts(FIREWALLD_ZONE)],
]

/** firewalld on the machine's own bus. */
export function openFirewalld(options: Omit<FirewalldOptions, 'openBus'>): FirewalldZone {
  return new FirewalldZone({ ...options, openBus: () => (existsSync(SYSTEM_BUS) ? DbusConnection.open(options.clock) : undefined) })
}

export interface FirewalldOptions {
  readonly clock: Clock
  readonly log: Logger
  /** The system bus; undefined while there is none. */
  readonly openBus: () => Promise<DbusConnection> | undefined
  /** Bridges of ours that forward, now. */
  readonly bridges: () => readonly string[]
}

export class FirewalldZone {
  readonly #o: FirewalldOptions
  #bus: DbusConnection | undefined
  #isRunning = false
  /** Bridges that firewalld has been asked about since it started or reloaded. */
  readonly #done = new Set<string>()
  #work: Promise<void> | undefined
  #notBefore = 0
  #failure = ''

  constructor(options: FirewalldOptions) {
    this.#o = options
  }

  /**
   * Resolves when firewalld lets our bridges through, at once when there is no firewalld or nothing has changed; after ten seconds in any
   * case. Never throws.
   */
  settle(): Promise<void> {
    if (this.#work === undefined && this.#isSettled()) return Promise.resolve()
    this.#work ??= this.#settle().finally(() => {
      this.#work = undefined
    })
    return this.#patiently(this.#work)
  }

  /** firewalld may have come, gone, or begun anew: looks again. */
  refresh(): void {
    this.#notBefore = 0
    this.#done.clear()
    void this.settle()
  }

  #isSettled(): boolean {
    if (this.#o.clock.now() < this.#notBefore) return true
    if (this.#bus === undefined || this.#bus.isClosed) return false
    if (!this.#isRunning) return true
    const bridges = this.#o.bridges()
    return bridges.length === this.#done.size && bridges.every((name) => this.#done.has(name))
  }

  async #settle(): Promise<void> {
    const { clock, log } = this.#o
    try {
      const bus = await this.#connect()
      while (bus !== undefined && this.#isRunning && !this.#isSettled()) await this.#step()
      this.#failure = ''
      if (bus === undefined) this.#notBefore = clock.now() + RETRY_MS
    } catch (error) {
      this.#notBefore = clock.now() + RETRY_MS
      if (hasCode(error, 'unavailable')) this.#done.clear()
      if (messageOf(error) !== this.#failure) log.warn('cannot tell firewalld about our bridges', { error: messageOf(error) })
      this.#failure = messageOf(error)
    }
  }

  async #connect(): Promise<DbusConnection | undefined> {
    if (this.#bus !== undefined && !this.#bus.isClosed) return this.#bus
    this.#done.clear()
    this.#isRunning = false
    const bus = await this.#o.openBus()
    if (bus === undefined) return undefined
    this.#bus = bus
    bus.onSignal = ({ member, body }) => {
      if (member === 'NameOwnerChanged' && body[0] === NAME) this.#isRunning = body[2] !== ''
      else if (member !== 'Reloaded') return
      this.refresh()
    }
    await bus.listen(`type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='${NAME}'`)
    await bus.listen(`type='signal',sender='${NAME}',interface='${NAME}',member='Reloaded'`)
    this.#isRunning = await bus.isThere(NAME)
    return bus
  }

  #call(call: Omit<DbusCall, 'destination'>): Promise<readonly DbusValue[]> {
    return (this.#bus as DbusConnection).call({ destination: NAME, ...call })
  }

  async #names(call: Omit<DbusCall, 'destination'>): Promise<readonly string[]> {
    return (await this.#call(call))[0] as readonly string[]
  }

  async #step(): Promise<void> {
    const wanted = new Set(this.#o.bridges())
    for (const dev of this.#done) {
      if (wanted.has(dev)) continue
      this.#done.delete(dev)
      if ((await this.#zoneOf(dev)) === FIREWALLD_ZONE) await this.#leave(dev)
    }
    if (wanted.size > 0) await this.#ensureZone()
    for (const dev of wanted) {
      if (this.#done.has(dev)) continue
      const zone = await this.#zoneOf(dev)
      if (zone === '') await this.#call({ ...ZONE, member: 'addInterface', signature: 'ss', args: [FIREWALLD_ZONE, dev] })
      if (zone === '') this.#o.log.info('bridge is in a zone of firewalld', { bridge: dev, zone: FIREWALLD_ZONE })
      this.#done.add(dev)
    }
  }

  async #zoneOf(dev: string): Promise<string> {
    return String((await this.#call({ ...ZONE, member: 'getZoneOfInterface', signature: 's', args: [dev] }))[0])
  }

  async #leave(dev: string): Promise<void> {
    await this.#call({ ...ZONE, member: 'removeInterface', signature: 'ss', args: [FIREWALLD_ZONE, dev] })
  }

  async #ensureZone(): Promise<void> {
    if (!(await this.#names({ ...CONFIG, member: 'getZoneNames' })).includes(FIREWALLD_ZONE))
      await this.#call({ ...CONFIG, member: 'addZone2', signature: 'sa{sv}', args: [FIREWALLD_ZONE, ZONE_SETTINGS] })
    if (!(await this.#names({ ...CONFIG, member: 'getPolicyNames' })).includes(POLICY))
      await this.#call({ ...CONFIG, member: 'addPolicy', signature: 'sa{sv}', args: [POLICY, POLICY_SETTINGS] })
    const zones = await this.#names({ ...ZONE, member: 'getZones' })
    const policies = await this.#names({ ...POLICIES, member: 'getPolicies' })
    if (zones.includes(FIREWALLD_ZONE) && policies.includes(POLICY)) return
    this.#o.log.info(`firewalld reloads, to know zone ${FIREWALLD_ZONE} and policy ${POLICY}`)
    await this.#call({ path: PATH, interface: NAME, member: 'reload', timeoutMs: RELOAD_MS })
  }

  /** Takes our bridges, the zone and the policy away. What firewalld has in memory of an empty zone goes at its next reload. Never throws. */
  async remove(): Promise<void> {
    const removed = (this.#work ?? Promise.resolve())
      .then(() => this.#remove())
      .catch((error) => this.#o.log.warn('cannot clean up firewalld', { error: messageOf(error) }))
    await this.#patiently(removed)
    this.close()
  }

  /** Waits for work that never fails, but not for ever, and leaves no timer that would keep an engine from ending. */
  async #patiently(work: Promise<unknown>): Promise<void> {
    const over = new AbortController()
    const patience = this.#o.clock.sleep(PATIENCE_MS, over.signal).catch(() => {}) // aborted: the work was done
    await Promise.race([work, patience])
    over.abort()
  }

  async #remove(): Promise<void> {
    const bus = await this.#connect()
    if (bus === undefined || !this.#isRunning) return
    const zones = await this.#names({ ...ZONE, member: 'getZones' })
    if (zones.includes(FIREWALLD_ZONE))
      for (const dev of await this.#names({ ...ZONE, member: 'getInterfaces', signature: 's', args: [FIREWALLD_ZONE] }))
        await this.#leave(dev)
    // the policy names the zone, so it goes first
    for (const [list, find, name, kind] of [
      ['getPolicyNames', 'getPolicyByName', POLICY, 'policy'],
      ['getZoneNames', 'getZoneByName', FIREWALLD_ZONE, 'zone'],
    ] as const) {
      if (!(await this.#names({ ...CONFIG, member: list })).includes(name)) continue
      const [path] = await this.#call({ ...CONFIG, member: find, signature: 's', args: [name] })
      await this.#call({ path: String(path), interface: `${NAME}.config.${kind}`, member: 'remove' })
    }
  }

  close(): void {
    this.#bus?.close()
    this.#bus = undefined
    this.#notBefore = Number.POSITIVE_INFINITY
  }

  /** firewalld runs and lets our bridges through. */
  get passes(): boolean {
    return this.#bus !== undefined && !this.#bus.isClosed && this.#isRunning && this.#isSettled() && this.#failure === ''
  }

  /** Bridges of ours that forward, now. */
  get bridges(): readonly string[] {
    return this.#o.bridges()
  }
}

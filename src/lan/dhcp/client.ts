/**
 * One DHCP client: the state machine of RFC 2131 section 4.4 for an address that lives on somebody else's interface. It asks until it
 * is told to stop; a server that has gone, refuses or takes the address away is asked again with growing pauses, never given up on.
 * Knows frames and time, no sockets.
 */
import type { Ip, Mac } from '../../base/address.ts'
import { messageOf, NetError } from '../../base/errors.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import { ANY_IP, type DhcpMessage, type DhcpOptions, decodeDhcp, encodeDhcp, PARAMETERS_ASKED } from '../../wire/dhcp.ts'
import { BROADCAST_MAC, decodeServerFrame, encodeClientFrame } from '../../wire/dhcp-frame.ts'
import { endOf, type Lease, leaseFrom } from './lease.ts'

/** Who the address is for. */
export interface ClientIdentity {
  /** The interface's MAC, or the parent's where that is shared. */
  readonly mac: Mac
  /** Sender of the frames where it is not `mac`: answers are then asked for as broadcasts, because no interface has that MAC. */
  readonly sender?: Mac
  readonly clientId: Uint8Array
  /** '' = none is told. */
  readonly hostname: string
}

/** A line to the LAN, held while an answer may come. */
export interface Line {
  /** Throws when the link is down or gone. */
  send(frame: Uint8Array): void
  release(): void
}

export interface ClientOptions {
  readonly identity: ClientIdentity
  /** Opens the line; frames to DHCP clients go to {@link DhcpClient.receive} until it is released. Throws when the link is not there. */
  readonly line: () => Line
  /** Who has an address that the client is about to use, as a word for people; undefined = nobody. Absent: nobody is asked. */
  readonly ownerOf?: (ip: Ip) => Promise<string | undefined>
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** A lease was given or renewed. Called before anybody is told, so that it can be stored. */
  readonly onLease: (lease: Lease) => void
  /** The address may not be used any more; another one is being asked for. */
  readonly onLost: (lease: Lease, why: string) => void
}

export type ClientState = 'idle' | 'selecting' | 'requesting' | 'checking' | 'bound' | 'renewing' | 'rebinding'

const BROADCAST_IP = '255.255.255.255' as Ip
/** RFC 2131 4.1 starts with 4 s; servers that probe an address before they offer it answer within 3. */
const FIRST_PAUSE_MS = 2000
const LONGEST_PAUSE_MS = 64_000
/** How often an offer is asked for before it is dropped. */
const REQUESTS = 3
/** RFC 2131 4.4.5: not more often than this, unless the lease is shorter. */
const RENEWAL_PAUSE_MS = 60_000
const MAX_TIMER_MS = 24 * 3600_000
const MAX_SIZE = 1400

export class DhcpClient {
  readonly #o: ClientOptions
  #state: ClientState = 'idle'
  #lease: Lease | undefined
  #offer: Lease | undefined
  /** The address to ask for: given by hand, or the one that was lost. */
  #wish: Ip | undefined
  #xid = 0
  #begun = 0
  #asked = 0
  #attempt = 0
  #line: Line | undefined
  #cancelTimer: () => void = () => {}
  #isProbe = false
  /** Why the last address could not be used. */
  #declined = ''
  #waiting: { resolve: (lease: Lease) => void; reject: (error: unknown) => void } | undefined

  constructor(options: ClientOptions) {
    this.#o = options
  }

  get state(): ClientState {
    return this.#state
  }

  /** The lease in force; undefined when there is none (yet, or any more). */
  get lease(): Lease | undefined {
    return this.#lease
  }

  /**
   * Gets an address. Rejects with `unavailable` when no server has given one within `withinMs`, and with the link's error; the client
   * is idle again then. `wish` is asked for, and another one refused with `conflict` when `exactly`.
   */
  async acquire(withinMs: number, wish?: Ip, exactly = false): Promise<Lease> {
    this.#wish = wish
    const lease = await this.#firstAnswer(withinMs)
    if (exactly && wish !== undefined && lease.ip !== wish) {
      this.release()
      throw notTheOne(lease, wish, this.#declined)
    }
    return lease
  }

  /** One OFFER, of which nothing is taken: what a server here would give. Rejects as {@link acquire}. */
  async probe(withinMs: number): Promise<Lease> {
    this.#isProbe = true
    try {
      return await this.#firstAnswer(withinMs)
    } finally {
      this.stop()
    }
  }

  #firstAnswer(withinMs: number): Promise<Lease> {
    return new Promise((resolve, reject) => {
      const settled = () => {
        noMore()
        this.#waiting = undefined
      }
      const fail = (error: unknown) => {
        settled()
        this.stop()
        reject(error)
      }
      const noMore = this.#o.clock.after(withinMs, () => {
        const declined = this.#declined === '' ? '' : `: ${this.#declined}`
        const refused = this.#offer === undefined ? '' : `: ${this.#offer.serverId} offered ${this.#offer.ip} but did not confirm it`
        fail(new NetError('unavailable', `no DHCP server gave an address within ${withinMs / 1000} s${declined || refused}`))
      })
      const resolved = (lease: Lease) => {
        settled()
        resolve(lease)
      }
      this.#waiting = { resolve: resolved, reject: fail }
      try {
        this.#line = this.#o.line()
        this.#discover()
      } catch (error) {
        fail(error)
      }
    })
  }

  /** Takes up a lease of before: it is renewed at once, because nobody watched it meanwhile. */
  resume(lease: Lease): void {
    this.#lease = lease
    this.#wish = lease.ip
    this.#renew()
  }

  /** Takes over a lease only to give it back. */
  adopt(lease: Lease): void {
    this.#lease = lease
  }

  /** Gives the address back and stops. Nothing is awaited: a server that does not hear of it lets the lease run out. */
  release(): void {
    const lease = this.#lease
    this.stop()
    if (lease === undefined) return
    try {
      const line = this.#o.line()
      try {
        this.#newExchange()
        const options: DhcpOptions = { type: 'release', serverId: lease.serverId, clientId: this.#o.identity.clientId }
        line.send(this.#frame(lease.ip, options, { ip: lease.serverId, mac: lease.serverMac }))
      } finally {
        line.release()
      }
    } catch (error) {
      this.#o.log.info('a DHCP lease could not be given back, it will run out', { ip: lease.ip, error: messageOf(error) })
    }
    this.#lease = undefined
  }

  /** Stops asking and keeps the lease. Idempotent. */
  stop(): void {
    this.#become('idle')
    this.#waiting?.reject(new NetError('unavailable', 'the DHCP client was stopped'))
  }

  /** A frame that came in on the line; anything that is not for this client is passed over. */
  receive(frame: Uint8Array): void {
    if (this.#state === 'idle' || this.#state === 'bound' || this.#state === 'checking') return
    const parts = decodeServerFrame(frame)
    if (parts === undefined) return
    let message: DhcpMessage
    try {
      message = decodeDhcp(parts.payload)
    } catch (error) {
      this.#o.log.debug(messageOf(error), { from: parts.from })
      return
    }
    if (message.op !== 'reply' || message.xid !== this.#xid || message.chaddr !== this.#o.identity.mac) return
    const { type } = message.options
    if (type === 'offer' && this.#state === 'selecting') this.#onOffer(message, parts.from)
    else if (type === 'ack' && this.#state !== 'selecting') this.#onAck(message, parts.from)
    else if (type === 'nak' && this.#state !== 'selecting') this.#onNak(message)
  }

  // ---- getting ---------------------------------------------------------------------------------------------------------------

  #discover(): void {
    this.#become('selecting')
    this.#newExchange()
    this.#offer = undefined
    this.#attempt = 0
    this.#sendDiscover()
  }

  #sendDiscover(): void {
    const options: DhcpOptions = { ...this.#common('discover'), ...(this.#wish === undefined ? {} : { requestedIp: this.#wish }) }
    this.#trySend(() => this.#frame(ANY_IP, options))
    this.#timer(this.#pause(), () => this.#sendDiscover())
  }

  #onOffer(message: DhcpMessage, from: Mac): void {
    const offer = leaseFrom(message, from, this.#begun)
    if (offer === undefined) return
    if (this.#isProbe) {
      this.#waiting?.resolve(offer)
      return
    }
    this.#offer = offer
    this.#become('requesting')
    this.#attempt = 0
    this.#sendRequest(offer)
  }

  #sendRequest(offer: Lease): void {
    if (this.#attempt >= REQUESTS) {
      this.#discover()
      return
    }
    this.#asked = this.#o.clock.now()
    const options: DhcpOptions = { ...this.#common('request'), requestedIp: offer.ip, serverId: offer.serverId }
    this.#trySend(() => this.#frame(ANY_IP, options))
    this.#timer(this.#pause(), () => this.#sendRequest(offer))
  }

  #onAck(message: DhcpMessage, from: Mac): void {
    const lease = leaseFrom(message, from, this.#asked)
    if (lease === undefined) return
    const before = this.#lease
    if (before !== undefined && before.ip !== lease.ip && this.#state !== 'requesting') return // answers to a renewal keep the address
    if (this.#state === 'requesting' && this.#o.ownerOf !== undefined) this.#check(lease, this.#o.ownerOf)
    else this.#take(lease)
  }

  /** RFC 2131 4.4.1: an address that somebody has already is declined, and another one asked for. */
  #check(lease: Lease, ownerOf: (ip: Ip) => Promise<string | undefined>): void {
    this.#become('checking')
    const xid = this.#xid
    void ownerOf(lease.ip).then((owner) => {
      if (this.#state !== 'checking' || this.#xid !== xid) return
      if (owner === undefined) this.#take(lease)
      else this.#decline(lease, owner)
    })
  }

  #decline(lease: Lease, owner: string): void {
    this.#declined = `${lease.ip} is in use by ${owner}`
    this.#o.log.warn(`the DHCP server ${lease.serverId} gave ${lease.ip}, which is in use by ${owner}: declined`)
    const { clientId } = this.#o.identity
    this.#newExchange()
    this.#trySend(() => this.#frame(ANY_IP, { type: 'decline', requestedIp: lease.ip, serverId: lease.serverId, clientId }))
    this.#wish = undefined
    this.#retryLater()
  }

  #take(lease: Lease): void {
    this.#lease = lease
    this.#wish = lease.ip
    this.#become('bound')
    this.#sleepUntil(endOf(lease, 't1Seconds'), () => this.#renew())
    this.#o.onLease(lease)
    this.#waiting?.resolve(lease)
  }

  #onNak(message: DhcpMessage): void {
    const said = message.options.message === undefined ? '' : `: "${message.options.message}"`
    if (this.#state === 'requesting') {
      this.#o.log.info(`a DHCP server took its offer back${said}`, { ip: this.#offer?.ip })
      this.#wish = undefined
      this.#retryLater()
    } else this.#lost(`the server refused to renew it${said}`)
  }

  // ---- keeping ---------------------------------------------------------------------------------------------------------------

  #renew(): void {
    const lease = this.#lease
    if (lease === undefined) return
    const now = this.#o.clock.now()
    if (now >= endOf(lease, 'leaseSeconds')) {
      this.#lost('it ran out')
      return
    }
    const isLate = now >= endOf(lease, 't2Seconds')
    if (this.#state !== 'renewing' && this.#state !== 'rebinding') this.#newExchange()
    this.#become(isLate ? 'rebinding' : 'renewing')
    this.#asked = now
    const to = isLate ? undefined : { ip: lease.serverId, mac: lease.serverMac }
    this.#trySend(() => this.#frame(lease.ip, this.#common('request'), to))
    const end = endOf(lease, isLate ? 'leaseSeconds' : 't2Seconds')
    const floor = Math.min(RENEWAL_PAUSE_MS, Math.max(1000, (lease.leaseSeconds * 1000) / 16))
    this.#sleepUntil(Math.min(end, now + Math.max(floor, Math.min((end - now) / 2, LONGEST_PAUSE_MS * 60))), () => this.#renew())
  }

  #lost(why: string): void {
    const lease = this.#lease
    this.#lease = undefined
    if (lease !== undefined) this.#o.onLost(lease, why)
    this.#retryLater()
  }

  /** After a refusal RFC 2131 3.1.5 wants a pause: a server and a client could go on like that for ever. */
  #retryLater(): void {
    this.#become('selecting')
    this.#newExchange()
    this.#timer(1000, () => this.#discover())
  }

  // ---- sending and waiting ---------------------------------------------------------------------------------------------------

  /** Every state but `idle` and `bound` waits for answers: the line is open in exactly those. */
  #become(state: ClientState): void {
    this.#cancelTimer()
    this.#cancelTimer = () => {}
    this.#state = state
    if (state === 'idle' || state === 'bound') {
      this.#line?.release()
      this.#line = undefined
    }
  }

  #newExchange(): void {
    this.#xid = new DataView(this.#o.rng.bytes(4).slice().buffer).getUint32(0)
    this.#begun = this.#o.clock.now()
    this.#asked = this.#begun
  }

  /** A link that is down or gone now may come back: the next attempt tries again. */
  #trySend(frame: () => Uint8Array): void {
    this.#attempt++
    try {
      this.#line ??= this.#o.line()
      this.#line.send(frame())
    } catch (error) {
      this.#line?.release()
      this.#line = undefined
      this.#o.log.debug('cannot ask for a DHCP lease now', { error: messageOf(error) })
    }
  }

  #common(type: 'discover' | 'request'): DhcpOptions {
    const { clientId, hostname } = this.#o.identity
    return { type, clientId, ...(hostname === '' ? {} : { hostname }), maxSize: MAX_SIZE, parameters: PARAMETERS_ASKED }
  }

  #frame(ciaddr: Ip, options: DhcpOptions, to: { ip: Ip; mac: Mac } = { ip: BROADCAST_IP, mac: BROADCAST_MAC }): Uint8Array {
    const { mac, sender } = this.#o.identity
    const secs = Math.floor((this.#o.clock.now() - this.#begun) / 1000)
    const broadcast = ciaddr === ANY_IP || sender !== undefined // nobody answers ARP for the address yet
    const common = { op: 'request', xid: this.#xid, secs, broadcast, ciaddr, yiaddr: ANY_IP, giaddr: ANY_IP, chaddr: mac } as const
    return encodeClientFrame({ from: sender ?? mac, to: to.mac, src: ciaddr, dst: to.ip, payload: encodeDhcp({ ...common, options }) })
  }

  /** 2, 4, 8 ... 64 s, each up to a second more or less, so that containers started together do not ask together. */
  #pause(): number {
    const jitter = ((this.#o.rng.bytes(1)[0] ?? 0) / 255 - 0.5) * 2000
    return Math.max(1000, Math.min(FIRST_PAUSE_MS * 2 ** Math.max(0, this.#attempt - 1), LONGEST_PAUSE_MS) + jitter)
  }

  #timer(ms: number, fn: () => void): void {
    this.#cancelTimer()
    this.#cancelTimer = this.#o.clock.after(ms, fn)
  }

  /** Leases may be longer than a timer can be. */
  #sleepUntil(at: number, fn: () => void): void {
    if (at === Number.POSITIVE_INFINITY) return
    const left = at - this.#o.clock.now()
    if (left > MAX_TIMER_MS) this.#timer(MAX_TIMER_MS, () => this.#sleepUntil(at, fn))
    else this.#timer(Math.max(0, left), fn)
  }
}

/** The server has another address for us than the one that must be; `why` it is, when that is known. */
export function notTheOne({ serverId, ip }: Lease, wish: Ip, why = ''): NetError {
  return new NetError(
    'conflict',
    `the DHCP server ${serverId} gives ${ip} and not ${wish}, which was asked for${why === '' ? '' : `: ${why}`}`,
  )
}

/**
 * DHCP for IPv4: messages as bytes and as values. Source: RFC 2131 (message), RFC 2132 (options), RFC 3396 (long options),
 * RFC 3442 (classless routes). Options that are not listed in {@link DhcpOptions} are passed over.
 */
import { type Cidr, cidrOf, type Ip, ipFromBytes, ipToBytes, type Mac, macFromBytes, macToBytes, splitPrefix } from '../base/address.ts'
import { NetError } from '../base/errors.ts'

export const DHCP_SERVER_PORT = 67
export const DHCP_CLIENT_PORT = 68
/** A lease of this many seconds never ends. */
export const INFINITE_LEASE = 0xffffffff
export const ANY_IP = '0.0.0.0' as Ip

/** Option 53. */
const DHCP_TYPES = ['discover', 'offer', 'request', 'decline', 'ack', 'nak', 'release', 'inform'] as const
export type DhcpType = (typeof DHCP_TYPES)[number]

export interface DhcpOptions {
  readonly type: DhcpType
  /** Length of the subnet mask's prefix. */
  readonly prefixLength?: number
  readonly routers?: readonly Ip[]
  readonly dns?: readonly Ip[]
  readonly hostname?: string
  readonly domain?: string
  readonly mtu?: number
  readonly requestedIp?: Ip
  readonly leaseSeconds?: number
  readonly serverId?: Ip
  /** Numbers of the options that are asked for. */
  readonly parameters?: readonly number[]
  /** What the server wants people to read, in a NAK. */
  readonly message?: string
  readonly maxSize?: number
  readonly t1Seconds?: number
  readonly t2Seconds?: number
  readonly vendorClass?: string
  /** Type byte and the rest. */
  readonly clientId?: Uint8Array
  readonly routes?: readonly { readonly dst: Cidr; readonly gateway: Ip }[]
}

export interface DhcpMessage {
  readonly op: 'request' | 'reply'
  readonly xid: number
  /** Seconds since the client began. */
  readonly secs: number
  /** The client cannot receive unicast yet. */
  readonly broadcast: boolean
  /** The client's address when it has one that it can answer for. */
  readonly ciaddr: Ip
  /** What the server gives. */
  readonly yiaddr: Ip
  readonly giaddr: Ip
  readonly chaddr: Mac
  readonly options: DhcpOptions
}

const FIXED_BYTES = 236
const SNAME_AT = 44
const FILE_AT = 108
const MAGIC = 0x63825363
/** Servers and relays of old expect no less (RFC 1542 2.1). */
const LEAST_BYTES = 300
const BROADCAST_FLAG = 0x8000

const PAD = 0
const MASK = 1
const ROUTERS = 3
const DNS = 6
const HOSTNAME = 12
const DOMAIN = 15
const MTU = 26
const REQUESTED_IP = 50
const LEASE = 51
const OVERLOAD = 52
const TYPE = 53
const SERVER_ID = 54
const PARAMETERS = 55
const MESSAGE = 56
const MAX_SIZE = 57
const T1 = 58
const T2 = 59
const VENDOR_CLASS = 60
const CLIENT_ID = 61
const ROUTES = 121
const END = 255

/** What a client for containers asks for. */
export const PARAMETERS_ASKED: readonly number[] = [MASK, ROUTERS, DNS, DOMAIN, MTU, LEASE, SERVER_ID, T1, T2, ROUTES]

/** Bytes of a message, at least 300. */
export function encodeDhcp(message: DhcpMessage): Uint8Array {
  const options = encodeOptions(message.options)
  const out = new Uint8Array(Math.max(LEAST_BYTES, FIXED_BYTES + 4 + options.length))
  const view = new DataView(out.buffer)
  out[0] = message.op === 'request' ? 1 : 2
  out[1] = 1 // Ethernet
  out[2] = 6
  view.setUint32(4, message.xid)
  view.setUint16(8, Math.min(message.secs, 0xffff))
  view.setUint16(10, message.broadcast ? BROADCAST_FLAG : 0)
  out.set(ipToBytes(message.ciaddr), 12)
  out.set(ipToBytes(message.yiaddr), 16)
  out.set(ipToBytes(message.giaddr), 24)
  out.set(macToBytes(message.chaddr), 28)
  view.setUint32(FIXED_BYTES, MAGIC)
  out.set(options, FIXED_BYTES + 4)
  return out
}

function encodeOptions(o: DhcpOptions): Uint8Array {
  const out: number[] = []
  const put = (code: number, bytes: Iterable<number>): void => {
    const data = [...bytes]
    if (data.length > 255) throw new NetError('invalid', `DHCP option ${code} has ${data.length} bytes, there is room for 255`)
    out.push(code, data.length, ...data)
  }
  const u16 = (n: number): number[] => [n >>> 8, n & 255]
  const u32 = (n: number): number[] => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255]
  const text = (t: string): Uint8Array => new TextEncoder().encode(t)
  const ips = (list: readonly Ip[]): number[] => list.flatMap((ip) => [...ipToBytes(ip)])
  put(TYPE, [DHCP_TYPES.indexOf(o.type) + 1])
  if (o.clientId !== undefined) put(CLIENT_ID, o.clientId)
  if (o.requestedIp !== undefined) put(REQUESTED_IP, ips([o.requestedIp]))
  if (o.serverId !== undefined) put(SERVER_ID, ips([o.serverId]))
  if (o.leaseSeconds !== undefined) put(LEASE, u32(o.leaseSeconds))
  if (o.t1Seconds !== undefined) put(T1, u32(o.t1Seconds))
  if (o.t2Seconds !== undefined) put(T2, u32(o.t2Seconds))
  if (o.prefixLength !== undefined) put(MASK, u32(o.prefixLength === 0 ? 0 : (-1 << (32 - o.prefixLength)) >>> 0))
  if (o.routers !== undefined && o.routers.length > 0) put(ROUTERS, ips(o.routers))
  if (o.dns !== undefined && o.dns.length > 0) put(DNS, ips(o.dns))
  if (o.hostname) put(HOSTNAME, text(o.hostname))
  if (o.domain) put(DOMAIN, text(o.domain))
  if (o.mtu !== undefined) put(MTU, u16(o.mtu))
  if (o.message) put(MESSAGE, text(o.message))
  if (o.maxSize !== undefined) put(MAX_SIZE, u16(o.maxSize))
  if (o.vendorClass) put(VENDOR_CLASS, text(o.vendorClass))
  if (o.routes !== undefined) put(ROUTES, o.routes.flatMap(encodeRoute))
  if (o.parameters !== undefined) put(PARAMETERS, o.parameters)
  out.push(END)
  return Uint8Array.from(out)
}

/** RFC 3442: the prefix length, only as many bytes of the destination as it needs, the gateway. */
function encodeRoute({ dst, gateway }: { dst: Cidr; gateway: Ip }): number[] {
  const { ip, length } = splitPrefix(dst)
  return [length, ...ipToBytes(ip).subarray(0, Math.ceil(length / 8)), ...ipToBytes(gateway)]
}

/** Decodes the payload of a UDP datagram. Throws NetError `invalid` for anything that is not a whole DHCP message. */
export function decodeDhcp(bytes: Uint8Array): DhcpMessage {
  if (bytes.length < FIXED_BYTES + 4) throw broken(`${bytes.length} bytes are too few`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(FIXED_BYTES) !== MAGIC) throw broken('it has no options (BOOTP)')
  if (bytes[1] !== 1 || bytes[2] !== 6) throw broken('it is not for Ethernet')
  const op = bytes[0] === 1 ? 'request' : bytes[0] === 2 ? 'reply' : undefined
  if (op === undefined) throw broken(`operation ${bytes[0]} is unknown`)
  const ip = (at: number): Ip => ipFromBytes(bytes.subarray(at, at + 4))
  return {
    op,
    xid: view.getUint32(4),
    secs: view.getUint16(8),
    broadcast: (view.getUint16(10) & BROADCAST_FLAG) !== 0,
    ciaddr: ip(12),
    yiaddr: ip(16),
    giaddr: ip(24),
    chaddr: macFromBytes(bytes.subarray(28, 34)),
    options: readOptions(collect(bytes)),
  }
}

function broken(why: string): NetError {
  return new NetError('invalid', `Cannot read DHCP message: ${why}`)
}

/** All options by code; one that comes in several pieces is joined (RFC 3396), and overloaded fields are read after the options. */
function collect(bytes: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>()
  const read = (area: Uint8Array): void => {
    for (let at = 0; at < area.length; ) {
      const code = area[at++] as number
      if (code === PAD) continue
      if (code === END) return
      const length = area[at++]
      if (length === undefined || at + length > area.length) throw broken(`option ${code} is cut off`)
      const data = area.subarray(at, at + length)
      const before = found.get(code)
      found.set(code, before === undefined ? data : Uint8Array.from([...before, ...data]))
      at += length
    }
  }
  read(bytes.subarray(FIXED_BYTES + 4))
  const overload = found.get(OVERLOAD)?.[0] ?? 0
  if ((overload & 1) !== 0) read(bytes.subarray(FILE_AT, FIXED_BYTES))
  if ((overload & 2) !== 0) read(bytes.subarray(SNAME_AT, FILE_AT))
  return found
}

function readOptions(found: ReadonlyMap<number, Uint8Array>): DhcpOptions {
  const number = (code: number, bytes: 1 | 2 | 4): number | undefined => {
    const data = found.get(code)
    if (data === undefined) return undefined
    if (data.length !== bytes) throw broken(`option ${code} has ${data.length} bytes, expected ${bytes}`)
    return data.reduce((sum, byte) => sum * 256 + byte, 0)
  }
  const ips = (code: number): Ip[] | undefined => {
    const data = found.get(code)
    if (data === undefined) return undefined
    if (data.length === 0 || data.length % 4 !== 0) throw broken(`option ${code} has ${data.length} bytes, expected addresses`)
    return Array.from({ length: data.length / 4 }, (_, i) => ipFromBytes(data.subarray(i * 4, i * 4 + 4)))
  }
  const text = (code: number): string | undefined => {
    const data = found.get(code)
    return data && new TextDecoder().decode(data).replace(/\0+$/, '') // some servers end texts as C does
  }
  const type = DHCP_TYPES[(number(TYPE, 1) ?? 0) - 1]
  if (type === undefined) throw broken('its message type is missing or unknown')
  const mask = number(MASK, 4)
  const routes = found.get(ROUTES)
  const parameters = found.get(PARAMETERS)
  return given({
    type,
    prefixLength: mask === undefined ? undefined : prefixLengthOf(mask),
    routers: ips(ROUTERS),
    dns: ips(DNS),
    hostname: text(HOSTNAME),
    domain: text(DOMAIN),
    mtu: number(MTU, 2),
    requestedIp: ips(REQUESTED_IP)?.[0],
    leaseSeconds: number(LEASE, 4),
    serverId: ips(SERVER_ID)?.[0],
    parameters: parameters && [...parameters],
    message: text(MESSAGE),
    maxSize: number(MAX_SIZE, 2),
    t1Seconds: number(T1, 4),
    t2Seconds: number(T2, 4),
    vendorClass: text(VENDOR_CLASS),
    clientId: found.get(CLIENT_ID)?.slice(),
    routes: routes && readRoutes(routes),
  })
}

function prefixLengthOf(mask: number): number {
  const length = Math.clz32(~mask >>> 0)
  if (mask !== (length === 0 ? 0 : (-1 << (32 - length)) >>> 0)) throw broken('its subnet mask has holes')
  return length
}

function readRoutes(data: Uint8Array): { dst: Cidr; gateway: Ip }[] {
  const out: { dst: Cidr; gateway: Ip }[] = []
  for (let at = 0; at < data.length; ) {
    const length = data[at++] as number
    const bytes = Math.ceil(length / 8)
    if (length > 32 || at + bytes + 4 > data.length) throw broken(`option ${ROUTES} is cut off`)
    const dst = new Uint8Array(4)
    dst.set(data.subarray(at, at + bytes))
    at += bytes
    out.push({ dst: cidrOf(ipFromBytes(dst), length), gateway: ipFromBytes(data.subarray(at, at + 4)) })
    at += 4
  }
  return out
}

/** The value without its undefined members, as exactOptionalPropertyTypes wants it. */
function given(options: { [K in keyof DhcpOptions]: DhcpOptions[K] | undefined }): DhcpOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as unknown as DhcpOptions
}

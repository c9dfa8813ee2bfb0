/** `--cluster-advertise`: the address under which other hosts reach this one. */
import { type Ip, tryParseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'

export interface Advertise {
  readonly address: Ip
  readonly port: number
}

/** What Docker's classic daemons advertised; the port is shown and compared, the tunnels have their own (4789). */
const DEFAULT_PORT = 2377

/**
 * Parses `<ip>`, `<ip>:<port>`, `[<ipv6>]:<port>`, `<interface>` or `<interface>:<port>`. `addressesOf` lists an interface's addresses in
 * the kernel's order, undefined when there is no such interface; the first IPv4 address wins, as in Docker. Throws `invalid`.
 */
export function parseAdvertise(text: string, addressesOf: (ifname: string) => readonly Ip[] | undefined): Advertise {
  const wrong = (why: string) => new NetError('invalid', `invalid --cluster-advertise "${text}": ${why}`, { subject: text })
  if (text === '') throw wrong('expected <ip>:<port> or <interface>:<port>, for example eth0:2377')
  const whole = tryParseIp(text)
  const split = whole === undefined ? /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/.exec(text) : undefined
  if (whole === undefined && split === null) throw wrong('expected <ip>:<port> or <interface>:<port>; an IPv6 address stands in brackets')
  const place = whole ?? split?.[1] ?? split?.[2] ?? ''
  const portText = split?.[3]
  const port = portText === undefined ? DEFAULT_PORT : Number(portText)
  if (portText !== undefined && (!/^\d{1,5}$/.test(portText) || port < 1 || port > 65535))
    throw wrong(`port "${portText}" is not a number from 1 to 65535`)
  const ip = tryParseIp(place)
  if (ip !== undefined) {
    const reason = unfit(ip)
    if (reason !== undefined) throw wrong(`${ip} ${reason}, and other hosts could not reach it`)
    return { address: ip, port }
  }
  if (split?.[1] !== undefined) throw wrong(`"${place}" is not an IPv6 address`)
  const addresses = addressesOf(place)
  if (addresses === undefined) throw wrong(`there is no interface "${place}" on this host, and it is not an IP address`)
  const fit = addresses.filter((address) => unfit(address) === undefined)
  const chosen = fit.find((address) => !address.includes(':')) ?? fit[0]
  if (chosen === undefined) throw wrong(`interface "${place}" has no address that other hosts could reach`)
  return { address: chosen, port }
}

function unfit(ip: Ip): string | undefined {
  if (ip === '0.0.0.0' || ip === '::') return 'is the unspecified address'
  if (ip.startsWith('127.') || ip === '::1') return 'is a loopback address'
  if (/^fe[89ab]/.test(ip)) return 'is a link-local address'
  if (/^(22[4-9]|23\d)\./.test(ip) || ip.startsWith('ff')) return 'is a multicast address'
  return undefined
}

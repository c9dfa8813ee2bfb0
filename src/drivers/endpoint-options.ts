/** Options of an endpoint that every driver has: routes of its own and limits of its rate. */
import { type Cidr, type Ip, tryParseCidr, tryParseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { OPTION, type Options } from './options.ts'

/** A route over the endpoint's interface. Without a gateway it leads over the network's, if that has one. */
export interface EndpointRoute {
  readonly dst: Cidr
  readonly via?: Ip
}

/** One direction's limit in bits per second, and how many bits may go at once. */
export interface Rate {
  readonly rate: number
  readonly burst: number
}

/** Throws NetError `invalid` on a destination or gateway that is none. */
export function routesOption(options: Options): EndpointRoute[] {
  const text = options[OPTION.endpointRoutes] ?? ''
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => {
      const [, to = '', by] = /^(\S+)(?:\s+via\s+(\S+))?$/.exec(part) ?? []
      const dst = tryParseCidr(to)
      const via = by === undefined ? undefined : tryParseIp(by)
      if (dst === undefined || (by !== undefined && via === undefined))
        throw new NetError('invalid', `failed to parse ${OPTION.endpointRoutes} value: "${part}" should be like 10.9.0.0/16 via 10.1.0.9`)
      return { dst, ...(via === undefined ? {} : { via }) }
    })
}

/** {@link routesOption} as the option is written. */
export function routesText(routes: readonly { readonly dst: string; readonly gw?: string }[]): string {
  return routes.map(({ dst, gw }) => (gw === undefined ? dst : `${dst} via ${gw}`)).join(', ')
}

/** Limit of one direction, undefined without one. An absent burst is 4 ms of the rate, at least 64 KiB. Throws NetError `invalid`. */
export function rateOption(options: Options, label: typeof OPTION.rateIn | typeof OPTION.rateOut): Rate | undefined {
  const text = options[label]
  if (text === undefined || text === '') return undefined
  const [, rate = '', burst] = /^(\d{1,15})(?:\/(\d{1,15}))?$/.exec(text) ?? []
  if (!(Number(rate) > 0))
    throw new NetError(
      'invalid',
      `failed to parse ${label} value: "${text}" should be bits per second, or with a burst like 8000000/800000`,
    )
  return { rate: Number(rate), burst: Number(burst ?? 0) || defaultBurst(Number(rate)) }
}

/** Bits that may go at once when nobody said: 4 ms of the rate, 64 KiB at least, so that one large segment passes. */
export function defaultBurst(rate: number): number {
  return Math.max(Math.ceil(rate / 250), 64 * 1024 * 8)
}

/** What an endpoint asks for besides its addresses: routes of its own and limits of its rate. Done whenever its interface is made. */
import { isErrno, NetError } from '../base/errors.ts'
import { type EndpointRoute, rateOption, routesOption } from '../drivers/endpoint-options.ts'
import { OPTION } from '../drivers/options.ts'
import { bucketOf, limitRate } from '../kernel/qdisc.ts'
import type { Route } from '../model/kernel-state.ts'
import type { Attached } from './attachments.ts'
import type { SandboxKernel } from './sandbox-kernel.ts'
import type { Parts } from './sandbox-parts.ts'

/** Throws NetError; a route that is there already, whoever made it, is fine. */
export function applyExtras(parts: Parts, kernel: SandboxKernel, at: Attached): void {
  const { settings, ifname, hostIfname } = at.record
  const options = settings.driverOpts
  if (options === undefined || ifname === '') return
  for (const route of routesOption(options))
    try {
      kernel.rtnl.apply([{ op: 'route.add', route: routeOver(parts, at, route) }])
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
    }
  const towards = rateOption(options, OPTION.rateIn)
  if (towards !== undefined) {
    if (hostIfname === '' || at.record.place !== undefined)
      throw new NetError(
        'invalid',
        `${OPTION.rateIn} needs an interface on the host, which endpoints of driver ${at.network.driver} do not have`,
      )
    limitRate(undefined, hostIfname, bucketOf(towards))
  }
  const from = rateOption(options, OPTION.rateOut)
  if (from !== undefined) limitRate(kernel.ns, ifname, bucketOf(from))
}

function routeOver(parts: Parts, { record }: Attached, { dst, via }: EndpointRoute): Route {
  const family = dst.includes(':') ? 6 : 4
  const { gateway4, gateway6 } = parts.attachments.info(record)
  const gateway = via ?? (family === 4 ? gateway4 : gateway6)
  return {
    family,
    dst: dst === '0.0.0.0/0' || dst === '::/0' ? 'default' : dst,
    dev: record.ifname,
    ...(gateway === '' ? { scope: 'link' as const } : { gateway }),
  }
}

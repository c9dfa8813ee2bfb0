/** What keeps a running engine right: repairs, other programs' firewalls, the host's resolver, memory given back. */
import { messageOf } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import { parseResolvConf, readHostResolv, watchHostResolv } from '../dns/host-resolv.ts'
import { Guardian } from '../engine/guardian.ts'
import { ForeignFirewall } from '../kernel/foreign-firewall.ts'
import { holdNat, type NatAnchor } from '../kernel/nat-anchor.ts'
import type { Closers, Foundation } from './foundation.ts'
import { isInUse, type Networking } from './networking.ts'
import { collectWhenQuiet } from './quiet-memory.ts'

/** Of the repairs that `causeway repairs` and bug reports show. */
const REPAIRS_KEPT = 256

export interface Upkeep {
  readonly foreign: ForeignFirewall
  /** The latest repairs, oldest first. */
  repairs(): readonly unknown[]
}

/** Begins once the controller has taken up what it had. */
export function beginUpkeep(base: Foundation, { controller, firewalld }: Networking, closers: Closers): Upkeep {
  const { store, dns, reactor, clock, log } = base
  const repairs: unknown[] = []
  controller.onRepair((event) => {
    repairs.push(event)
    if (repairs.length > REPAIRS_KEPT) repairs.shift()
  })
  const foreign = new ForeignFirewall({ log, firewalld })
  closers.push(() => {
    if (!isInUse(store)) foreign.removeAccept()
  })
  const meetOthers = () => {
    foreign.ensureAccept()
    void firewalld.settle()
  }
  meetOthers()
  const guardian = new Guardian({ controller, clock, log, pid: process.pid, onForeignRules: meetOthers })
  guardian.start(reactor)
  closers.push(() => guardian.close())
  const anchor = tryHoldNat(log)
  closers.push(() => anchor?.close())
  const followResolver = () => {
    const resolv = readHostResolv()
    controller.files.hostChanged(resolv)
    dns.setHostUpstreams(parseResolvConf(resolv.text).nameservers.map((ip) => ({ ip })))
    controller.hostRoutes.forget()
  }
  followResolver()
  closers.push(watchHostResolv(clock, followResolver))
  closers.push(collectWhenQuiet(clock))
  return { foreign, repairs: () => repairs.slice() }
}

/** Without it a flush of all rules may cut connections; nothing else is missing. */
function tryHoldNat(log: Logger): NatAnchor | undefined {
  try {
    return holdNat()
  } catch (error) {
    log.info('connections may be cut when another program flushes all firewall rules', { error: messageOf(error) })
    return undefined
  }
}

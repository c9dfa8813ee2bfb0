/** Interface counters of a container in Docker's spelling, read from inside its namespace. */
import type { NetworkController } from '../engine/types.ts'
import { openRtnl } from '../kernel/rtnl.ts'
import { closeNetns, openNetns } from '../sys/netns.ts'

export function interfaceCounters(controller: NetworkController, containerId: string): Record<string, Record<string, number>> {
  const sandbox = controller.sandboxOf(containerId)
  if (sandbox === undefined || sandbox.key.endsWith('/default')) return {}
  const ns = openNetns(sandbox.key)
  try {
    const rtnl = openRtnl(ns)
    try {
      const out: Record<string, Record<string, number>> = {}
      for (const link of rtnl.links()) {
        const s = link.stats
        if (link.loopback || s === undefined) continue
        out[link.name] = {
          rx_bytes: s.rxBytes,
          rx_packets: s.rxPackets,
          rx_errors: s.rxErrors,
          rx_dropped: s.rxDropped,
          tx_bytes: s.txBytes,
          tx_packets: s.txPackets,
          tx_errors: s.txErrors,
          tx_dropped: s.txDropped,
        }
      }
      return out
    } finally {
      rtnl.close()
    }
  } finally {
    closeNetns(ns)
  }
}

/**
 * The kernel's limits on neighbour entries. They are one for all namespaces together, can be changed only in the first one, and are made
 * for a host without containers: 50 containers that all know each other need 2,500 entries of 1,024. As dockerd does, they are raised when
 * the first overlay network comes, never lowered, and stay.
 */
import { messageOf } from '../../base/errors.ts'
import type { Logger } from '../../base/ports.ts'
import { tryReadSysctl, writeSysctl } from '../../sys/sysctl.ts'

const LIMITS = { gc_thresh3: 65536, gc_thresh2: 49152, gc_thresh1: 8192 } as const

export function raiseNeighbourLimits(log: Logger): void {
  for (const family of ['ipv4', 'ipv6'])
    for (const [name, value] of Object.entries(LIMITS)) {
      const key = `net/${family}/neigh/default/${name}`
      try {
        const now = tryReadSysctl(key)
        // a namespace other than the first one does not have the parameter
        if (now !== undefined && Number(now) < value) writeSysctl(key, value)
      } catch (error) {
        log.debug('cannot raise a limit on neighbour entries', { key, error: messageOf(error) })
      }
    }
}

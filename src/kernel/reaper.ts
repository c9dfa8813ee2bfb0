/**
 * Deletes links without making the caller wait. Unregistering a device costs 10 to 20 ms of RCU waiting
 * (net/core/dev.c unregister_netdevice_many), but a whole interface group goes in one such wait: links to be deleted are
 * put into one group, which takes microseconds, and the group is deleted by a request on a thread of the FFI's pool.
 */
import { hasCode } from '../base/errors.ts'
import type { Rtnl } from './types.ts'

/** Interface group of links on their way out. A restart deletes whatever a crash left in it. */
export const GRAVEYARD_GROUP = 0xca05e7

/** Puts links into the graveyard and deletes it in the background. Missing links are fine. Resolves when they are gone. */
export async function deleteLinksSoon(rtnl: Rtnl, names: readonly string[]): Promise<void> {
  let moved = 0
  for (const dev of names) {
    try {
      rtnl.apply([{ op: 'link.set', dev, set: { group: GRAVEYARD_GROUP } }])
      moved++
    } catch (error) {
      if (!hasCode(error, 'not-found')) throw error
    }
  }
  if (moved > 0) await rtnl.deleteGroupInBackground(GRAVEYARD_GROUP)
}

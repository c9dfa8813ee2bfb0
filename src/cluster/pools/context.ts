/** What the parts of the pools share: the ports, and what they say and wait for in the same way. */
import { messageOf } from '../../base/errors.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import type { Membership } from '../membership.ts'
import type { Mirror } from '../mirror.ts'
import type { Check } from '../store/types.ts'
import type { PoolClaims } from './claims.ts'
import type { KnownAddress, KnownPool, PoolStore } from './pool-store.ts'

const LONGEST_PAUSE_MS = 100
/** A stop is given up after ten seconds; what is slower is done behind it. */
const RELEASE_MS = 1500

export interface PoolContext {
  readonly records: PoolStore
  readonly claims: PoolClaims
  readonly mirror: Mirror
  readonly membership: Membership
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** Something is left to be given back. */
  readonly onUnsettled: () => void
}

/** Who has an address, as people know him. */
export function holderText(mirror: Mirror, address: KnownAddress | undefined): string {
  if (address?.value === undefined) return 'somebody else'
  const { hostId, name } = address.value
  return `${name || 'a container'} on host ${mirror.host(hostId)?.name ?? hostId}`
}

/** Whose pool it is; '' when nobody knows. */
export function usersText(mirror: Mirror, pool: KnownPool | undefined): string {
  const user = pool?.value.users[0]
  return user === undefined ? '' : ` of network "${user.name}" on host ${mirror.host(user.hostId)?.name ?? user.hostId}`
}

/** Waits a while; what takes longer, or fails, is done in the background. */
export async function promptly({ clock, log, onUnsettled }: PoolContext, work: () => Promise<void>): Promise<void> {
  let cancel = () => {}
  const late = new Promise<void>((resolve) => {
    cancel = clock.after(RELEASE_MS, resolve)
  })
  const done = work().catch((error: unknown) => {
    log.info('what was given back is told to the cluster store later', { error: messageOf(error) })
    onUnsettled()
  })
  await Promise.race([done, late])
  cancel()
}

/** A transaction has shown that this host's record is another one: it was evicted, or the store has lost it. */
export async function rejoinIfLost(
  membership: Membership,
  own: Check,
  current: ReadonlyMap<string, { readonly version: string } | undefined>,
): Promise<void> {
  if ('version' in own && current.get(own.key)?.version !== own.version) await membership.rejoin()
}

/** Whoever has lost a race waits for a moment of chance. */
export function pause({ clock, rng }: PoolContext, attempt: number): Promise<void> {
  return clock.sleep(((rng.bytes(1)[0] as number) / 255) * Math.min(2 ** attempt, LONGEST_PAUSE_MS))
}

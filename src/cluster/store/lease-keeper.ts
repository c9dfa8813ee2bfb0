/** Renews leases in time, and finds out when one is lost: the store says so, or nobody could be asked for as long as it lasts. */
import { messageOf } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import type { Lease } from './types.ts'

export interface LeaseSteps {
  readonly id: string
  readonly seconds: number
  /** False: the store does not know the lease any more. Throws when it cannot be asked. */
  renew(): Promise<boolean>
  revoke(): Promise<void>
}

/** Pause after a renewal that could not be asked for. */
const AGAIN_MS = 1000

/** How long one renewal may take, when other questions have `timeoutMs`: a store under load keeps its leases when it may answer late. */
export function renewalMs(seconds: number, timeoutMs: number): number {
  return Math.max(timeoutMs, (seconds * 1000) / 6)
}

export class LeaseKeeper {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #running = new Set<{ poke(): void; stop(): void }>()

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock
    this.#logger = logger
  }

  /** `grantedAt`: when the grant was asked for, in the clock's milliseconds. */
  keep(steps: LeaseSteps, grantedAt: number, onLost: (why: string) => void): Lease {
    let ended = false
    let renewedAt = grantedAt
    let wake = () => {}
    let cancelTimer = () => {}
    const handle = { poke: () => wake(), stop: () => end() }
    const end = () => {
      ended = true
      cancelTimer()
      this.#running.delete(handle)
      wake()
    }
    const lose = (why: string) => {
      if (ended) return
      end()
      this.#logger.warn(`a lease in the cluster store was lost: ${why}`, { lease: steps.id })
      try {
        onLost(why)
      } catch (cause) {
        this.#logger.error('what follows a lost lease failed', { cause })
      }
    }
    const run = async () => {
      let pauseMs = (steps.seconds * 1000) / 3
      while (!ended) {
        await new Promise<void>((resolve) => {
          wake = resolve
          cancelTimer = this.#clock.after(pauseMs, resolve)
        })
        cancelTimer()
        if (ended) return
        const asked = this.#clock.now()
        try {
          if (!(await steps.renew())) return lose('the store ended it')
          renewedAt = asked
          pauseMs = (steps.seconds * 1000) / 3
        } catch (error) {
          if (this.#clock.now() - renewedAt >= steps.seconds * 1000)
            return lose(`it could not be renewed for ${steps.seconds} s: ${messageOf(error)}`)
          pauseMs = Math.min(AGAIN_MS, pauseMs)
        }
      }
    }
    this.#running.add(handle)
    void run()
    return {
      id: steps.id,
      seconds: steps.seconds,
      ended: () => ended,
      revoke: async () => {
        if (ended) return
        end()
        await steps.revoke().catch((error: unknown) => {
          this.#logger.debug('a lease ends by itself, the store cannot be told', { lease: steps.id, why: messageOf(error) })
        })
      },
    }
  }

  /** Renews all of them now: they may have been lost. */
  pokeAll(): void {
    for (const handle of [...this.#running]) handle.poke()
  }

  /** Stops renewing; nobody is told. */
  close(): void {
    for (const handle of [...this.#running]) handle.stop()
  }
}

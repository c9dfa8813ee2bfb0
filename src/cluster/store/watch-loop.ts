/**
 * The life of one watch, the same for every store: read everything, follow, and after a break follow on where it was or, when something
 * may have been missed, read everything again. Never ends by itself.
 */
import { messageOf } from '../../base/errors.ts'
import { StoreFault } from './http.ts'
import type { Ports, StoreMembers } from './members.ts'
import type { Listing, StoreEvent, Watch, WatchHandlers } from './types.ts'
import type { StoreMember } from './url.ts'

export interface WatchSteps<Position> {
  /** `patienceMs`: how long one answer may take at least; a store that serves all hosts at once needs its time. */
  list(patienceMs: number): Promise<Listing>
  /** Where a listing ends; undefined when it is from before a break in the store's data. */
  positionOf(listing: Listing): Position | undefined
  /**
   * Follows from `position`, which it moves on, and gives what it sees to `emit`, until `signal` aborts. Returns false when something was
   * missed; throws {@link StoreFault} when `member` does not answer.
   */
  follow(
    member: StoreMember,
    position: Position,
    emit: (events: readonly StoreEvent[], revision: string) => void,
    signal: AbortSignal,
  ): Promise<boolean>
}

/** Pauses between attempts while a watch breaks again and again. */
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5000
/** A listing that came too late is waited for longer the next time: asking for it in vain again and again would keep the store busy. */
const FIRST_PATIENCE_MS = 2500
const LONGEST_PATIENCE_MS = 40_000

export interface RunningWatch extends Watch {
  /** Something may have been missed: read everything again, now. */
  resync(): void
}

/** Nobody answered in time; {@link StoreMembers.call} hides it in its own error. */
function isSilence(error: unknown): boolean {
  const fault = error instanceof Error && error.cause instanceof StoreFault ? error.cause : error
  return fault instanceof StoreFault && fault.silent
}

/** `onClose` is called once, when the watch is closed. */
export function runWatch<Position>(
  members: StoreMembers,
  ports: Ports,
  steps: WatchSteps<Position>,
  handlers: WatchHandlers,
  from: Listing | undefined,
  onClose: () => void,
): RunningWatch {
  const { clock, logger, rng } = ports
  let position = from === undefined ? undefined : steps.positionOf(from)
  let closed = false
  let stale = false
  let patienceMs = FIRST_PATIENCE_MS
  let interrupt = new AbortController()
  let wake = () => {}
  const tell = (fn: () => void) => {
    if (closed) return
    try {
      fn()
    } catch (cause) {
      logger.error('a watcher of the cluster store failed', { cause })
    }
  }
  const emit = (events: readonly StoreEvent[], revision: string) => {
    if (!stale && events.length > 0) tell(() => handlers.onChange(events, revision))
  }
  const readAll = async (): Promise<Position | undefined> => {
    const listing = await steps.list(patienceMs).catch((error: unknown) => {
      if (isSilence(error)) patienceMs = Math.min(patienceMs * 2, LONGEST_PATIENCE_MS)
      throw error
    })
    patienceMs = FIRST_PATIENCE_MS
    const end = steps.positionOf(listing)
    if (end === undefined) return undefined
    // what made it stale came before this answer: otherwise the listing had no position
    stale = false
    tell(() => handlers.onResync(listing))
    return end
  }
  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      wake = resolve
      clock.after(ms * (0.75 + (rng.bytes(1)[0] as number) / 512), resolve)
    })

  const run = async () => {
    let breaks = 0
    while (!closed) {
      const member = members.current()
      const begun = clock.now()
      interrupt = new AbortController()
      let calm = false
      try {
        if (position === undefined || stale) position = await readAll()
        if (closed) return
        if (position === undefined) continue
        if (!(await steps.follow(member, position, emit, interrupt.signal))) position = undefined
        calm = interrupt.signal.aborted
      } catch (error) {
        if (error instanceof StoreFault && !interrupt.signal.aborted) members.failed(member, error)
        // it outlived a silence of the store and then broke after all: what it did not show may be gone
        if (begun < members.returnedAt) position = undefined
        logger.debug('a watch of the cluster store broke', { why: messageOf(error) })
      }
      if (closed) return
      if (clock.now() - begun > LONGEST_PAUSE_MS) breaks = 0
      if (!calm && !stale) await pause(Math.min(FIRST_PAUSE_MS * 2 ** breaks++, LONGEST_PAUSE_MS))
    }
  }
  const offMove = members.onMove(() => {
    interrupt.abort()
    wake()
  })
  void run()
  return {
    close() {
      if (closed) return
      closed = true
      offMove()
      interrupt.abort()
      wake()
      onClose()
    },
    resync() {
      stale = true
      interrupt.abort()
      wake()
    },
  }
}

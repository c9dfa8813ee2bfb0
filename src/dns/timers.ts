/** Timers of a loop that is not libuv's: a binary heap by due time. The heap forgets a cancelled timer when its time comes. */

export class LoopTimer {
  readonly dueMs: number
  #run: (() => void) | undefined

  constructor(dueMs: number, run: () => void) {
    this.dueMs = dueMs
    this.#run = run
  }

  /** It is never called after this, and what it would have called is let go of at once. */
  cancel(): void {
    this.#run = undefined
  }

  get isCancelled(): boolean {
    return this.#run === undefined
  }

  run(): void {
    this.#run?.()
  }
}

export class LoopTimers {
  readonly #heap: LoopTimer[] = []

  /** Calls `run` in the first turn at or after `dueMs` (same clock as given to {@link runDue}). */
  at(dueMs: number, run: () => void): LoopTimer {
    const timer = new LoopTimer(dueMs, run)
    const heap = this.#heap
    let i = heap.push(timer) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if ((heap[parent] as LoopTimer).dueMs <= dueMs) break
      heap[i] = heap[parent] as LoopTimer
      i = parent
    }
    heap[i] = timer
    return timer
  }

  /** Milliseconds until the next timer, 0 when it is due, `limitMs` when there is none that early. */
  waitMs(nowMs: number, limitMs: number): number {
    while (this.#heap[0]?.isCancelled === true) this.#pop()
    const next = this.#heap[0]
    return next === undefined ? limitMs : Math.min(limitMs, Math.max(0, next.dueMs - nowMs))
  }

  /** Runs what is due. Timers that these add run in a later turn at the earliest when they are due then. */
  runDue(nowMs: number, onError: (error: unknown) => void): void {
    for (let next = this.#heap[0]; next !== undefined && next.dueMs <= nowMs; next = this.#heap[0]) {
      this.#pop()
      try {
        next.run()
      } catch (error) {
        onError(error)
      }
    }
  }

  get size(): number {
    return this.#heap.length
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop() as LoopTimer
    if (heap.length === 0) return
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && (heap[child + 1] as LoopTimer).dueMs < (heap[child] as LoopTimer).dueMs) child++
      if ((heap[child] as LoopTimer).dueMs >= last.dueMs) break
      heap[i] = heap[child] as LoopTimer
      i = child
    }
    heap[i] = last
  }
}

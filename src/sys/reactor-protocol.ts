/** What `reactor.ts` and its thread say to each other. Commands are followed by a ring of the doorbell; reports arrive as messages. */
import type { MessagePort } from 'node:worker_threads'

/**
 * `packets`: read all there is and hand it over. `readable`: tell once, wait for `arm`. `writable`: tell once and forget.
 * The descriptor is a duplicate that belongs to the thread from `add` on.
 */
export type WatchMode = 'packets' | 'readable' | 'writable'

export type Command =
  | { readonly op: 'add'; readonly id: number; readonly slot: number; readonly fd: number; readonly mode: WatchMode }
  | { readonly op: 'arm'; readonly id: number }
  | { readonly op: 'remove'; readonly id: number }
  | { readonly op: 'close' }

export type Report =
  | { readonly op: 'started' }
  /** Packets back to back; `lengths` cuts them apart. */
  | { readonly op: 'packets'; readonly id: number; readonly data: Uint8Array; readonly lengths: readonly number[] }
  | { readonly op: 'ready'; readonly id: number }
  /** The kernel dropped packets for this socket (ENOBUFS). */
  | { readonly op: 'overrun'; readonly id: number }
  /** No more packets: `eof`, or the errno that ended it. The thread has let the descriptor go. */
  | { readonly op: 'end'; readonly id: number; readonly why: string }
  /** Answer to `remove`. */
  | { readonly op: 'removed'; readonly id: number }
  | { readonly op: 'failed'; readonly message: string }

export interface ReactorData {
  readonly port: MessagePort
  readonly doorbellFd: number
  readonly credits: SharedArrayBuffer
}

export const MAX_SUBSCRIPTIONS = 16_384
/** Batches that may be under way to a consumer before its descriptor is left unread. */
export const BATCHES_UNDER_WAY = 4

/**
 * Per subscription two shared numbers: how many batches the consumer has taken, and whether the thread waits for that
 * to grow. So a consumer that keeps up costs no message back, and one that does not stops the reading.
 */
export class Credits {
  readonly #cells: Int32Array

  constructor(shared: SharedArrayBuffer) {
    this.#cells = new Int32Array(shared)
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(MAX_SUBSCRIPTIONS * 8)
  }

  reset(slot: number): void {
    Atomics.store(this.#cells, slot * 2, 0)
    Atomics.store(this.#cells, slot * 2 + 1, 0)
  }

  taken(slot: number): number {
    return Atomics.load(this.#cells, slot * 2)
  }

  /** Consumer: one more batch is done. True when the thread waits for it and must be woken. */
  take(slot: number): boolean {
    Atomics.add(this.#cells, slot * 2, 1)
    return Atomics.exchange(this.#cells, slot * 2 + 1, 0) === 1
  }

  /** Thread: says that it waits. Look at {@link taken} once more afterwards: the consumer may have been faster. */
  wait(slot: number): void {
    Atomics.store(this.#cells, slot * 2 + 1, 1)
  }
}

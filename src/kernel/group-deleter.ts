/**
 * Deletes interface groups off this thread. The kernel waits 10 to 20 ms for RCU inside the request, once per request
 * however many links go; calls that come while one runs therefore share the next one.
 */
import { errnoName, kernelError } from '../sys/libc.ts'
import type { NetlinkSocket } from '../sys/netlink-socket.ts'
import { RTM_DELLINK } from '../wire/rtnetlink.ts'
import { writeLink } from '../wire/rtnetlink-link.ts'

export class GroupDeleter {
  readonly #open: () => NetlinkSocket
  #socket: NetlinkSocket | undefined
  #running: Promise<void> = Promise.resolve()
  #busy = false
  #closed = false
  readonly #waiting = new Map<number, Promise<void>>()

  /** `open` makes the socket on first use: it is not shared with anybody while a request is away. */
  constructor(open: () => NetlinkSocket) {
    this.#open = open
  }

  /** Resolves when the group is empty; an empty group is fine. Throws what the kernel refuses. */
  delete(group: number): Promise<void> {
    const shared = this.#waiting.get(group)
    if (shared !== undefined) return shared
    const turn = this.#running.then(() => {
      this.#waiting.delete(group) // from here on links may be missed: the next call is a new request
      return this.#request(group)
    })
    this.#waiting.set(group, turn)
    this.#running = turn.catch(() => {})
    return turn
  }

  /** Requests that are under way end in the kernel. */
  close(): void {
    this.#closed = true
    if (!this.#busy) this.#socket?.close()
  }

  async #request(group: number): Promise<void> {
    if (group === 0) throw kernelError('delete link group', '0', 22)
    this.#socket ??= this.#open()
    this.#busy = true
    try {
      const ack = await this.#socket.requestInBackground(RTM_DELLINK, 0, (w) => writeLink(w, { group }))
      if (ack.errno !== 0 && errnoName(ack.errno) !== 'ENODEV') throw kernelError('delete link group', String(group), ack.errno, ack.text)
    } finally {
      this.#busy = false
      if (this.#closed) this.#socket.close()
    }
  }
}

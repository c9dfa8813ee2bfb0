/**
 * Deletes links off this thread. Unregistering a device waits 10 to 20 ms for RCU (net/core/dev.c
 * unregister_netdevice_many), once per request however many links go: links are put into one interface group and the group is
 * deleted, all in one system call on a thread of the FFI's pool. Calls that come while one runs share the next one.
 */

import { systemClock } from '../base/clock.ts'
import type { Clock } from '../base/ports.ts'
import { errnoName, kernelError } from '../sys/libc.ts'
import type { NetlinkRequest, NetlinkSocket } from '../sys/netlink-socket.ts'
import type { NetlinkAck } from '../wire/netlink.ts'
import { RTM_DELLINK, RTM_SETLINK } from '../wire/rtnetlink.ts'
import { writeLink } from '../wire/rtnetlink-link.ts'

/**
 * While the kernel unregisters a link, everybody else waits for its lock: links that go within this time go together, so that the
 * next attachment rarely finds a deletion in its way.
 */
const GATHER_MS = 25

/**
 * How long one request should hold that lock at most. A veth pair costs under a millisecond, but a bridge 17, because each waits for
 * RCU alone (net/bridge/br_multicast.c br_multicast_dev_del, rcu_barrier): 600 bridges in one request stop the host's networking for
 * ten seconds. So the number of links in a request follows from what the last one took.
 */
const HOLD_MS = 60
const FEWEST = 2
const MOST = 64

/** Interface group of links on their way out. A restart deletes whatever a crash left in it. */
export const GRAVEYARD_GROUP = 0xca05e7

export class LinkReaper {
  readonly #open: () => NetlinkSocket
  readonly #clock: Clock
  #socket: NetlinkSocket | undefined
  #running: Promise<void> = Promise.resolve()
  #busy = false
  #closed = false
  readonly #waitingGroups = new Map<number, Promise<void>>()
  /** Indexes, not names: a new link may have the name of one that is still on its way out. */
  #doomed: number[] = []
  #atOnce = 8
  #waitingLinks: Promise<void> | undefined

  /** `open` makes the socket on first use: it is not shared with anybody while a request is away. */
  constructor(open: () => NetlinkSocket, clock: Clock = systemClock) {
    this.#open = open
    this.#clock = clock
  }

  /** Resolves when the links have gone; missing ones are fine. This thread sends nothing and waits for nothing. */
  deleteLinks(indexes: readonly number[]): Promise<void> {
    this.#doomed.push(...indexes)
    this.#waitingLinks ??= this.#inTurn(async () => {
      await this.#clock.sleep(GATHER_MS)
      this.#waitingLinks = undefined // links that come from here on are for the next request
      const doomed = this.#doomed
      this.#doomed = []
      if (doomed.length === 0 || this.#closed) return
      while (doomed.length > 0 && !this.#closed) await this.#deleteSome(doomed.splice(0, this.#atOnce))
    })
    return this.#waitingLinks
  }

  async #deleteSome(indexes: readonly number[]): Promise<void> {
    const moves = indexes.map((index) => ({
      type: RTM_SETLINK,
      flags: 0,
      write: (w: Parameters<NetlinkRequest['write']>[0]) => writeLink(w, { index, group: GRAVEYARD_GROUP }),
    }))
    const from = this.#clock.now()
    await this.#request([...moves, deletion(GRAVEYARD_GROUP)], GRAVEYARD_GROUP)
    const took = this.#clock.now() - from
    if (took > HOLD_MS) this.#atOnce = Math.max(FEWEST, this.#atOnce >> 1)
    else if (took < HOLD_MS / 2 && indexes.length >= this.#atOnce) this.#atOnce = Math.min(MOST, this.#atOnce * 2)
  }

  /** Resolves when the group is empty; an empty group is fine. Throws what the kernel refuses. */
  deleteGroup(group: number): Promise<void> {
    if (group === 0) return Promise.reject(kernelError('delete link group', '0', 22))
    const shared = this.#waitingGroups.get(group)
    if (shared !== undefined) return shared
    const turn = this.#inTurn(() => {
      this.#waitingGroups.delete(group) // from here on links may be missed: the next call is a new request
      return this.#request([deletion(group)], group)
    })
    this.#waitingGroups.set(group, turn)
    return turn
  }

  /** Requests that are under way end in the kernel. */
  close(): void {
    this.#closed = true
    if (!this.#busy) this.#socket?.close()
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#running.then(work)
    this.#running = turn.catch(() => {})
    return turn
  }

  async #request(requests: readonly NetlinkRequest[], group: number): Promise<void> {
    this.#socket ??= this.#open()
    this.#busy = true
    try {
      const ack: NetlinkAck = await this.#socket.requestsInBackground(requests)
      if (ack.errno !== 0 && errnoName(ack.errno) !== 'ENODEV') throw kernelError('delete link group', String(group), ack.errno, ack.text)
    } finally {
      this.#busy = false
      if (this.#closed) this.#socket.close()
    }
  }
}

function deletion(group: number): NetlinkRequest {
  return { type: RTM_DELLINK, flags: 0, write: (w) => writeLink(w, { group }) }
}

/** Which hosts this host shares encrypted networks with; encryption begins with the first such network and ends with the last. */
import type { Ip } from '../../base/address.ts'
import { messageOf, NetError } from '../../base/errors.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import { ipsecMissing, Xfrm } from '../../kernel/xfrm.ts'
import type { ClusterStore } from '../store/types.ts'
import { Encryption } from './encryption.ts'

const RETRY_MS = 5000

export interface EncryptedPeersOptions {
  readonly store: ClusterStore
  readonly hostId: string
  readonly vtep: Ip
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
}

export class EncryptedPeers {
  readonly #o: EncryptedPeersOptions
  readonly #byNetwork = new Map<string, ReadonlyMap<string, Ip>>()
  #xfrm: Xfrm | undefined
  #encryption: Encryption | undefined
  #closed = false

  constructor(options: EncryptedPeersOptions) {
    this.#o = options
  }

  /** Throws `not-implemented` with the reason when this host's kernel cannot encrypt. */
  check(network: string): void {
    const why = ipsecMissing()
    if (why !== undefined)
      throw new NetError('not-implemented', `network ${network} cannot be encrypted on host ${this.#o.vtep}: ${why}`, { subject: network })
  }

  /** Takes part in the cluster's encryption. Idempotent. Throws `not-implemented` or `unavailable`. */
  async join(): Promise<void> {
    this.check('with option "encrypted"')
    await this.#begin().join()
  }

  /** The same at a start, when nothing may wait for the store: tried until it works. */
  joinSoon(): void {
    if (this.#closed) return
    this.join().catch((error: unknown) => {
      this.#o.log.warn('encryption between hosts goes on as it is, it cannot be followed now', { error: messageOf(error) })
      this.#o.clock.after(RETRY_MS, () => this.joinSoon())
    })
  }

  /** The hosts of one encrypted network, undefined when it is used here no longer. */
  setPeers(networkId: string, peers: ReadonlyMap<string, Ip> | undefined): void {
    if (peers === undefined) {
      if (!this.#byNetwork.delete(networkId)) return
      if (this.#byNetwork.size === 0) {
        this.#encryption?.removeAll()
        return
      }
    } else {
      const before = this.#byNetwork.get(networkId)
      this.#byNetwork.set(networkId, peers)
      if (before !== undefined && before.size === peers.size && [...peers].every(([id, ip]) => before.get(id) === ip)) return
    }
    this.#begin().setPeers(new Map([...this.#byNetwork.values()].flatMap((of) => [...of])))
  }

  /** What an engine before this one has left in the kernel. */
  removeIfUnused(): void {
    if (this.#byNetwork.size > 0) return
    try {
      this.#begin().removeAll()
    } catch {
      // a kernel without IPsec has nothing of ours
    }
  }

  close(): void {
    this.#closed = true
    this.#encryption?.close()
    this.#xfrm?.close()
  }

  #begin(): Encryption {
    this.#xfrm ??= Xfrm.open()
    this.#encryption ??= new Encryption({ ...this.#o, xfrm: this.#xfrm })
    return this.#encryption
  }
}

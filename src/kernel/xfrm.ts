/** IPsec associations and policies of one network namespace, over netlink. */
import { parseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { errnoName, kernelError } from '../sys/libc.ts'
import { NetlinkSocket } from '../sys/netlink-socket.ts'
import type { Netns } from '../sys/netns.ts'
import { type MessageWriter, NLM_F_CREATE, NLM_F_EXCL } from '../wire/netlink.ts'
import {
  decodePolicy,
  decodeState,
  type IpsecPolicy,
  type IpsecState,
  writePolicy,
  writePolicyId,
  writeState,
  writeStateId,
  XFRM_MSG_DELPOLICY,
  XFRM_MSG_DELSA,
  XFRM_MSG_GETPOLICY,
  XFRM_MSG_GETSA,
  XFRM_MSG_NEWSA,
  XFRM_MSG_UPDPOLICY,
} from '../wire/xfrm.ts'

const NETLINK_XFRM = 6

export class Xfrm {
  readonly #socket: NetlinkSocket

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  /** Opens a handle on `ns`, or on this process's own namespace. Throws `unavailable` when the kernel has no XFRM. */
  static open(ns?: Netns): Xfrm {
    try {
      return new Xfrm(NetlinkSocket.open(NETLINK_XFRM, ns))
    } catch (cause) {
      throw new NetError('unavailable', 'this kernel has no IPsec (CONFIG_XFRM_USER)', {}, cause)
    }
  }

  close(): void {
    this.#socket.close()
  }

  /** ESP associations. Keys are not given. */
  states(): IpsecState[] {
    return this.#socket.dump(
      'IPsec associations',
      XFRM_MSG_GETSA,
      () => {},
      ({ payload }) => decodeState(payload),
    )
  }

  policies(): IpsecPolicy[] {
    return this.#socket.dump(
      'IPsec policies',
      XFRM_MSG_GETPOLICY,
      () => {},
      ({ payload }) => decodePolicy(payload),
    )
  }

  /** An association that is there already is left as it is: its sequence numbers must never start again under the same key. */
  ensureState(state: IpsecState): void {
    this.#send('add IPsec association', nameOf(state), XFRM_MSG_NEWSA, NLM_F_CREATE | NLM_F_EXCL, (w) => writeState(w, state), ['EEXIST'])
  }

  deleteState(state: IpsecState): void {
    this.#send('delete IPsec association', nameOf(state), XFRM_MSG_DELSA, 0, (w) => writeStateId(w, state), ['ESRCH'])
  }

  ensurePolicy(policy: IpsecPolicy): void {
    this.#send('set IPsec policy', policyName(policy), XFRM_MSG_UPDPOLICY, 0, (w) => writePolicy(w, policy))
  }

  deletePolicy(policy: IpsecPolicy): void {
    this.#send('delete IPsec policy', policyName(policy), XFRM_MSG_DELPOLICY, 0, (w) => writePolicyId(w, policy), ['ENOENT'])
  }

  #send(op: string, subject: string, type: number, flags: number, write: (w: MessageWriter) => void, fine: readonly string[] = []): void {
    const ack = this.#socket.request(type, flags, write)
    if (ack.errno !== 0 && !fine.includes(errnoName(ack.errno))) throw kernelError(op, subject, ack.errno, ack.text)
  }
}

const nameOf = (s: IpsecState): string => `${s.src} to ${s.dst} spi 0x${s.spi.toString(16)}`
const policyName = (p: IpsecPolicy): string => `${p.direction} ${p.src ?? 'any'} to ${p.dst ?? 'any'} udp port ${p.port}`

/**
 * Why this kernel cannot encrypt between hosts, as a sentence; undefined when it can. Tried with an association between two
 * documentation addresses (RFC 5737), which is taken away at once.
 */
export function ipsecMissing(ns?: Netns): string | undefined {
  let xfrm: Xfrm
  try {
    xfrm = Xfrm.open(ns)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  const trial: IpsecState = { src: parseIp('192.0.2.1'), dst: parseIp('192.0.2.2'), spi: 0xca05e3a7, reqid: 1, key: new Uint8Array(36) }
  try {
    xfrm.ensureState(trial)
    xfrm.deleteState(trial)
    return undefined
  } catch (error) {
    const errno = error instanceof NetError ? String(error.detail.errno ?? '') : ''
    return `this kernel cannot encrypt with ESP and AES-GCM (CONFIG_INET_ESP, CONFIG_CRYPTO_GCM; it answers ${errno})`
  } finally {
    xfrm.close()
  }
}

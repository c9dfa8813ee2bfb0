/** IPsec as the kernel keeps it (XFRM), as plain values: what a pair of hosts needs to encrypt UDP traffic of one port in transport mode. */
import type { Family, Ip } from '../base/address.ts'

/** A security association: how packets from `src` to `dst` are encrypted (on `src`) or decrypted (on `dst`). */
export interface IpsecState {
  readonly src: Ip
  readonly dst: Ip
  /** Distinguishes associations of the same destination; 256 to 2^32-1. */
  readonly spi: number
  /** Ties policies to associations. */
  readonly reqid: number
  /** AES-256 key and 4 bytes of salt (RFC 4106), 36 bytes; absent in what a dump gives. */
  readonly key?: Uint8Array
}

/** What has to happen to UDP packets to `port` between two addresses; an absent address is any. */
export interface IpsecPolicy {
  readonly direction: 'in' | 'out'
  readonly family: Family
  readonly src?: Ip
  readonly dst?: Ip
  readonly port: number
  /** Smaller numbers are looked at first. */
  readonly priority: number
  /** `block`: dropped. `esp`: through an association with `reqid`. */
  readonly action: 'block' | 'esp'
  readonly reqid: number
}

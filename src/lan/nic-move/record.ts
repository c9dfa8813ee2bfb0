/** What is remembered of a NIC that a network has taken: enough to put everything back although the bridge has gone. */
import type { AddressMessage } from '../../wire/rtnetlink-addr.ts'
import type { StateRoute } from './interface-state.ts'

export interface NicRecord {
  readonly networkId: string
  readonly nic: string
  readonly bridge: string
  /** After a restart of the machine the NIC is configured anew: the record says nothing any more. */
  readonly bootId: string
  readonly wasUp: boolean
  /** `taking`: it may be anywhere between; `taken`: done; `returning`: the network is being removed. */
  readonly phase: 'taking' | 'taken' | 'returning'
  readonly addresses: readonly Stored<AddressMessage>[]
  readonly routes: readonly Stored<StateRoute>[]
}

/** Attributes that the codec does not read are bytes: base64 in the store. */
type Stored<T> = Omit<T, 'unknown'> & { readonly unknown?: readonly { type: number; flags: number; data: string }[] }

export const nicKey = (networkId: string): string => `nic/${networkId}`
export const NIC_RECORDS = 'nic/'

export function toStored<T extends AddressMessage | StateRoute>(m: T): Stored<T> {
  const { unknown, ...rest } = m
  if (unknown === undefined) return rest as Stored<T>
  return { ...rest, unknown: unknown.map((attr) => ({ ...attr, data: Buffer.from(attr.data).toString('base64') })) } as Stored<T>
}

export function fromStored<T extends AddressMessage | StateRoute>(m: Stored<T>): T {
  const { unknown, ...rest } = m
  if (unknown === undefined) return rest as unknown as T
  return { ...rest, unknown: unknown.map((attr) => ({ ...attr, data: new Uint8Array(Buffer.from(attr.data, 'base64')) })) } as unknown as T
}

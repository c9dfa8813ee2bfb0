/** What the caller gets for an error: the sentence alone. A driver's and an IPAM's answers carry it under different keys. */
import { messageOf, NetError } from '../../base/errors.ts'

/** A request that does not hold what the protocol says. */
export function badCall(method: string, what: string): NetError {
  return new NetError('invalid', `${method}: ${what}`)
}

export function errorAnswer(method: string, error: unknown): object {
  return { [method.startsWith('IpamDriver.') ? 'Error' : 'Err']: messageOf(error) }
}

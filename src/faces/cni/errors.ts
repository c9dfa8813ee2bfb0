/** CNI's numbered errors. Source: CNI specification 1.1, "Error", and containernetworking/cni pkg/types. */
import { type ErrorCode, messageOf, NetError } from '../../base/errors.ts'

export const CNI = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  badEnvironment: 4,
  io: 5,
  decode: 6,
  badConfig: 7,
  badNamespace: 8,
  tryLater: 11,
  notAvailable: 50,
  /** Ours: CHECK found a difference. */
  different: 100,
  internal: 999,
} as const

const KIND: Readonly<Record<number, ErrorCode>> = {
  [CNI.unknownContainer]: 'not-found',
  [CNI.unsupportedField]: 'not-implemented',
  [CNI.tryLater]: 'unavailable',
  [CNI.notAvailable]: 'unavailable',
  [CNI.different]: 'conflict',
  [CNI.internal]: 'internal',
}

/** A NetError that knows its CNI number; `details` is the second sentence of CNI's error object. */
export class CniError extends NetError {
  readonly number: number
  readonly details: string

  constructor(number: number, message: string, details = '', cause?: unknown) {
    super(KIND[number] ?? 'invalid', message, {}, cause)
    this.number = number
    this.details = details
  }
}

/** Numbers of errors that come from the engine: the request is wrong, somebody else is busy, or something broke. */
const NUMBER: Readonly<Record<ErrorCode, number>> = {
  invalid: CNI.badConfig,
  denied: CNI.badConfig,
  'not-implemented': CNI.unsupportedField,
  'not-found': CNI.internal,
  'not-modified': CNI.internal,
  conflict: CNI.internal,
  busy: CNI.tryLater,
  unavailable: CNI.tryLater,
  internal: CNI.internal,
}

export function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error
  const number = error instanceof NetError ? NUMBER[error.code] : CNI.internal
  return new CniError(number, messageOf(error), '', error)
}

/** CNI's error object as the executable prints it. `cniVersion` is left out when the configuration could not be read. */
export function errorJson(error: CniError, cniVersion: string | undefined): string {
  const details = error.details === '' ? {} : { details: error.details }
  const version = cniVersion === undefined ? {} : { cniVersion }
  return `${JSON.stringify({ ...version, code: error.number, msg: error.message, ...details }, null, 4)}\n`
}

/** How a command ends other than well: an error that carries its exit code, and the texts people see. */
import { type ErrorDetail, messageOf, NetError } from '../base/errors.ts'
import { statusOf } from '../client/transport.ts'

export interface CliDetail extends ErrorDetail {
  readonly exitCode?: number
  /** Print the usage line and where help is; Docker says "Run" or, when arguments are missing, "See". */
  readonly usage?: 'run' | 'see'
  /** Printed as it is: no `causeway:` before and no hint behind. */
  readonly bare?: boolean
}

/** An error of the command line itself; `exitCode` defaults to the command's own (1, or 125 for run and create). */
export function fail(message: string, detail: CliDetail = {}): NetError {
  return new NetError('invalid', message, detail)
}

/** Wrong flags or a wrong number of arguments. */
export function usageError(message: string, detail: CliDetail = {}): NetError {
  return new NetError('invalid', message, { usage: 'run', ...detail })
}

export function cliDetailOf(error: unknown): CliDetail {
  return error instanceof NetError ? (error.detail as CliDetail) : {}
}

/** `Error response from daemon: ...` for answers of the engine, the bare sentence for everything else. */
export function describe(error: unknown): string {
  return statusOf(error) === undefined ? messageOf(error) : `Error response from daemon: ${messageOf(error)}`
}

/** The error answer of a connection that was taken out of HTTP before its session could be opened. */
import { toHttpError } from './errors.ts'
import type { Wire } from './hijack.ts'
import type { ApiOptions } from './types.ts'
import { commonHeaders } from './versions.ts'

export function refuseWire(wire: Wire, error: unknown, { log, version }: Pick<ApiOptions, 'log' | 'version'>): void {
  const { status, message, unexpected } = toHttpError(error)
  if (unexpected) log.error('attaching failed unexpectedly', { error: error instanceof Error ? error.stack : message })
  wire.refuse(status, message, commonHeaders(version))
}

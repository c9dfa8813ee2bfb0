/** Opens the session behind a connection that was already taken out of HTTP. */
import type { AttachSession } from '../containers/types.ts'
import { toHttpError } from './errors.ts'
import type { Wire } from './hijack.ts'
import type { ApiOptions } from './types.ts'
import { commonHeaders } from './versions.ts'

/** Runs `start`; when it fails, the client gets an ordinary HTTP error and undefined is returned, as when `start` found none to pump. */
export async function openSession(
  wire: Wire,
  { log, version }: Pick<ApiOptions, 'log' | 'version'>,
  start: () => Promise<AttachSession | undefined>,
): Promise<AttachSession | undefined> {
  try {
    return await start()
  } catch (error) {
    const { status, message, unexpected } = toHttpError(error)
    if (unexpected) log.error('attaching failed unexpectedly', { error: error instanceof Error ? error.stack : message })
    wire.refuse(status, message, commonHeaders(version))
    return undefined
  }
}

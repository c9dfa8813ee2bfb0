/** JSON lines of long image operations. */
import type { Progress } from '../containers/types.ts'
import type { Context } from './context.ts'
import { toHttpError } from './errors.ts'
import type { Streamed } from './types.ts'
import { STREAMED } from './types.ts'

/** Above this many unsent bytes, bars are dropped: a slow client gets fewer of them, not a growing queue here. */
const MAX_QUEUED_BYTES = 256 * 1024

/**
 * Runs `work` and streams what it reports. A failure before the first line is an ordinary error answer; after it, a last line
 * with `errorDetail`, as Docker's clients expect. With `failsInside` every failure is such a line (`docker load`).
 */
export async function streamProgress(
  ctx: Context,
  work: (progress: Progress) => Promise<void>,
  options: { readonly failsInside?: boolean } = {},
): Promise<Streamed> {
  const { res } = ctx
  const begin = (): void => {
    if (!res.headersSent) ctx.begin(200, { 'Content-Type': 'application/json' })
  }
  const progress: Progress = (line) => {
    if (ctx.signal.aborted) return
    begin()
    const isBar = 'progressDetail' in line && Object.keys(line['progressDetail'] ?? {}).length > 0
    if (isBar && res.writableLength > MAX_QUEUED_BYTES) return
    res.write(`${JSON.stringify(line)}\r\n`)
  }
  try {
    await work(progress)
    begin()
    res.end()
  } catch (error) {
    if (ctx.signal.aborted) return STREAMED
    if (!res.headersSent && !options.failsInside) throw error
    begin()
    const { message } = toHttpError(error)
    res.end(`${JSON.stringify({ errorDetail: { message }, error: message })}\r\n`)
  }
  return STREAMED
}

/** Moves bytes between a hijacked connection and a container's streams, at the pace of the slower side. */
import { once } from 'node:events'
import type { Writable } from 'node:stream'
import type { Clock } from '../base/ports.ts'
import type { AttachSession } from '../containers/types.ts'
import { frameHeader } from './frames.ts'
import type { Wire } from './hijack.ts'

/** How long a finished connection waits for the client's own end, so that the kernel does not throw away the last output. */
const LINGER_MS = 10_000

export interface OutputChunk {
  readonly stream: 'stdout' | 'stderr'
  readonly data: Buffer
}

/**
 * Runs an attached session until the process has ended or the client has gone. `sendInput` false drops what the client sends.
 * `multiplexed` frames the output; `encode` wraps it in another way (WebSocket). The end of the client's input closes the process's stdin only; output goes on.
 */
export async function pumpSession(
  wire: Wire,
  session: AttachSession,
  options: { multiplexed: boolean; sendInput: boolean; clock: Clock; encode?: (data: Buffer) => Buffer },
): Promise<void> {
  const { socket, input } = wire
  socket.once('close', () => session.close())
  if (socket.destroyed) session.close()
  if (options.sendInput) {
    session.stdin.on('error', () => input.resume()) // the process closed its stdin: keep draining, output is still wanted
    input.pipe(session.stdin)
  } else {
    input.resume()
  }
  try {
    for await (const chunk of session.output as AsyncIterable<OutputChunk>) {
      if (
        !(await writeChunk(
          socket,
          options.encode === undefined ? chunk : { ...chunk, data: options.encode(chunk.data) },
          options.multiplexed,
        ))
      )
        break
    }
  } finally {
    session.close()
    input.unpipe()
    input.resume()
    closeGently(socket, options.clock)
  }
}

/** Writes one chunk, framed or raw; waits while the client is slow. False when it has gone. */
async function writeChunk(socket: Writable, chunk: OutputChunk, multiplexed: boolean): Promise<boolean> {
  if (!socket.writable) return false
  let roomLeft: boolean
  if (multiplexed) {
    socket.cork()
    socket.write(frameHeader(chunk.stream, chunk.data.length))
    roomLeft = socket.write(chunk.data)
    socket.uncork()
  } else {
    roomLeft = socket.write(chunk.data)
  }
  if (roomLeft) return true
  return drained(socket)
}

async function drained(socket: Writable): Promise<boolean> {
  const stop = new AbortController()
  try {
    await Promise.race([once(socket, 'drain', { signal: stop.signal }), once(socket, 'close', { signal: stop.signal })])
  } catch {
    return false // the socket failed while we waited
  } finally {
    stop.abort()
  }
  return socket.writable
}

function closeGently(socket: Wire['socket'], clock: Clock): void {
  if (socket.destroyed) return
  socket.end()
  const cancel = clock.after(LINGER_MS, () => socket.destroy())
  socket.once('close', cancel)
}

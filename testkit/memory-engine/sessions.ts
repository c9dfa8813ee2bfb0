/** A process that is an echo. */
import { PassThrough, Readable } from 'node:stream'
import type { AttachSession } from '../../src/containers/types.ts'

/** A process that answers every input with the same bytes on stdout, and ends with its stdin. */
export function echoSession(tty: boolean, greeting: readonly { stream: 'stdout' | 'stderr'; text: string }[] = []): AttachSession {
  const output = new Readable({ objectMode: true, highWaterMark: 4, read() {} })
  const stdin = new PassThrough()
  for (const { stream, text } of greeting) output.push({ stream, data: Buffer.from(text) })
  stdin.on('data', (data: Buffer) => {
    // Backpressure as a real process has it: no more input is read while its output is not taken.
    if (!output.push({ stream: 'stdout', data })) stdin.pause()
  })
  output._read = () => void stdin.resume()
  stdin.on('end', () => output.push(null))
  return { tty, stdin, output, close: () => output.push(null) }
}

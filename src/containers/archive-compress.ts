/** Undoes whatever compression a stream begins with. gzip is zlib's; zstd, xz and bzip2 are the programs of these names. */
import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { messageOf, NetError } from '../base/errors.ts'
import { filterThrough } from '../sys/pipeline.ts'

const MAGIC: readonly { readonly bytes: readonly number[]; readonly program: readonly string[] | 'gzip' }[] = [
  { bytes: [0x1f, 0x8b], program: 'gzip' },
  { bytes: [0x28, 0xb5, 0x2f, 0xfd], program: ['zstd', '-dc'] },
  { bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], program: ['xz', '-dc'] },
  { bytes: [0x42, 0x5a, 0x68], program: ['bzip2', '-dc'] },
]
const LONGEST = 6

/** The plain bytes of `source`. Throws `invalid` for a damaged stream, `unavailable` when the program for it is not installed. */
export async function* decompress(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]()
  let head: Buffer = Buffer.alloc(0)
  try {
    while (head.length < LONGEST) {
      const next = await chunks.next()
      if (next.done === true) break
      head = Buffer.concat([head, next.value])
    }
    const kind = MAGIC.find(({ bytes }) => bytes.every((byte, i) => head[i] === byte))
    const rest = withHead(head, chunks)
    if (kind === undefined) yield* rest
    else if (kind.program === 'gzip') yield* gunzip(rest)
    else yield* filterThrough(kind.program, rest)
  } finally {
    await chunks.return?.()
  }
}

async function* withHead(head: Buffer, chunks: AsyncIterator<Uint8Array>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head
  for (;;) {
    const next = await chunks.next()
    if (next.done === true) return
    yield Buffer.isBuffer(next.value) ? next.value : Buffer.from(next.value)
  }
}

async function* gunzip(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const input = Readable.from(source, { objectMode: false })
  const output = createGunzip({ chunkSize: 1 << 16 })
  let failure: unknown
  input.on('error', (error) => {
    failure = error
    output.destroy(error)
  })
  input.pipe(output)
  try {
    for await (const chunk of output as AsyncIterable<Buffer>) yield chunk
  } catch (error) {
    if (failure !== undefined) throw failure
    throw new NetError('invalid', `invalid gzip stream: ${messageOf(error)}`, {}, error)
  } finally {
    input.destroy()
    output.destroy()
  }
}

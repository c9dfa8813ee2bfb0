/** Docker's multiplexed stream: an 8-byte header (stream number, three zeros, big-endian length), then the bytes. */

const HEADER_BYTES = 8
const NUMBER_OF = { stdin: 0, stdout: 1, stderr: 2, systemerr: 3 } as const

export type FrameStream = keyof typeof NUMBER_OF

export function frameHeader(stream: FrameStream, length: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header[0] = NUMBER_OF[stream]
  header.writeUInt32BE(length, 4)
  return header
}

export function frame(stream: FrameStream, data: Uint8Array): Buffer {
  return Buffer.concat([frameHeader(stream, data.length), data])
}

/** Content type of an output stream; the name for framed streams exists since API 1.42 (and only in answers to upgrades, when hijacked). */
export function streamContentType(multiplexed: boolean, version: number): string {
  return multiplexed && version >= 42 ? 'application/vnd.docker.multiplexed-stream' : 'application/vnd.docker.raw-stream'
}

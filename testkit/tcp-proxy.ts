/** A TCP proxy whose way a test can cut (connections are closed, new ones too) or stall (nothing passes, nothing is said). */
import { connect, createServer, type Socket } from 'node:net'

export interface TcpProxy {
  readonly host: string
  readonly port: number
  cut(): void
  stall(): void
  heal(): void
  /** The answer to the next request that has `text` in it is dropped, and its connection closed. Resolves when that happened. */
  loseAnswer(text: string): Promise<void>
  /** Bytes that came back from the target. */
  received(): number
  close(): Promise<void>
}

export async function tcpProxy(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
  let mode: 'open' | 'cut' | 'stalled' = 'open'
  let received = 0
  let toLose: { readonly text: string; readonly onLost: () => void } | undefined
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    if (mode === 'cut') return void near.destroy()
    const far = connect(target.port, target.host)
    let lost: (() => void) | undefined
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      if (mode === 'stalled') socket.pause()
      socket.on('data', (chunk) => {
        if (socket === far) {
          received += chunk.length
          if (lost !== undefined) {
            far.destroy()
            return lost()
          }
        } else if (toLose !== undefined && chunk.includes(toLose.text)) {
          lost = toLose.onLost
          toLose = undefined
        }
        other.write(chunk)
      })
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  // destroy and not resetAndDestroy: a reset socket with a write under way never closes, and Node 20 then spins at its exit
  const drop = () => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    host: '127.0.0.1',
    port: address.port,
    cut() {
      mode = 'cut'
      drop()
    },
    stall() {
      mode = 'stalled'
      for (const socket of sockets) socket.pause()
    },
    heal() {
      mode = 'open'
      // what was stalled stays lost: a route that comes back finds connections that one side gave up
      drop()
    },
    loseAnswer: (text) =>
      new Promise((resolve) => {
        toLose = { text, onLost: resolve }
      }),
    received: () => received,
    async close() {
      drop()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

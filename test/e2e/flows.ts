/** Traffic that goes on while something else happens, and how long it stood still. */
import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { sleep } from './judge.ts'

export interface Flow {
  /** Answers so far. */
  readonly answers: () => number
  /** Longest time without an answer since the last call of this, in ms. */
  gap(): number
  /** What broke the flow, undefined while it lives. */
  readonly broken: () => string | undefined
  close(): void
}

function meter(): { mark: () => void; flow: Pick<Flow, 'answers' | 'gap'> } {
  let answers = 0
  let last = performance.now()
  let longest = 0
  const note = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    return now
  }
  return {
    mark() {
      last = note()
      answers++
    },
    flow: {
      answers: () => answers,
      gap() {
        note()
        const out = longest
        longest = 0
        return out
      },
    },
  }
}

/** One TCP connection to an echo server, a line every `everyMs`. Resolves after the first answer; a server that is not there yet is waited for. */
export async function tcpFlow(host: string, port: number, everyMs = 10): Promise<Flow> {
  for (let i = 0; i < 100; i++) {
    const flow = await tryTcp(host, port, everyMs)
    if (flow !== undefined) return flow
    await sleep(30)
  }
  throw new Error(`no answer from ${host}:${port}`)
}

async function tryTcp(host: string, port: number, everyMs: number): Promise<Flow | undefined> {
  const { mark, flow } = meter()
  let broken: string | undefined
  const socket = connect({ host, port, noDelay: true })
  socket.on('data', mark)
  socket.on('error', (error) => {
    broken ??= error.message
  })
  socket.on('close', () => {
    broken ??= 'closed'
  })
  const timer = setInterval(() => socket.writable && socket.write('tick\n'), everyMs)
  const out: Flow = {
    ...flow,
    broken: () => broken,
    close() {
      clearInterval(timer)
      socket.destroy()
    },
  }
  for (let i = 0; i < 100 && out.answers() === 0 && broken === undefined; i++) await sleep(10)
  if (out.answers() > 0) return out
  out.close()
  return undefined
}

/** One UDP socket that keeps its port and sends to an echo server. */
export async function udpFlow(host: string, port: number, everyMs = 10): Promise<Flow> {
  const { mark, flow } = meter()
  const socket = createSocket('udp4')
  socket.on('message', mark)
  socket.on('error', () => {})
  const timer = setInterval(() => socket.send('tick', port, host, () => {}), everyMs)
  const out: Flow = {
    ...flow,
    broken: () => undefined,
    close() {
      clearInterval(timer)
      socket.close()
    },
  }
  for (let i = 0; i < 300 && out.answers() === 0; i++) await sleep(10)
  if (out.answers() === 0) {
    out.close()
    throw new Error(`no answer from ${host}:${port}/udp`)
  }
  return out
}

/** Signal names as Docker's clients write them: `KILL`, `SIGKILL`, `9`, `RTMIN+3`. */
import { constants } from 'node:os'
import { NetError } from '../base/errors.ts'

export const SIGTERM = 15
export const SIGKILL = 9
const RTMIN = 34
const RTMAX = 64

/** Number of a signal. Throws `invalid` with Docker's text. */
export function parseSignal(text: string): number {
  if (/^\d+$/.test(text)) {
    const n = Number(text)
    if (n > 0 && n <= RTMAX) return n
    throw new NetError('invalid', `invalid signal: ${text}`)
  }
  const name = text.toUpperCase().replace(/^SIG/, '')
  const n = (constants.signals as Record<string, number>)[`SIG${name}`]
  if (n !== undefined) return n
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name)
  if (realTime) {
    const base = realTime[1] === 'MIN' ? RTMIN : RTMAX
    const value = base + (realTime[2] === '-' ? -1 : 1) * Number(realTime[3] ?? 0)
    if (value >= RTMIN && value <= RTMAX) return value
  }
  throw new NetError('invalid', `invalid signal: ${text}`)
}

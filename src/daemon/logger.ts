/** The daemon's log: JSON lines by pino, readable lines on a terminal. */
import { pino } from 'pino'
import type { Logger } from '../base/ports.ts'

/** The daemon's log from this level on (`debug`, `info`, `warn`, `error`). */
export function createLogger(level: string, isTerminal: boolean): Logger {
  if (isTerminal) return plainLogger(level)
  const log = pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime })
  const write = (kind: 'debug' | 'info' | 'warn' | 'error') => (message: string, fields?: object) => log[kind](fields ?? {}, message)
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
}

const LEVELS = ['debug', 'info', 'warn', 'error'] as const

function plainLogger(level: string): Logger {
  const least = Math.max(0, LEVELS.indexOf(level as (typeof LEVELS)[number]))
  const write = (kind: (typeof LEVELS)[number]) => (message: string, fields?: object) => {
    if (LEVELS.indexOf(kind) < least) return
    const detail = Object.entries(fields ?? {}).map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    process.stderr.write(
      `${new Date().toISOString()} ${kind.toUpperCase().padEnd(5)} ${message}${detail.length > 0 ? `  ${detail.join(' ')}` : ''}\n`,
    )
  }
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
}

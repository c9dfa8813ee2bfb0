/** Progress of a pull, push, load or import: bars on a terminal, plain lines elsewhere. */
import { NetError } from '../base/errors.ts'
import type { ProgressLine } from '../client/types.ts'
import type { Output } from './context.ts'
import { humanSize } from './format/human.ts'

/** Consumes the stream. A line with `error` becomes a NetError after what came before was shown. Returns the `aux` values. */
export async function showProgress(lines: AsyncIterable<ProgressLine>, out: Output | undefined): Promise<unknown[]> {
  const aux: unknown[] = []
  const rows = new Map<string, number>()
  let height = 0
  for await (const line of lines) {
    if (line.error !== undefined || line.errorDetail !== undefined)
      throw new NetError('internal', line.errorDetail?.message ?? line.error ?? 'failed', { op: 'progress' })
    if (line.aux !== undefined) aux.push(line.aux)
    if (out === undefined) continue
    if (line.stream !== undefined) {
      out.write(line.stream)
      continue
    }
    if (line.status === undefined) continue
    const terminal = out.isTTY === true
    const id = line.id
    const bar = terminal ? progressBar(line, out.columns ?? 80) : ''
    if (!terminal && (line.progressDetail?.current ?? 0) > 0) continue // the moving part of a bar is noise in a file
    const text = `${id === undefined ? '' : `${id}: `}${line.status}${bar === '' ? '' : ` ${bar}`}`
    if (!terminal || id === undefined) {
      out.write(`${text}\n`)
      height++
      continue
    }
    let row = rows.get(id)
    if (row === undefined) {
      row = height++
      rows.set(id, row)
      out.write('\n')
    }
    const up = height - row
    out.write(`\u001b[${up}A\u001b[2K\r${text}\u001b[${up}B\r`)
  }
  return aux
}

function progressBar(line: ProgressLine, columns: number): string {
  const current = line.progressDetail?.current ?? 0
  const total = line.progressDetail?.total ?? 0
  if (current <= 0) return ''
  if (total <= 0) return humanSize(current, 3).padStart(8)
  const numbers = `${humanSize(current, 3)}/${humanSize(total, 3)}`
  const width = Math.min(50, columns - 60)
  if (width < 10) return numbers
  const filled = Math.min(width, Math.round((current / total) * width))
  return `[${'='.repeat(filled)}${filled < width ? '>' : ''}${' '.repeat(Math.max(0, width - filled - 1))}]  ${numbers}`
}

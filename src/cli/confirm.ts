/** The question before something is thrown away. */
import { createInterface } from 'node:readline/promises'
import type { Context } from './context.ts'

/** Prints `text` and asks; anything but y or yes is no, and so is the end of input. */
export async function confirm(context: Context, text: string): Promise<boolean> {
  const prompt = createInterface({ input: context.stdin, output: context.stdout, terminal: false })
  context.stdout.write(`${text} [y/N] `)
  const answer = await new Promise<string>((resolve) => {
    prompt.once('line', resolve)
    prompt.once('close', () => resolve(''))
  })
  prompt.close()
  return /^y(es)?$/i.test(answer.trim())
}

/** Doing one thing to many: every one is tried, names go to stdout, failures to stderr, and the exit code says whether all went well. */
import type { Context } from './context.ts'
import { describe } from './fail.ts'

/** Runs at most 50 at a time, prints in the order given. Returns 0 or 1. */
export async function each(
  context: Context,
  names: readonly string[],
  act: (name: string) => Promise<string | undefined>,
  options: { oneByOne?: boolean } = {},
): Promise<number> {
  let code = 0
  const width = options.oneByOne === true ? 1 : 50
  for (let at = 0; at < names.length; at += width) {
    const running = names.slice(at, at + width).map(async (name) => act(name))
    for (const outcome of await Promise.allSettled(running)) {
      if (outcome.status === 'fulfilled') {
        if (outcome.value !== undefined) context.print(outcome.value)
        continue
      }
      context.warn(describe(outcome.reason))
      code = 1
    }
  }
  return code
}

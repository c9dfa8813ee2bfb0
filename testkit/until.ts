/**
 * Waiting in tests: for a fact, with a deadline, never for a time. The deadline only decides how long a broken test takes to fail;
 * it is generous because the machine may be busy.
 */
import { AssertionError } from 'node:assert'

const FIRST_PAUSE_MS = 2
const LAST_PAUSE_MS = 50

/** More room than the default 8 s, or a log whose end is shown when time is up. */
export interface UntilOptions {
  readonly ms?: number
  readonly log?: () => string
}

/**
 * Asks `probe` again, at growing intervals, until it gives something other than `false` and `undefined`, and returns that.
 * An assertion that fails in `probe` means "not yet"; any other error is thrown at once. A probe that ends without a value has asserted
 * what it wanted. Throws, when time is up, what was waited for and the last assertion.
 */
export async function until<T>(
  what: string,
  probe: () => Promise<T> | T,
  options: UntilOptions | number = {},
): Promise<Exclude<T, false | undefined>> {
  const { ms = 8000, log = () => '' } = typeof options === 'number' ? { ms: options } : options
  const end = performance.now() + ms
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 1.5, LAST_PAUSE_MS)) {
    let last: AssertionError | undefined
    try {
      const got = await probe()
      if (got !== false && got !== undefined) return got as Exclude<T, false | undefined>
    } catch (error) {
      if (!(error instanceof AssertionError)) throw error
      last = error
    }
    if (performance.now() > end)
      throw new Error([`not within ${ms} ms: ${what}`, last?.message, log().slice(-2000)].filter(Boolean).join('\n'))
    await new Promise((resolve) => setTimeout(resolve, pause))
  }
}

/**
 * Gives memory back when the engine has gone quiet. After a burst V8 keeps the garbage until it needs the room, which on an idle
 * engine is never: a hundred container starts would stay in the resident size for days. Collecting costs 20 to 40 ms of a
 * thread that has nothing to do.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Clock } from '../base/ports.ts'

const LOOK_MS = 3000
/** Less processor time than this between two looks is quiet. */
const QUIET_MS = 60
/** Growth that is worth a collection. */
const WORTH_BYTES = 4 << 20

/** Starts looking every few seconds. Returns the way to stop. */
export function collectWhenQuiet(clock: Clock): () => void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  setFlagsFromString('--no-expose-gc')
  let used = process.cpuUsage()
  let settled = 0
  let cancel: () => void = () => {}
  const look = (): void => {
    const spent = process.cpuUsage(used)
    used = process.cpuUsage()
    const { heapTotal, external } = process.memoryUsage()
    if ((spent.user + spent.system) / 1000 < QUIET_MS && heapTotal + external > settled + WORTH_BYTES) {
      collect()
      collect() // the second one returns the pages that the first one emptied
      const after = process.memoryUsage()
      settled = after.heapTotal + after.external
    }
    cancel = clock.after(LOOK_MS, look)
  }
  cancel = clock.after(LOOK_MS, look)
  return () => cancel()
}

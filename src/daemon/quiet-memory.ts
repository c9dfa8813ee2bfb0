/**
 * Gives memory back when the engine has gone quiet. After a burst V8 keeps the garbage until it needs the room, which on an idle
 * engine is never: a hundred container starts would stay in the resident size for days. Collecting costs 20 to 40 ms of a
 * thread that has nothing to do.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Clock } from '../base/ports.ts'
import { raw } from '../sys/libc.ts'

const LOOK_MS = 3000
/** Less processor time than this between two looks is quiet. */
const QUIET_MS = 60
/** So much processor time since the last collection has left garbage that is worth one. */
const WORTH_MS = 300

/** Starts looking every few seconds. Returns the way to stop. */
export function collectWhenQuiet(clock: Clock): () => void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  setFlagsFromString('--no-expose-gc')
  let used = process.cpuUsage()
  let busyMs = WORTH_MS
  let cancel: () => void = () => {}
  const look = (): void => {
    const spent = process.cpuUsage(used)
    used = process.cpuUsage()
    const spentMs = (spent.user + spent.system) / 1000
    busyMs += spentMs
    if (spentMs < QUIET_MS && busyMs >= WORTH_MS) {
      collect()
      collect() // the second one returns the pages that the first one emptied
      raw.mallocTrim(0) // buffers outside V8's heap: libc keeps what was freed between others
      used = process.cpuUsage()
      busyMs = 0
    }
    cancel = clock.after(LOOK_MS, look)
  }
  cancel = clock.after(LOOK_MS, look)
  return () => cancel()
}

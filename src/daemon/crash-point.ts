/**
 * Fault injection for tests: with `CAUSEWAY_CRASH_AT=<n>` the engine kills itself (SIGKILL, so nothing is tidied up) at its n-th step,
 * where a step is the moment before or after one change of the store, of the firewall or of the host's links. `<n>@<file>` counts only
 * while the file is there, so that a test chooses the operation in which the engine dies. Without the variable nothing is wrapped and
 * nothing is paid for.
 */
import { existsSync } from 'node:fs'

/** Wraps `target` so that the named methods count; returns it as it is when no crash is asked for. */
export type CrashPoint = <T extends object>(target: T, methods: readonly (keyof T)[]) => T

/** For tests: `<n>@<file>` kills this process at its n-th step once that file is there; before and after each store write or kernel call is a step. */
export function crashPoint(at: string | undefined): CrashPoint {
  const [count = '', ...rest] = (at ?? '').split('@')
  const last = Number(count)
  if (!Number.isInteger(last) || last <= 0) return (target) => target
  const file = rest.join('@')
  let steps = 0
  const step = () => {
    if (file !== '' && !existsSync(file)) return
    if (++steps === last) process.kill(process.pid, 'SIGKILL')
  }
  return (target, methods) =>
    new Proxy(target, {
      get(object, key) {
        const value = Reflect.get(object, key, object) as unknown
        if (typeof value !== 'function') return value
        if (!methods.includes(key as keyof typeof target)) return value.bind(object)
        return (...args: unknown[]) => {
          step()
          const result: unknown = value.apply(object, args)
          step()
          return result
        }
      },
    })
}

/**
 * Learns that a container or exec has ended: conmon writes the exit code into a folder, which inotify reports. Should conmon itself be
 * killed, its pidfd tells.
 */
import { type FSWatcher, mkdirSync, readFileSync, statSync, watch } from 'node:fs'
import { close, pidfdOpen } from '../sys/libc.ts'
import type { PacketReactor, Subscription } from './deps.ts'

/** `code` undefined: the monitor died and nobody knows. */
export interface Exit {
  readonly code: number | undefined
  /** Milliseconds since the epoch; 0 when unknown. */
  readonly at: number
}

interface Wanted {
  readonly onExit: (exit: Exit) => void
  readonly stop: () => void
}

/** The exit code that conmon left, if it did. */
export function readExit(dir: string, name: string): Exit | undefined {
  try {
    const text = readFileSync(`${dir}/${name}`, 'utf8')
    return text === '' ? undefined : { code: Number(text), at: statSync(`${dir}/${name}`).mtimeMs }
  } catch {
    return undefined
  }
}

export class ExitWatch {
  readonly #dir: string
  readonly #reactor: PacketReactor
  readonly #wanted = new Map<string, Wanted>()
  readonly #watcher: FSWatcher

  constructor(dir: string, reactor: PacketReactor) {
    this.#dir = dir
    this.#reactor = reactor
    mkdirSync(dir, { recursive: true })
    this.#watcher = watch(dir, { persistent: false }, (_event, file) => {
      if (file !== null) this.#look(file)
    })
    this.#watcher.on('error', () => {})
  }

  /** Calls `onExit` once, also when the exit was before this call. */
  expect(name: string, monitorPid: number, onExit: (exit: Exit) => void): void {
    this.forget(name)
    let pidfd = -1
    let subscription: Subscription | undefined
    this.#wanted.set(name, {
      onExit,
      stop: () => {
        subscription?.close()
        if (pidfd >= 0) close(pidfd)
      },
    })
    try {
      pidfd = pidfdOpen(monitorPid)
      subscription = this.#reactor.onReadable(pidfd, () => this.#settle(name, readExit(this.#dir, name) ?? { code: undefined, at: 0 }))
    } catch {
      // the monitor has gone already: either it left the exit code or nobody ever will
      setImmediate(() => this.#settle(name, readExit(this.#dir, name) ?? { code: undefined, at: 0 }))
    }
    this.#look(name)
  }

  forget(name: string): void {
    this.#wanted.get(name)?.stop()
    this.#wanted.delete(name)
  }

  close(): void {
    this.#watcher.close()
    for (const name of [...this.#wanted.keys()]) this.forget(name)
  }

  #look(name: string): void {
    if (!this.#wanted.has(name)) return
    const exit = readExit(this.#dir, name)
    if (exit !== undefined) this.#settle(name, exit)
  }

  #settle(name: string, exit: Exit): void {
    const wanted = this.#wanted.get(name)
    if (wanted === undefined) return
    this.forget(name)
    wanted.onExit(exit)
  }
}

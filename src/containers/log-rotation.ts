/**
 * Keeps the logs of running containers within their bounds. A quiet log costs nothing: the kernel tells when it is written to. A busy
 * one is looked at every {@link POLL_MS}, so that a container which writes much does not wake the engine for every line.
 */
import { type FSWatcher, watch } from 'node:fs'
import { messageOf } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import { compressLogs, keepLogs } from './log-files.ts'
import type { LogBounds } from './log-options.ts'
import { reopenLog } from './monitor.ts'

export const POLL_MS = 50

export interface RotatedLog {
  /** File that is being written. */
  readonly path: string
  /** Where conmon listens. */
  readonly bundle: string
  readonly bounds: LogBounds
}

interface Watched {
  readonly log: RotatedLog
  size: number
  /** There may be full files to compress. */
  hasFull: boolean
  cancel: () => void
}

export class LogRotation {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #watched = new Map<string, Watched>()
  readonly #compressing = new Map<string, Promise<void>>()

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock
    this.#logger = logger
  }

  /** Begins with a look: the log may have grown while nobody looked. A log of one file is conmon's business alone. */
  watch(id: string, log: RotatedLog): void {
    this.forget(id)
    if (log.bounds.maxFiles === 1) return
    const watched: Watched = { log, size: -1, hasFull: log.bounds.compress === true, cancel: () => {} }
    this.#watched.set(id, watched)
    this.#look(id, watched)
  }

  forget(id: string): void {
    this.#watched.get(id)?.cancel()
    this.#watched.delete(id)
  }

  close(): void {
    for (const id of [...this.#watched.keys()]) this.forget(id)
  }

  #look(id: string, watched: Watched): void {
    const size = this.#keep(id, watched)
    if (size === undefined || size !== watched.size) {
      watched.size = size ?? -1
      watched.cancel = this.#clock.after(POLL_MS, () => this.#look(id, watched))
    } else this.#sleep(id, watched)
  }

  /** Size of the log; undefined when a new file is on its way, or when the files cannot be changed now (a full disk). */
  #keep(id: string, watched: Watched): number | undefined {
    const { path, bundle, bounds } = watched.log
    try {
      const check = keepLogs(path, bounds)
      if (check.kind === 'room') {
        if (watched.hasFull) this.#compress(id, path)
        watched.hasFull = false
        return check.size
      }
      watched.hasFull = bounds.compress === true // not before conmon has left it
      reopenLog(bundle)
    } catch (error) {
      this.#logger.warn(`cannot rotate a log: ${messageOf(error)}`, { container: id })
    }
    return undefined
  }

  /** One after the other for each log; what becomes full meanwhile has its turn afterwards. */
  #compress(id: string, path: string): void {
    const before = this.#compressing.get(path) ?? Promise.resolve()
    const now = before
      .then(() => compressLogs(path))
      .catch((error) => {
        // the container may have been removed meanwhile, with its log
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
          this.#logger.warn(`cannot compress a log: ${messageOf(error)}`, { container: id })
      })
      .finally(() => {
        if (this.#compressing.get(path) === now) this.#compressing.delete(path)
      })
    this.#compressing.set(path, now)
  }

  /** Until the file changes in any way. */
  #sleep(id: string, watched: Watched): void {
    let watcher: FSWatcher
    const wake = (): void => {
      watcher.close()
      watched.cancel = this.#clock.after(POLL_MS, () => this.#look(id, watched))
    }
    try {
      watcher = watch(watched.log.path, { persistent: false }, wake)
    } catch {
      // not there yet, or no watches left: look again later
      watched.cancel = this.#clock.after(20 * POLL_MS, () => this.#look(id, watched))
      return
    }
    watcher.on('error', wake)
    watched.cancel = () => watcher.close()
    // what was written before the watcher was there
    if (this.#keep(id, watched) !== watched.size) wake()
  }
}

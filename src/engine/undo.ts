/** An undo stack: what a failed operation has done so far is taken back newest first, and what cannot be taken back is told. */
import { messageOf } from '../base/errors.ts'

export class UndoStack {
  #steps: { readonly what: string; readonly undo: () => void }[] = []

  /** Remembers how to take back what was just done. */
  defer(what: string, undo: () => void): void {
    this.#steps.push({ what, undo })
  }

  /** Everything worked: nothing is to be undone any more. */
  commit(): void {
    this.#steps = []
  }

  /** Takes everything back, keeps going on failures, and returns what could not be undone. */
  unwind(): Error[] {
    const failures: Error[] = []
    for (const step of this.#steps.reverse()) {
      try {
        step.undo()
      } catch (error) {
        failures.push(new Error(`Cannot undo ${step.what}: ${messageOf(error)}`, { cause: error }))
      }
    }
    this.#steps = []
    return failures
  }
}

/** Endpoints of this host whose place belongs to somebody else now: told to the engine, which ends that, and remembered for people. */
import type { Logger } from '../base/ports.ts'
import type { Conflict } from './endpoint-claims.ts'

/** Older ones are forgotten. */
const REMEMBERED = 100

export interface SettledConflict extends Conflict {
  /** What became of the container, as a sentence that goes on; '' while it is not known. */
  readonly outcome: string
}

export class Conflicts {
  readonly #log: Logger
  readonly #resolve: ((conflict: Conflict) => Promise<string>) | undefined
  readonly #known = new Map<string, SettledConflict>()

  /** `resolve` takes the endpoint off its place and says what became of it. */
  constructor(log: Logger, resolve: ((conflict: Conflict) => Promise<string>) | undefined) {
    this.#log = log
    this.#resolve = resolve
  }

  list(): SettledConflict[] {
    return [...this.#known.values()]
  }

  note(conflict: Conflict): void {
    this.#log.error('a container of this host cannot keep its place on a cluster network', conflict)
    this.#remember(conflict, '')
    void this.#end(conflict)
  }

  async #end(conflict: Conflict): Promise<void> {
    this.#remember(conflict, (await this.#resolve?.(conflict)) ?? 'reconnect it to get another one')
  }

  #remember(conflict: Conflict, outcome: string): void {
    this.#known.delete(conflict.endpointId)
    this.#known.set(conflict.endpointId, { ...conflict, outcome })
    for (const id of [...this.#known.keys()].slice(0, -REMEMBERED)) this.#known.delete(id)
  }
}

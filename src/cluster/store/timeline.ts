/**
 * Notices that the store's data went back in time (restored from a snapshot, wiped): its revisions are then given out a second time, and
 * a version read before must not match what has the same number now. So versions and revisions carry the generation they were read in.
 */
import type { Version } from './types.ts'

/** Taken before a request; see {@link Timeline.observe}. */
export interface Mark {
  readonly generation: number
  /** What the answer's revision cannot be below. */
  readonly floor: bigint
}

export class Timeline {
  #generation = 1
  #cluster = ''
  #revision = 0n
  readonly #onBreak: () => void

  /** `onBreak` is called when an answer shows other data than before. */
  constructor(onBreak: () => void) {
    this.#onBreak = onBreak
  }

  mark(): Mark {
    return { generation: this.#generation, floor: this.#revision }
  }

  /** An answer that all members agreed on, asked after `mark`. Returns the generation of what it says. */
  observe(header: { readonly cluster_id?: string; readonly revision?: string } | undefined, mark: Mark): number {
    // asked before a break and answered after it: nobody knows which side it is of
    if (mark.generation !== this.#generation) return mark.generation
    const cluster = header?.cluster_id ?? ''
    const revision = integer(header?.revision)
    const another = this.#cluster !== '' && cluster !== '' && cluster !== this.#cluster
    if (cluster !== '') this.#cluster = cluster
    if (another || revision < mark.floor) {
      this.cut(revision)
      this.#onBreak()
    } else if (revision > this.#revision) this.#revision = revision
    return this.#generation
  }

  /** Versions that were read until now match nothing any more. */
  cut(revision = 0n): void {
    this.#generation++
    this.#revision = revision
  }

  /** The revision inside, undefined when it is of an earlier generation or none of ours. */
  revisionOf(version: Version): string | undefined {
    const [generation, revision] = version.split('.')
    return generation === String(this.#generation) && revision !== undefined && /^\d+$/.test(revision) ? revision : undefined
  }
}

export function versionText(generation: number, revision: string): Version {
  return `${generation}.${revision}`
}

/** The store's own number of a revision, for people and for comparing hosts; 0 when it has none. */
export function revisionNumber(revision: string): number {
  return Number(integer(revision.slice(revision.indexOf('.') + 1)))
}

/** 0 for what is no number, whoever sent it. */
export function integer(text: unknown): bigint {
  return typeof text === 'string' && /^\d+$/.test(text) ? BigInt(text) : 0n
}

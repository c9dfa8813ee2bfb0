/**
 * What `docker rmi` may take away. A pure decision: names and images to drop, or Docker's conflict.
 * Rules and texts: dockerd's image deletion (moby daemon/images/image_delete.go).
 */
import { NetError } from '../base/errors.ts'
import { familiar, parseReference, type Reference, withDefaultTag } from './images-reference.ts'

export interface RemovalFacts {
  /** What the person wrote. */
  readonly text: string
  readonly hex: string
  /** All names of the image. */
  readonly refs: readonly Reference[]
  /** Containers made from it. */
  readonly users: readonly { readonly id: string; readonly isRunning: boolean }[]
  readonly force: boolean
}

export interface Removal {
  /** Names to take away, in order. */
  readonly untag: readonly Reference[]
  /** Whether the image goes too. */
  readonly deletes: boolean
}

function conflict(text: string): NetError {
  return new NetError('conflict', `conflict: ${text}`)
}

/** All names lie in one repository and at most one of them is a tag. */
function isSingle(refs: readonly Reference[]): boolean {
  const repositories = new Set(refs.map((ref) => ref.name))
  return repositories.size <= 1 && refs.filter((ref) => ref.digest === undefined).length <= 1
}

/** Decides, or throws `conflict`. */
export function planRemoval(facts: RemovalFacts): Removal {
  const short = facts.hex.slice(0, 12)
  const running = facts.users.find((user) => user.isRunning)
  const stopped = facts.users.find((user) => !user.isRunning)
  const hex = facts.text.startsWith('sha256:') ? facts.text.slice(7) : facts.text
  if (facts.hex.startsWith(hex)) {
    if (running !== undefined) {
      throw conflict(`unable to delete ${short} (cannot be forced) - image is being used by running container ${running.id.slice(0, 12)}`)
    }
    if (!isSingle(facts.refs) && !facts.force) {
      throw conflict(`unable to delete ${short} (must be forced) - image is referenced in multiple repositories`)
    }
    if (stopped !== undefined && !facts.force) {
      throw conflict(`unable to delete ${short} (must be forced) - image is being used by stopped container ${stopped.id.slice(0, 12)}`)
    }
    return { untag: facts.refs, deletes: true }
  }
  const named = withDefaultTag(parseReference(facts.text))
  const ref =
    facts.refs.find((r) => familiar(r) === familiar(named)) ?? facts.refs.find((r) => r.digest !== undefined && r.digest === named.digest)
  if (ref === undefined) return { untag: [], deletes: false }
  const user = facts.users[0]
  if (!facts.force && isSingle(facts.refs) && user !== undefined) {
    throw conflict(
      `unable to remove repository reference "${facts.text}" (must force) - container ${user.id.slice(0, 12)} is using its referenced image ${short}`,
    )
  }
  const untag = [ref]
  let left = facts.refs.filter((r) => r !== ref)
  // digests of a repository without a tag left there keep nothing alive
  if (ref.digest === undefined && !left.some((r) => r.name === ref.name && r.digest === undefined)) {
    untag.push(...left.filter((r) => r.name === ref.name))
    left = left.filter((r) => r.name !== ref.name)
  }
  if (left.length > 0) return { untag, deletes: false }
  // the name goes by force, the image stays for its containers
  return { untag, deletes: facts.users.length === 0 || (running === undefined && facts.force) }
}

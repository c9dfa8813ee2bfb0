/** Docker's way from a text to a network: full id, full name, id prefix; more than one match is an error, not a choice. */
import type { NetError } from '../base/errors.ts'
import type { NetworkController } from '../engine/types.ts'
import type { Network } from '../model/network.ts'
import { badRequest, notFound } from './errors.ts'

/**
 * Throws `not-found`, or `invalid` when ambiguous; inspect and remove word the latter differently.
 * `scope` '' looks at all scopes.
 */
export function lookupNetwork(controller: NetworkController, ref: string, purpose: 'inspect' | 'remove', scope = ''): Network {
  const networks = controller.listNetworks().filter((network) => scope === '' || network.scope === scope)
  const byId = networks.find((network) => network.id === ref)
  if (byId !== undefined) return byId
  const byName = networks.filter((network) => network.name === ref)
  const byPrefix = byName.length > 0 || ref === '' ? [] : networks.filter((network) => network.id.startsWith(ref))
  const found = byName.length > 0 ? byName : byPrefix
  if (found.length > 1) throw ambiguous(ref, found.length, byName.length > 0 ? 'name' : 'ID prefix', purpose)
  if (found[0] !== undefined) return found[0]
  controller.getNetwork(ref) // throws: that it does not exist, or that this is not certain
  throw notFound(`network ${ref} not found`)
}

function ambiguous(ref: string, count: number, by: string, purpose: 'inspect' | 'remove'): NetError {
  return badRequest(
    purpose === 'inspect'
      ? `${count} matches found based on ${by}: network ${ref} is ambiguous`
      : `network ${ref} is ambiguous (${count} matches found based on ${by})`,
  )
}

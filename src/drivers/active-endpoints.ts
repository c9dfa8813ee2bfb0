/** The refusal to remove a network that is in use, in Docker's words, followed by who uses it. */
import { NetError } from '../base/errors.ts'

/** An endpoint that keeps its network. */
export interface ActiveEndpoint {
  /** Container's name. */
  readonly name: string
  readonly id: string
  /** Name of its host; absent where there is only one. */
  readonly host?: string
  /** The host is not heard of. */
  readonly isHostDown?: boolean
}

const MOST_NAMED = 8

/** `denied`. Clients look for "has active endpoints"; networks of several hosts are named with their id, as in Docker. */
export function activeEndpointsError(
  network: { readonly id: string; readonly name: string },
  endpoints: readonly ActiveEndpoint[],
): NetError {
  const isShared = endpoints.some(({ host }) => host !== undefined)
  const named = endpoints.slice(0, MOST_NAMED).map(textOf)
  const more = endpoints.length > named.length ? ` and ${endpoints.length - named.length} more` : ''
  const which = isShared ? `${network.name} id ${network.id}` : network.name
  return new NetError('denied', `error while removing network: network ${which} has active endpoints (${named.join(', ')}${more})`, {
    subject: network.name,
  })
}

function textOf({ name, id, host, isHostDown }: ActiveEndpoint): string {
  const who = name === '' ? `id:"${id.slice(0, 12)}"` : `name:"${name}" id:"${id.slice(0, 12)}"`
  if (host === undefined) return who
  return `${who} on host ${host}${isHostDown ? `, which is down: \`causeway cluster evict ${host}\` frees what it has` : ''}`
}

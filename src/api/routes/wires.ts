/** `/causeway/v1/wires`: interfaces plugged into containers and namespaces by hand. */
import { int, list, object, str } from '../decode.ts'
import { badRequest } from '../errors.ts'
import type { Extension } from '../types.ts'

/** What the routes need of the service (`lan/wires`). */
export interface WireService {
  list(): readonly unknown[]
  add(ask: {
    container?: string
    netns?: string
    pid?: number
    bridge?: string
    addresses?: string[]
    gateways?: string[]
    mac?: string
    vlan?: number
    ifname?: string
  }): unknown
  remove(ref: string): Promise<void>
}

const PATH = '/causeway/v1/wires'
const ASK = object({
  container: str,
  netns: str,
  pid: int,
  bridge: str,
  addresses: list(str),
  gateways: list(str),
  mac: str,
  vlan: int,
  ifname: str,
})

/** List, add and remove wires. */
export function wireRoutes(wires: WireService): Extension[] {
  return [
    { method: 'GET', path: PATH, handler: () => ({ wires: wires.list() }) },
    {
      method: 'POST',
      path: PATH,
      handler: (_params, _query, body) => {
        if (body === undefined || body === null) throw badRequest('invalid JSON: got EOF while reading request body')
        return wires.add(ASK(body, ''))
      },
    },
    {
      method: 'DELETE',
      path: `${PATH}/:id`,
      handler: async ({ id = '' }) => {
        await wires.remove(id)
        return undefined
      },
    },
  ]
}

/**
 * What a plugin may answer, method by method. Keys are taken in any case, as Go's decoder does, for which plugins are written; a value of
 * another type is refused before anything is made of it.
 */
import { NetError } from '../base/errors.ts'
import { IPAM_DRIVER, NETWORK_DRIVER } from '../drivers/remote/protocol.ts'

type Shape = 'string' | 'boolean' | 'number' | 'anything' | ObjectShape | ListShape | MapShape
interface ObjectShape {
  readonly fields: Readonly<Record<string, Shape>>
}
interface ListShape {
  readonly listOf: Shape
}
/** An object whose keys are the plugin's own: their case counts. */
interface MapShape {
  readonly valuesOf: Shape
}

const INTERFACE: ObjectShape = { fields: { Address: 'string', AddressIPv6: 'string', MacAddress: 'string' } }
const ROUTE: ObjectShape = { fields: { Destination: 'string', RouteType: 'number', NextHop: 'string' } }

const FIELDS: Readonly<Record<string, ObjectShape['fields']>> = {
  'Plugin.Activate': { Implements: { listOf: 'string' } },
  [`${NETWORK_DRIVER}.GetCapabilities`]: { Scope: 'string', ConnectivityScope: 'string', GwAllocChecker: 'boolean' },
  [`${NETWORK_DRIVER}.GwAllocCheck`]: { SkipIPv4: 'boolean', SkipIPv6: 'boolean' },
  [`${NETWORK_DRIVER}.AllocateNetwork`]: { Options: { valuesOf: 'string' } },
  [`${NETWORK_DRIVER}.CreateEndpoint`]: { Interface: INTERFACE },
  [`${NETWORK_DRIVER}.EndpointOperInfo`]: { Value: { valuesOf: 'anything' } },
  [`${NETWORK_DRIVER}.Join`]: {
    InterfaceName: { fields: { SrcName: 'string', DstName: 'string', DstPrefix: 'string' } },
    Gateway: 'string',
    GatewayIPv6: 'string',
    StaticRoutes: { listOf: ROUTE },
    DisableGatewayService: 'boolean',
  },
  [`${IPAM_DRIVER}.GetCapabilities`]: { RequiresMACAddress: 'boolean', RequiresRequestReplay: 'boolean' },
  [`${IPAM_DRIVER}.GetDefaultAddressSpaces`]: { LocalDefaultAddressSpace: 'string', GlobalDefaultAddressSpace: 'string' },
  [`${IPAM_DRIVER}.RequestPool`]: { PoolID: 'string', Pool: 'string', Data: { valuesOf: 'string' } },
  [`${IPAM_DRIVER}.RequestAddress`]: { Address: 'string', Data: { valuesOf: 'string' } },
}

/**
 * The answer with its keys spelled as the protocol has them; `null` counts as absent, what is not known is left out.
 * @throws NetError `internal` that names method, field and value.
 */
export function readAnswer(plugin: string, method: string, answer: object): object {
  const wrong = (path: string, value: unknown, expected: string) => {
    const where = path === '' ? '' : `${path} `
    const shown = JSON.stringify(value).slice(0, 200)
    return new NetError('internal', `${method}: plugin "${plugin}" answered ${where}${shown}, expected ${expected}`)
  }

  const read = (path: string, value: unknown, shape: Shape): unknown => {
    if (value === null || value === undefined || shape === 'anything') return value ?? undefined
    if (typeof shape === 'string') {
      if (typeof value === shape) return value
      throw wrong(path, value, shape === 'boolean' ? 'true or false' : `a ${shape}`)
    }
    if ('listOf' in shape) {
      if (!Array.isArray(value)) throw wrong(path, value, 'a list')
      return value.map((item, i) => {
        if (item === null) throw wrong(`${path}[${i}]`, item, typeof shape.listOf === 'string' ? `a ${shape.listOf}` : 'an object')
        return read(`${path}[${i}]`, item, shape.listOf)
      })
    }
    if (typeof value !== 'object' || Array.isArray(value)) throw wrong(path, value, 'an object')
    const at = (key: string) => (path === '' ? key : `${path}.${key}`)
    const entries = Object.entries(value)
    if ('valuesOf' in shape) return Object.fromEntries(entries.map(([key, item]) => [key, read(at(key), item, shape.valuesOf)]))
    const named = Object.entries(shape.fields).flatMap(([key, of]) => {
      const folded = key.toLowerCase()
      const found = entries.findLast(([name]) => name === key) ?? entries.findLast(([name]) => name.toLowerCase() === folded)
      const item = found && read(at(key), found[1], of)
      return item === undefined ? [] : [[key, item]]
    })
    return Object.fromEntries(named)
  }

  return read('', answer, { fields: { ...FIELDS[method], Err: 'string', Error: 'string' } }) as object
}

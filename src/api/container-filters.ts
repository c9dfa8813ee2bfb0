/** The filters of `GET /containers/json`. */
import type { Container } from '../containers/types.ts'
import { badRequest, notFound } from './errors.ts'
import { Filters } from './filters.ts'
import { isLive } from './shapes/container-shape.ts'
import { exposedPorts, portFilter, portListJson } from './shapes/ports.ts'
import type { ApiOptions } from './types.ts'

const KEYS = [
  'ancestor',
  'before',
  'exited',
  'expose',
  'health',
  'id',
  'is-task',
  'isolation',
  'label',
  'name',
  'network',
  'publish',
  'since',
  'status',
  'volume',
]
const STATES: readonly string[] = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead']
const HEALTH: readonly string[] = ['starting', 'healthy', 'unhealthy', 'none']

export interface ListRequest {
  readonly filters: string | null
  readonly all: boolean
  /** 0 or less: no limit. */
  readonly limit: number
}

type Sources = Pick<ApiOptions, 'containers' | 'controller' | 'images'>

/** The containers to list, newest first. Throws `invalid` for unknown filters and values, `not-found` for a missing before/since. */
export function selectContainers(request: ListRequest, sources: Sources): readonly Container[] {
  const filters = Filters.parse(request.filters, KEYS)
  checkValues(filters)
  const all = sources.containers.list()
  const tests = buildTests(filters, sources, all)
  const includeStopped = request.all || request.limit > 0 || filters.has('status')
  const found = all.filter((container) => (includeStopped || isLive(container.state)) && tests.every((test) => test(container)))
  return request.limit > 0 ? found.slice(0, request.limit) : found
}

function checkValues(filters: Filters): void {
  for (const status of filters.get('status')) if (!STATES.includes(status)) throw invalidValue('status', status)
  for (const health of filters.get('health')) if (!HEALTH.includes(health)) throw invalidValue('health', health)
  for (const code of filters.get('exited')) if (!/^-?\d+$/.test(code)) throw invalidValue('exited', code)
  filters.bool('is-task')
}

function invalidValue(key: string, value: string): Error {
  return badRequest(`invalid filter '${key}=${value.slice(0, 100)}'`)
}

type Test = (container: Container) => boolean

function buildTests(filters: Filters, { controller, containers, images }: Sources, all: readonly Container[]): Test[] {
  const tests: Test[] = []
  const when = (key: string, test: Test): void => {
    if (filters.has(key)) tests.push(test)
  }
  when('id', (c) => filters.matches('id', c.id))
  when('name', (c) => filters.matches('name', c.name, `/${c.name}`))
  if (filters.has('label')) tests.push((c) => filters.labels(c.config.Labels ?? {}))
  when('status', (c) => filters.exact('status', c.state.status))
  when(
    'exited',
    (c) => !isLive(c.state) && c.state.status !== 'created' && filters.any('exited', (code) => Number(code) === c.state.exitCode),
  )
  when('health', (c) => filters.exact('health', c.state.health?.status ?? 'none'))
  if (filters.bool('is-task') === true) tests.push(() => false)
  if (filters.has('isolation') && !filters.get('isolation').some((value) => value === '' || value === 'default')) tests.push(() => false)

  const index = (key: 'before' | 'since'): number | undefined => {
    const ref = filters.get(key)[0]
    if (ref === undefined) return undefined
    const target = containers.find(ref)
    if (target === undefined) throw notFound(`No such container: ${ref}`)
    return all.findIndex((container) => container.id === target.id)
  }
  // The list is newest first: "before" lies further down, "since" further up.
  const before = index('before')
  const since = index('since')
  const place = before === undefined && since === undefined ? new Map<string, number>() : new Map(all.map((c, i) => [c.id, i]))
  if (before !== undefined) tests.push((c) => (place.get(c.id) ?? 0) > before)
  if (since !== undefined) tests.push((c) => (place.get(c.id) ?? 0) < since)

  when('volume', (c) =>
    filters.any('volume', (volume) =>
      c.mounts.some((mount) => mount.Name === volume || mount.Destination === volume || mount.Source === volume),
    ),
  )
  when('network', (c) =>
    filters.any('network', (ref) =>
      Object.keys(c.endpoints).some((name) => name === ref || (ref !== '' && (controller.findNetwork(name)?.id.startsWith(ref) ?? false))),
    ),
  )
  if (filters.has('ancestor')) {
    const layers = filters.get('ancestor').map((ref) => images.find(ref))
    tests.push((c) =>
      layers.some((image) => {
        if (image === undefined) return false
        const own = images.find(c.imageId)
        return (
          c.imageId === image.id ||
          (own !== undefined && image.layers.length > 0 && image.layers.every((layer, i) => own.layers[i] === layer))
        )
      }),
    )
  }
  for (const [key, published] of [
    ['publish', true],
    ['expose', false],
  ] as const) {
    if (!filters.has(key)) continue
    const wanted = filters.get(key).map(portFilter)
    tests.push((c) => {
      const listed = portListJson(c, isLive(c.state) ? controller.sandboxOf(c.id)?.ports : undefined)
      const ports = published
        ? listed.flatMap((entry) => (entry.PublicPort === undefined ? [] : [{ port: entry.PublicPort, proto: entry.Type }]))
        : exposedPorts(c)
      return ports.some(({ port, proto }) => wanted.some((matches) => matches(port, proto)))
    })
  }
  return tests
}

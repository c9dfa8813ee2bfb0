/** The filters of `GET /events`. */
import type { EngineEvent } from '../containers/types.ts'
import { Filters } from './filters.ts'

const KEYS = [
  'config',
  'container',
  'daemon',
  'event',
  'image',
  'label',
  'network',
  'node',
  'plugin',
  'scope',
  'secret',
  'service',
  'type',
  'volume',
]
/** Filter keys that name an object of that type. */
const OBJECTS = ['config', 'container', 'daemon', 'network', 'node', 'plugin', 'secret', 'service', 'volume'] as const

/** Throws `invalid` for unknown keys. */
export function eventTest(text: string | null): (event: EngineEvent) => boolean {
  const filters = Filters.parse(text, KEYS)
  return (event) =>
    filters.exact('type', event.Type) &&
    filters.exact('scope', event.scope) &&
    filters.any('event', (wanted) => event.Action === wanted || event.Action.startsWith(`${wanted}:`)) &&
    filters.labels(event.Actor.Attributes) &&
    matchesObject(filters, event) &&
    matchesImage(filters, event)
}

/** Values of one key are alternatives, different keys must all hold, as everywhere in Docker: of two kinds nothing is both. */
function matchesObject(filters: Filters, event: EngineEvent): boolean {
  return OBJECTS.every((key) => !filters.has(key) || (key === event.Type && filters.any(key, (ref) => names(event, ref))))
}

/** An object is meant by its name, its id or a prefix of either. */
function names(event: EngineEvent, ref: string): boolean {
  const { ID, Attributes } = event.Actor
  return ref !== '' && (ID.startsWith(ref) || (Attributes['name']?.startsWith(ref) ?? false))
}

/** Image events, and events of containers made from that image; with or without tag. */
function matchesImage(filters: Filters, event: EngineEvent): boolean {
  if (!filters.has('image')) return true
  const { ID, Attributes } = event.Actor
  const candidates = event.Type === 'image' ? [ID, Attributes['name'] ?? ''] : event.Type === 'container' ? [Attributes['image'] ?? ''] : []
  return filters.any('image', (ref) => candidates.some((name) => name === ref || name.replace(/:[^/:]*$/, '') === ref))
}

/**
 * Names in Docker's paths may hold slashes (`/images/library/busybox/json`, `/containers/web/db?link=1`), which no router's
 * `:name` matches. So the path is rewritten first: the slashes inside a name become `%2F`.
 */
import { badRequest } from './errors.ts'

/** Last parts that are verbs, per collection, longest first. */
const VERBS: Readonly<Record<string, readonly string[]>> = {
  containers: [
    'attach/ws',
    'json',
    'top',
    'logs',
    'stats',
    'attach',
    'wait',
    'resize',
    'start',
    'stop',
    'restart',
    'kill',
    'pause',
    'unpause',
    'rename',
    'update',
    'changes',
    'export',
    'archive',
    'exec',
    'checkpoints',
  ],
  images: ['json', 'history', 'push', 'tag', 'get'],
  networks: ['connect', 'disconnect'],
  volumes: [],
  exec: ['start', 'resize', 'json'],
  distribution: ['json'],
}

/** Collections whose bare `/{name}` is a route too. */
const NAMED: ReadonlySet<string> = new Set(['containers', 'images', 'networks', 'volumes'])

/** Second parts that are not names but routes of their own, with the methods they take. */
const FIXED: Readonly<Record<string, readonly string[]>> = {
  'GET containers': ['json'],
  'POST containers': ['create', 'prune'],
  'GET images': ['json', 'search', 'get'],
  'POST images': ['create', 'load', 'prune'],
  'POST networks': ['create', 'prune'],
  'POST volumes': ['create', 'prune'],
}

/**
 * The routed form of a path (no query). Leading slashes of a name are dropped, as Docker prints names with one (`/web`).
 * Throws `invalid` when a percent escape is broken.
 */
export function canonicalPath(method: string, path: string): string {
  const match = /^\/([a-z]+)\/(.*)$/s.exec(path)
  if (match === null) return path
  const collection = match[1] as string
  const verbs = VERBS[collection]
  if (verbs === undefined) return checkEscapes(path)
  const tail = (match[2] as string).replace(/^\/+/, '')
  // `GET /networks/` is the list.
  if (tail === '') return `/${collection}`
  const fixedMethod = method === 'HEAD' ? 'GET' : method
  if (FIXED[`${fixedMethod} ${collection}`]?.includes(tail)) return `/${collection}/${tail}`
  if (method !== 'DELETE' && method !== 'PUT') {
    const verb = verbs.find((candidate) => tail.endsWith(`/${candidate}`) && tail.length > candidate.length + 1)
    if (verb !== undefined) return `/${collection}/${encodeName(tail.slice(0, -verb.length - 1))}/${verb}`
  }
  if (method === 'PUT' && tail.endsWith('/archive')) return `/${collection}/${encodeName(tail.slice(0, -8))}/archive`
  return NAMED.has(collection) ? `/${collection}/${encodeName(tail)}` : checkEscapes(path)
}

function encodeName(name: string): string {
  return encodeURIComponent(decodePart(name))
}

function checkEscapes(path: string): string {
  decodePart(path)
  return path
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw badRequest(`invalid URL escape in "${text.slice(0, 100)}"`)
  }
}

/**
 * Requests for the fuzz tests: from a fixed seed the same ones every time. Names, numbers and bodies are chosen from lists of what is
 * likely to reach far and of what is likely to hurt; nothing in them names a path of the host.
 */
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD']
const COLLECTIONS = [
  'networks',
  'containers',
  'images',
  'volumes',
  'exec',
  'events',
  'system',
  'causeway/v1/containers',
  'distribution',
  'build',
  'info',
]
const NAMES = [
  '',
  'c1',
  'bridge',
  'busybox',
  'n1',
  '%2F',
  '..',
  '%00',
  'a%20b',
  '__proto__',
  'ümläut',
  'json',
  'create',
  'prune',
  'x'.repeat(300),
]
const VERBS = [
  '',
  'json',
  'start',
  'stop',
  'kill',
  'connect',
  'disconnect',
  'resize',
  'update',
  'exec',
  'rename',
  'top',
  'changes',
  'history',
  'tag',
  'push',
  'archive',
  'export',
  'logs',
  'ports',
  'wait',
  'pause',
  'get',
  'df',
]
const KEYS = [
  'filters',
  'h',
  'w',
  't',
  'signal',
  'name',
  'path',
  'stdout',
  'limit',
  'size',
  'all',
  'until',
  'since',
  'tag',
  'repo',
  'fromImage',
  'names',
  'condition',
  'verbose',
  'force',
  'stream',
  'fromSrc',
  'platform',
  'details',
  'ps_args',
  'type',
  'changes',
]
const VALUES: readonly unknown[] = [
  '',
  '0',
  '-1',
  '1',
  'true',
  'x',
  '99999999999999999999',
  '1e5',
  '{"name":["a"]}',
  '{"label":{"a":true}}',
  '{',
  '[]',
  'null',
  '/',
  '%',
  '\u0000',
  'next-exit',
  '10m',
  '-bogus',
  'http://127.0.0.1:9/x',
  '{"type":["a"]}',
  '{"exited":["x"],"before":["c1"]}',
]
const FIELDS = [
  'Name',
  'Driver',
  'IPAM',
  'Labels',
  'Options',
  'Container',
  'EndpointConfig',
  'Image',
  'Cmd',
  'HostConfig',
  'NetworkingConfig',
  'Detach',
  'Tty',
  'ports',
  'Force',
  'EnableIPv6',
  'ExposedPorts',
  'MacAddress',
  '__proto__',
]
const LEAVES: readonly unknown[] = [
  null,
  0,
  -1,
  1.5,
  1e300,
  true,
  '',
  'x',
  'a'.repeat(5000),
  [],
  {},
  ['a'],
  { a: 'b' },
  { Config: [{ Subnet: '10.0.0.0/8' }] },
  { EndpointsConfig: { a: {} } },
  { PortBindings: { '80/tcp': [] } },
]

/** A small linear congruential generator: the same requests every time (Numerical Recipes' constants). */
function generator(seed: number): (n: number) => number {
  let state = seed >>> 0
  return (n) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
}

export interface FuzzRequest {
  readonly method: string
  readonly path: string
  readonly body: string | undefined
  readonly contentType: string
}

export interface Fuzzer {
  /** A whole number from 0 to n - 1. */
  random(n: number): number
  pick<T>(list: readonly T[]): T
  query(): string
  /** JSON, sometimes cut off, sometimes none. */
  body(): string | undefined
  /** Any method on any path. */
  request(): FuzzRequest
  /** A request that a route takes, with a name that means something more often than not, and half of the time a body that could be right. */
  requestFor(route: { readonly method: string; readonly path: string }, names?: readonly string[]): FuzzRequest
}

/** Bodies that are accepted; fields of theirs are then replaced. */
const BODIES: Readonly<Record<string, object>> = {
  '/containers/create': { Image: 'busybox', Cmd: ['true'], StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'n1' } },
  '/containers/:name/exec': { Cmd: ['true'], AttachStdout: true },
  '/exec/:id/start': { Detach: true },
  '/containers/:name/update': { RestartPolicy: { Name: 'no' } },
  '/networks/create': { Name: 'n2', Driver: 'bridge' },
  '/networks/:name/connect': { Container: 'c1' },
  '/networks/:name/disconnect': { Container: 'c1', Force: true },
  '/volumes/create': { Name: 'v2' },
}

export function fuzzer(seed: number): Fuzzer {
  const random = generator(seed)
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T
  const query = (): string => Array.from({ length: random(4) }, () => `${pick(KEYS)}=${encodeURIComponent(String(pick(VALUES)))}`).join('&')
  const body = (): string | undefined => {
    if (random(3) === 0) return undefined
    const object = Object.fromEntries(Array.from({ length: random(5) }, () => [pick(FIELDS), pick(LEAVES)]))
    const text = JSON.stringify(object)
    return random(5) === 0 ? text.slice(0, random(text.length)) : text
  }
  const version = (): string => (random(3) === 0 ? `/v1.${20 + random(40)}` : '')
  const encoded = (path: string): string => path.replaceAll('ü', '%C3%BC').replaceAll('ä', '%C3%A4')
  const contentType = (): string => pick(['application/json', 'application/json', 'application/json', 'text/plain', 'application/x-tar'])
  return {
    random,
    pick,
    query,
    body,
    request: () => {
      const parts = [pick(COLLECTIONS), pick(NAMES), pick(VERBS)].filter((part) => part !== '')
      return {
        method: pick(METHODS),
        path: encoded(`${version()}/${parts.join('/')}?${query()}`),
        body: body(),
        contentType: contentType(),
      }
    },
    requestFor({ method, path }, names = ['c1', 'n1', 'busybox']) {
      const filled = path.replace(/:\w+/g, () => (random(4) === 0 ? pick(NAMES) : '') || pick(names)).replace('*', () => pick(NAMES))
      const right = BODIES[path]
      if (right === undefined || random(2) === 0) {
        return { method, path: encoded(`${version()}${filled}?${query()}`), body: body(), contentType: contentType() }
      }
      const changed = Object.fromEntries(Array.from({ length: random(3) }, () => [pick(FIELDS), pick(LEAVES)]))
      return {
        method,
        path: encoded(`${filled}?${query()}`),
        body: JSON.stringify({ ...right, ...changed }),
        contentType: 'application/json',
      }
    },
  }
}

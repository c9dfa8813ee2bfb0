/** Random requests from a fixed seed: no 500, no crash, and nothing left over. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { apiLab } from '../../testkit/api-lab.ts'

const REQUESTS = Number(process.env['CAUSEWAY_FUZZ_REQUESTS'] ?? 3000)
const SEED = Number(process.env['CAUSEWAY_FUZZ_SEED'] ?? 1)

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

const openDescriptors = (): number => readdirSync('/proc/self/fd').length

test(`${REQUESTS} random requests give no 500 and leave nothing behind`, async () => {
  const lab = await apiLab()
  const random = generator(SEED)
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T
  const before = { descriptors: openDescriptors(), listeners: lab.events.listeners.size }
  const statuses = new Map<number, number>()

  const body = (): string | undefined => {
    if (random(3) === 0) return undefined
    const object = Object.fromEntries(Array.from({ length: random(5) }, () => [pick(FIELDS), pick(LEAVES)]))
    const text = JSON.stringify(object)
    return random(5) === 0 ? text.slice(0, random(text.length)) : text
  }
  const one = async (): Promise<void> => {
    const method = pick(METHODS)
    const version = random(3) === 0 ? `/v1.${20 + random(40)}` : ''
    const query = Array.from({ length: random(4) }, () => `${pick(KEYS)}=${encodeURIComponent(String(pick(VALUES)))}`).join('&')
    const parts = [pick(COLLECTIONS), pick(NAMES), pick(VERBS)].filter((part) => part !== '')
    const path = `${version}/${parts.join('/')}?${query}`.replaceAll('ü', '%C3%BC').replaceAll('ä', '%C3%A4')
    const text = body()
    const type = pick(['application/json', 'application/json', 'application/json', 'text/plain', 'application/x-tar'])
    const res = await lab.open(method, path, text, text === undefined ? {} : { 'content-type': type })
    const status = res.statusCode ?? 0
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    // The one filter that Docker itself answers with 500, and what the memory services answer with it, are deliberate.
    assert.ok(status !== 500, `${method} ${path} ${text ?? ''}`)
    if (/stats|logs|wait|events/.test(path)) res.destroy()
    else for await (const _chunk of res);
  }
  for (let i = 0; i < REQUESTS; i += 4) await Promise.all([one(), one(), one(), one()])

  assert.deepEqual(
    lab.logged.filter((line) => line.level === 'error'),
    [],
  )
  assert.equal((await lab.call('GET', '/_ping')).text, 'OK')
  assert.ok((statuses.get(400) ?? 0) > 50 && (statuses.get(404) ?? 0) > 50, 'the requests reach many places')
  for (let i = 0; i < 100 && lab.events.listeners.size > before.listeners; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  assert.equal(lab.events.listeners.size, before.listeners)
  assert.equal(lab.containers.waiters.length, 0)
  await lab.close()
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.ok(openDescriptors() <= before.descriptors, `${openDescriptors()} descriptors open, ${before.descriptors} before`)
})

/**
 * Writes the tables of docs/compatibility.md: `node --import tsx tools/gen-compat.ts`. The suites' part comes from
 * test/compat/results.json (tools/compat-suites.ts), the endpoints' part from the route table. A test compares.
 */
import { readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { STATUS_OF_CODE } from '../src/api/errors.ts'
import { refusedRoutes } from '../src/api/routes/refused.ts'
import { routeTable } from '../src/api/server.ts'
import type { ApiOptions, Route } from '../src/api/types.ts'
import { NetError } from '../src/base/errors.ts'
import { MemoryController } from '../testkit/memory-engine/controller.ts'
import { MemoryEvents } from '../testkit/memory-engine/events.ts'
import { EXCEPTIONS } from './compat-exceptions.ts'
import { type Outcome, RESULTS, type Results } from './compat-suites.ts'
import { DOCKER_ENDPOINTS } from './docker-endpoints.ts'

export const COMPAT_DOC = new URL('../docs/compatibility.md', import.meta.url)

export function readResults(): Results {
  return JSON.parse(readFileSync(RESULTS, 'utf8')) as Results
}

/** Tests of a suite that dockerd passes and Causeway does not. */
export function worse(results: Results, suite: string): string[] {
  const { causeway = {}, peer = {} } = results[suite]?.outcomes ?? {}
  return Object.keys(peer).filter((name) => peer[name] === 'passed' && causeway[name] !== 'passed')
}

function suitesTable(results: Results): string[] {
  const lines = ['| suite | tests | same as dockerd | better than dockerd | worse than dockerd |', '|---|---|---|---|---|']
  for (const [suite, { version, outcomes, engines }] of Object.entries(results)) {
    const { causeway = {}, peer = {} } = outcomes
    const names = Object.keys(peer)
    const failing = worse(results, suite)
    const better = names.filter((name) => causeway[name] === 'passed' && peer[name] !== 'passed')
    const reasons = EXCEPTIONS.filter((exception) => exception.suite === suite).map(
      ({ tests, reason }) => `${failing.filter((name) => tests.test(name)).length}: ${reason}`,
    )
    const same = names.length - failing.length - better.length
    lines.push(`| ${suite} ${version}, dockerd ${engines.peer} | ${names.length} | ${same} | ${better.length} | ${reasons.join('; ')} |`)
  }
  const without = Object.values(results).map(({ outcomes: { peer = {} } }) => count(peer, 'failed'))
  lines.push('', `Run without a registry: ${without.join(' and ')} of the tests fail on dockerd too, most because they pull.`)
  return lines
}

function count(outcomes: Readonly<Record<string, Outcome>>, wanted: Outcome): number {
  return Object.values(outcomes).filter((outcome) => outcome === wanted).length
}

/** The route that serves a method and path, as the server's router would choose: fixed parts before parameters before `*`. */
function routeFor(routes: readonly Route[], method: string, path: string): Route | undefined {
  const parts = path.split('/')
  const fits = (route: Route): boolean => {
    const own = route.path.split('/')
    if (route.method !== method || (own.at(-1) !== '*' && own.length !== parts.length) || own.length > parts.length) return false
    return own.every((part, i) => part === '*' || part === parts[i] || (part.startsWith(':') && part !== '' && parts[i]?.startsWith('{')))
  }
  const wildness = (route: Route) => (route.path.endsWith('*') ? 100 : 0) + route.path.split(':').length
  return routes.filter(fits).sort((a, b) => wildness(a) - wildness(b))[0]
}

function endpointsTable(): string[] {
  const events = new MemoryEvents()
  // only its paths are read
  const { routes, close } = routeTable({ events, controller: new MemoryController(events) } as unknown as ApiOptions)
  close()
  const refused = refusedRoutes()
  const lines = ['| endpoint | answer |', '|---|---|']
  for (const [group, endpoints] of Object.entries(DOCKER_ENDPOINTS)) {
    const answers = new Map<string, string[]>()
    for (const endpoint of endpoints) {
      const [method = '', path = ''] = endpoint.split(' ')
      const route = routeFor(routes, method, path)
      const own = route === undefined ? undefined : refused.find((r) => r.method === route.method && r.path === route.path)
      const answer = route === undefined ? '404, page not found' : own === undefined ? 'as Docker' : answerOf(own)
      answers.set(answer, [...(answers.get(answer) ?? []), `\`${endpoint}\``])
    }
    lines.push(`| **${group}** | |`)
    for (const [answer, list] of answers) lines.push(`| ${list.join(', ')} | ${answer} |`)
  }
  return lines
}

/** Status and sentence of a route that refuses; "empty" for one that truthfully says that there is nothing. */
function answerOf(route: Route): string {
  try {
    ;(route.handler as () => unknown)()
    return 'as Docker, always empty'
  } catch (error) {
    if (!(error instanceof NetError)) throw error
    return `${STATUS_OF_CODE[error.code]}: ${error.message}`
  }
}

/** `text` with what stands between the marks of a section replaced. Throws when there are none. */
function fill(text: string, section: string, lines: readonly string[]): string {
  const [start, end] = [`<!-- ${section}: made by tools/gen-compat.ts -->`, `<!-- end of ${section} -->`]
  const from = text.indexOf(start)
  const to = text.indexOf(end)
  if (from < 0 || to < from) throw new Error(`docs/compatibility.md has no section "${section}"`)
  return `${text.slice(0, from + start.length)}\n\n${lines.join('\n')}\n\n${text.slice(to)}`
}

/** docs/compatibility.md as it should be. */
export function compatDoc(text: string): string {
  return fill(fill(text, 'suites', suitesTable(readResults())), 'endpoints', endpointsTable())
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(realpathSync(process.argv[1])).href)
  writeFileSync(COMPAT_DOC, compatDoc(readFileSync(COMPAT_DOC, 'utf8')))

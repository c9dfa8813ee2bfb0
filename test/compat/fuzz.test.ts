/**
 * Random requests against a whole engine: every endpoint with wrong types, wrong bodies, hostile paths, huge numbers, cut-off JSON and
 * uploads that end in the middle. No crash, no unexpected error, and afterwards the engine holds what it held before.
 *   CAUSEWAY_FUZZ_REQUESTS=20000 CAUSEWAY_FUZZ_SEED=1
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import { refusedRoutes } from '../../src/api/routes/refused.ts'
import { routeTable } from '../../src/api/server.ts'
import type { ApiOptions } from '../../src/api/types.ts'
import { type FuzzRequest, fuzzer } from '../../testkit/api-fuzz.ts'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { MemoryController } from '../../testkit/memory-engine/controller.ts'
import { MemoryEvents } from '../../testkit/memory-engine/events.ts'

const REQUESTS = Number(process.env['CAUSEWAY_FUZZ_REQUESTS'] ?? 20_000)
const SEED = Number(process.env['CAUSEWAY_FUZZ_SEED'] ?? 1)
/** Everything is taken away and the engine measured this often. */
const ROUNDS = 5
const AT_ONCE = 4
/** An answer takes longer only when it waits for something by design; then the client goes away. */
const PATIENCE_MS = 3000

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

/** What Docker answers 500 too: which request, and the words. */
const DELIBERATE: readonly (readonly [RegExp, RegExp])[] = [
  // nobody there: no registry, and no server of an archive, can be reached from here
  [/^POST (\/v[\d.]+)?\/(auth|images\/create|images\/.*\/push)(\?|$)/, /^(Get|Head|Post) "https?:\/\/[^"]*": /],
  [/^POST (\/v[\d.]+)?\/containers\/[^/]+\/unpause/, /^Container [0-9a-f]{64} is not paused$/],
  [/^GET (\/v[\d.]+)?\/networks\/?\?/, /^invalid filter: 'type'='/],
  [/^POST (\/v[\d.]+)?\/containers\/create/, /^bad format for links: /],
  [/^GET (\/v[\d.]+)?\/containers\/[^/]+\/top/, /^(ps: |Couldn't find PID field in ps output$)/],
  [/^POST (\/v[\d.]+)?\/networks\/[^/]+\/disconnect/, /^container \S+ is not connected to (the )?network /],
  [/^POST (\/v[\d.]+)?\/containers\/[^/]+\/(re)?start/, /^joining network namespace of container: /],
]

function isDeliberate(label: string, text: string): boolean {
  const message = /^\{"message":"((?:\\.|[^"])*)"\}/.exec(text)?.[1] ?? text
  const words = message.replace(/\\(["\\])/g, '$1')
  return DELIBERATE.some(([request, known]) => request.test(label) && known.test(words))
}

const events = new MemoryEvents()
// only its paths are read
const { routes } = routeTable({ events, controller: new MemoryController(events) } as unknown as ApiOptions)
const endpoints = routes.filter(({ path }) => !path.includes('shutdown'))
/** What answers with a sentence and nothing more is asked now and then only. */
const refused = new Set(refusedRoutes().map(({ method, path }) => `${method} ${path}`))
const served = endpoints.filter(({ method, path }) => !refused.has(`${method} ${path}`))
/** Ids that were handed out; the newest are the likeliest to be there still. */
const ids = ['c1', 'c1', 'c1', 'n1', 'n1', 'busybox']
const fuzz = fuzzer(SEED)
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })
const statuses = new Map<number, number>()
const reached = new Set<string>()
const unexpected: string[] = []
let abandoned = 0

/** Makes sure that the names which the requests use mean something. */
async function furnish(): Promise<void> {
  await lab.api('POST', '/causeway/v1/images/bootstrap')
  await lab.api('POST', '/networks/create', { Name: 'n1' })
  await lab.api('POST', '/volumes/create', { Name: 'c1' })
  const body = { Image: 'busybox', Cmd: ['sleep', '3600'], StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'n1' } }
  await lab.api('POST', '/containers/create?name=c1', body)
  await lab.api('POST', '/containers/c1/start')
  await lab.api('POST', '/containers/c1/unpause')
}

async function takeAway(): Promise<void> {
  for (const { Id } of (await lab.api('GET', '/containers/json?all=1')).json) {
    await lab.api('POST', `/containers/${Id}/unpause`)
    await lab.api('DELETE', `/containers/${Id}?force=1&v=1`)
  }
  await lab.api('POST', '/networks/prune')
  await lab.api('POST', `/volumes/prune?filters=${encodeURIComponent('{"all":["true"]}')}`)
  for (const { RepoTags, Id } of (await lab.api('GET', '/images/json?all=1')).json)
    if (!(RepoTags ?? []).includes('busybox:latest')) await lab.api('DELETE', `/images/${Id}?force=1`)
}

function send({ method, path, body, contentType }: FuzzRequest): Promise<void> {
  return new Promise((resolve) => {
    const label = `${method} ${path}`
    const headers = body === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(body) }
    const req = request({ socketPath: lab.socket, agent, method, path, headers }, (res: IncomingMessage) => {
      const status = res.statusCode ?? 0
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      let text = ''
      res.on('data', (chunk: Buffer) => {
        if (text.length < 1000) text += chunk.toString('latin1')
      })
      res.on('close', () => {
        clearTimeout(timer)
        const id = status === 201 ? /"Id":"(\w{64})"/.exec(text)?.[1] : undefined
        if (id !== undefined) ids.splice(ids.length < 12 ? ids.length : 6 + fuzz.random(6), 1, id)
        if (status === 500 && !isDeliberate(label, text)) unexpected.push(`${label} ${body ?? ''}: ${text}`)
        resolve()
      })
    })
    const timer = setTimeout(
      () => {
        abandoned++
        req.destroy()
      },
      /attach|logs|events|stats|wait|exec/.test(path) ? 40 : PATIENCE_MS,
    )
    req.on('error', () => {})
    req.on('close', () => {
      clearTimeout(timer)
      resolve()
    })
    req.end(body)
  })
}

/** The bytes of a request, ended anywhere: in its head, in its body, or in a chunk. */
function sendBroken({ method, path, body, contentType }: FuzzRequest): Promise<void> {
  return new Promise((resolve) => {
    const content = body ?? '{"Name":"x"}'
    const length = [
      'Transfer-Encoding: chunked',
      `Content-Length: ${content.length + fuzz.random(100)}`,
      'Content-Length: 99999999999999999999',
    ][fuzz.random(3)]
    const upgrade = fuzz.random(3) === 0 ? 'Connection: Upgrade\r\nUpgrade: tcp\r\n' : ''
    const bytes = `${method} ${path} HTTP/1.1\r\nHost: fuzz\r\nContent-Type: ${contentType}\r\n${upgrade}${length}\r\n\r\n${content}`
    const socket = connect(lab.socket)
    socket.on('error', () => {})
    socket.on('close', () => resolve())
    socket.resume()
    socket.write(bytes.slice(0, fuzz.random(bytes.length) + 1))
    setTimeout(() => (fuzz.random(2) === 0 ? socket.destroy() : socket.end()), 5)
    setTimeout(() => socket.destroy(), 200)
  })
}

interface Holding {
  readonly descriptors: number
  readonly residentMb: number
  readonly links: string
  readonly addresses: string
  readonly rules: number
  readonly mounts: number
  readonly processes: number
}

async function holding(): Promise<Holding> {
  const pid = lab.pid()
  const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    residentMb: Math.round(rss / 1024),
    links: (await lab.sh("ip -o link | awk -F': ' '{print $2}' | sort | tr '\\n' ' '")).out,
    addresses: (await lab.sh("ip -o -4 addr | awk '{print $2, $4}'")).out,
    rules: (await lab.sh('nft list ruleset | wc -l')).out.trim() === '' ? 0 : Number((await lab.sh('nft list ruleset | wc -l')).out),
    mounts: readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(lab.dir)).length,
    processes: Number((await lab.sh(`ps -o pid= --ppid ${pid} | wc -l`)).out),
  }
}

/** Waits until what ends on its own time (closing connections, the kernel's own clean-up) has ended. */
async function settled(like: Holding | undefined): Promise<Holding> {
  for (let i = 0; ; i++) {
    const now = await holding()
    const same = like !== undefined && now.descriptors <= like.descriptors && now.links === like.links && now.mounts <= like.mounts
    if (same || i > (like === undefined ? 3 : 40)) return now
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
}

test(`${REQUESTS} random requests: no crash, no unexpected error, nothing held afterwards`, { timeout: 220_000 }, async () => {
  const pid = lab.pid()
  const held: Holding[] = []
  const unseen = [...endpoints] // every one at least once, whatever chance says
  for (let round = 0; round < ROUNDS; round++) {
    let left = REQUESTS / ROUNDS
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        if (left % 40 === 0) await furnish()
        const due = unseen.pop()
        const endpoint = due ?? fuzz.pick(fuzz.random(20) === 0 ? endpoints : served)
        const next = due === undefined && fuzz.random(4) === 0 ? fuzz.request() : fuzz.requestFor(endpoint, ids)
        reached.add(`${endpoint.method} ${endpoint.path}`)
        if (fuzz.random(20) === 0) await sendBroken(next)
        else await send(next)
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, worker))
    await takeAway()
    agent.destroy()
    held.push(await settled(held[0]))
  }
  const [first, last] = [held[0] as Holding, held.at(-1) as Holding]
  console.log(JSON.stringify({ statuses: Object.fromEntries([...statuses].sort()), endpoints: reached.size, abandoned, held }))

  assert.deepEqual(unexpected, [])
  assert.equal(lab.pid(), pid)
  assert.equal((await lab.api('GET', '/_ping')).text, 'OK')
  assert.deepEqual(
    lab
      .log()
      .split('\n')
      .filter((line) => line.includes('unexpectedly') || line.includes('"level":60')),
    [],
  )
  if (REQUESTS >= 10_000)
    assert.equal(reached.size, new Set(endpoints.map(({ method, path }) => `${method} ${path}`)).size, 'every endpoint')
  for (const status of [200, 201, 204, 400, 404, 409])
    assert.ok((statuses.get(status) ?? 0) > REQUESTS / 250, `the requests reach many places: ${status}`)
  assert.ok(last.descriptors <= first.descriptors + 3, `${last.descriptors} descriptors, ${first.descriptors} after the first round`)
  assert.ok(last.residentMb < first.residentMb + 60, `${last.residentMb} MiB, ${first.residentMb} after the first round`)
  const { links, addresses, rules, mounts, processes } = first
  assert.deepEqual(
    { ...last, descriptors: 0, residentMb: 0 },
    { links, addresses, rules, mounts, processes, descriptors: 0, residentMb: 0 },
  )
})

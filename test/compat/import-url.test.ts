/** `docker import <URL>`: what is fetched, what is said meanwhile, and what happens when either end goes away. */
import assert from 'node:assert/strict'
import { createServer, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
/** A root file system: that of a busybox container. */
let tar: Buffer = Buffer.alloc(0)
const asked: string[] = []
/** The answer to /slow, while it is open. */
let slow: ServerResponse | undefined

const server = createServer((req, res) => {
  asked.push(req.url ?? '')
  switch (req.url) {
    case '/rootfs.tar':
      return void res.writeHead(200, { 'content-length': tar.length }).end(tar)
    case '/rootfs.tgz':
      return void res.writeHead(200).end(gzipSync(tar, { level: 1 }))
    case '/moved':
      return void res.writeHead(302, { location: '/rootfs.tgz' }).end()
    case '/round':
      return void res.writeHead(302, { location: '/round' }).end()
    case '/cut':
      res.writeHead(200, { 'content-length': tar.length }).write(tar.subarray(0, 100_000), () => res.destroy())
      return
    case '/slow':
      slow = res
      res.writeHead(200, { 'content-length': tar.length }).write(tar.subarray(0, 600_000))
      return
    case '/private':
      return void res.writeHead(403).end('not for you\n')
    case '/page':
      return void res.writeHead(200).end('<html>this is no archive</html>'.repeat(100))
    default:
      return void res.writeHead(404).end('nothing here\n')
  }
})
let base = ''

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  base = `127.0.0.1:${(server.address() as AddressInfo).port}`
  await lab.docker('create', '--name', 'seed', 'busybox')
  tar = await download('/containers/seed/export')
})
after(async () => {
  server.closeAllConnections()
  server.close()
  assert.deepEqual(await lab.close(), [])
})

function download(path: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const req = request({ socketPath: lab.socket, path }, (res) => {
      const chunks: Buffer[] = []
      res.on('data', (chunk: Buffer) => chunks.push(chunk))
      res.on('end', () => resolve(Buffer.concat(chunks)))
      res.on('error', reject)
    })
    req.on('error', reject)
    req.end()
  })
}

const create = (source: string, more = '') => lab.api('POST', `/images/create?fromSrc=${encodeURIComponent(source)}${more}`)
const progressOf = (text: string) =>
  text
    .trim()
    .split('\r\n')
    .map((line) => JSON.parse(line) as { status?: string; progressDetail?: { current: number; total?: number }; error?: string })
const idsOf = async () => ((await lab.api('GET', '/images/json')).json as { Id: string }[]).map(({ Id }) => Id).sort()

test('an archive is fetched, imported and runs; the progress is Docker’s', async () => {
  const { code, out, err } = await lab.docker('import', '-c', 'CMD ["echo", "fetched"]', `http://${base}/rootfs.tar`, 'far:1')
  assert.equal(code, 0, err)
  assert.match(out, /sha256:[0-9a-f]{64}\s*$/)
  assert.match((await lab.docker('run', '--rm', 'far:1')).out, /^fetched$/m)
  assert.equal((await lab.api('GET', '/images/far:1/json')).json.Comment, `Imported from http://${base}/rootfs.tar`)

  const lines = progressOf((await create(`http://${base}/rootfs.tar`)).text)
  assert.deepEqual(lines[0], { status: `Downloading from http://${base}/rootfs.tar` })
  const bars = lines.filter(({ status }) => status === 'Importing').map(({ progressDetail }) => progressDetail)
  assert.ok(bars.length > 1)
  assert.deepEqual(bars.at(-1), { current: tar.length, total: tar.length })
  assert.match(lines.at(-1)?.status ?? '', /^sha256:/)
})

test('no scheme is HTTP, redirects are followed, compressed archives and unknown lengths are fine', async () => {
  const answer = await create(`${base}/moved`, '&repo=far&tag=2&message=by%20hand')
  assert.equal(answer.status, 200)
  assert.match(progressOf(answer.text).at(-1)?.status ?? '', /^sha256:/)
  assert.ok(progressOf(answer.text).every(({ progressDetail }) => progressDetail?.total === undefined))
  assert.equal((await lab.api('GET', '/images/far:2/json')).json.Comment, 'by hand')
})

test('refusals', async () => {
  const before = await idsOf()
  const cases: [string, number, RegExp, string?][] = [
    [`http://${base}/gone`, 404, /^failed to GET http:\/\/127\.0\.0\.1:\d+\/gone with status 404 Not Found: nothing here$/],
    [`http://${base}/private`, 403, /^failed to GET .* with status 403 Forbidden: not for you$/],
    [`http://u:secret@${base}/gone`, 404, /^failed to GET http:\/\/u:xxxxx@/],
    ['http://127.0.0.1:1/x', 500, /^Get "http:\/\/127\.0\.0\.1:1\/x": dial tcp 127\.0\.0\.1:1: connect: connection refused$/],
    [`http://${base}/round`, 500, /^Get ".*\/round": stopped after 10 redirects$/],
    ['ftp://somewhere/x', 400, /^Get "ftp:\/\/somewhere\/x": unsupported protocol scheme "ftp"$/],
    ['http://[::1', 400, /^parse "http:\/\/\[::1": not a URL/],
    [`http://${base}/never-asked`, 400, /^invalid reference format/, '&repo=UPPER'],
  ]
  for (const [source, status, message, more] of cases) {
    const answer = await create(source, more)
    assert.equal(answer.status, status, `${source}: ${answer.text}`)
    assert.match(answer.json.message, message)
  }
  assert.ok(!asked.includes('/never-asked'))
  for (const path of ['/cut', '/page']) {
    const answer = await create(`http://${base}${path}`)
    assert.equal(answer.status, 200)
    assert.notEqual(progressOf(answer.text).at(-1)?.error ?? '', '', `${path}: ${answer.text}`)
  }
  assert.deepEqual(await idsOf(), before)
})

test('a client that goes away ends the download', async () => {
  const before = await idsOf()
  const client = request({
    socketPath: lab.socket,
    method: 'POST',
    path: `/images/create?fromSrc=${encodeURIComponent(`http://${base}/slow`)}`,
  })
  client.on('error', () => {})
  client.end()
  const until = async (what: string, holds: () => boolean) => {
    for (const end = Date.now() + 5000; !holds(); await new Promise((resolve) => setTimeout(resolve, 10)))
      assert.ok(Date.now() < end, `in vain: ${what}`)
  }
  await until('the request', () => slow !== undefined)
  let closed = false
  slow?.on('close', () => {
    closed = true
  })
  client.destroy()
  await until('the end of the download', () => closed)
  assert.deepEqual(await idsOf(), before)
})

/** Clients that go away, do not read, or may not come in; against a whole engine. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'

isolate()
const GROUP = 4711
const lab = await startEngineLab(['--group', String(GROUP)])
after(async () => assert.deepEqual(await lab.close(), []))

const descriptors = () => readdirSync(`/proc/${lab.pid()}/fd`).length
const residentMb = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${lab.pid()}/status`, 'utf8'))?.[1]) / 1024
const children = async () => (await lab.sh(`ps -o comm= --ppid ${lab.pid()}`)).out.trim()

/** Sends a request and reads nothing of the answer. */
function ask(head: string, body = ''): Socket {
  const socket = connect(lab.socket)
  socket.on('error', () => {})
  socket.write(`${head} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  return socket
}

test('the socket is open to root and to its group, to nobody else', async () => {
  const { mode, gid, uid } = statSync(lab.socket)
  assert.deepEqual([mode & 0o777, uid, gid], [0o660, 0, GROUP])
  // the folder of the lab is private; the socket is what is judged
  await lab.sh(`chmod 711 ${lab.dir}`)
  const as = (groups: string) =>
    lab.sh(`setpriv --reuid 4712 --regid 4712 ${groups} curl -s -m 5 --unix-socket ${lab.socket} http://x/_ping`)
  assert.equal((await as(`--groups ${GROUP}`)).out, 'OK')
  const stranger = await as('--clear-groups')
  assert.deepEqual([stranger.code === 0, stranger.out], [false, ''])
})

test('a client that reads nothing holds nobody up, and what it was sent does not pile up in memory', async () => {
  await lab.run('loud', {
    cmd: ['sh', '-c', 'trap exit TERM; yes 0123456789012345678901234567890123456789012345678901234567890123'],
    host: { LogConfig: { Type: 'none' } },
  })
  const before = { memory: residentMb(), descriptors: descriptors() }
  const readers = ['/containers/loud/attach?stream=1&stdout=1', '/containers/loud/attach?stream=1&stdout=1&logs=1'].map((path) =>
    ask(`POST ${path}`),
  )
  const files = ask('GET /containers/loud/export')
  for (let i = 0; i < 20; i++) {
    assert.equal((await lab.api('GET', '/containers/json')).status, 200)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  assert.ok(residentMb() < before.memory + 64, `${residentMb()} MiB, ${before.memory} before`)
  for (const socket of [...readers, files]) socket.destroy()
  await until('descriptors are given back', () => descriptors() <= before.descriptors)
  await lab.api('DELETE', '/containers/loud?force=1')
})

test('what a client asked for ends when it goes: followed logs, events, stats, waits, a pull and its program', async () => {
  await lab.run('quiet')
  const hung: Socket[] = []
  const registry = createServer(() => {}).on('connection', (socket) => hung.push(socket)) // takes requests and never answers
  await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve))
  const host = `127.0.0.1:${(registry.address() as AddressInfo).port}`
  const before = descriptors()
  const idle = await children()
  const asked = [
    'GET /containers/quiet/logs?follow=1&stdout=1',
    'GET /events',
    'GET /containers/quiet/stats',
    'POST /containers/quiet/wait?condition=next-exit',
    `POST /images/create?fromImage=${host}/team/app&tag=v1`,
  ].map((head) => ask(head))
  await until('the pull asks the registry', () => hung.length > 0)
  assert.match(await children(), /skopeo/)
  assert.ok(descriptors() > before)
  for (const socket of asked) socket.destroy()
  await until('the program that pulls is gone', async () => (await children()) === idle)
  await until('descriptors are given back', () => descriptors() <= before)
  await until('nothing of the pull is left', () => readdirSync(`${lab.dir}/data/tmp`).length === 0)
  for (const socket of hung) socket.destroy()
  registry.close()
})

test('an upload that ends in the middle leaves nothing', async () => {
  const before = descriptors()
  const dir = mkdtempSync(join(tmpdir(), 'causeway-test-'))
  writeFileSync(join(dir, 'file'), Buffer.alloc(1 << 20, 1))
  const tar = join(dir, 'a.tar')
  assert.equal((await lab.sh(`tar -C ${dir} -cf ${tar} file`)).code, 0)
  const bytes = readFileSync(tar)
  rmSync(dir, { recursive: true })
  for (const path of ['POST /images/load', 'POST /images/create?fromSrc=-&repo=cut', 'PUT /containers/quiet/archive?path=/tmp']) {
    const socket = connect(lab.socket)
    socket.on('error', () => {})
    socket.write(`${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: ${bytes.length}\r\n\r\n`)
    await new Promise<void>((resolve) => socket.write(bytes.subarray(0, bytes.length >> 1), () => resolve()))
    await new Promise((resolve) => setTimeout(resolve, 100))
    socket.destroy()
  }
  await until('descriptors are given back', () => descriptors() <= before)
  await until('nothing lies about', () => readdirSync(`${lab.dir}/data/tmp`).length === 0)
  const names = ((await lab.api('GET', '/images/json')).json as { RepoTags: string[] }[]).flatMap((image) => image.RepoTags)
  assert.deepEqual(names, ['busybox:latest'])
})

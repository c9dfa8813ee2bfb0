/** kill -9 while a volume is filled for the first time, and while a container with volumes of its own is made. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { request } from 'node:http'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

const FILES = 3000

/** Sends a request, waits `ms`, and kills the engine whatever came of it; then starts it again. */
async function killDuring(method: string, path: string, body: object, ms: number): Promise<void> {
  const text = JSON.stringify(body)
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
  const sent = request({ socketPath: lab.socket, method, path, headers })
  sent.on('error', () => {}).on('response', (res) => res.resume().on('error', () => {}))
  sent.end(text)
  await new Promise((resolve) => setTimeout(resolve, ms))
  await lab.kill9()
  await lab.start()
}

test('a volume is empty or full after an engine was killed while filling it, and full after the next start of the container', async () => {
  const made = await lab.docker(
    'run',
    '--name',
    'seed',
    'busybox',
    'sh',
    '-c',
    `mkdir -p /srv/seed; cd /srv/seed; for i in $(seq ${FILES}); do echo $i > $i; done`,
  )
  assert.equal(made.code, 0, made.err)
  await lab.docker('commit', 'seed', 'seeded')
  const seen = new Set<string>()
  for (const [i, ms] of [80, 200].entries()) {
    const name = `fill${i}`
    const created = await lab.api('POST', `/containers/create?name=${name}`, {
      Image: 'seeded',
      Cmd: ['sleep', '600'],
      HostConfig: { Binds: [`${name}:/srv/seed`] },
    })
    assert.equal(created.status, 201, created.text)
    const volume = `${lab.dir}/data/volumes/${name}`
    await killDuring('POST', `/containers/${name}/start`, {}, ms)
    const files = readdirSync(`${volume}/_data`).length
    assert.ok(files === 0 || files === FILES, `${files} files after a crash ${ms} ms into the start`)
    assert.deepEqual(readdirSync(volume), ['_data'])
    seen.add(files === 0 ? 'empty' : 'full')
    const started = await lab.api('POST', `/containers/${name}/start`)
    assert.ok(started.status === 204 || started.status === 304, started.text)
    assert.equal(readdirSync(`${volume}/_data`).length, FILES)
    await lab.api('DELETE', `/containers/${name}?force=1&v=1`)
  }
  assert.ok(seen.has('empty'), 'at least one crash came in the middle')
})

test('an engine killed while it makes a container leaves no volume that no container has', async () => {
  const Volumes = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`/v${i}`, {}]))
  for (const ms of [2, 6, 14]) {
    await killDuring('POST', '/containers/create', { Image: 'busybox', Volumes }, ms)
    const containers = (await lab.api('GET', '/containers/json?all=1')).json as { Id: string }[]
    const owned = new Set<string>()
    for (const { Id } of containers)
      for (const mount of (await lab.api('GET', `/containers/${Id}/json`)).json.Mounts as { Name: string }[]) owned.add(mount.Name)
    const volumes = ((await lab.api('GET', '/volumes')).json.Volumes as { Name: string }[]).map((volume) => volume.Name)
    assert.deepEqual(
      volumes.filter((name) => /^[0-9a-f]{64}$/.test(name) && !owned.has(name)),
      [],
      `${ms} ms`,
    )
    assert.deepEqual(
      readdirSync(`${lab.dir}/data/volumes`).filter((name) => !volumes.includes(name)),
      [],
    )
  }
})

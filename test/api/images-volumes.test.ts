import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Lab } from '../../testkit/api-lab.ts'
import { apiLab } from '../../testkit/api-lab.ts'

let lab: Lab
before(async () => {
  lab = await apiLab()
})
after(() => lab.close())

const lines = (text: string): Record<string, unknown>[] =>
  text
    .split('\r\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
const filtered = (path: string, filters: unknown): string => `${path}?filters=${encodeURIComponent(JSON.stringify(filters))}`

test('images are listed, filtered and inspected by names with slashes', async () => {
  const [image] = (await lab.call('GET', '/images/json')).json
  assert.deepEqual(image.RepoTags, ['busybox:latest'])
  assert.equal(image.Containers, -1)
  assert.equal('VirtualSize' in image, false)
  assert.equal((await lab.call('GET', '/v1.43/images/json')).json[0].VirtualSize, image.Size)
  assert.equal((await lab.call('POST', '/images/busybox/tag?repo=localhost:5000/team/box&tag=v1')).status, 201)
  assert.equal((await lab.call('GET', '/images/localhost:5000/team/box:v1/json')).json.Id, image.Id)
  assert.equal((await lab.call('GET', '/images/json/json')).json.message, 'No such image: json')
  for (const [filters, count] of [
    [{ reference: ['busybox'] }, 1],
    [{ reference: ['busy*:lat*'] }, 1],
    [{ reference: ['*/team/box'] }, 1],
    [{ reference: ['nothing'] }, 0],
    [{ dangling: ['true'] }, 0],
    [{ label: ['x'] }, 0],
    [{ until: ['1h'] }, 1],
  ] as const) {
    assert.equal((await lab.call('GET', filtered('/images/json', filters))).json.length, count, JSON.stringify(filters))
  }
  assert.equal((await lab.call('GET', filtered('/images/json', { x: ['1'] }))).status, 400)
  assert.equal((await lab.call('GET', '/images/busybox/history')).json[0].Id, image.Id)
})

test('pull streams progress, with the credentials of the header', async () => {
  const auth = Buffer.from(JSON.stringify({ username: 'u', password: 'p' })).toString('base64url')
  const reply = await lab.call('POST', '/images/create?fromImage=busybox&tag=latest', undefined, { 'x-registry-auth': auth })
  assert.equal(reply.status, 200)
  assert.equal(lines(reply.text)[0]?.['status'], 'Pulling from busybox')
  assert.deepEqual(lab.images.credentials.at(-1), { username: 'u', password: 'p' })
  await lab.call('POST', '/images/create?fromImage=busybox&tag=latest', undefined, { 'x-registry-auth': '!!!' })
  assert.equal(lab.images.credentials.at(-1), undefined)
})

test('a pull that fails at once is an error answer, later it is a last line', async () => {
  const early = await lab.call('POST', '/images/create?fromImage=nowhere&tag=latest')
  assert.equal(early.status, 404)
  assert.match(early.json.message, /pull access denied/)
  const late = await lab.call('POST', '/images/create?fromImage=broken&tag=latest')
  assert.equal(late.status, 200)
  assert.deepEqual(lines(late.text).at(-1), { errorDetail: { message: 'connection cut' }, error: 'connection cut' })
  assert.equal((await lab.call('POST', '/images/create')).status, 400)
  assert.equal((await lab.call('POST', '/images/create?fromSrc=http://x/y.tar')).status, 501)
})

test('import, load and save move archives of any size and content type', async () => {
  const tar = Buffer.alloc(6 * 1024 * 1024, 'i')
  const imported = await lab.call('POST', '/images/create?fromSrc=-&repo=mine&tag=1', tar, { 'content-type': 'application/octet-stream' })
  assert.match(String(lines(imported.text)[0]?.['status']), /^sha256:/)
  assert.equal(Buffer.concat(lab.images.received).length, tar.length)
  assert.equal((await lab.call('GET', '/images/mine:1/json')).status, 200)
  const loaded = await lab.call('POST', '/images/load', tar, { 'content-type': 'application/x-tar' })
  assert.match(loaded.text, /Loaded image/)
  const saved = await lab.call('GET', '/images/get?names=busybox&names=mine:1')
  assert.equal(saved.headers['content-type'], 'application/x-tar')
  assert.equal(saved.text.length, 2048)
  assert.equal((await lab.call('GET', '/images/busybox/get')).text.length, 2048)
  assert.equal((await lab.call('GET', '/images/get?names=busybox,nope')).status, 404)
  assert.equal((await lab.call('GET', '/images/get')).status, 400)
})

test('images are pushed, removed and pruned', async () => {
  assert.match((await lab.call('POST', '/images/busybox/push?tag=latest')).text, /Pushed/)
  assert.equal((await lab.call('POST', '/images/nope/push')).status, 404)
  assert.equal((await lab.call('DELETE', '/images/mine:1?force=1')).json[0].Untagged, 'mine:1')
  assert.deepEqual((await lab.call('POST', '/images/prune')).json, { ImagesDeleted: null, SpaceReclaimed: 0 })
  assert.equal((await lab.call('POST', filtered('/images/prune', { dangling: ['maybe'] }))).status, 400)
})

test('volumes are created, found, filtered, removed and pruned', async () => {
  const made = await lab.call('POST', '/volumes/create', { Name: 'v1', Labels: { a: '1' }, DriverOpts: { type: 'tmpfs' } })
  assert.equal(made.status, 201)
  assert.deepEqual(made.json, {
    CreatedAt: '2026-01-01T00:00:00Z',
    Driver: 'local',
    Labels: { a: '1' },
    Mountpoint: '/volumes/v1/_data',
    Name: 'v1',
    Options: { type: 'tmpfs' },
    Scope: 'local',
  })
  await lab.call('POST', '/volumes/create', {})
  const count = async (filters: unknown): Promise<number> => (await lab.call('GET', filtered('/volumes', filters))).json.Volumes.length
  assert.equal(await count({}), 2)
  assert.equal(await count({ name: ['v1'] }), 1)
  assert.equal(await count({ label: ['a=1'] }), 1)
  assert.equal(await count({ driver: ['other'] }), 0)
  assert.equal(await count({ dangling: ['false'] }), 0)
  assert.equal((await lab.call('GET', '/volumes/v1')).json.Name, 'v1')
  assert.equal((await lab.call('GET', '/volumes/nope')).status, 404)
  const pruned = (await lab.call('POST', '/volumes/prune')).json
  assert.equal(pruned.VolumesDeleted.length, 1, 'only the anonymous one')
  assert.equal(pruned.SpaceReclaimed, 42)
  assert.deepEqual((await lab.call('POST', filtered('/volumes/prune', { all: ['1'] }))).json.VolumesDeleted, ['v1'])
  assert.equal((await lab.call('DELETE', '/volumes/v1')).status, 404)
  assert.equal((await lab.call('DELETE', '/volumes/v1?force=1')).status, 204)
})

import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { populateVolume } from '../../src/containers/volumes-fill.ts'
import { memoryStore } from '../../src/store/memory-store.ts'
import { labsOfThisFile, mountsBelow, readText, scratch, sh } from './images-lab.ts'

const lab = labsOfThisFile()

test('a named volume is made once, listed, measured and removed with its data', async () => {
  const events: string[] = []
  const { volumes, root } = lab(
    undefined,
    undefined,
    {},
    { events: { publish: (event) => void events.push(`${event.Type} ${event.Action} ${event.Actor.ID}`) } },
  )
  const made = await volumes.create({ name: 'data', labels: { a: 'b' } })
  assert.deepEqual(
    { ...made, createdAt: '' },
    {
      name: 'data',
      driver: 'local',
      mountpoint: join(root, 'volumes/data/_data'),
      createdAt: '',
      labels: { a: 'b' },
      options: {},
      scope: 'local',
      anonymous: false,
    },
  )
  assert.match(made.createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  assert.deepEqual(await volumes.create({ name: 'data', labels: { other: 'x' } }), made, 'the same again is the same')
  writeFileSync(join(made.mountpoint, 'f'), '12345')
  execFileSync('ln', [join(made.mountpoint, 'f'), join(made.mountpoint, 'hard')])
  assert.equal(await volumes.sizeOf('data'), 5)
  assert.deepEqual(volumes.list(), [made])
  await volumes.remove('data', false)
  assert.deepEqual([volumes.list(), readdirSync(join(root, 'volumes'))], [[], []])
  assert.deepEqual(events, ['volume create data', 'volume destroy data'])
})

test('a volume without a name gets 64 hex digits and the anonymous label', async () => {
  const { volumes } = lab()
  const made = await volumes.create({})
  assert.match(made.name, /^[0-9a-f]{64}$/)
  assert.deepEqual([made.anonymous, made.labels], [true, { 'com.docker.volume.anonymous': '' }])
})

test('what Docker refuses is refused in its words, and nothing is made', async () => {
  const { volumes, root } = lab(undefined, undefined, {}, { usersOf: (name) => (name === 'used' ? ['c1', 'c2'] : []) })
  for (const [options, code, message] of [
    [{ name: 'a' }, 'invalid', 'create a: volume name is too short, names should be at least two alphanumeric characters'],
    [
      { name: '../x' },
      'invalid',
      /^create \.\.\/x: "\.\.\/x" includes invalid characters for a local volume name, only "\[a-zA-Z0-9\]\[a-zA-Z0-9_\.-\]" are allowed\. If you intended to pass a host directory, use absolute path$/,
    ],
    [{ name: '..' }, 'invalid', /includes invalid characters/],
    [{ name: '.hidden' }, 'invalid', /includes invalid characters/],
    [{ name: 'a/b' }, 'invalid', /includes invalid characters/],
    [{ name: 'a\0b' }, 'invalid', /includes invalid characters/],
    [{ name: 'ab\n' }, 'invalid', /includes invalid characters/],
    [{ name: 'x'.repeat(300) }, 'invalid', /includes invalid characters/],
    [{ name: 'ab', driver: 'nfs' }, 'not-found', 'create ab: error looking up volume plugin nfs: plugin "nfs" not found'],
    [{ name: 'ab', options: { foo: 'bar' } }, 'invalid', 'create ab: invalid option: "foo"'],
    [{ name: 'ab', options: { type: 'tmpfs' } }, 'invalid', 'create ab: missing required option: "device"'],
    [{ name: 'ab', options: { device: '/x' } }, 'invalid', 'create ab: missing required option: "type"'],
    [{ name: 'ab', options: { o: 'ro' } }, 'invalid', 'create ab: missing required option: "device"'],
    [{ name: 'ab', options: { size: '1g' } }, 'invalid', 'create ab: quota size requested but no quota support'],
    [
      { name: 'ab', options: { type: 'none', device: '/does/not/exist', o: 'bind' } },
      'internal',
      /^failed to mount local volume: mount \/does\/not\/exist:.*, flags: 0x1000: .*ENOENT/,
    ],
  ] as const) {
    await assert.rejects(volumes.create(options), { code, message })
  }
  assert.deepEqual([volumes.list(), readdirSync(join(root, 'volumes'))], [[], []])
  await volumes.create({ name: 'used' })
  await assert.rejects(volumes.remove('used', true), { code: 'conflict', message: 'remove used: volume is in use - [c1, c2]' })
  assert.throws(() => volumes.get('nope'), { code: 'not-found', message: 'get nope: no such volume' })
  await assert.rejects(volumes.remove('nope', false), { code: 'not-found', message: 'get nope: no such volume' })
  await volumes.remove('nope', true)
  await assert.rejects(volumes.sizeOf('nope'), { code: 'not-found' })
})

test('bind and tmpfs volumes are mounted, survive a restart, and are taken away without touching the host directory', async () => {
  const root = scratch()
  const store = memoryStore()
  const host = scratch()
  writeFileSync(join(host, 'precious'), 'keep')
  const first = lab(root, store)
  const bound = await first.volumes.create({ name: 'bound', options: { type: 'none', device: host, o: 'bind,ro' } })
  const memory = await first.volumes.create({ name: 'memory', options: { type: 'tmpfs', device: 'tmpfs', o: 'size=1m,uid=7,nosuid' } })
  assert.equal(readText(join(bound.mountpoint, 'precious')), 'keep')
  assert.throws(() => writeFileSync(join(bound.mountpoint, 'x'), ''), { code: 'EROFS' })
  assert.match(sh(`findmnt -no FSTYPE,OPTIONS ${memory.mountpoint}`), /^tmpfs\s+rw,nosuid,relatime,size=1024k,uid=7/)
  execFileSync('umount', [bound.mountpoint]) // as after a reboot
  const second = lab(root, store)
  await second.volumes.restore()
  await second.volumes.restore()
  assert.deepEqual(mountsBelow(root).sort(), [bound.mountpoint, memory.mountpoint].sort())
  await second.volumes.remove('bound', false)
  await second.volumes.remove('memory', false)
  assert.equal(readText(join(host, 'precious')), 'keep')
  assert.deepEqual([mountsBelow(root), readdirSync(join(root, 'volumes'))], [[], []])
})

test('something that somebody mounted inside a volume stops its removal', async () => {
  const { volumes, root } = lab()
  const made = await volumes.create({ name: 'data' })
  const host = scratch()
  writeFileSync(join(host, 'precious'), 'keep')
  mkdirSync(join(made.mountpoint, 'sub'))
  execFileSync('mount', ['--bind', host, join(made.mountpoint, 'sub')])
  await assert.rejects(volumes.remove('data', true), { code: 'busy', message: /is still mounted/ })
  assert.equal(readText(join(host, 'precious')), 'keep')
  execFileSync('umount', [join(made.mountpoint, 'sub')])
  await volumes.remove('data', false)
  assert.equal(existsSync(join(root, 'volumes/data')), false)
})

test('after a crash: half-made volumes go, half-removed ones go, and data without a record comes back as a volume', async () => {
  const root = scratch()
  const store = memoryStore()
  const first = lab(root, store)
  await first.volumes.create({ name: 'kept' })
  await first.volumes.create({ name: 'lost' })
  sh(
    `rm -r ${root}/volumes/lost && mkdir -p ${root}/volumes/halfmade/_data ${root}/volumes/.gone-1/_data ${root}/volumes/found/_data && echo x > ${root}/volumes/found/_data/f && echo y > ${root}/volumes/.gone-1/_data/f`,
  )
  const second = lab(root, store)
  await second.volumes.restore()
  assert.deepEqual(
    second.volumes
      .list()
      .map((volume) => volume.name)
      .sort(),
    ['found', 'kept'],
  )
  assert.deepEqual(readdirSync(join(root, 'volumes')).sort(), ['found', 'kept'])
})

test('an empty volume is filled from the image once, with owner and mode of the place', async () => {
  const { volumes, images, rootfs } = lab()
  await rootfs.prepare('c1', await images.bootstrap())
  const merged = await rootfs.mount('c1')
  sh(
    `cd ${merged} && mkdir -p srv/data/sub && echo a > srv/data/sub/f && chown -R 5:6 srv/data && chmod 2750 srv/data && ln -s /srv/data way && ln -s /etc host`,
  )
  const made = await volumes.create({ name: 'data' })
  const fill = (path: string): Promise<boolean> => populateVolume({ root: merged, path, target: made.mountpoint })
  assert.equal(await fill('/nope'), false)
  assert.equal(await fill('/way'), true)
  assert.equal(sh(`cd ${made.mountpoint} && stat -c '%n %a %u:%g' . sub sub/f`), '. 2750 5:6\nsub 755 5:6\nsub/f 644 5:6\n')
  assert.equal(await fill('/etc'), false, 'it is not empty any more')
  assert.equal(existsSync(join(made.mountpoint, 'passwd')), false)
})

test('a filling that a crash interrupted is taken back while it is copied and completed once it is whole', async () => {
  const root = scratch()
  const store = memoryStore()
  const first = lab(root, store)
  const [half, whole] = [await first.volumes.create({ name: 'half' }), await first.volumes.create({ name: 'whole' })]
  sh(
    `cd ${root}/volumes && mkdir half/.copying-1 && echo x > half/.copying-1/a && mkdir whole/.whole-1 && chmod 2751 whole/.whole-1 && ` +
      `echo new > whole/.whole-1/a && echo new > whole/.whole-1/b && echo moved > whole/_data/a`,
  )
  const second = lab(root, store)
  await second.volumes.restore()
  assert.deepEqual(readdirSync(half.mountpoint), [])
  assert.equal(sh(`cd ${whole.mountpoint} && cat a b && stat -c %a .`), 'moved\nnew\n2751\n')
  await second.volumes.restore()
  assert.deepEqual([readdirSync(join(root, 'volumes/half')), readdirSync(join(root, 'volumes/whole'))], [['_data'], ['_data']])
})

import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { EngineEvent } from '../../src/containers/types.ts'
import { collect, dir, file, labsOfThisFile, loadLayers, sh, stream, tarOf } from './images-lab.ts'

const lab = labsOfThisFile()

test('bootstrap makes the same busybox everywhere, and its shell runs', async () => {
  const [a, b] = [lab(), lab()]
  const id = await a.images.bootstrap()
  assert.equal(await b.images.bootstrap(), id)
  assert.equal(await a.images.bootstrap(), id)
  const image = a.images.get('busybox')
  assert.deepEqual([image.repoTags, image.config.Cmd, image.os], [['busybox:latest'], ['sh'], 'linux'])
  assert.match(image.config.Env?.[0] ?? '', /^PATH=.*:\/bin$/)
  await a.rootfs.prepare('c1', id)
  const merged = await a.rootfs.mount('c1')
  assert.equal(
    sh(`chroot ${merged} /bin/sh -c 'echo $(id -un) $(stat -c %a /tmp /root) $(ls /etc); wget --help 2>&1 | head -c 7'`),
    'root 1777 700 group hostname hosts mtab nsswitch.conf passwd resolv.conf shadow\nBusyBox',
  )
})

test('whiteouts and opaque directories hide what lies below, as the merged tree shows', async () => {
  const at = lab()
  const id = await loadLayers(at, [
    tarOf([
      dir('etc'),
      file('etc/a', '1'),
      file('etc/b', '1'),
      dir('opt'),
      file('opt/old', '1'),
      dir('var'),
      dir('var/deep'),
      file('var/deep/x', '1'),
      file('gone', '1'),
      dir('again'),
      file('again/old', '1'),
    ]),
    tarOf([
      dir('etc'),
      file('etc/.wh.a', ''),
      dir('opt'),
      file('opt/.wh..wh..opq', ''),
      file('opt/new', '2'),
      file('.wh.gone', ''),
      file('.wh.var', ''),
      file('.wh.again', ''),
      dir('again'),
      file('again/new', '2'),
    ]),
    tarOf([dir('etc'), file('etc/c', '3'), dir('var', { mode: 0o700 }), file('.wh..wh.plnk', '')]),
  ])
  await at.rootfs.prepare('c1', id)
  const merged = await at.rootfs.mount('c1')
  assert.deepEqual(sh(`cd ${merged} && (find etc opt var again gone -type f 2>/dev/null || true) | sort`).trim().split('\n'), [
    'again/new',
    'etc/b',
    'etc/c',
    'etc/hostname',
    'etc/hosts',
    'etc/resolv.conf',
    'opt/new',
  ])
  assert.equal(sh(`find ${merged} -name '.wh*'`), '')
  assert.equal(at.images.get(id).layers.length, 3)
})

test('a deletion and its replacement in one layer do not depend on their order', async () => {
  const at = lab()
  const id = await loadLayers(at, [tarOf([dir('d'), file('d/old', '1')]), tarOf([dir('d'), file('d/new', '2'), file('.wh.d', '')])])
  await at.rootfs.prepare('c1', id)
  assert.deepEqual(readdirSync(join(await at.rootfs.mount('c1'), 'd')), ['new'])
})

test('import makes an image of a flat tar, with changes and message', async () => {
  const at = lab()
  const flat = tarOf([dir('bin'), file('bin/x', 'x')])
  const id = await at.images.import(stream(execFileSync('gzip', ['-c'], { input: flat })), {
    repo: 'flat',
    changes: ['CMD ["/bin/x"]', 'LABEL a=b'],
    message: 'by hand',
  })
  const image = at.images.get('flat')
  assert.deepEqual(
    [image.id, image.repoTags, image.config.Cmd, image.config.Labels, image.comment, image.size],
    [id, ['flat:latest'], ['/bin/x'], { a: 'b' }, 'by hand', 1],
  )
  await assert.rejects(at.images.import(stream(flat), { changes: ['RUN x'] }), { code: 'invalid' })
  await assert.rejects(at.images.import(stream(flat.subarray(0, 700)), { repo: 'x' }), { code: 'invalid' })
  await assert.rejects(at.images.import(stream(flat), { repo: 'Bad' }), { code: 'invalid' })
  assert.equal((await at.images.import(stream(flat), {})).startsWith('sha256:'), true)
  assert.equal(at.images.list().length, 2)
})

test('an image is found by every form of its name, and by nothing else', async () => {
  const at = lab()
  const id = await at.images.bootstrap()
  const hex = id.slice(7)
  await at.images.tag('busybox', 'localhost:5000/a/b', 'v1')
  await at.images.tag(hex.slice(0, 4), 'plain', '')
  for (const ref of [
    'busybox',
    'busybox:latest',
    'docker.io/library/busybox',
    'docker.io/busybox:latest',
    id,
    hex,
    hex.slice(0, 12),
    `sha256:${hex.slice(0, 12)}`,
    'localhost:5000/a/b:v1',
    'plain',
    `busybox@${id}`,
  ]) {
    assert.equal(at.images.get(ref).id, id, ref)
  }
  assert.deepEqual(at.images.get(id).repoTags.toSorted(), ['busybox:latest', 'localhost:5000/a/b:v1', 'plain:latest'])
  for (const [ref, message] of [
    ['nope', 'No such image: nope:latest'],
    ['busybox:2', 'No such image: busybox:2'],
    ['localhost:5000/a/b', 'No such image: localhost:5000/a/b:latest'],
    ['0'.repeat(64), `No such image: ${'0'.repeat(64)}`],
    [`sha256:${'0'.repeat(64)}`, `No such image: sha256:${'0'.repeat(64)}`],
    ['ffff', 'No such image: ffff:latest'],
  ] as const) {
    assert.throws(() => at.images.get(ref), { code: 'not-found', message })
    assert.equal(at.images.find(ref), undefined)
  }
  assert.throws(() => at.images.get('Busybox'), { code: 'invalid', message: /must be lowercase/ })
  assert.equal(at.images.find('Busybox'), undefined)
  await assert.rejects(at.images.tag('busybox', 'Bad', ''), { code: 'invalid' })
  await assert.rejects(at.images.tag('busybox', 'a', 'b:c'), { code: 'invalid', message: 'invalid reference format' })
  await assert.rejects(at.images.tag('busybox', 'sha256', ''), { code: 'invalid', message: /ambiguous tag/ })
  await assert.rejects(at.images.tag('nope', 'a', ''), { code: 'not-found' })
})

test('removal: names first, then the image, its layers only when nothing stands on them', async () => {
  const events: string[] = []
  const users = new Map<string, { id: string; isRunning: boolean }[]>()
  const at = lab(undefined, undefined, {
    events: {
      publish: (event: Omit<EngineEvent, 'time' | 'timeNano' | 'scope'>) =>
        void events.push(`${event.Action} ${event.Actor.Attributes['name']}`),
    },
    usersOf: (id) => users.get(id) ?? [],
  })
  const shared = tarOf([file('shared', '1')])
  const one = await loadLayers(at, [shared, tarOf([file('one', '1')])], 'one:1')
  const two = await loadLayers(at, [shared, tarOf([file('two', '2')])], 'two:1')
  await at.images.tag('one:1', 'one', '2')
  assert.deepEqual(await at.images.remove('one:2', { force: false, noPrune: false }), [{ Untagged: 'one:2' }])
  users.set(one, [{ id: 'c0ffee000000aaaa', isRunning: false }])
  await at.rootfs.prepare('c0ffee000000aaaa', one)
  await assert.rejects(at.images.remove('one:1', { force: false, noPrune: false }), {
    code: 'conflict',
    message: `conflict: unable to remove repository reference "one:1" (must force) - container c0ffee000000 is using its referenced image ${one.slice(7, 19)}`,
  })
  const forced = await at.images.remove('one:1', { force: true, noPrune: false })
  assert.deepEqual(forced, [{ Untagged: 'one:1' }, { Deleted: one }])
  assert.equal(readdirSync(await at.rootfs.mount('c0ffee000000aaaa')).includes('one'), true, 'the container still has its layers')
  await at.rootfs.remove('c0ffee000000aaaa')
  const dropped = await at.images.remove(two, { force: false, noPrune: false })
  assert.deepEqual(dropped.slice(0, 2), [{ Untagged: 'two:1' }, { Deleted: two }])
  assert.equal(dropped.length, 4)
  assert.deepEqual(readdirSync(join(at.root, 'layers')), [])
  assert.deepEqual(readdirSync(join(at.root, 'l')), [])
  await assert.rejects(at.images.remove('two:1', { force: true, noPrune: false }), { code: 'not-found', message: 'No such image: two:1' })
  assert.deepEqual(events, [
    `load ${one}`,
    `load ${two}`,
    'tag one:2',
    `untag ${one}`,
    `untag ${one}`,
    `delete ${one}`,
    `untag ${two}`,
    `delete ${two}`,
  ])
})

test('prune takes dangling images, or all unused ones, and says what it freed', async () => {
  const at = lab(undefined, undefined, { usersOf: (id) => (id === used ? [{ id: 'c', isRunning: false }] : []) })
  let used = ''
  const first = await loadLayers(at, [tarOf([file('a', '12345')])], 'app:1')
  const second = await loadLayers(at, [tarOf([file('b', '1234567')])], 'app:1') // takes the name over
  assert.deepEqual(at.images.get(first).repoTags, [])
  used = await at.images.bootstrap()
  assert.deepEqual(await at.images.prune({ dangling: true, until: 1 }), { deleted: [], reclaimed: 0 })
  const pruned = await at.images.prune({ dangling: true })
  assert.deepEqual([pruned.deleted[0], pruned.reclaimed], [{ Deleted: first }, 5])
  const all = await at.images.prune({ dangling: false })
  assert.deepEqual([all.deleted.slice(0, 2), all.reclaimed], [[{ Untagged: 'app:1' }, { Deleted: second }], 7])
  assert.deepEqual(
    at.images.list().map((i) => i.id),
    [used],
  )
})

test('save takes repositories, ids and several images, and names what is missing', async () => {
  const at = lab()
  const one = await loadLayers(at, [tarOf([file('a', '1')])], 'app:1')
  await loadLayers(at, [tarOf([file('a', '1')]), tarOf([file('b', '2')])], 'app:2')
  const tags = async (refs: string[]): Promise<unknown> => {
    const tar = await collect(await at.images.save(refs))
    const manifest = JSON.parse(execFileSync('tar', ['-xOf', '-', 'manifest.json'], { input: tar, encoding: 'utf8' })) as {
      RepoTags: string[] | null
    }[]
    return manifest.map((image) => image.RepoTags)
  }
  assert.deepEqual(await tags(['app:1']), [['app:1']])
  assert.deepEqual(await tags(['app']), [['app:1'], ['app:2']])
  assert.deepEqual(await tags([one]), [null])
  assert.deepEqual(await tags(['app:2', 'app:1', 'app:1']), [['app:2'], ['app:1']])
  await assert.rejects(at.images.save(['app:1', 'nope']), { code: 'not-found', message: 'No such image: nope:latest' })
})

import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openLmdbStore } from '../../src/store/lmdb-store.ts'
import { until } from '../../testkit/until.ts'
import {
  collect,
  dir,
  file,
  labsOfThisFile,
  loadLayers,
  mountsBelow,
  openFiles,
  openLab,
  readText,
  scratch,
  sh,
  stream,
  tarOf,
} from './images-lab.ts'

const lab = labsOfThisFile()

test('127 layers mount, and a root too long for them says so', async () => {
  const at = lab(join('/tmp', `cw-${process.pid}`))
  const layers = Array.from({ length: 127 }, (_, i) => tarOf([file(`f${i}`, String(i))]))
  const id = await loadLayers(at, layers)
  await at.rootfs.prepare('c1', id)
  const merged = await at.rootfs.mount('c1')
  assert.equal(readdirSync(merged).filter((name) => /^f\d+$/.test(name)).length, 127)
  const deep = lab(join(scratch(), 'r'.repeat(200)))
  await deep.rootfs.prepare('c1', await loadLayers(deep, layers))
  await assert.rejects(deep.rootfs.mount('c1'), { code: 'invalid', message: /127 layers below .* do not fit/ })
})

test('roots with commas, colons, blanks and backslashes in their path mount too', async () => {
  const at = lab(join(scratch(), 'a:b,c d\\e'))
  const id = await at.images.bootstrap()
  await at.rootfs.prepare('c1', id)
  assert.ok(existsSync(join(await at.rootfs.mount('c1'), 'bin/busybox')))
  await at.rootfs.remove('c1')
  assert.deepEqual(mountsBelow(at.root), [])
})

test('200 root file systems mounted, used and removed leave no mount, no directory and no descriptor', async () => {
  const at = lab()
  const id = await at.images.bootstrap()
  await at.rootfs.prepare('warm', id)
  await at.rootfs.mount('warm')
  await at.rootfs.remove('warm')
  const before = { files: openFiles(), mounts: mountsBelow(at.root).length }
  const ids = Array.from({ length: 200 }, (_, i) => `c${i}`)
  for (const c of ids) {
    await at.rootfs.prepare(c, id)
    writeFileSync(join(await at.rootfs.mount(c), 'mine'), c)
  }
  assert.equal(mountsBelow(at.root).length, 200)
  assert.equal(await at.rootfs.mount('c7'), at.rootfs.pathOf('c7'), 'mounting twice is fine')
  assert.equal(mountsBelow(at.root).length, 200)
  assert.equal(readText(join(at.rootfs.pathOf('c199'), 'mine')), 'c199')
  await Promise.all(
    ids.map(async (c) => {
      await at.rootfs.unmount(c)
      await at.rootfs.unmount(c)
      await at.rootfs.remove(c)
      await at.rootfs.remove(c)
    }),
  )
  assert.deepEqual({ files: openFiles(), mounts: mountsBelow(at.root).length }, before)
  assert.deepEqual([at.rootfs.list(), readdirSync(join(at.root, 'rootfs'))], [[], []])
})

test('changes lists what the kernel wrote: added, changed, deleted, replaced, and nothing for mere copies', async () => {
  const at = lab()
  const id = await loadLayers(at, [
    tarOf([
      dir('d'),
      file('d/keep', '1'),
      file('d/change', '1'),
      file('d/delete', '1'),
      dir('tree'),
      file('tree/a', '1'),
      file('plain', '1'),
      dir('redo'),
      file('redo/old', '1'),
    ]),
    tarOf([file('.wh.plain', '')]),
  ])
  await at.rootfs.prepare('c1', id)
  const merged = await at.rootfs.mount('c1')
  assert.deepEqual(await at.rootfs.changes('c1'), [])
  sh(
    `cd ${merged} && echo 2 > d/change && rm d/delete && rm -r tree && mkdir -p new/sub && echo x > new/sub/f && echo p > plain && rm -r redo && mkdir redo && echo n > redo/new && true > etc/hosts && chmod 700 dev`,
  )
  assert.deepEqual(
    (await at.rootfs.changes('c1')).map((c) => `${'CAD'[c.Kind]} ${c.Path}`),
    [
      'C /d',
      'C /d/change',
      'D /d/delete',
      'C /dev',
      'C /etc/hosts',
      'A /new',
      'A /new/sub',
      'A /new/sub/f',
      'A /plain',
      'C /redo',
      'A /redo/new',
      'D /tree',
    ],
  )
  const size = await at.rootfs.sizeOf('c1')
  assert.deepEqual(size, { rw: 8, rootFs: 8 + at.images.get(id).size })
})

test('docker cp works on a container that is not mounted, and gives the mount back', async () => {
  const at = lab()
  const id = await at.images.bootstrap()
  await at.rootfs.prepare('c1', id)
  await at.rootfs.archivePut('c1', '/root', stream(tarOf([file('f', 'hello')])), { noOverwriteDirNonDir: false, copyUidGid: false })
  assert.deepEqual(mountsBelow(at.root), [])
  assert.equal((await at.rootfs.archiveStat('c1', '/root/f')).size, 5)
  const tar = await collect(await at.rootfs.archiveGet('c1', '/root/f'))
  assert.equal(execFileSync('tar', ['-xOf', '-'], { input: tar, encoding: 'utf8' }), 'hello')
  const exported = execFileSync('tar', ['-tf', '-'], { input: await collect(await at.rootfs.export('c1')), encoding: 'utf8' }).split('\n')
  assert.ok(exported.includes('bin/busybox') && exported.includes('root/f') && exported.includes('.dockerenv'))
  await assert.rejects(at.rootfs.archiveGet('c1', '/nope'), { code: 'not-found', message: 'Could not find the file /nope in container c1' })
  await until('the end of the stream unmounts', () => mountsBelow(at.root).length === 0)
  await assert.rejects(at.rootfs.mount('unknown'), { code: 'not-found' })
})

test('after kill -9 in the middle of everything, a restart keeps what was finished and removes the rest', async () => {
  const root = scratch()
  const script = join(root, 'victim.mts')
  const state = join(root, 'state')
  mkdirSync(state)
  const tar = join(root, 'l.tar')
  sh(`mkdir ${root}/src && for i in $(seq 400); do head -c 20000 /dev/zero > ${root}/src/$i; done && tar -C ${root}/src -cf ${tar} .`)
  writeFileSync(
    script,
    `
import { createReadStream } from 'node:fs'
import { openLab } from '${join(import.meta.dirname, 'images-lab.ts')}'
import { openLmdbStore } from '${join(import.meta.dirname, '../../src/store/lmdb-store.ts')}'
const lab = openLab('${state}', openLmdbStore({ dir: '${state}/db' }))
const id = await lab.images.bootstrap()
await lab.rootfs.prepare('running', id); await lab.rootfs.mount('running')
await lab.rootfs.prepare('dead', id); await lab.rootfs.mount('dead')
console.log('ready')
let n = 0
for (;;) { const i = await lab.images.import(createReadStream('${tar}'), { repo: 'x' + n++ }); await lab.images.remove(i, { force: true, noPrune: false }) }
`,
  )
  for (let round = 0; round < 4; round++) {
    const child = spawn(process.execPath, ['--import', 'tsx', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: join(import.meta.dirname, '../..'),
    })
    await new Promise((resolve) => child.stdout.once('data', resolve))
    await new Promise((resolve) => setTimeout(resolve, 20 + round * 37))
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('close', resolve))
    const store = openLmdbStore({ dir: join(state, 'db') })
    const at = openLab(state, store)
    mkdirSync(join(state, 'rootfs', 'stray', 'upper'), { recursive: true })
    await at.images.restore()
    await at.rootfs.restore(new Set(['running']))
    assert.deepEqual(mountsBelow(state), [join(state, 'rootfs/running/merged')])
    assert.equal(sh(`chroot ${at.rootfs.pathOf('running')} /bin/echo alive`), 'alive\n')
    assert.deepEqual(readdirSync(join(state, 'tmp')), [])
    assert.equal(existsSync(join(state, 'rootfs/stray')), false)
    const needed = new Set(at.images.list().flatMap((image) => image.layers.map((layer) => layer.slice(7))))
    assert.deepEqual(new Set(readdirSync(join(state, 'layers'))), needed)
    assert.equal(readdirSync(join(state, 'l')).length, needed.size)
    // an image that is there is whole: its layers come out byte for byte
    for (const image of at.images.list()) for await (const chunk of at.layers.tar(image.layers[0] as string)) assert.ok(chunk.length > 0)
    await at.rootfs.remove('running')
    await at.rootfs.remove('dead')
    for (const image of at.images.list())
      if (!image.repoTags.includes('busybox:latest')) await at.images.remove(image.id, { force: true, noPrune: false })
    await store.close()
  }
  rmSync(root, { recursive: true, force: true })
})

test('a root file system that was mounted before restore ran is not taken for a left-over', async () => {
  const first = lab()
  const id = await first.images.bootstrap()
  for (const c of ['left', 'live', 'started']) await first.rootfs.prepare(c, id)
  await first.rootfs.mount('left')
  await first.rootfs.mount('live')
  const second = lab(first.root, first.store)
  const merged = await second.rootfs.mount('started')
  await second.rootfs.restore(new Set(['live']))
  assert.deepEqual(mountsBelow(first.root).sort(), [second.rootfs.pathOf('live'), merged].sort())
})

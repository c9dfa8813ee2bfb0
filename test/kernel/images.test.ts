import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createReadStream, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { TarHeader } from '../../src/containers/archive-tar.ts'
import type { EngineEvent } from '../../src/containers/types.ts'
import { openLmdbStore } from '../../src/store/lmdb-store.ts'
import {
  closeLab,
  collect,
  type Lab,
  mountsBelow,
  openFiles,
  openLab,
  readText,
  scratch,
  sh,
  stream,
  tarOf,
  xattrsBelow,
} from './images-lab.ts'

const labs: Lab[] = []
function lab(...args: Parameters<typeof openLab>): Lab {
  const made = openLab(...args)
  labs.push(made)
  return made
}
after(() => {
  for (const each of labs) closeLab(each)
})

const silent = (): void => {}
const sha = (file: string): string => execFileSync('sha256sum', [file], { encoding: 'utf8' }).slice(0, 64)

/** A docker-archive of layers, as another tool would write it. */
function dockerArchive(at: string, layers: readonly Buffer[], config: object = {}, tags: readonly string[] = ['made:1']): string {
  rmSync(at, { recursive: true, force: true })
  mkdirSync(at, { recursive: true })
  const diffIds = layers.map((layer, i) => {
    writeFileSync(join(at, `${i}.tar`), layer)
    return `sha256:${sha(join(at, `${i}.tar`))}`
  })
  writeFileSync(
    join(at, 'config.json'),
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      created: '2024-01-01T00:00:00Z',
      rootfs: { type: 'layers', diff_ids: diffIds },
      ...config,
    }),
  )
  writeFileSync(
    join(at, 'manifest.json'),
    JSON.stringify([{ Config: 'config.json', RepoTags: tags, Layers: layers.map((_, i) => `${i}.tar`) }]),
  )
  sh(`cd ${at} && tar cf ../${at.split('/').at(-1)}.tar *`)
  return `${at}.tar`
}

async function loadLayers(to: Lab, layers: readonly Buffer[], tag = 'made:1'): Promise<string> {
  await to.images.load(createReadStream(dockerArchive(join(to.root, 'archive'), layers, {}, [tag])), silent)
  return to.images.get(tag).id
}

const dir = (name: string, more: Partial<TarHeader> = {}): [TarHeader] => [{ name: `${name}/`, type: 'directory', ...more }]
const file = (name: string, body: string): [TarHeader, string] => [{ name, type: 'file' }, body]

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

test('a layer that is loaded, saved and loaded again keeps every byte, and skopeo and tar agree', async () => {
  const at = lab()
  // GNU and pax forms, names twice, a file that becomes a directory, trailing zeros: everything that a rewritten tar would lose
  const odd = join(at.root, 'odd')
  mkdirSync(odd)
  sh(
    `cd ${odd} && mkdir -p d/$(printf 'x%.0s' {1..120}) && head -c 3000000 /dev/urandom > d/big && ln d/big d/hard && ln -s big d/l && mknod d/n c 1 3 && tar --format=gnu -cf ../gnu.tar d && tar --format=pax --xattrs -cf ../pax.tar d && tar -b 64 --format=ustar -cf ../twice.tar d/big d/l d/big`,
  )
  const twice = tarOf([
    file('f', 'first'),
    file('f', 'second'),
    dir('g'),
    file('g/inner', 'lost'),
    file('g', 'now a file'),
    file('f', 'third'),
  ])
  const layers = [
    ...['gnu', 'pax', 'twice'].map((name) => execFileSync('cat', [join(at.root, `${name}.tar`)], { maxBuffer: 1 << 26 })),
    twice,
    Buffer.alloc(10240),
  ]
  await loadLayers(at, layers)
  const id = at.images.get('made:1').id
  const saved = join(at.root, 'saved.tar')
  sh(`mkdir ${at.root}/x`)
  writeFileSync(saved, await collect(await at.images.save(['made:1'])))
  sh(`tar -C ${at.root}/x -xf ${saved}`)
  for (const diffId of at.images.get(id).layers) assert.equal(sha(join(at.root, 'x/blobs/sha256', diffId.slice(7))), diffId.slice(7))
  const seen = JSON.parse(sh(`skopeo --insecure-policy inspect docker-archive:${saved}:docker.io/library/made:1`)) as { Layers: string[] }
  assert.deepEqual(seen.Layers, at.images.get(id).layers)
  const asOci = JSON.parse(sh(`skopeo --insecure-policy inspect --config oci:${at.root}/x:1`)) as { rootfs: { diff_ids: string[] } }
  assert.deepEqual(asOci.rootfs.diff_ids, at.images.get(id).layers)
  const other = lab()
  await other.images.load(createReadStream(saved), silent)
  assert.equal(other.images.get('made:1').id, id)
})

test('archives of other tools load: OCI layouts by skopeo, compressed layers, links for repeated layers', async () => {
  const at = lab()
  const id = await loadLayers(at, [tarOf([file('a', '1')]), tarOf([file('b', '2')])])
  writeFileSync(join(at.root, 's.tar'), await collect(await at.images.save(['made:1'])))
  sh(
    `cd ${at.root} && skopeo --insecure-policy copy -q docker-archive:s.tar oci-archive:o.tar:made:9 && skopeo --insecure-policy copy -q docker-archive:s.tar docker-archive:d.tar:made:8`,
  )
  const other = lab()
  const lines: Record<string, unknown>[] = []
  await other.images.load(createReadStream(join(at.root, 'o.tar')), (line) => lines.push(line))
  assert.equal(lines.at(-1)?.['stream'], 'Loaded image: made:9\n')
  assert.equal(other.images.get('made:9').layers.join(), at.images.get(id).layers.join())
  await other.images.load(createReadStream(join(at.root, 'd.tar')), silent)
  assert.deepEqual(other.images.get('made:8').layers, at.images.get(id).layers)
  // old docker save: layers as links to each other
  const old = join(at.root, 'old')
  dockerArchive(old, [tarOf([file('a', '1')])])
  sh(
    `cd ${old} && mkdir x y && gzip -c 0.tar > x/layer.tar && ln -s ../x/layer.tar y/layer.tar && rm 0.tar && sed -i 's,0.tar,y/layer.tar,' manifest.json && tar czf ../old.tar.gz *`,
  )
  await other.images.load(createReadStream(join(at.root, 'old.tar.gz')), silent)
  assert.equal(other.images.get('made:1').layers[0], at.images.get(id).layers[0])
})

test('broken and hostile archives are refused and leave nothing', async () => {
  const at = lab()
  const good = tarOf([file('a', '1')])
  const manifest = (item: object): string => JSON.stringify([{ Config: 'c', RepoTags: ['x:1'], Layers: ['l'], ...item }])
  const config = (diff: unknown): string => JSON.stringify({ rootfs: { type: 'layers', diff_ids: diff } })
  const ZERO = `sha256:${'0'.repeat(64)}`
  const cases: [string, Buffer, RegExp][] = [
    ['nothing', Buffer.alloc(0), /does not contain a manifest.json/],
    ['rubbish', Buffer.alloc(4096, 'rubbish '), /invalid tar/],
    ['a tar without manifest', good, /does not contain a manifest.json/],
    ['a manifest that is no JSON', tarOf([file('manifest.json', '{')]), /"manifest.json" is not JSON/],
    ['a manifest that is no list', tarOf([file('manifest.json', '{}')]), /is not a list/],
    ['a null image', tarOf([file('manifest.json', '[null]')]), /without Config or Layers/],
    ['a missing config', tarOf([file('manifest.json', manifest({}))]), /"c" is missing/],
    ['a config that is a fifo', tarOf([file('manifest.json', manifest({})), [{ name: 'c', type: 'fifo' }]]), /"c" is missing/],
    ['a config outside', tarOf([file('manifest.json', manifest({ Config: '../../../../etc/passwd' }))]), /is missing/],
    [
      'a config by a link out',
      tarOf([file('manifest.json', manifest({})), [{ name: 'c', type: 'symlink', linkName: '/etc/passwd' }]]),
      /"c" is missing/,
    ],
    ['a config without layers', tarOf([file('manifest.json', manifest({})), file('c', '{}')]), /no layer digests/],
    ['digests that are paths', tarOf([file('manifest.json', manifest({})), file('c', config(['sha256:../../etc']))]), /no layer digests/],
    ['too few layers', tarOf([file('manifest.json', manifest({})), file('c', config([ZERO, ZERO]))]), /length mismatch/],
    ['a missing layer', tarOf([file('manifest.json', manifest({})), file('c', config([ZERO]))]), /layer "l" is missing/],
    [
      'a wrong digest',
      tarOf([file('manifest.json', manifest({})), file('c', config([ZERO])), file('l', good.toString('latin1'))]),
      /don't match image configuration/,
    ],
    [
      'a layer that climbs out',
      tarOf([file('manifest.json', manifest({})), file('c', config([ZERO])), file('l', tarOf([file('../../x', '1')]).toString('latin1'))]),
      /outside of the root/,
    ],
    [
      'a bad name',
      tarOf([file('manifest.json', manifest({ RepoTags: ['UPPER'] })), file('c', config([ZERO])), file('l', '')]),
      /must be lowercase/,
    ],
    [
      '128 layers',
      tarOf([file('manifest.json', manifest({ Layers: Array(128).fill('l') })), file('c', config(Array(128).fill(ZERO))), file('l', '')]),
      /max depth exceeded/,
    ],
    [
      'an index loop',
      tarOf([file('index.json', '{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:1"}]}')]),
      /unsupported digest/,
    ],
  ]
  const before = openFiles()
  for (const [what, tar, message] of cases) {
    await assert.rejects(at.images.load(stream(tar), silent), { message, code: 'invalid' }, what)
  }
  assert.deepEqual(at.images.list(), [])
  assert.deepEqual(readdirSync(join(at.root, 'tmp')), [])
  assert.deepEqual(readdirSync(join(at.root, 'layers')), [])
  await new Promise((resolve) => setTimeout(resolve, 50)) // file streams close behind us
  assert.equal(openFiles(), before)
})

test('a layer cannot smuggle in attributes or escape through links, and its devices stay below a directory only root enters', async () => {
  const at = lab()
  const evil = tarOf([
    dir('d', {
      xattrs: new Map([
        ['trusted.overlay.redirect', Buffer.from('/')],
        ['trusted.overlay.metacopy', Buffer.from('')],
      ]),
    }),
    [{ name: 'up', type: 'symlink', linkName: '../../../../../..' }],
    file('up/tmp/causeway-escaped', 'x'),
    [{ name: 'sda', type: 'block', mode: 0o666, devMajor: 8, devMinor: 0 }],
  ])
  const id = await loadLayers(at, [evil])
  assert.equal(existsSync('/tmp/causeway-escaped'), false)
  const fs = at.layers.pathOf(at.images.get(id).layers[0] as string)
  assert.equal(readText(join(fs, 'tmp/causeway-escaped')), 'x', 'the link led to the root of the layer')
  assert.deepEqual(xattrsBelow(fs), [])
  assert.equal(spawnSync('setpriv', ['--reuid=65534', '--clear-groups', '--', 'ls', fs]).status === 0, false)
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
  const started = performance.now()
  for (const c of ids) {
    await at.rootfs.prepare(c, id)
    writeFileSync(join(await at.rootfs.mount(c), 'mine'), c)
  }
  const each = (performance.now() - started) / 200
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
  assert.ok(each < 10, `prepare and mount took ${each} ms each`)
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
  await new Promise((resolve) => setTimeout(resolve, 30)) // the stream's close unmounts
  assert.deepEqual(mountsBelow(at.root), [])
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

test('two loads of the same image at once end in one', async () => {
  const at = lab()
  const tar = dockerArchive(join(at.root, 'a'), [tarOf([file('a', 'x'.repeat(100000))]), tarOf([file('b', '2')])])
  await Promise.all([1, 2, 3].map(() => at.images.load(createReadStream(tar), silent)))
  assert.equal(at.images.list().length, 1)
  assert.equal(readdirSync(join(at.root, 'layers')).length, 2)
  assert.deepEqual(readdirSync(join(at.root, 'tmp')), [])
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

import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createReadStream, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../../testkit/until.ts'
import {
  collect,
  dir,
  dockerArchive,
  file,
  labsOfThisFile,
  loadLayers,
  openFiles,
  readText,
  sh,
  sha256,
  silent,
  stream,
  tarOf,
  xattrsBelow,
} from './images-lab.ts'

const lab = labsOfThisFile()

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
  for (const diffId of at.images.get(id).layers) assert.equal(sha256(join(at.root, 'x/blobs/sha256', diffId.slice(7))), diffId.slice(7))
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
  await until('file streams close', () => openFiles() === before)
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

test('two loads of the same image at once end in one', async () => {
  const at = lab()
  const tar = dockerArchive(join(at.root, 'a'), [tarOf([file('a', 'x'.repeat(100000))]), tarOf([file('b', '2')])])
  await Promise.all([1, 2, 3].map(() => at.images.load(createReadStream(tar), silent)))
  assert.equal(at.images.list().length, 1)
  assert.equal(readdirSync(join(at.root, 'layers')).length, 2)
  assert.deepEqual(readdirSync(join(at.root, 'tmp')), [])
})

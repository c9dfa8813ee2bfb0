import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createReadStream, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { collect, type Lab, labsOfThisFile, scratch, sh, stream, tarOf } from './images-lab.ts'

const HOST = '127.0.0.1:5000'
const REGISTRY = '/usr/bin/docker-registry'
const skip = existsSync(REGISTRY) || process.env['CI'] === '1' ? false : 'needs the package docker-registry'

const base = scratch()
const lab = labsOfThisFile()

let registry: ChildProcess | undefined
before(async () => {
  if (skip !== false) return
  mkdirSync(join(base, 'registry'))
  const config = `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${base}/registry}}\nhttp: {addr: "${HOST}"}\n`
  writeFileSync(join(base, 'config.yml'), config)
  registry = spawn(REGISTRY, ['serve', join(base, 'config.yml')], { stdio: 'ignore' })
  for (let i = 0; i < 100; i++) {
    const up = await fetch(`http://${HOST}/v2/`).then(
      (r) => r.ok,
      () => false,
    )
    if (up) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('the registry does not answer')
})
after(() => {
  registry?.kill('SIGKILL')
  rmSync(base, { recursive: true, force: true })
})

const never = new AbortController().signal
type Line = Record<string, unknown>
const recorder = (): { lines: Line[]; progress: (line: Line) => void } => {
  const lines: Line[] = []
  return { lines, progress: (line) => void lines.push(line) }
}
const statuses = (lines: readonly Line[]): string[] => lines.map((line) => String(line['status'] ?? ''))

test('an image pushed from here is the same image when it is pulled there', { skip }, async () => {
  const here = lab()
  const id = await here.images.bootstrap()
  await here.images.tag('busybox', `${HOST}/team/box`, 'v1')
  const pushed = recorder()
  await here.images.push(`${HOST}/team/box`, 'v1', undefined, pushed.progress, never)
  assert.equal(pushed.lines[0]?.['status'], `The push refers to repository [${HOST}/team/box]`)
  const digest = (pushed.lines.at(-1)?.['aux'] as { Digest?: string } | undefined)?.Digest ?? ''
  const head = await fetch(`http://${HOST}/v2/team/box/manifests/v1`, {
    method: 'HEAD',
    headers: { accept: 'application/vnd.docker.distribution.manifest.v2+json' },
  })
  assert.equal(head.headers.get('docker-content-digest'), digest)
  assert.deepEqual(here.images.get(id).repoDigests, [`${HOST}/team/box@${digest}`])

  const there = lab()
  const pulled = recorder()
  await there.images.pull(`${HOST}/team/box`, 'v1', undefined, pulled.progress, never)
  const seen = statuses(pulled.lines)
  assert.equal(there.images.get(`${HOST}/team/box:v1`).id, id)
  assert.deepEqual(there.images.get(id).repoDigests, [`${HOST}/team/box@${digest}`])
  assert.equal(seen[0], `Pulling from ${HOST}/team/box`)
  for (const status of ['Pulling fs layer', 'Downloading', 'Extracting', 'Pull complete', `Digest: ${digest}`])
    assert.ok(seen.includes(status), status)
  assert.equal(seen.at(-1), `Status: Downloaded newer image for ${HOST}/team/box:v1`)
  assert.deepEqual(readdirSync(join(there.root, 'tmp')), [])

  const again = recorder()
  await there.images.pull(`${HOST}/team/box`, 'v1', undefined, again.progress, never)
  assert.equal(statuses(again.lines).at(-1), `Status: Image is up to date for ${HOST}/team/box:v1`)

  const byDigest = lab()
  await byDigest.images.pull(`${HOST}/team/box`, digest, undefined, () => {}, never)
  assert.deepEqual([byDigest.images.get(id).repoTags, byDigest.images.get(id).repoDigests], [[], [`${HOST}/team/box@${digest}`]])
  assert.equal(byDigest.images.get(`${HOST}/team/box@${digest}`).id, id)
})

test('layers that are here already are not fetched again', { skip }, async () => {
  const here = lab()
  const common = tarOf([[{ name: 'common', type: 'file' }, 'c'.repeat(200_000)]])
  const load = async (to: Lab, tag: string, own: string): Promise<void> => {
    const id = await to.images.import(stream(common), { repo: 'common' })
    const first = to.images.get(id).layers[0] as string
    const { info, release } = await to.layers.add(stream(tarOf([[{ name: own, type: 'file' }, own]])))
    const config = {
      architecture: 'amd64',
      os: 'linux',
      created: '2024-01-01T00:00:00Z',
      rootfs: { type: 'layers', diff_ids: [first, info.diffId] },
    }
    release()
    const archive = join(base, 'two')
    rmSync(archive, { recursive: true, force: true })
    mkdirSync(archive)
    for (const [i, diffId] of config.rootfs.diff_ids.entries())
      writeFileSync(join(archive, String(i)), await collect(stream(Buffer.concat(await all(to.layers.tar(diffId))))))
    writeFileSync(join(archive, 'c'), JSON.stringify(config))
    writeFileSync(join(archive, 'manifest.json'), JSON.stringify([{ Config: 'c', RepoTags: [tag], Layers: ['0', '1'] }]))
    sh(`tar -C ${archive} -cf ${archive}.tar .`)
    await to.images.load(createReadStream(`${archive}.tar`), () => {})
  }
  await load(here, `${HOST}/two:1`, 'one')
  await load(here, `${HOST}/two:2`, 'two')
  for (const tag of ['1', '2']) await here.images.push(`${HOST}/two`, tag, undefined, () => {}, never)
  const there = lab()
  await there.images.pull(`${HOST}/two`, '1', undefined, () => {}, never)
  // the registry loses the common layer: only somebody who asks for it can notice
  const blob = sh(
    `cd ${base}/registry && find . -path '*blobs*' -name data -size +0 -exec sh -c 'gzip -dc "$1" 2>/dev/null | grep -aq cccccccc && echo "$1"' _ {} \\;`,
  ).trim()
  assert.notEqual(blob, '')
  rmSync(join(base, 'registry', blob))
  const lines = recorder()
  await there.images.pull(`${HOST}/two`, '2', undefined, lines.progress, never)
  assert.deepEqual(
    statuses(lines.lines).filter((s) => s === 'Already exists' || s === 'Pulling fs layer'),
    ['Already exists', 'Pulling fs layer'],
  )
  assert.equal(there.images.get(`${HOST}/two:2`).id, here.images.get(`${HOST}/two:2`).id)
  const fresh = lab()
  await assert.rejects(fresh.images.pull(`${HOST}/two`, '2', undefined, () => {}, never))
  assert.deepEqual([fresh.images.list(), readdirSync(join(fresh.root, 'layers')), readdirSync(join(fresh.root, 'tmp'))], [[], [], []])
})

async function all(chunks: AsyncIterable<Buffer>): Promise<Buffer[]> {
  const out: Buffer[] = []
  for await (const chunk of chunks) out.push(chunk)
  return out
}

test('a multi-platform image is pulled for this machine, under the digest of its list', { skip }, async () => {
  const here = lab()
  const id = await here.images.bootstrap()
  await here.images.tag('busybox', `${HOST}/multi`, 'amd64')
  await here.images.push(`${HOST}/multi`, 'amd64', undefined, () => {}, never)
  const type = 'application/vnd.docker.distribution.manifest.v2+json'
  const pushed = async (tag: string): Promise<[number, string | null]> => {
    const manifest = await fetch(`http://${HOST}/v2/multi/manifests/${tag}`, { headers: { accept: type } })
    return [Buffer.byteLength(await manifest.text()), manifest.headers.get('docker-content-digest')]
  }
  const [size, digest] = await pushed('amd64')
  // the same files, said to be for another machine
  const archive = join(base, 'foreign')
  mkdirSync(archive)
  writeFileSync(`${archive}.tar`, await collect(await here.images.save([`${HOST}/multi:amd64`])))
  sh(`tar -C ${archive} -xf ${archive}.tar`)
  const [entry] = JSON.parse(readFileSync(join(archive, 'manifest.json'), 'utf8')) as [{ Config: string; Layers: string[] }]
  const config = JSON.parse(readFileSync(join(archive, entry.Config), 'utf8')) as object
  writeFileSync(join(archive, 'foreign.json'), JSON.stringify({ ...config, architecture: 'riscv64' }))
  const listed = [{ Config: 'foreign.json', RepoTags: [`${HOST}/multi:riscv64`], Layers: entry.Layers }]
  writeFileSync(join(archive, 'manifest.json'), JSON.stringify(listed))
  for (const file of ['index.json', 'oci-layout', 'repositories']) rmSync(join(archive, file), { force: true })
  sh(`tar -C ${archive} -cf ${archive}.tar .`)
  await here.images.load(createReadStream(`${archive}.tar`), () => {})
  await here.images.push(`${HOST}/multi`, 'riscv64', undefined, () => {}, never)
  const [otherSize, otherDigest] = await pushed('riscv64')
  const architecture = here.images.get(id).architecture
  const list = 'application/vnd.docker.distribution.manifest.list.v2+json'
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType: list,
    manifests: [
      { mediaType: type, size: otherSize, digest: otherDigest, platform: { os: 'linux', architecture: 'riscv64' } },
      { mediaType: type, size, digest, platform: { os: 'linux', architecture } },
    ],
  })
  const put = await fetch(`http://${HOST}/v2/multi/manifests/latest`, { method: 'PUT', body, headers: { 'content-type': list } })
  assert.equal(put.status, 201)
  const there = lab()
  await there.images.pull(`${HOST}/multi`, '', undefined, () => {}, never)
  assert.deepEqual(there.images.get(id).repoTags, [`${HOST}/multi:latest`])
  assert.deepEqual(there.images.get(id).repoDigests, [`${HOST}/multi@${put.headers.get('docker-content-digest')}`])
})

test('another platform of a multi-platform image is pulled when it is asked for', { skip }, async () => {
  const at = lab()
  const pull = (tag: string, platform: string, progress: (line: Line) => void = () => {}) =>
    at.images.pull(`${HOST}/multi`, tag, undefined, progress, never, platform)
  await pull('', 'linux/riscv64')
  assert.equal(at.images.get(`${HOST}/multi`).architecture, 'riscv64')
  await assert.rejects(pull('', 'linux/s390x'), {
    code: 'not-found',
    message: 'no matching manifest for linux/s390x in the manifest list entries',
  })
  await assert.rejects(pull('', 'linux/a/b/c'), { code: 'invalid' })
  // one that is for one platform only is had, with a warning
  const single = recorder()
  await pull('riscv64', 'linux/arm64/v8', single.progress)
  const warning = `WARNING: image with reference ${HOST}/multi:riscv64 was found but does not match the specified platform: wanted linux/arm64/v8, actual: linux/riscv64`
  assert.ok(statuses(single.lines).includes(warning), JSON.stringify(single.lines))
})

test('what is not there, not reachable or not wanted any more is said so, and nothing is left', { skip }, async () => {
  const at = lab()
  const pull = (ref: string, tag = '', signal = never): Promise<void> =>
    at.images.pull(ref, tag, { username: 'u', password: 'secret' }, () => {}, signal)
  await assert.rejects(pull(`${HOST}/nope`, 'v1'), {
    code: 'not-found',
    message: `manifest for ${HOST}/nope:v1 not found: manifest unknown: manifest unknown`,
  })
  await assert.rejects(pull('127.0.0.1:1/x'), { code: 'internal', message: /connection refused/ })
  await assert.rejects(pull('Bad'), { code: 'invalid' })
  await assert.rejects(pull('a', 'b c'), { code: 'invalid', message: 'invalid reference format' })
  await assert.rejects(pull(`${HOST}/team/box`, 'v1', AbortSignal.abort(new Error('client went away'))), { message: 'client went away' })
  await assert.rejects(
    at.images.push('nothere', 'x', undefined, () => {}, never),
    { code: 'not-found', message: 'An image does not exist locally with the tag: nothere' },
  )
  await at.images.bootstrap()
  await at.images.tag('busybox', '127.0.0.1:1/x', '')
  await assert.rejects(
    at.images.push('127.0.0.1:1/x', '', undefined, () => {}, never),
    { code: 'internal', message: /connection refused/ },
  )
  assert.deepEqual(readdirSync(join(at.root, 'tmp')), [])
  assert.equal(at.images.list().length, 1)
})

test('without a registry, an image comes from where the location option says', async () => {
  const here = lab()
  const id = await here.images.bootstrap()
  writeFileSync(join(base, 'b.tar'), await collect(await here.images.save(['busybox'])))
  sh(`skopeo --insecure-policy copy -q docker-archive:${base}/b.tar dir:${base}/dir`)
  const there = lab(undefined, undefined, { registry: { location: () => `dir:${base}/dir` } })
  await there.images.pull('busybox', 'latest', undefined, () => {}, never)
  assert.equal(there.images.get('busybox').id, id)
})

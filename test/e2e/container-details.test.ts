/** Of containers, what only shows between two of their parts: links and exec, volumes and images, `cp -a` and users. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'

let lab: EngineLab
before(async () => {
  lab = await startEngineLab()
})
after(async () => assert.deepEqual(await lab.close(), []))

/** Makes an image of a container's root file system. */
async function imageOf(container: string, image: string): Promise<void> {
  const file = `${lab.dir}/${image}.tar`
  assert.equal((await lab.docker('export', '-o', file, container)).code, 0)
  assert.equal((await lab.docker('import', file, image)).code, 0)
}

test('a process of exec and the first process get the same variables of a link, those of its new address after a restart', async () => {
  await lab.run('db1', { body: { ExposedPorts: { '5432/tcp': {} }, Env: ['SECRET=x'] } })
  await lab.run('app1', { cmd: ['sh', '-c', 'env; exec sleep 3600'], host: { Links: ['db1:db'] } })
  const ofLink = (text: string) =>
    text
      .split('\n')
      .filter((line) => line.startsWith('DB_'))
      .sort()
  const inFirst = ofLink((await lab.docker('logs', 'app1')).out)
  assert.deepEqual(inFirst, [
    'DB_ENV_SECRET=x',
    'DB_NAME=/app1/db',
    'DB_PORT=tcp://172.17.0.2:5432',
    'DB_PORT_5432_TCP=tcp://172.17.0.2:5432',
    'DB_PORT_5432_TCP_ADDR=172.17.0.2',
    'DB_PORT_5432_TCP_PORT=5432',
    'DB_PORT_5432_TCP_PROTO=tcp',
  ])
  assert.deepEqual(ofLink((await lab.exec('app1', 'env')).out), inFirst)
  assert.match((await lab.docker('exec', '-e', 'DB_PORT=mine', 'app1', 'env')).out, /^DB_PORT=mine$/m)

  await lab.docker('stop', 'db1')
  assert.deepEqual(ofLink((await lab.exec('app1', 'env')).out), []) // exec works without it
  await lab.run('taker', {}) // takes the address that is free now
  await lab.docker('start', 'db1')
  assert.match((await lab.exec('app1', 'env')).out, /^DB_PORT=tcp:\/\/172\.17\.0\.4:5432$/m)
})

test('a new volume gets what the image has at its place, owners and modes included; a volume that holds something is left alone', async () => {
  await lab.run('maker', {
    cmd: [
      'sh',
      '-c',
      'mkdir -p /data/sub && echo one >/data/sub/f && ln -s sub/f /data/l && chown -R 7:8 /data && chmod 750 /data/sub; sleep 3600',
    ],
  })
  await lab.exec('maker', 'sh', '-c', 'until [ "$(stat -c %a /data/sub)" = 750 ]; do sleep 0.05; done')
  await imageOf('maker', 'withdata')
  const listing = 'stat -c "%n %u:%g %a %F" /data /data/sub /data/sub/f /data/l; cat /data/l'
  const first = await lab.docker('run', '--rm', '-v', 'fresh:/data', 'withdata', 'sh', '-c', listing)
  assert.equal(
    first.out,
    '/data 7:8 755 directory\n/data/sub 7:8 750 directory\n/data/sub/f 7:8 644 regular file\n/data/l 7:8 777 symbolic link\none\n',
  )
  await lab.docker('run', '--rm', '-v', 'used:/elsewhere', 'busybox', 'touch', '/elsewhere/mine')
  assert.equal((await lab.docker('run', '--rm', '-v', 'used:/data', 'withdata', 'ls', '/data')).out, 'mine\n')
  assert.equal((await lab.docker('run', '--rm', '-v', 'without:/data:nocopy', 'withdata', 'ls', '/data')).out, '')
})

test('cp -a gives the files to the user of the container, as its own passwd knows it', async () => {
  mkdirSync(`${lab.dir}/in`)
  writeFileSync(`${lab.dir}/in/f`, 'x')
  await lab.run('base', { cmd: ['sh', '-c', 'echo web:x:33:44::/:/bin/sh >>/etc/passwd; sleep 3600'] })
  await lab.exec('base', 'sh', '-c', 'until grep -q web /etc/passwd; do sleep 0.05; done')
  await imageOf('base', 'withuser')
  const started = await lab.docker('run', '-d', '--name', 'byname', '--user', 'web', 'withuser', 'sleep', '3600')
  assert.equal(started.code, 0, started.err)
  await lab.docker('cp', '-a', `${lab.dir}/in/f`, 'byname:/tmp/owned')
  await lab.docker('cp', `${lab.dir}/in/f`, 'byname:/tmp/plain')
  assert.equal((await lab.exec('byname', 'stat', '-c', '%u:%g', '/tmp/owned', '/tmp/plain')).out, '33:44\n0:0\n')
})

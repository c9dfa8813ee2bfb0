import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

async function docker(...args: string[]): Promise<string> {
  const { code, out, err } = await lab.docker(...args)
  assert.equal(code, 0, `docker ${args.join(' ')}: ${err}`)
  return out.trim()
}

test('docker commit: what was written, deleted and replaced is in the image, and its configuration is the container’s with the changes', async () => {
  const script =
    'echo new > /root/made; rm /etc/shadow; rm -r /var/spool; mkdir -p /var/spool/only; chmod 700 /home; ln /root/made /root/link'
  await docker('run', '--name', 'source', '-e', 'A=1', '-l', 'kept=yes', 'busybox', 'sh', '-c', script)
  const changes = ['-c', 'CMD ["cat","/root/made"]', '-c', 'ENV B=2', '-c', 'EXPOSE 8000']
  const id = await docker('commit', '-a', 'Somebody', '-m', 'by hand', ...changes, 'source', 'copy:v1')
  assert.match(id, /^sha256:[0-9a-f]{64}$/)

  assert.equal(await docker('run', '--rm', 'copy:v1'), 'new')
  const look = 'ls /etc/shadow /var/spool; stat -c "%a %h" /home /root/link; echo $A$B'
  const { out } = await lab.docker('run', '--rm', 'copy:v1', 'sh', '-c', look)
  assert.equal(out, '/var/spool:\nonly\n700 1\n644 2\n12\n')

  const image = (await lab.api('GET', '/v1.44/images/copy:v1/json')).json
  const parent = (await lab.api('GET', '/images/busybox/json')).json
  const source = (await lab.api('GET', '/containers/source/json')).json
  assert.equal(image.Parent, parent.Id)
  assert.deepEqual([image.Author, image.Comment, image.Container], ['Somebody', 'by hand', source.Id])
  assert.deepEqual(image.Config.ExposedPorts, { '8000/tcp': {} })
  assert.deepEqual(image.Config.Labels, { kept: 'yes' })
  assert.equal(image.ContainerConfig.Image, 'busybox')
  assert.deepEqual(image.RootFS.Layers.slice(0, -1), parent.RootFS.Layers)
  assert.match(await docker('history', '--format', '{{.Comment}}', 'copy:v1'), /^by hand(\n|$)/)
})

test('a running container is paused for the time of it only; nothing written makes no layer; the layer outlives its parent', async () => {
  await lab.run('runs', { cmd: ['sh', '-c', 'while :; do date > /tmp/now; sleep 0.05; done'] })
  await docker('commit', 'runs', 'snapshot')
  assert.equal(await docker('inspect', '-f', '{{.State.Status}}', 'runs'), 'running')
  await docker('commit', '--pause=false', 'runs')

  await docker('create', '--name', 'untouched', 'busybox')
  await docker('commit', 'untouched', 'same')
  const layers = async (name: string) => (await lab.api('GET', `/images/${name}/json`)).json.RootFS.Layers as string[]
  assert.deepEqual(await layers('same'), await layers('busybox'))

  for (const name of ['runs', 'untouched', 'source']) await docker('rm', '-f', name)
  await docker('rmi', '-f', 'busybox')
  assert.equal(await docker('run', '--rm', 'snapshot', 'ls', '/tmp/now'), '/tmp/now')
})

test('commit answers as dockerd does to what it cannot do', async () => {
  const status = async (query: string, body?: unknown) => {
    const { status: code, json } = await lab.api('POST', `/commit?${query}`, body)
    return [code, json?.message]
  }
  assert.deepEqual(await status('container=nobody'), [404, 'No such container: nobody'])
  await lab.api('POST', '/causeway/v1/images/bootstrap')
  await lab.api('POST', '/containers/create?name=plain', { Image: 'busybox' })
  assert.equal((await status('container=plain&repo=Not/Valid'))[0], 400)
  assert.equal((await status('container=plain&changes=RUN%20ls'))[0], 400)
  assert.equal((await status('container=plain', { Cmd: 7 }))[0], 400)
  assert.equal((await status('container=plain', { Cmd: ['ls'], Unknown: { field: 1 } }))[0], 201)
})

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

test('a container on a user-defined network is reached by name, by address and by its published port', async () => {
  assert.equal((await lab.api('POST', '/networks/create', { Name: 'front' })).status, 201)
  const published = { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } }
  await lab.run('web', { networks: ['front'], cmd: ['httpd', '-f', '-h', '/etc'], host: published })
  await lab.run('client', { networks: ['front'] })
  assert.match((await lab.exec('client', 'timeout', '5', 'wget', '-qO-', 'http://web/hostname')).out, /^[0-9a-f]{12}\n$/)
  assert.match((await lab.sh('curl -s -m 3 http://127.0.0.1:8080/hostname')).out, /^[0-9a-f]{12}\n$/)
})

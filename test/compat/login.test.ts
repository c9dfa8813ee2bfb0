import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { withEngine } from './clients.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

/** The door of a registry: lets one user in. */
const door = createServer((req, res) => {
  const granted = req.headers.authorization === `Basic ${Buffer.from('me:secret').toString('base64')}`
  res.writeHead(granted ? 200 : 401, { 'Docker-Distribution-Api-Version': 'registry/2.0', 'WWW-Authenticate': 'Basic realm="door"' })
  res.end(granted ? '{}' : '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}')
})
await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve))
after(() => door.close())
const host = `127.0.0.1:${(door.address() as AddressInfo).port}`
const login = (password: string, server = host) =>
  withEngine(lab, 'docker', ['login', '-u', 'me', '--password-stdin', server], { input: password })

test('docker login succeeds with what the registry takes, and the client keeps it', async () => {
  const { code, out, err } = await login('secret')
  assert.equal(code, 0, err)
  assert.match(out, /Login Succeeded/)
  assert.ok(host in (JSON.parse(readFileSync(`${lab.dir}/docker/config.json`, 'utf8')) as { auths: object }).auths)
})

test('docker login with a wrong password says so, and the engine keeps nothing of it', async () => {
  const { code, err } = await login('wrong')
  assert.notEqual(code, 0)
  assert.match(err, /unauthorized: incorrect username or password/)
  assert.equal((await lab.api('POST', '/auth', { username: '', password: '', serveraddress: host })).status, 401)
  assert.deepEqual(existsSync(`${lab.dir}/data/tmp`) ? readdirSync(`${lab.dir}/data/tmp`) : [], [])
})

test('a registry that is not there or not one is an error that names it', async () => {
  const away = await lab.api('POST', '/auth', { username: 'me', password: 'x', serveraddress: '127.0.0.1:9' })
  assert.equal(away.status, 500)
  assert.match(away.json.message, /127\.0\.0\.1:9.*connection refused/)
  for (const serveraddress of ['--help', 'a b', 'host:port', '-v', '$(x)']) {
    const { status, json } = await lab.api('POST', '/auth', { username: 'me', password: 'x', serveraddress })
    assert.deepEqual([serveraddress, status], [serveraddress, 400], json?.message)
  }
})

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type EngineLab, type Ran, startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { withEngine } from './clients.ts'

isolate()
const keys = mkdtempSync(join(tmpdir(), 'causeway-test-keys-'))
after(() => rmSync(keys, { recursive: true, force: true }))

function openssl(...args: string[]): void {
  const { status, stderr } = spawnSync('openssl', args, { cwd: keys, encoding: 'utf8' })
  assert.equal(status, 0, stderr)
}

/** A key and a certificate for it in a folder with the names that Docker's clients expect. */
function certify(folder: string, ca: string, subject: string, extensions: string): void {
  mkdirSync(join(keys, folder), { recursive: true })
  writeFileSync(join(keys, `${folder}.ext`), extensions)
  const at = (name: string) => join(keys, folder, name)
  openssl('req', '-new', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${subject}`, '-keyout', at('key.pem'), '-out', at('request.pem'))
  const signing = ['-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-CAcreateserial', '-days', '2', '-extfile', `${folder}.ext`]
  openssl('x509', '-req', '-in', at('request.pem'), ...signing, '-out', at('cert.pem'))
  spawnSync('cp', [join(keys, 'ours.pem'), at('ca.pem')])
}

for (const ca of ['ours', 'theirs'])
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${ca}`, '-keyout', `${ca}.key`, '-out', `${ca}.pem`)
certify('server', 'ours', 'server', 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n')
certify('client', 'ours', 'client', 'extendedKeyUsage=clientAuth\n')
certify('stranger', 'theirs', 'client', 'extendedKeyUsage=clientAuth\n')

const docker = (lab: EngineLab, env: NodeJS.ProcessEnv, ...args: string[]): Promise<Ran> => withEngine(lab, 'docker', args, { env })
const server = (name: string) => join(keys, 'server', name)

test('tcp with TLS: who has a certificate of our authority gets in, nobody else, and streams work', async () => {
  const tls = ['--tlsverify', '--tlscacert', server('ca.pem'), '--tlscert', server('cert.pem'), '--tlskey', server('key.pem')]
  const lab = await startEngineLab(['-H', 'tcp://127.0.0.1:2376', ...tls])
  const from = (folder: string): NodeJS.ProcessEnv => ({
    DOCKER_HOST: 'tcp://127.0.0.1:2376',
    DOCKER_TLS_VERIFY: '1',
    DOCKER_CERT_PATH: join(keys, folder),
  })
  const run = await withEngine(lab, 'docker', ['run', '--rm', '-i', 'busybox', 'tr', 'a-z', 'A-Z'], { env: from('client'), input: 'loud' })
  assert.deepEqual([run.code, run.out], [0, 'LOUD'], run.err)
  const stranger = await docker(lab, from('stranger'), 'version')
  assert.notEqual(stranger.code, 0)
  assert.match(stranger.err, /certificate/)
  const bare = await lab.sh('curl -sk -m 3 https://127.0.0.1:2376/_ping')
  assert.deepEqual([bare.code === 0, bare.out], [false, ''], 'no certificate, no answer')
  const plain = await lab.sh('curl -s -m 3 http://127.0.0.1:2376/_ping')
  assert.equal(plain.out, '')

  const files = ['ca.pem', 'cert.pem', 'key.pem'].map((name, i) => `${['ca', 'cert', 'key'][i]}=${join(keys, 'client', name)}`)
  const endpoint = ['host=tcp://127.0.0.1:2376', ...files].join(',')
  assert.equal((await lab.docker('context', 'create', 'far', '--docker', endpoint)).code, 0)
  const through = await docker(lab, { DOCKER_HOST: undefined }, '--context', 'far', 'info', '--format', '{{.Driver}} {{.ServerErrors}}')
  assert.deepEqual([through.code, through.out], [0, 'overlay2 []\n'], through.err)
  assert.deepEqual(await lab.close(), [])
})

test('plain tcp is served with a warning; DOCKER_HOST and a context on the socket reach the same engine', async () => {
  const lab = await startEngineLab(['-H', 'tcp://127.0.0.1:2375'])
  assert.match(lab.log(), /without TLS: whoever reaches this port has root rights/)
  const id = (await lab.api('GET', '/info')).json.ID as string
  const show = ['info', '--format', '{{.ID}}']
  assert.equal((await docker(lab, { DOCKER_HOST: 'tcp://127.0.0.1:2375' }, ...show)).out, `${id}\n`)
  assert.equal((await docker(lab, {}, ...show)).out, `${id}\n`)

  const noHost = { DOCKER_HOST: undefined }
  const created = await docker(lab, noHost, 'context', 'create', 'causeway', '--docker', `host=unix://${lab.socket}`)
  assert.equal(created.code, 0, created.err)
  await docker(lab, noHost, 'context', 'use', 'causeway')
  const used = await docker(lab, noHost, ...show)
  assert.equal(used.out, `${id}\n`, used.err)
  const listed = await docker(lab, noHost, 'context', 'ls', '--format', '{{.Name}} {{.Current}} {{.Error}}')
  assert.match(listed.out, /^causeway true $/m)
  assert.deepEqual(await lab.close(), [])
})

/** A Docker Engine of this year beside `causeway plugin serve`: what docker-engine.test.ts looks at closely with 20.10, once through. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { type Dockerd, findNewDockerd, startDockerd } from './dockerd.ts'

isolate()
const { root, skip } = findNewDockerd()

describe('a newer Docker Engine', { skip }, () => {
  let lab: EngineLab
  let d: Dockerd
  before(async () => {
    spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', '/run'])
    mkdirSync('/run/docker/plugins', { recursive: true })
    lab = await startEngineLab([], { verb: ['plugin', 'serve'] })
    d = await startDockerd(root)
  })
  after(async () => {
    await d?.close()
    const left = await lab.close()
    // docker0 is dockerd's own
    assert.deepEqual(
      left.filter((line) => !line.includes('docker0')),
      [],
    )
  })
  const must = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await d.docker(...args)
    assert.equal(code, 0, `docker ${args.join(' ')}: ${err}\n${lab.log().slice(-2000)}`)
    return out.trim()
  }

  test('network create, run, names, a published port, addresses by hand, restart, rm', async () => {
    assert.doesNotMatch(await must('version', '-f', '{{.Server.Version}}'), /^20\./)
    await must(
      'network',
      'create',
      '-d',
      'causeway',
      '--ipam-driver',
      'causeway',
      '--subnet',
      '10.96.0.0/24',
      '--ipv6',
      '--subnet',
      'fd96::/64',
      'net1',
    )
    const serve = 'mkdir /w; echo hello >/w/index.html; httpd -f -p 80 -h /w'
    await must('run', '-d', '--name', 'web', '--network', 'net1', '--ip', '10.96.0.77', '-p', '8096:80', 'busybox', 'sh', '-c', serve)
    await must('run', '-d', '--name', 'other', '--network', 'net1', 'busybox', 'sleep', '3600')
    for (const name of ['web', '10.96.0.77'])
      await until(`${name} answers`, async () => (await d.docker('exec', 'other', 'ping', '-c1', '-W2', name)).code === 0)
    const six = await must('inspect', '-f', '{{(index .NetworkSettings.Networks "net1").GlobalIPv6Address}}', 'web')
    assert.match(six, /^fd96::/)
    await until('web over IPv6', async () => (await d.docker('exec', 'other', 'ping', '-c1', '-W2', six)).code === 0)
    const page = async () => spawnSync('curl', ['-s', '-m', '5', 'http://127.0.0.1:8096/'], { encoding: 'utf8' }).stdout
    await until('the published port', async () => (await page()) === 'hello\n')
    await must('restart', '-t', '0', 'web')
    await until('the published port again', async () => (await page()) === 'hello\n')
    await must('network', 'create', '-d', 'causeway', 'net2')
    await must('network', 'connect', 'net2', 'other')
    assert.match(await must('exec', 'other', 'ip', '-o', '-4', 'addr'), /eth1/)
    await must('network', 'disconnect', 'net2', 'other')
    await must('rm', '-f', 'web', 'other')
    await must('network', 'rm', 'net1', 'net2')
    await until('its bridges have gone', () => !/ cw[0-9a-f]{12}/.test(spawnSync('ip', ['-o', 'link']).stdout.toString()))
  })
})

import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

async function exec(...Cmd: string[]): Promise<string> {
  const { json } = await lab.api('POST', '/containers/box/exec', { Cmd, AttachStdin: false })
  assert.equal((await lab.api('POST', `/exec/${json.Id}/start`, { Detach: true })).status, 200)
  return json.Id
}

async function ended(id: string): Promise<number> {
  for (const end = Date.now() + 8000; Date.now() < end; ) {
    const { json } = await lab.api('GET', `/exec/${id}/json`)
    if (json.Running === false) return json.ExitCode
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return assert.fail('the exec has not ended within 8 s')
}

test('execs of a killed engine are known to the next one: those that run, and how those ended that ran meanwhile', async () => {
  await lab.run('box')
  const long = await exec('sh', '-c', 'while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 5')
  const short = await exec('sh', '-c', 'while [ ! -e /tmp/now ]; do sleep 0.05; done; exit 3')
  const { Pid } = (await lab.api('GET', `/exec/${long}/json`)).json
  assert.ok(Pid > 0)
  await lab.kill9()
  await lab.sh(`touch /proc/${Pid}/root/tmp/now; sleep 0.5`)
  await lab.start()

  const { json } = await lab.api('GET', `/exec/${long}/json`)
  assert.deepEqual([json.Running, json.Pid, json.ProcessConfig.entrypoint], [true, Pid, 'sh'])
  assert.deepEqual((await lab.api('GET', '/containers/box/json')).json.ExecIDs, [long])
  assert.equal(await ended(short), 3)
  assert.equal((await lab.exec('box', 'touch', '/tmp/go')).code, 0)
  assert.equal(await ended(long), 5)
  assert.deepEqual(existsSync(`${lab.dir}/run/execs`) ? readdirSync(`${lab.dir}/run/execs`) : [], [])
  assert.equal((await lab.api('GET', '/containers/box/json')).json.ExecIDs, null)
})

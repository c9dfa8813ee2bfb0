import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

const file = `${lab.dir}/profile.json`
writeFileSync(
  file,
  JSON.stringify({
    defaultAction: 'SCMP_ACT_ALLOW',
    archMap: [
      { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
      { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
    ],
    syscalls: [
      { names: ['chmod', 'fchmod', 'fchmodat', 'fchmodat2'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 },
      { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', includes: { caps: ['CAP_SYS_ADMIN'] } },
    ],
  }),
)
const run = (option: string, ...cmd: string[]) => lab.docker('run', '--rm', '--security-opt', option, 'busybox', ...cmd)

test('docker run --security-opt seccomp=<file>: the calls of the profile are refused with its error, others are not', async () => {
  const refused = await run(`seccomp=${file}`, 'chmod', '700', '/tmp')
  assert.notEqual(refused.code, 0)
  assert.match(refused.err, /not supported/) // errno 95
  assert.equal((await run(`seccomp=${file}`, 'mkdir', '/tmp/a')).code, 0, 'the rule is for containers with CAP_SYS_ADMIN')
  assert.equal((await run('seccomp=unconfined', 'chmod', '700', '/tmp')).code, 0)
  assert.match((await run('seccomp=unconfined', 'grep', 'Seccomp:', '/proc/1/status')).out, /\t0\n/)
  assert.match((await run('seccomp=builtin', 'grep', 'Seccomp:', '/proc/1/status')).out, /\t2\n/)
})

test('what cannot be read as security options is refused before anything is made', async () => {
  const refused = async (option: string) => {
    const { status, json } = await lab.api('POST', '/containers/create', { Image: 'busybox', HostConfig: { SecurityOpt: [option] } })
    assert.equal(status, 400)
    return json.message
  }
  assert.match(await refused('seccomp={"defaultAction":'), /^Decoding seccomp profile failed/)
  assert.equal(await refused('colour=blue'), 'invalid --security-opt 2: "colour=blue"')
  assert.deepEqual((await lab.api('GET', '/containers/json?all=1')).json, [])
})

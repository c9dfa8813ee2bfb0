import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NetError } from '../base/errors.ts'
import { checkSecurityOptions, compileProfile, parseProfile, seccompOption } from './seccomp-profile.ts'

const machine = { arch: 'amd64', kernel: '6.1.0-18-amd64' }
const names = (rules: object[], capabilities: string[] = []) =>
  compileProfile(
    parseProfile(JSON.stringify({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: rules })),
    capabilities,
    machine,
  ).syscalls.flatMap((rule) => rule.names)

test('rules hold for the architectures, capabilities and kernels that they name', () => {
  const action = 'SCMP_ACT_ALLOW'
  const rule = (name: string, includes: object, excludes: object = {}) => ({ names: [name], action, includes, excludes })
  assert.deepEqual(names([rule('a', { arches: ['amd64', 'x32'] }), rule('b', { arches: ['s390x'] })]), ['a'])
  assert.deepEqual(names([rule('a', {}, { arches: ['amd64'] }), rule('b', {}, { arches: ['arm'] })]), ['b'])
  const capable = [rule('a', { caps: ['CAP_SYS_ADMIN'] }), rule('b', {}, { caps: ['CAP_SYS_ADMIN'] })]
  assert.deepEqual([names(capable), names(capable, ['CAP_SYS_ADMIN'])], [['b'], ['a']])
  assert.deepEqual(names([rule('a', { minKernel: '4.8' }), rule('b', { minKernel: '6.2' }), rule('c', {}, { minKernel: '6.1' })]), ['a'])
})

test('the architecture map gives this machine’s architectures, old single names and arguments stay', () => {
  const profile = {
    defaultAction: 'SCMP_ACT_ALLOW',
    defaultErrnoRet: 38,
    archMap: [
      { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
      { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
    ],
    syscalls: [
      { name: 'chmod', action: 'SCMP_ACT_ERRNO', errnoRet: 1, comment: 'no', args: null },
      { names: ['personality'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, value: 8, op: 'SCMP_CMP_EQ' }] },
    ],
  }
  assert.deepEqual(compileProfile(parseProfile(JSON.stringify(profile)), [], machine), {
    defaultAction: 'SCMP_ACT_ALLOW',
    defaultErrnoRet: 38,
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls: [
      { names: ['chmod'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 },
      { names: ['personality'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, value: 8, op: 'SCMP_CMP_EQ' }] },
    ],
  })
})

test('options: the last one counts, builtin is the default profile, what is unknown or broken is refused', () => {
  assert.equal(seccompOption(['seccomp=unconfined', 'seccomp={}']), '{}')
  assert.equal(seccompOption(['seccomp:unconfined']), 'unconfined')
  assert.equal(seccompOption(['label=disable', 'seccomp=builtin']), undefined)
  checkSecurityOptions(['no-new-privileges', 'label=disable', 'apparmor=unconfined', 'seccomp=unconfined', 'no-new-privileges:true'])
  const refused: readonly (readonly [string, RegExp])[] = [
    ['nonsense', /invalid --security-opt 1: "nonsense"/],
    ['nonsense=1', /invalid --security-opt 2: "nonsense=1"/],
    ['seccomp={', /Decoding seccomp profile failed/],
    ['seccomp=[]', /expected an object/],
    ['seccomp={"defaultAction":"a","syscalls":{}}', /syscalls: expected a list/],
    ['seccomp={"defaultAction":"a","syscalls":[{"name":"a","names":["b"],"action":"x"}]}', /use either 'name' or 'names'/],
    ['seccomp={"defaultAction":"a","architectures":["x"],"archMap":[{"architecture":"x"}]}', /use either 'architectures' or 'archMap'/],
    ['seccomp={"defaultAction":"a","syscalls":[{"names":["a"],"action":"x","includes":{"minKernel":"new"}}]}', /invalid minKernel/],
  ]
  for (const [option, message] of refused)
    assert.throws(
      () => checkSecurityOptions([option]),
      (error) => error instanceof NetError && error.code === 'invalid' && message.test(error.message),
      option,
    )
})

/**
 * VLANs, ipvlan and networks without a parent: what the kernel at hand may not have. One pair of engines serves all of it, because
 * starting them is what takes time in the virtual machine that runs this file too (`test/vm/lan.test.ts`).
 */
import { after } from 'node:test'
import { isolate } from '../../testkit/isolated.ts'
import { ipvlanCases } from './ipvlan-cases.ts'
import { kernelHas, startLan } from './lan-lab.ts'
import { otherKernelCases } from './other-kernel-cases.ts'
import { vlanCases } from './vlan-cases.ts'

isolate()
const has = (['vlan', 'ipvlan', 'dummy'] as const).some(kernelHas) || process.env['CAUSEWAY_IN_VM'] === '1'
const lan = has ? await startLan(2) : undefined
after(() => lan?.close())

vlanCases(lan)
ipvlanCases(lan)
otherKernelCases(lan)

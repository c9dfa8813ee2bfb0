/** VLANs, ipvlan and networks without a parent, in a stock Debian kernel: the kernel at hand may have none of them. */
import { testsInVm } from '../../testkit/vm-tests.ts'

await testsInVm({
  modules: ['8021q', 'macvlan', 'ipvlan', 'dummy'],
  testFiles: ['test/lan/other-kernel.test.ts'],
  timeoutSeconds: 390,
})

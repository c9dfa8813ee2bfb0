/** Encrypted overlay networks in a stock Debian kernel: the kernel at hand may have no ESP. */
import { testsInVm } from '../../testkit/vm-tests.ts'

await testsInVm({
  modules: ['vxlan', 'udp_tunnel', 'esp4', 'esp6', 'xfrm_user', 'gcm', 'aes_generic', 'seqiv', 'ctr', 'ghash-generic'],
  testFiles: ['test/overlay/encryption.test.ts', 'test/overlay/encryption-engines.test.ts'],
  timeoutSeconds: 480,
})

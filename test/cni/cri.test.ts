/** Pods as a kubelet makes them: the CRI plugin of containerd, Debian 12's and Debian sid's, with Causeway as its CNI plugin. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../testkit/until.ts'
import { findNewDockerd } from '../plugins/dockerd.ts'
import { startKubelet } from './cri-lab.ts'
import { type CniLab, startCniLab } from './lab.ts'
import { findPeers } from './peers.ts'

const debian12 = findPeers()
const sid = findNewDockerd()

const CONFLIST = {
  cniVersion: '1.0.0',
  name: 'k8s',
  plugins: [
    {
      type: 'causeway',
      bridge: 'cni-k8s',
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.67.0.0/24' }], [{ subnet: 'fd67::/64' }]] },
      capabilities: { portMappings: true, bandwidth: true },
    },
  ],
}

describe('pods by CRI', { skip: debian12.skip }, () => {
  let lab: CniLab
  before(async () => {
    lab = await startCniLab()
  })
  after(async () => {
    await until('the network goes with its last pod', async () => (await lab.sh('ip link show cni-k8s')).code === 1, 15_000)
    assert.deepEqual(await lab.close(), [])
  })

  for (const [name, bin, version, skip] of [
    ['debian12', `${debian12.folder}/usr/bin`, /^1\.6\./, debian12.skip],
    ['sid', `${sid.root}/usr/bin`, /^2\./, sid.skip],
  ] as const)
    test(`containerd of ${name}: two pods reach each other, a host port leads to its pod, removal leaves nothing`, { skip }, async () => {
      const kubelet = await startKubelet(lab, bin, `${lab.dir}/${name}`, CONFLIST, `${debian12.folder}/usr/lib/cni/loopback`)
      try {
        assert.match(kubelet.version, version)
        const web = await kubelet.startPod('web', ['/bin/httpd', '-f', '-p', '80', '-h', '/www'], { inside: 80, outside: 8067 })
        const other = await kubelet.startPod('other', ['/bin/sleep', '600'])
        assert.match(web.ips.join(' '), /^10\.67\.0\.\d+ fd67::[0-9a-f]+$/)
        for (const ip of web.ips) assert.match(await other.exec('/bin/ping', '-c1', '-W3', ip), /1 packets received/)
        assert.equal((await lab.sh('curl -s -m 5 127.0.0.1:8067')).out, 'hello from inside\n')
        // names are the cluster's own affair: the pod has the resolver that the kubelet said
        assert.match(await other.exec('/bin/cat', '/etc/resolv.conf'), /nameserver 10\.67\.0\.53\noptions ndots:5/)
        assert.match(await other.exec('/bin/ip', 'route'), /default via 10\.67\.0\.1 dev eth0/)
        // the engine comes back in the middle of it all
        await lab.kill9()
        await lab.start()
        assert.match(await other.exec('/bin/ping', '-c1', '-W3', web.ips[0] ?? ''), /1 packets received/)
        for (const { id } of [web, other]) await kubelet.removePod(id)
        await until('the attachments are gone', async () => !(await lab.sh('ip -o link')).out.includes('causeway:endpoint'))
        assert.equal((await lab.sh('nft list table inet causeway')).out.includes('8067'), false)
        assert.equal((await lab.sh('ls /run/netns')).out, '')
      } finally {
        await kubelet.close()
      }
    })
})

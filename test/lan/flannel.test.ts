/**
 * Networks of driver flannel end to end: two hosts with engines and one with a plain bridge, on a Flannel network of type vxlan. What
 * flanneld does on each host is done with `ip` as it does it (flannel's pkg/backend/vxlan): device, routes, neighbours, subnet file.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { etcdMissing, startEtcd } from '../../testkit/etcd.ts'
import { isolate } from '../../testkit/isolated.ts'
import { buildLabNet, type LabHost } from '../../testkit/lab-net.ts'
import { until } from '../e2e/site.ts'
import { LanHost } from './lan-lab.ts'

isolate()

let net: ReturnType<typeof buildLabNet>
let one: LanHost
let two: LanHost

/** Third part of a host's subnet 10.1.N.0/24. */
const NUMBER = [11, 22, 33]
const vtepMac = (n: number) => `0e:00:00:00:00:${n}`
const FLANNEL = ['-d', 'flannel']

async function must(host: LabHost, script: string): Promise<void> {
  const { code, err } = await host.sh(`set -e; ${script}`)
  assert.equal(code, 0, err)
}

function subnetEnv(n: number, masq: boolean): string {
  const lines = ['FLANNEL_NETWORK=10.1.0.0/16', `FLANNEL_SUBNET=10.1.${n}.1/24`, 'FLANNEL_MTU=1450', `FLANNEL_IPMASQ=${masq}`]
  return `mkdir -p /run/flannel; printf '%s\\n' ${lines.join(' ')} >/run/flannel/subnet.env`
}

/** What flanneld does on a host when it knows the others. */
async function joinFlannel(host: LabHost, i: number): Promise<void> {
  const n = NUMBER[i] as number
  const steps = [
    `ip link add flannel.1 address ${vtepMac(n)} mtu 1450 type vxlan id 1 dev eth0 local ${host.ip} dstport 8472 nolearning`,
    `ip addr add 10.1.${n}.0/32 dev flannel.1; ip link set flannel.1 up; sysctl -qw net.ipv4.ip_forward=1`,
  ]
  for (const [j, other] of net.hosts.entries()) {
    const m = NUMBER[j] as number
    if (j !== i)
      steps.push(
        `ip neigh replace 10.1.${m}.0 lladdr ${vtepMac(m)} dev flannel.1 nud permanent`,
        `bridge fdb replace ${vtepMac(m)} dev flannel.1 dst ${other.ip}`,
        `ip route replace 10.1.${m}.0/24 via 10.1.${m}.0 dev flannel.1 onlink`,
      )
  }
  await must(host, steps.join('; '))
}

before(async () => {
  net = buildLabNet({ hosts: 3, flat: true })
  const [a, b, c] = net.hosts as [LabHost, LabHost, LabHost]
  await Promise.all(net.hosts.map(joinFlannel))
  await must(
    c,
    `ip link add cni0 type bridge; ip addr add 10.1.33.1/24 dev cni0; ip link set cni0 up
     ip netns add pod; ip link add vpod type veth peer name eth0 netns pod; ip link set vpod master cni0 up
     ip -n pod addr add 10.1.33.5/24 dev eth0; ip -n pod link set eth0 up; ip -n pod route add 10.1.0.0/16 via 10.1.33.1`,
  )
  ;[one, two] = (await Promise.all([a, b].map(async (host) => new LanHost(host, await startEngineLab([], { enter: host.enter }))))) as [
    LanHost,
    LanHost,
  ]
})

after(async () => {
  const left = [await one.lab.close(), await two.lab.close()]
  net.close()
  assert.deepEqual(left, [[], []])
})

test('without a lease a network is refused with what to start', async () => {
  assert.match(await one.refused(...FLANNEL, 'flat'), /^503 there is no lease of Flannel's in \/run\/flannel\/subnet\.env .*start flanneld/)
  await must(one.host, `mkdir -p /run/flannel; echo FLANNEL_MTU=1450 >/run/flannel/subnet.env`)
  assert.match(await one.refused(...FLANNEL, 'flat'), /^503 .*has no FLANNEL_SUBNET/)
  await must(one.host, subnetEnv(11, false))
  await must(two.host, subnetEnv(22, true))
  assert.match(await one.refused(...FLANNEL, '--subnet', '10.9.0.0/24', 'flat'), /^400 .*takes no --subnet/)
  assert.match(await one.refused(...FLANNEL, '-o', 'parent=eth0', 'flat'), /^400 option parent is not for flannel networks/)
})

test('containers of both hosts and a pod of a plain Flannel host meet by their own addresses; the lease is the subnet', async () => {
  await one.network(...FLANNEL, 'flat')
  await two.network(...FLANNEL, 'flat')
  await one.lab.run('a1', { networks: ['flat'], cmd: ['sh', '-c', 'mkdir /w; echo from-a1 >/w/index.html; httpd -f -p 8000 -h /w'] })
  await two.lab.run('b1', { networks: ['flat'] })
  const a1 = await one.endpoint('a1', 'flat')
  const b1 = await two.endpoint('b1', 'flat')
  assert.deepEqual([a1.IPAddress, a1.Gateway, b1.IPAddress], ['10.1.11.2', '10.1.11.1', '10.1.22.2'])
  assert.match(await one.inside('a1', 'ip link show eth0'), /mtu 1450/)
  assert.ok(await one.reaches('a1', b1.IPAddress), 'another host')
  // the pod has a route to Flannel's network alone: what is masqueraded gets no answer
  assert.ok(await one.reaches('a1', '10.1.33.5'), 'a pod')
  assert.ok(await two.reaches('b1', '10.1.33.5'), 'a pod')
  const [, , c] = net.hosts as [LabHost, LabHost, LabHost]
  // a port that nobody published: open to all of the Flannel network
  for (const there of [
    two.lab.exec('b1', 'timeout', '3', 'wget', '-q', '-O', '-', 'http://10.1.11.2:8000/'),
    c.sh('ip netns exec pod curl -s -m 3 http://10.1.11.2:8000/'),
  ])
    assert.equal((await there).out, 'from-a1\n')
})

test('the LAN is kept out of what is not published, and gets what is; other networks of the host stay apart', async () => {
  await one.lab.run('web', {
    networks: ['flat'],
    cmd: ['sh', '-c', 'mkdir /w; echo published >/w/index.html; httpd -f -p 80 -h /w'],
    host: { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } },
  })
  const { IPAddress } = await one.endpoint('web', 'flat')
  await must(net.router, `ip route replace 10.1.11.0/24 via ${one.host.ip}`)
  assert.ok(await until(async () => (await net.router.sh(`curl -s -m 2 http://${one.host.ip}:8080/`)).out === 'published\n', 5000))
  assert.notEqual((await net.router.sh('curl -s -m 1 http://10.1.11.2:8000/')).code, 0)
  await must(net.router, 'ip route del 10.1.11.0/24')
  await one.network('-d', 'bridge', '--subnet', '10.77.0.0/24', 'other')
  await one.lab.run('o1', { networks: ['other'] })
  assert.equal(await one.reaches('o1', IPAddress, 1), false)
  await one.remove(['web', 'o1'], ['other'])
})

test('what leaves Flannel is masqueraded by us, unless flanneld says that it does that', async () => {
  assert.ok(await one.reaches('a1', '10.10.126.1'), 'FLANNEL_IPMASQ=false: ours')
  assert.equal(await two.reaches('b1', '10.10.126.1', 1), false, 'FLANNEL_IPMASQ=true and flanneld has no rule')
  await must(two.host, 'iptables -t nat -A POSTROUTING -s 10.1.0.0/16 ! -d 10.1.0.0/16 -j MASQUERADE')
  assert.ok(await two.reaches('b1', '10.10.126.1'), 'FLANNEL_IPMASQ=true: flanneld’s')
})

test('another lease after a restart of flanneld: nobody joins the old subnet, and it is said what to do; what runs goes on', async () => {
  await must(one.host, subnetEnv(44, false))
  const why = await one.lab.run('late', { networks: ['flat'] }).then(
    () => '',
    (error: Error) => error.message,
  )
  assert.match(
    why,
    /start late: 409 .*was made for Flannel's lease 10\.1\.11\.0\/24 .* is now 10\.1\.44\.0\/24 .*remove the network and create it again/,
  )
  assert.ok(await one.reaches('a1', '10.1.22.2'))
  await one.lab.kill9()
  await one.lab.start()
  assert.ok(await until(async () => /"msg":"network flat was made for Flannel's lease 10\.1\.11\.0\/24/.test(one.lab.log()), 5000))
  assert.ok(await one.reaches('a1', '10.1.22.2'))
  await must(one.host, subnetEnv(11, false))
  assert.equal((await one.lab.api('POST', '/containers/late/start')).status, 204)
  assert.ok(await two.reaches('b1', (await one.endpoint('late', 'flat')).IPAddress))
  await one.remove(['a1', 'late'], ['flat'])
  await two.remove(['b1'], ['flat'])
})

test('the lease can be read from flanneld’s etcd instead', { skip: etcdMissing() }, async () => {
  const etcd = await startEtcd({ places: [{ ip: one.host.ip, netns: one.host.netns }] })
  try {
    const url = etcd.storeUrl('/coreos.com/network')
    const put = (key: string, value: object) =>
      one.host.sh(
        `ETCDCTL_API=3 etcdctl --endpoints ${etcd.members[0]?.endpoint} put /coreos.com/network/${key} '${JSON.stringify(value)}'`,
      )
    assert.match(await one.refused(...FLANNEL, '-o', `flannel.etcd=${url}`, 'stored'), /^503 there is no etcd:.*\/config/)
    await put('config', { Network: '10.1.0.0/16', Backend: { Type: 'vxlan' } })
    await put('subnets/10.1.22.0-24', { PublicIP: two.host.ip, BackendType: 'vxlan' })
    assert.match(await one.refused(...FLANNEL, '-o', `flannel.etcd=${url}`, 'stored'), /has no lease of this host: start flanneld here/)
    await put('subnets/10.1.11.0-24', { PublicIP: one.host.ip, BackendType: 'vxlan' })
    await one.network(...FLANNEL, '-o', `flannel.etcd=${url}`, 'stored')
    await one.lab.run('e1', { networks: ['stored'] })
    assert.equal((await one.endpoint('e1', 'stored')).IPAddress, '10.1.11.2')
    assert.ok(await one.reaches('e1', '10.1.33.5'))
    await one.remove(['e1'], ['stored'])
  } finally {
    await etcd.close()
  }
})

/** The tables as an object in the kernel: atomic, repeatable, flat in cost, and alone with what is theirs. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, before, test } from 'node:test'
import { parseIp } from '../../src/base/address.ts'
import { hasCode } from '../../src/base/errors.ts'
import { diffElements, type NftElement } from '../../src/model/nft-element.ts'
import { portElements } from '../../src/plan/firewall/elements.ts'
import { renderTables } from '../../src/plan/firewall/tables.ts'
import { isolate } from '../../testkit/isolated.ts'
import { FirewallLab, HOST4, type LabContainer, sh } from './firewall-lab.ts'

isolate()

const SAMPLED = [10000, 10001, 12345, 20000, 29999, 30000, 31313, 40404, 45000, 49998, 49999]

let lab: FirewallLab
let c: LabContainer

before(async () => {
  lab = await FirewallLab.build()
  lab.network('net0')
  c = await lab.container('c0', 'net0', ['80', ...SAMPLED].join(','))
  lab.publish({ to: c, hostPort: 8080 })
})

after(() => lab.close())

const port = (hostPort: number, count = 1, containerPort = 80): NftElement[] =>
  portElements({
    proto: 'tcp',
    hostIp: parseIp('0.0.0.0'),
    hostPort,
    count,
    containerIp: parseIp(c.ip4),
    containerPort,
    bridge: 'net0',
    routed: false,
  })

function milliseconds(run: () => void): number {
  const from = performance.now()
  run()
  return performance.now() - from
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number

test('nft: what is read back equals what was put in, and nft lists it', () => {
  assert.deepEqual(diffElements(lab.nft.elements(), lab.ledger.elements()), { add: [], remove: [] })
  assert.match(sh('nft list map inet causeway dnat4_any'), /tcp \. 8080 comment "to 10\.1\.0\.2" : 10\.1\.0\.2 \. 80/)
  assert.match(sh('nft list map inet causeway to4'), /"net0" comment "network net000000000" : goto to_nat/)
})

test('nft: adding twice, moving and removing what is missing all succeed', () => {
  lab.nft.change({ add: port(7000), remove: [] })
  lab.nft.change({ add: port(7000), remove: [] })
  lab.nft.change({ add: port(7000, 1, 81), remove: [] })
  assert.match(sh('nft list map inet causeway dnat4_any'), /tcp \. 7000 comment "[^"]*" : 10\.1\.0\.2 \. 81/)
  const [dnat] = port(7000, 1, 81)
  lab.nft.change({ add: [], remove: [dnat as NftElement] })
  lab.nft.change({ add: [], remove: [dnat as NftElement] })
  assert.doesNotMatch(sh('nft list map inet causeway dnat4_any'), /7000/)
})

test('nft: a change that the kernel refuses in part changes nothing', () => {
  assert.throws(
    () => lab.nft.change({ add: [...port(7001), { set: 'no_such_set', key: Uint8Array.of(1, 2, 3, 4) }], remove: port(8080) }),
    (error) => hasCode(error, 'not-found') && /no_such_set/.test(String(error)),
  )
  const map = sh('nft list map inet causeway dnat4_any')
  assert.match(map, /8080/)
  assert.doesNotMatch(map, /7001/)
})

test('nft: a mistake in rule text is reported in the words of libnftables', () => {
  assert.throws(() => lab.nft.run('add rule inet nowhere x accept'), /No such file or directory/)
  assert.throws(() => lab.nft.run('add rule inet causeway forward nonsense'), /syntax error/)
})

test('nft: 40,000 udp ports are published in under 100 ms and lead to the same numbers in the container', async () => {
  const elements = portElements({
    proto: 'udp',
    hostIp: parseIp('0.0.0.0'),
    hostPort: 10000,
    count: 40000,
    containerIp: parseIp(c.ip4),
    containerPort: 10000,
    bridge: 'net0',
    routed: false,
  })
  const took = milliseconds(() => lab.nft.change({ add: lab.ledger.take(elements), remove: [] }))
  assert.ok(took < 2000, `took ${took} ms`)
  for (const n of SAMPLED) assert.equal(await lab.call('client', HOST4, n, 'udp'), '192.0.2.2', `port ${n}`)
  assert.equal(await lab.call('client', HOST4, 9999, 'udp'), '')
  assert.equal(await lab.call('client', HOST4, 50000, 'udp'), '')
})

test('nft: adding one port costs the same with 1, 1,000 and 5,000 ports present', (t) => {
  const medians: number[] = []
  let filled = 0
  for (const present of [1, 1000, 5000]) {
    const fill: NftElement[] = []
    for (; filled < present; filled++) fill.push(...port(1000 + filled))
    lab.nft.change({ add: fill, remove: [] })
    const probes = Array.from({ length: 41 }, (_, i) => port(60000 + i, 1, 1000 + i))
    medians.push(median(probes.map((probe) => milliseconds(() => lab.nft.change({ add: probe, remove: [] })))))
    assert.match(sh('nft list map inet causeway dnat4_any'), /tcp \. 60040 /)
    lab.nft.change({ add: [], remove: probes.flat() })
  }
  t.diagnostic(`median ms for one more port with 1 / 1000 / 5000 present: ${medians.map((m) => m.toFixed(3)).join(' / ')}`)
  assert.ok((medians[2] as number) < 3 * (medians[0] as number) + 0.1, `medians ${medians}`)
  assert.ok((medians[2] as number) < 1, `medians ${medians}`)
})

test('nft: applying the tables again and again cuts no flow and loses no element', async () => {
  const before = lab.nft.elements().length
  const script = `import socket,threading,time
l=socket.socket(); l.bind(('${c.ip4}',9000)); l.listen(1)
s,a=l.accept(); n=0
while True:
    d=s.recv(65536)
    if not d: break
    n+=len(d); s.sendall(b'.')
print(n)`
  const server = spawn('ip', ['netns', 'exec', 'c0', 'python3', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  lab.nft.change({ add: lab.ledger.take(port(9000, 1, 9000)), remove: [] })
  await lab.run('c0', 'for i in $(seq 50); do ss -ltn | grep -q :9000 && break; sleep 0.1; done')
  const call = `import socket,time
s=socket.create_connection(('${HOST4}',9000),5); s.settimeout(2); worst=0; n=0
end=time.time()+2.5
while time.time()<end:
    t=time.time(); s.sendall(b'x'*1000); s.recv(10); n+=1000; worst=max(worst,time.time()-t); time.sleep(0.001)
print(n, int(worst*1000))`
  const client = lab.run('client', `python3 -c "${call.replaceAll('"', '\\"')}"`)
  await new Promise((resolve) => setTimeout(resolve, 600))
  const dropped = lab.counter('drop_unpublished')
  for (let i = 0; i < 40; i++) {
    lab.nft.ensureTables(renderTables())
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const [sent, worst] = (await client).split(' ').map(Number)
  server.kill('SIGKILL')
  assert.ok((sent as number) > 100_000, `only ${sent} bytes went through`)
  assert.ok((worst as number) < 200, `an answer took ${worst} ms, a lost packet would take 200`)
  assert.equal(lab.counter('drop_unpublished'), dropped)
  assert.equal(lab.nft.elements().length, before + 2)
})

test('nft: tables are intact until somebody flushes, deletes or adds rules of ours, and foreign changes do not matter', () => {
  assert.equal(lab.nft.isIntact(), true)
  sh('nft add table inet foreign; nft add chain inet foreign c; nft add rule inet foreign c accept')
  assert.equal(lab.nft.isIntact(), true)
  sh('nft add rule inet causeway to_nat accept')
  assert.match(String(lab.nft.isIntact()), /chain "inet to_nat" has been changed/)
  lab.nft.ensureTables(renderTables())
  assert.equal(lab.nft.isIntact(), true)
  sh('nft flush chain bridge causeway prerouting')
  assert.match(String(lab.nft.isIntact()), /chain "bridge prerouting" has been changed/)
  lab.nft.ensureTables(renderTables())
  sh('nft flush ruleset')
  assert.equal(lab.nft.isIntact(), 'our nftables tables are gone')
  assert.deepEqual(lab.nft.elements(), [])
  lab.nft.ensureTables(renderTables())
  lab.nft.change({ add: lab.ledger.elements(), remove: [] })
  assert.deepEqual(diffElements(lab.nft.elements(), lab.ledger.elements()), { add: [], remove: [] })
})

test('nft: tables of another layout are replaced', () => {
  lab.nft.removeAll()
  sh('nft add table inet causeway; nft add set inet causeway bridges "{ type ipv4_addr; }"')
  lab.nft.ensureTables(renderTables())
  assert.match(sh('nft list set inet causeway bridges'), /type ifname/)
})

test('nft: foreign tables stay as they are through everything, and nothing of ours stays after removeAll', () => {
  sh('nft flush ruleset')
  sh(`nft -f - <<'X'
table inet foreign { chain c { type filter hook forward priority 0; policy accept; ip saddr 1.2.3.4 drop; };
  set s { type ipv4_addr; elements = { 1.1.1.1 }; }; }
table ip nat { chain POSTROUTING { type nat hook postrouting priority 100; policy accept; }; }
X`)
  const foreign = sh('nft list ruleset')
  lab.nft.ensureTables(renderTables())
  lab.nft.change({ add: lab.ledger.elements(), remove: [] })
  assert.notEqual(sh('nft list ruleset'), foreign)
  lab.nft.removeAll()
  lab.nft.removeAll()
  assert.equal(sh('nft list ruleset'), foreign)
})

/** Beside Docker's and ufw's rules: one accept rule where they want it, no policy changed, everything as before afterwards. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { silentLogger } from '../../src/base/ports.ts'
import { ForeignFirewall } from '../../src/kernel/foreign-firewall.ts'
import { isolate } from '../../testkit/isolated.ts'
import { CLIENT4, FirewallLab, HOST4, type LabContainer, sh } from './firewall-lab.ts'

isolate()

let lab: FirewallLab
let c: LabContainer
const foreign = new ForeignFirewall({ log: silentLogger })

before(async () => {
  lab = await FirewallLab.build()
  lab.network('net0')
  await lab.serve('client', '80')
  c = await lab.container('c0', 'net0')
  lab.publish({ to: c, hostPort: 8080 })
})

after(() => lab.close())

beforeEach(() => {
  sh('for t in iptables-nft ip6tables-nft; do $t -P FORWARD ACCEPT; $t -F; $t -X; done')
})

const forwardRules = (): string => sh('iptables-nft -S; ip6tables-nft -S')

test('foreign: without such tools nothing is found and nothing is changed', () => {
  const rules = forwardRules()
  assert.deepEqual(foreign.ensureAccept(), [])
  assert.deepEqual(foreign.describe(), [])
  assert.equal(forwardRules(), rules)
})

test('foreign: beside Docker, whose policy drops, our traffic passes by one rule behind those of the administrator', async () => {
  sh(`iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -P FORWARD DROP
    iptables-nft -A DOCKER-USER -s 203.0.113.9 -j DROP; iptables-nft -A DOCKER-USER -j RETURN`)
  const rules = forwardRules()
  assert.equal(await lab.call('client', HOST4, 8080), '')
  assert.equal(await lab.call('c0', CLIENT4, 80), '')
  assert.match(foreign.describe()[0]?.effect ?? '', /may drop/)

  assert.deepEqual(foreign.ensureAccept(), ['DOCKER-USER'])
  assert.deepEqual(foreign.ensureAccept(), [])
  assert.equal(await lab.call('client', HOST4, 8080), CLIENT4)
  assert.equal(await lab.call('c0', CLIENT4, 80), HOST4)
  assert.equal(await lab.call('client', c.ip4, 81), '', 'our own rules still decide')
  const chain = sh('iptables-nft -S DOCKER-USER').trim().split('\n').slice(1)
  assert.match(chain[1] ?? '', /--mark 0x1000\/0x1000 .*--comment causeway -j ACCEPT/)
  assert.deepEqual([chain[0], chain[2]], ['-A DOCKER-USER -s 203.0.113.9/32 -j DROP', '-A DOCKER-USER -j RETURN'])
  assert.match(sh('iptables-nft -S FORWARD'), /-P FORWARD DROP/)

  assert.deepEqual(foreign.removeAccept(), ['DOCKER-USER'])
  assert.deepEqual(foreign.removeAccept(), [])
  assert.equal(forwardRules(), rules)
})

test('foreign: ufw gets the rule in its user chains, in both families', () => {
  sh(`iptables-nft -N ufw-user-forward; iptables-nft -A FORWARD -j ufw-user-forward; iptables-nft -P FORWARD DROP
    ip6tables-nft -N ufw6-user-forward; ip6tables-nft -A FORWARD -j ufw6-user-forward`)
  assert.deepEqual(foreign.ensureAccept(), ['ufw-user-forward', 'ufw6-user-forward'])
  assert.match(sh('ip6tables-nft -S ufw6-user-forward'), /--comment causeway -j ACCEPT/)
  foreign.removeAccept()
})

test('foreign: a dropping policy of nobody known is told with the command that would help, and left alone', () => {
  sh(
    'iptables-nft -P FORWARD DROP; nft add table inet mine; nft add chain inet mine f "{ type filter hook forward priority 5; policy drop; }"',
  )
  const rules = sh('nft list ruleset')
  assert.deepEqual(foreign.ensureAccept(), [])
  const found = foreign.describe()
  assert.match(found[0]?.effect ?? '', /^drops our forwarded traffic; to let it pass: iptables-nft -I FORWARD -m mark/)
  assert.match(found[1]?.found ?? '', /inet mine f, policy drop/)
  assert.equal(sh('nft list ruleset'), rules)
  sh('nft delete table inet mine')
})

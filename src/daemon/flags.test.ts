import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseDaemonConfig } from './config.ts'
import { daemonDocRows, daemonHelp, FLAGS, optionName } from './flags.ts'

/** dockerd 29's networking flags with a value each, and how daemon.json has it. */
const DOCKERD: readonly (readonly [flag: string, key: string, value: unknown])[] = [
  ['--allow-direct-routing', 'allow-direct-routing', true],
  ['--bip=10.2.0.1/16', 'bip', '10.2.0.1/16'],
  ['--bip6=fd00:2::1/64', 'bip6', 'fd00:2::1/64'],
  ['--bridge=br9', 'bridge', 'br9'],
  ['--bridge-accept-fwmark=0x1/0x3', 'bridge-accept-fwmark', '0x1/0x3'],
  ['--default-address-pool=base=10.3.0.0/16,size=24', 'default-address-pools', [{ base: '10.3.0.0/16', size: 24 }]],
  ['--default-gateway=10.2.0.9', 'default-gateway', '10.2.0.9'],
  ['--default-gateway-v6=fd00:2::9', 'default-gateway-v6', 'fd00:2::9'],
  [
    '--default-network-opt=bridge=com.docker.network.driver.mtu=1400',
    'default-network-opts',
    { bridge: { 'com.docker.network.driver.mtu': '1400' } },
  ],
  ['--dns=9.9.9.9', 'dns', ['9.9.9.9']],
  ['--dns-opt=ndots:2', 'dns-opts', ['ndots:2']],
  ['--dns-search=example.com', 'dns-search', ['example.com']],
  ['--firewall-backend=nftables', 'firewall-backend', 'nftables'],
  ['--fixed-cidr=10.2.1.0/24', 'fixed-cidr', '10.2.1.0/24'],
  ['--fixed-cidr-v6=fd00:2::/64', 'fixed-cidr-v6', 'fd00:2::/64'],
  ['--host-gateway-ip=10.2.0.1', 'host-gateway-ips', ['10.2.0.1']],
  ['--icc=true', 'icc', true],
  ['--ip=127.0.0.1', 'ip', '127.0.0.1'],
  ['--ip-forward=true', 'ip-forward', true],
  ['--ip-forward-no-drop', 'ip-forward-no-drop', true],
  ['--ip-masq=true', 'ip-masq', true],
  ['--ip6tables=true', 'ip6tables', true],
  ['--iptables=true', 'iptables', true],
  ['--ipv6', 'ipv6', true],
  ['--live-restore', 'live-restore', true],
  ['--mtu=1400', 'mtu', 1400],
  ['--network-control-plane-mtu=1500', 'network-control-plane-mtu', 1500],
  ['--network-diagnostic-port=0', 'network-diagnostic-port', 0],
  ['--userland-proxy=false', 'userland-proxy', false],
  ['--userland-proxy-path=/usr/bin/docker-proxy', 'userland-proxy-path', '/usr/bin/docker-proxy'],
]

test('dockerd’s networking flags are taken, and mean the same as keys of the file', () => {
  const dir = mkdtempSync(join(tmpdir(), 'causeway-flags-'))
  try {
    for (const [flag, key, value] of DOCKERD) {
      const file = join(dir, `${key}.json`)
      writeFileSync(file, JSON.stringify({ [key]: value }))
      const byFlag = parseDaemonConfig(['--config-file', '/dev/null', flag])
      assert.deepEqual(parseDaemonConfig(['--config-file', file]), byFlag, flag)
      assert.notDeepEqual(byFlag.config, parseDaemonConfig(['--config-file', '/dev/null']).config, `${flag} leaves a trace`)
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})

test('help names every flag and tells no default that is none; docs/daemon.md has them all', () => {
  const help = daemonHelp(100)
  for (const flag of FLAGS) assert.match(help, new RegExp(`--${optionName(flag)}\\b`))
  assert.doesNotMatch(help, /preset/)
  assert.match(help, /--ipv6 +IPv6 on the default bridge\n/)
  assert.match(help, /--icc +Containers of the default bridge reach each other \(default true\)\n/)
  const page = readFileSync(new URL('../../docs/daemon.md', import.meta.url), 'utf8').split('\n')
  for (const row of daemonDocRows()) assert.ok(page.includes(row), `docs/daemon.md lacks the row\n${row}`)
})

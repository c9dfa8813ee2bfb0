/** 127.0.0.11:53 in a sandbox leads to the resolver's port, for dig over UDP and TCP. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { after, before, test } from 'node:test'
import { installDnsRedirect } from '../../src/kernel/sandbox-dns.ts'
import { createNetns, initNetns, type Netns, openNetns } from '../../src/sys/netns.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { sh } from './firewall-lab.ts'

isolate()

const servers: ChildProcess[] = []
let ns: Netns

/** dnsmasq on one port of one address, answering `name.test` with `answer`. */
function resolver(address: string, port: number, answer: string): void {
  const options = ['-k', '-C', '/dev/null', '--no-resolv', '--no-hosts', '--pid-file=', '--bind-interfaces', '--user=root']
  const argv = [
    'netns',
    'exec',
    'box',
    'dnsmasq',
    ...options,
    `--port=${port}`,
    `--listen-address=${address}`,
    `--address=/name.test/${answer}`,
  ]
  servers.push(spawn('ip', argv, { stdio: 'ignore' }))
}

function dig(...options: string[]): string {
  return execFileSync('ip', ['netns', 'exec', 'box', 'dig', '+short', '+tries=3', '+time=1', ...options, 'name.test'], {
    encoding: 'utf8',
  }).trim()
}

before(async () => {
  await initNetns()
  sh('mkdir -p /run/netns; mount -t tmpfs none /run/netns')
  createNetns('/run/netns/box')
  ns = openNetns('/run/netns/box')
  sh('ip -n box link set lo up')
  resolver('127.0.0.11', 5301, '192.0.2.1')
  resolver('127.0.0.11', 5302, '192.0.2.2')
  await new Promise((resolve) => setTimeout(resolve, 500))
})

after(() => {
  for (const server of servers) server.kill('SIGKILL')
})

test('sandbox dns: queries to port 53 reach the resolver over UDP and TCP, and the answers come from port 53', () => {
  installDnsRedirect(ns, { udp: 5301, tcp: 5302 })
  assert.equal(dig('@127.0.0.11'), '192.0.2.1')
  assert.equal(dig('@127.0.0.11', '+tcp'), '192.0.2.2')
})

test('sandbox dns: a container may bind port 53 itself, on every address', async () => {
  resolver('0.0.0.0', 53, '192.0.2.53')
  await until('its resolver answers', () => {
    try {
      return dig('@127.0.0.1') === '192.0.2.53'
    } catch {
      return false // dig fails while nobody listens
    }
  })
  assert.equal(dig('@127.0.0.11'), '192.0.2.1')
  assert.equal(dig('@127.0.0.11', '+tcp'), '192.0.2.2')
})

test('sandbox dns: other ports move the redirect, the same ports leave it alone', () => {
  const rules = () => sh('ip netns exec box nft -a list table ip causeway-dns')
  const first = rules()
  installDnsRedirect(ns, { udp: 5301, tcp: 5302 })
  assert.equal(rules(), first)
  installDnsRedirect(ns, { udp: 5302, tcp: 5301 })
  assert.equal(dig('@127.0.0.11'), '192.0.2.2')
  assert.equal(dig('@127.0.0.11', '+tcp'), '192.0.2.1')
})

test('sandbox dns: works beside rules of the container that track connections', () => {
  sh(`ip netns exec box iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP
    ip netns exec box iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    ip netns exec box iptables-nft -A INPUT -i lo -m conntrack --ctstate NEW -p tcp --syn -j ACCEPT
    ip netns exec box iptables-nft -A INPUT -i lo -m conntrack --ctstate NEW -p udp -j ACCEPT
    ip netns exec box iptables-nft -P INPUT DROP`)
  assert.equal(dig('@127.0.0.11'), '192.0.2.2')
  assert.equal(dig('@127.0.0.11', '+tcp'), '192.0.2.1')
})

test('sandbox dns: the sandbox does not start to track connections because of it', () => {
  createNetns('/run/netns/plain')
  const plain = openNetns('/run/netns/plain')
  installDnsRedirect(plain, { udp: 5301, tcp: 5302 })
  sh('ip -n plain link set lo up; ip netns exec plain ping -c1 127.0.0.11')
  assert.equal(sh('ip netns exec plain conntrack -C').trim(), '0')
})

/** Names: what the embedded DNS says inside containers while things change, where other questions go, and the three files. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { Site, until } from './site.ts'

isolate()
// the host's resolver, for the engine and nobody else: the mount namespace is the test's own
const dir = mkdtempSync(join(tmpdir(), 'causeway-names-'))
writeFileSync(`${dir}/resolv.conf`, 'nameserver 192.0.2.66\nnameserver 192.0.2.2\nsearch corp.example\n')
execFileSync('mount', ['--bind', `${dir}/resolv.conf`, '/etc/resolv.conf'])
const lab = await startEngineLab()
const site = new Site(lab)
const lan = site.machine('lan0', '192.0.2', '2001:db8:ff')
after(async () => {
  site.close()
  const left = await lab.close()
  execFileSync('umount', ['/etc/resolv.conf'])
  execFileSync('rm', ['-r', dir])
  assert.deepEqual(left, [])
})
// 192.0.2.66 is nobody; the LAN machine answers everything below up.example with one address and denies all other names
site.daemon(lan, 'dnsmasq', [
  '-k',
  '-p',
  '53',
  '-R',
  '-h',
  '-z',
  '-i',
  'eth0',
  '--conf-file=/dev/null',
  '-A',
  '/up.example/203.0.113.5',
  '--local=/#/',
  '--pid-file=',
  '-u',
  'root',
])

async function network(name: string, subnets: string[] = [], body: Record<string, unknown> = {}): Promise<void> {
  const IPAM = { Config: subnets.map((Subnet) => ({ Subnet })) }
  const reply = await lab.api('POST', '/networks/create', { Name: name, EnableIPv6: subnets.some((s) => s.includes(':')), IPAM, ...body })
  assert.equal(reply.status, 201, reply.text)
}
async function connect(container: string, net: string, EndpointConfig: Record<string, unknown> = {}): Promise<void> {
  const reply = await lab.api('POST', `/networks/${net}/connect`, { Container: container, EndpointConfig })
  assert.equal(reply.status, 200, reply.text)
}
async function remove(containers: string[], networks: string[] = []): Promise<void> {
  for (const name of containers) await lab.api('DELETE', `/containers/${name}?force=1`)
  for (const name of networks) assert.equal((await lab.api('DELETE', `/networks/${name}`)).status, 204, name)
}
/** dig inside a container: status and sorted answers. */
async function dig(container: string, ...args: string[]): Promise<string> {
  const { out } = await site.at(await site.inside(container), `dig @127.0.0.11 +tries=1 +time=4 ${args.join(' ')}`)
  const status = out.match(/status: ([A-Z]+)/)?.[1] ?? 'SILENT'
  const answers = out.match(/^[^;\s].*$/gm) ?? []
  return [status, ...answers.map((line) => line.split(/\s+/).slice(-1)[0]).sort()].join(' ')
}
const file = async (container: string, path: string) => (await lab.exec(container, 'cat', path)).out

test('a container has its name, aliases, short id, hostname, links and name.network, in A, AAAA and PTR', async () => {
  await network('names', ['10.130.0.0/24', 'fd30::/64'])
  const id = await lab.run('db', {
    networks: ['names'],
    body: { Hostname: 'dbhost', NetworkingConfig: { EndpointsConfig: { names: { Aliases: ['store', 'sql.internal'] } } } },
  })
  await lab.run('app', { networks: ['names'], body: { NetworkingConfig: { EndpointsConfig: { names: { Links: ['db:backend'] } } } } })
  for (const name of [
    'db',
    'store',
    'sql.internal',
    id.slice(0, 12),
    'dbhost',
    'backend',
    'db.names',
    'store.names',
    'DB',
    'dB.Names',
    'db.',
  ])
    assert.deepEqual([name, await dig('app', name), await dig('app', 'AAAA', name)], [name, 'NOERROR 10.130.0.2', 'NOERROR fd30::2'])
  assert.equal(await dig('db', 'backend'), await dig('db', 'nosuchname'), 'a link is one-way')
  assert.equal(await dig('app', '-x', '10.130.0.2'), 'NOERROR db.names.')
  assert.equal(await dig('app', '-x', 'fd30::2'), 'NOERROR db.names.')
  assert.equal(await dig('app', 'MX', 'db'), 'NOERROR')
  assert.equal(await dig('app', '+tcp', 'db'), 'NOERROR 10.130.0.2')
  assert.match((await site.at(await site.inside('app'), 'dig @127.0.0.11 Db')).out, /^Db\.\s+600\s+IN\s+A\s+10\.130\.0\.2$/m)
  // the C library of a real container
  assert.match(
    (await lab.exec('app', 'ping', '-c1', '-W1', 'backend')).out,
    /PING backend \((10\.130\.0\.2|fd30::2)\)[\s\S]*1 packets received/,
  )
  await remove(['db', 'app'], ['names'])
})

test('names follow rename, connect, disconnect, stop and start at once', async () => {
  await network('nl-a', ['10.131.1.0/24'])
  await network('nl-b', ['10.131.2.0/24'])
  await lab.run('who', { networks: ['nl-a', 'nl-b'] })
  await lab.run('mover', { networks: ['nl-a'] })
  const unknown = await dig('who', 'nobody')
  assert.equal(await dig('who', 'mover'), 'NOERROR 10.131.1.3')
  await connect('mover', 'nl-b', { Aliases: ['there'] })
  assert.equal(await dig('who', 'there'), 'NOERROR 10.131.2.3')
  assert.equal(await dig('who', 'mover.nl-b'), 'NOERROR 10.131.2.3')
  assert.equal((await lab.api('POST', '/containers/mover/rename?name=shaker')).status, 204)
  assert.equal(await dig('who', 'shaker.nl-a'), 'NOERROR 10.131.1.3')
  assert.equal(await dig('who', 'mover'), unknown)
  assert.equal(await dig('who', '-x', '10.131.1.3'), 'NOERROR shaker.nl-a.')
  await lab.api('POST', '/networks/nl-a/disconnect', { Container: 'shaker' })
  assert.equal(await dig('who', 'shaker'), 'NOERROR 10.131.2.3')
  assert.equal(await dig('who', 'shaker.nl-a'), unknown)
  await lab.api('POST', '/containers/shaker/stop?t=0')
  assert.equal(await dig('who', 'shaker'), unknown)
  await lab.api('POST', '/containers/shaker/start')
  assert.equal(await dig('who', 'there'), 'NOERROR 10.131.2.3')
  await remove(['who', 'shaker'], ['nl-a', 'nl-b'])
})

test('containers that share an alias are all answered, in changing order; a network sees its own names only', async () => {
  await network('rr', ['10.132.0.0/24'])
  await network('rr2', ['10.132.9.0/24'])
  const alias = (net: string) => ({ NetworkingConfig: { EndpointsConfig: { [net]: { Aliases: ['pool'] } } } })
  for (const i of [1, 2, 3]) await lab.run(`rr${i}`, { networks: ['rr'], body: alias('rr') })
  await lab.run('rr9', { networks: ['rr2'], body: alias('rr2') })
  assert.equal(await dig('rr1', 'pool'), 'NOERROR 10.132.0.2 10.132.0.3 10.132.0.4')
  assert.equal(await dig('rr9', 'pool'), 'NOERROR 10.132.9.2')
  assert.equal(await dig('rr9', 'rr1'), await dig('rr9', 'nobody'))
  const firsts = new Set<string>()
  for (let i = 0; i < 30; i++)
    firsts.add((await site.at(await site.inside('rr1'), 'dig +short @127.0.0.11 pool')).out.split('\n')[0] as string)
  assert.equal(firsts.size, 3, [...firsts].join())
  await remove(['rr1', 'rr2', 'rr3', 'rr9'], ['rr', 'rr2'])
})

test('other names are asked of the host servers; a dead first one costs less than 100 ms', async () => {
  await network('up', ['10.133.0.0/24'])
  await lab.run('asker', { networks: ['up'] })
  const place = await site.inside('asker')
  assert.equal(await until(async () => (await dig('asker', 'warm.up.example')).startsWith('NOERROR')), true)
  for (const name of ['a', 'b', 'c']) {
    const { out } = await site.at(place, `dig @127.0.0.11 +tries=1 +time=4 ${name}.up.example`)
    assert.match(out, /203\.0\.113\.5/)
    assert.ok(Number(out.match(/Query time: (\d+) msec/)?.[1]) < 2000, out)
  }
  await remove(['asker'], ['up'])
})

test('a fresh engine view pays for a dead first server once, and little', async () => {
  await network('dead', ['10.134.0.0/24'])
  await lab.run('own-dns', { networks: ['dead'], host: { Dns: ['192.0.2.77', '192.0.2.2'] } })
  const { out } = await site.at(await site.inside('own-dns'), 'dig @127.0.0.11 +tries=1 +time=4 first.up.example')
  assert.match(out, /203\.0\.113\.5/)
  assert.ok(Number(out.match(/Query time: (\d+) msec/)?.[1]) < 2000, out)
  await remove(['own-dns'], ['dead'])
})

test('on an internal network other names fail at once, and are known again when a way out is connected', async () => {
  await network('closed', ['10.135.0.0/24'], { Internal: true })
  await network('open', ['10.135.1.0/24'])
  await lab.run('in', { networks: ['closed'] })
  const { out } = await site.at(await site.inside('in'), 'dig @127.0.0.11 +tries=1 +time=4 x.up.example')
  assert.match(out, /status: SERVFAIL/)
  assert.ok(Number(out.match(/Query time: (\d+) msec/)?.[1]) < 2000, out)
  await connect('in', 'open')
  assert.equal(await dig('in', 'x.up.example'), 'NOERROR 203.0.113.5')
  await lab.api('POST', '/networks/open/disconnect', { Container: 'in' })
  assert.equal(await dig('in', 'y.up.example'), 'SERVFAIL')
  await remove(['in'], ['closed', 'open'])
})

test('--dns may be a server in another container, also on an internal network; a container may have port 53 for itself', async () => {
  await network('srv', ['10.136.0.0/24'], { Internal: true })
  await lab.run('server', { networks: ['srv'] })
  await lab.run('user', { networks: ['srv'], host: { Dns: ['10.136.0.2'] } })
  const place = await site.inside('server')
  site.daemon(place, 'dnsmasq', [
    '-k',
    '-p',
    '53',
    '-R',
    '-h',
    '-z',
    '--listen-address=0.0.0.0',
    '--conf-file=/dev/null',
    '-A',
    '/own.example/198.51.100.9',
    '--pid-file=',
    '-u',
    'root',
  ])
  assert.ok(await until(async () => (await dig('user', 'a.own.example')) === 'NOERROR 198.51.100.9'))
  assert.equal(await dig('user', 'server'), 'NOERROR 10.136.0.2')
  // the server itself goes on to use the embedded one, and answers on its own port 53
  assert.equal(await dig('server', 'user'), 'NOERROR 10.136.0.3')
  assert.match((await site.at(place, 'dig +short @127.0.0.1 b.own.example')).out, /198\.51\.100\.9/)
  assert.match((await site.at(await site.inside('user'), 'dig +short @10.136.0.2 c.own.example')).out, /198\.51\.100\.9/)
  await remove(['server', 'user'], ['srv'])
})

test('the default bridge has no embedded DNS and gets the servers of the host', async () => {
  await lab.run('plain')
  await lab.run('plain2')
  assert.match((await site.at(await site.inside('plain'), 'dig +tries=1 +time=1 @127.0.0.11 plain2')).out, /timed out|refused|no servers/)
  assert.equal(
    await file('plain', '/etc/resolv.conf'),
    [
      '# Generated by Docker Engine.',
      '# This file can be edited; Docker Engine will not make further changes once it',
      '# has been modified.',
      '',
      'nameserver 192.0.2.66',
      'nameserver 192.0.2.2',
      'search corp.example',
      '',
      `# Based on host file: '/etc/resolv.conf' (legacy)`,
      '# Overrides: []',
      '',
    ].join('\n'),
  )
  await remove(['plain', 'plain2'])
})

test('hosts, resolv.conf and hostname have the bytes that Docker writes', async () => {
  await network('bytes', ['10.137.0.0/24', 'fd37::/64'])
  await network('bytes2', ['10.137.1.0/24'])
  await lab.run('by', {
    networks: ['bytes'],
    body: { Hostname: 'c1', Domainname: 'invalid' },
    host: { ExtraHosts: ['db.example:10.9.8.7', 'six:fd00::7', 'gw:host-gateway'] },
  })
  const gateway = (await lab.api('GET', '/networks/bridge')).json.IPAM.Config[0].Gateway
  const base = [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::\tip6-localnet',
    'ff00::\tip6-mcastprefix',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
    '10.9.8.7\tdb.example',
    'fd00::7\tsix',
    `${gateway}\tgw`,
    '10.137.0.2\tc1.invalid c1',
    'fd37::2\tc1.invalid c1',
    '',
  ].join('\n')
  assert.equal(await file('by', '/etc/hosts'), base)
  assert.equal(await file('by', '/etc/hostname'), 'c1\n')
  assert.equal((await lab.exec('by', 'stat', '-c', '%a', '/etc/hosts', '/etc/resolv.conf', '/etc/hostname')).out, '644\n644\n644\n')
  assert.equal(
    await file('by', '/etc/resolv.conf'),
    [
      '# Generated by Docker Engine.',
      '# This file can be edited; Docker Engine will not make further changes once it',
      '# has been modified.',
      '',
      'nameserver 127.0.0.11',
      'search corp.example',
      'options ndots:0',
      '',
      `# Based on host file: '/etc/resolv.conf' (internal resolver)`,
      '# ExtServers: [host(192.0.2.66) host(192.0.2.2)]',
      '# Overrides: []',
      '# Option ndots from: internal',
      '',
    ].join('\n'),
  )
  await lab.exec('by', 'sh', '-c', 'echo "10.1.1.1 mine" >> /etc/hosts')
  await connect('by', 'bytes2')
  assert.equal(await file('by', '/etc/hosts'), `${base}10.1.1.1 mine\n10.137.1.2\tc1.invalid c1\n`)
  await lab.api('POST', '/networks/bytes2/disconnect', { Container: 'by' })
  assert.equal(await file('by', '/etc/hosts'), `${base}10.1.1.1 mine\n`)
  await remove(['by'], ['bytes', 'bytes2'])
})

test('a resolv.conf that was edited is left alone on connect and on restart', async () => {
  await network('ed', ['10.138.0.0/24'])
  await network('ed2', ['10.138.1.0/24'])
  await lab.run('edit', { networks: ['ed'] })
  await lab.exec('edit', 'sh', '-c', 'echo "nameserver 9.9.9.9" > /etc/resolv.conf')
  await connect('edit', 'ed2')
  assert.equal(await file('edit', '/etc/resolv.conf'), 'nameserver 9.9.9.9\n')
  await lab.api('POST', '/containers/edit/restart?t=0')
  assert.equal(await file('edit', '/etc/resolv.conf'), 'nameserver 9.9.9.9\n')
  await remove(['edit'], ['ed', 'ed2'])
})

test('--dns, --dns-search and --dns-option are written and obeyed', async () => {
  await network('opt', ['10.139.0.0/24'])
  await lab.run('dopt', { networks: ['opt'], host: { Dns: ['192.0.2.2'], DnsSearch: ['up.example'], DnsOptions: ['timeout:1'] } })
  const text = await file('dopt', '/etc/resolv.conf')
  assert.match(text, /^nameserver 127\.0\.0\.11\nsearch up\.example\noptions timeout:1 ndots:0$/m)
  assert.match(text, /# ExtServers: \[192\.0\.2\.2\]\n# Overrides: \[nameservers search options\]/)
  await lab.run('dopt2', { host: { Dns: ['127.0.0.1'], DnsSearch: ['.'] } })
  const legacy = await file('dopt2', '/etc/resolv.conf')
  assert.match(legacy, /^nameserver 127\.0\.0\.1$/m)
  assert.doesNotMatch(legacy, /^search/m)
  await remove(['dopt', 'dopt2'], ['opt'])
})

test('host mode has the files of the host', async () => {
  await lab.run('hosty', { networks: ['host'], host: { ExtraHosts: ['extra:10.0.0.7'] } })
  assert.equal(await file('hosty', '/etc/hosts'), `${(await lab.sh('cat /etc/hosts')).out.replace(/\n?$/, '\n')}10.0.0.7\textra\n`)
  assert.match(await file('hosty', '/etc/resolv.conf'), /nameserver 192\.0\.2\.66\nnameserver 192\.0\.2\.2\nsearch corp\.example/)
  await remove(['hosty'])
})

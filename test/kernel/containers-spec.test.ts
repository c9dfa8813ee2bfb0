import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import test, { after, before } from 'node:test'
import type { ContainerConfig, HostConfig } from '../../src/containers/types.ts'
import { isolate } from '../../testkit/isolated.ts'
import { type Lab, logOf, openLab, runToEnd, shell } from './containers-lab.ts'

isolate()

let lab: Lab
before(async () => {
  lab = await openLab()
})
after(async () => {
  await lab.close()
})

test('environment, hostname, working directory and user are as asked, and HOME comes from passwd', async () => {
  const { log } = await runToEnd(
    lab,
    shell(
      'env | grep -E "^(PATH|HOSTNAME|HOME|A|TERM)=" | sort; hostname; pwd; id'
        .replace('grep -E', '/bin/busybox grep -E')
        .replace('sort', '/bin/busybox sort'),
      {
        Hostname: 'box',
        Domainname: 'example.org',
        Env: ['A=1'],
        WorkingDir: '/made/here',
        User: 'web',
      },
    ),
  )
  assert.deepEqual(log.trim().split('\n'), [
    'A=1',
    'HOME=/srv',
    'HOSTNAME=box',
    'PATH=/bin',
    'box',
    '/made/here',
    'uid=33(web) gid=33(web) groups=33(web),40(log)',
  ])
})

test('hosts, resolv.conf and hostname are the files of the network', async () => {
  const { id, log } = await runToEnd(lab, shell('cat /etc/hosts /etc/resolv.conf /etc/hostname; echo more >> /etc/hosts'))
  assert.match(log, /^127\.0\.0\.1\tlocalhost\n# of .*\nnameserver 127\.0\.0\.11\n[0-9a-f]{12}\n$/)
  assert.match(readFileSync(`${lab.dir}/root/containers/${id}/hosts`, 'utf8'), /more\n$/)
})

test('binds, read-only binds, tmpfs, named and anonymous volumes with the content of the image', async () => {
  mkdirSync(`${lab.dir}/src`)
  writeFileSync(`${lab.dir}/src/file`, 'host\n')
  const { id, log } = await runToEnd(
    lab,
    shell(
      'cat /b/file; echo x > /b/new && echo rw; echo x > /ro/new || echo refused; cat /data/seed; echo; touch /t/x && echo tmpfs; ls /anon; mount | /bin/busybox grep -c " /t "',
      { Volumes: { '/anon': {} } },
      { Binds: [`${lab.dir}/src:/b`, `${lab.dir}/src:/ro:ro`, 'vol:/data'], Tmpfs: { '/t': 'size=1m' } },
    ),
  )
  assert.deepEqual(
    log
      .trim()
      .split('\n')
      .filter((l) => !l.startsWith('sh:')),
    ['host', 'rw', 'refused', 'from the image', 'tmpfs', '1'],
  )
  const mounts = lab.containers.get(id).mounts
  assert.deepEqual(
    mounts.map((m) => [m.Type, m.Destination, m.RW]),
    [
      ['bind', '/b', true],
      ['bind', '/ro', false],
      ['volume', '/data', true],
      ['volume', '/anon', true],
    ],
  )
  await lab.containers.remove(id, { force: false, volumes: true, link: false })
  assert.deepEqual(
    lab.deps.volumes.list().map((v) => v.name),
    ['vol'],
    'anonymous volumes go with the container, named ones stay',
  )
})

test('a read-only root refuses writes, except to the network files', async () => {
  const { log } = await runToEnd(lab, shell('touch /x || echo refused; echo ok >> /etc/hosts && echo hosts', {}, { ReadonlyRootfs: true }))
  assert.deepEqual(
    log
      .trim()
      .split('\n')
      .filter((l) => !l.startsWith('touch')),
    ['refused', 'hosts'],
  )
})

test('capabilities: the default set, one dropped, all dropped, all', async () => {
  const caps = async (host: HostConfig) =>
    (await runToEnd(lab, shell('/bin/busybox grep CapEff /proc/self/status', {}, host))).log.trim().split('\t')[1]
  assert.equal(await caps({}), '00000000a80425fb')
  assert.equal(await caps({ CapDrop: ['NET_RAW'] }), '00000000a80405fb')
  assert.equal(await caps({ CapDrop: ['ALL'] }), '0000000000000000')
  assert.equal(await caps({ CapAdd: ['NET_ADMIN'], CapDrop: ['all'] }), '0000000000001000')
  const own = /CapBnd:\t(.*)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  assert.equal(await caps({ Privileged: true }), own)
})

test('system calls that reach around the container are refused', async () => {
  const { log } = await runToEnd(
    lab,
    shell('mount -t tmpfs t /tmp 2>&1; /bin/busybox unshare -U true 2>&1; /bin/busybox grep Seccomp: /proc/self/status'),
  )
  const lines = log.trim().split('\n')
  assert.match(lines[0] ?? '', /permission denied|not permitted/)
  assert.match(lines[1] ?? '', /not permitted/)
  assert.equal(lines.at(-1), 'Seccomp:\t2')
})

test('sysctls: Docker’s defaults in a namespace of its own, and those asked for', async () => {
  const { log } = await runToEnd(
    lab,
    shell(
      'cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_forward',
      {},
      { Sysctls: { 'net.ipv4.ip_forward': '1' } },
    ),
  )
  assert.equal(log, '0\n0\t2147483647\n1\n')
})

test('container mode shares the namespace and the files, and both outlive the owner as long as a member runs', async () => {
  const owner = await lab.containers.create(shell('sleep 100', { Hostname: 'pod' }, {}, 'owner'))
  await lab.containers.start(owner.id)
  const member = await lab.containers.create(shell('sleep 100', {}, { NetworkMode: 'container:owner' }))
  await lab.containers.start(member.id)
  const namespaceOf = (id: string) => readlinkSync(`/proc/${lab.containers.get(id).state.pid}/ns/net`)
  assert.equal(namespaceOf(member.id), namespaceOf(owner.id))
  assert.equal(lab.containers.get(member.id).files.hosts, lab.containers.get(owner.id).files.hosts)
  assert.equal(lab.containers.get(member.id).hostConfig.NetworkMode, `container:${owner.id}`)
  const { log } = await runToEnd(lab, shell('cat /etc/hostname; hostname', {}, { NetworkMode: 'container:owner' }))
  assert.equal(log, 'pod\npod\n')
  await lab.containers.kill(owner.id)
  assert.equal(lab.sandboxes.has(owner.id), true, 'the member still uses it')
  await lab.containers.kill(member.id)
  assert.equal(lab.sandboxes.has(owner.id), false)
  await assert.rejects(lab.containers.start(member.id), {
    code: 'conflict',
    message: `cannot join network namespace of a non running container: container ${owner.id} is exited`,
  })
})

test('host mode has no namespace of its own; pid and uts modes of the host neither', async () => {
  const { log } = await runToEnd(
    lab,
    shell('/bin/busybox readlink /proc/self/ns/net; hostname', {}, { NetworkMode: 'host', PidMode: 'host', UTSMode: 'host' }),
  )
  assert.deepEqual(log.trim().split('\n'), [readlinkSync('/proc/self/ns/net'), hostname()])
})

test('links on the default bridge bring their environment', async () => {
  const db = await lab.containers.create(shell('sleep 100', { Env: ['PASS=x'], ExposedPorts: { '5432/tcp': {} } }, {}, 'store'))
  await assert.rejects(lab.containers.create(shell('true', {}, { Links: ['nobody:n'] })), {
    code: 'invalid',
    message: 'could not get container for nobody: No such container: nobody',
  })
  const web = await lab.containers.create(shell('env', {}, { Links: ['store:db'] }, 'web'))
  assert.deepEqual(lab.containers.get(web.id).hostConfig.Links, ['/store:/web/db'])
  await assert.rejects(lab.containers.start(web.id), /Cannot link to a non running container: \/store AS \/web\/db/)
  await lab.containers.start(db.id)
  const ended = lab.containers.wait(web.id, 'next-exit', AbortSignal.timeout(10_000))
  await lab.containers.start(web.id)
  await ended
  const env = (await logOf(lab, web.id)).split('\n')
  for (const line of ['DB_NAME=/web/db', 'DB_ENV_PASS=x', 'DB_PORT_5432_TCP_PORT=5432', 'DB_PORT_5432_TCP_PROTO=tcp'])
    assert.ok(env.includes(line), line)
  await lab.containers.remove('/web/db', { force: false, volumes: false, link: true })
  assert.equal(lab.containers.get(web.id).hostConfig.Links, null)
})

test('ulimits and shared memory size are as asked', async () => {
  const { log } = await runToEnd(
    lab,
    shell(
      'ulimit -n; ulimit -c; /bin/busybox df -k /dev/shm | /bin/busybox tail -1 | /bin/busybox awk "{print \\$2}"',
      {},
      {
        Ulimits: [
          { Name: 'nofile', Soft: 512, Hard: 1024 },
          { Name: 'core', Soft: -1, Hard: -1 },
        ],
        ShmSize: 8 * 1024 * 1024,
      },
    ),
  )
  assert.equal(log, '512\nunlimited\n8192\n')
})

test('bad requests are refused before anything is made', async () => {
  const cases: [ContainerConfig, HostConfig, RegExp][] = [
    [{ Image: 'nope' }, {}, /No such image: nope/],
    [{ WorkingDir: 'x' }, {}, /needs to be an absolute path/],
    [{ Hostname: '-bad-' }, {}, /invalid hostname format: -bad-/],
    [{ StopSignal: 'NOPE' }, {}, /invalid signal: NOPE/],
    [{}, { Memory: 1000 }, /Minimum memory limit allowed is 6MB/],
    [{}, { RestartPolicy: { Name: 'never' } }, /unknown policy 'never'/],
    [{}, { RestartPolicy: { Name: 'always', MaximumRetryCount: 3 } }, /can only be used with 'on-failure'/],
    [{}, { RestartPolicy: { Name: 'always' }, AutoRemove: true }, /can't create 'AutoRemove' container with restart policy/],
    [{}, { CapAdd: ['NOPE'] }, /unknown capability: "CAP_NOPE"/],
    [{}, { Binds: ['a:b:c:d'] }, /invalid volume specification/],
    [{}, { Binds: ['/tmp:/x', '/etc:/x'] }, /Duplicate mount point: \/x/],
    [{}, { Mounts: [{ Type: 'bind', Source: '/no/such', Target: '/x' }] }, /bind source path does not exist: \/no\/such/],
    [{}, { ExtraHosts: ['bad'] }, /bad format for add-host: "bad"/],
    [{}, { ExtraHosts: ['a:b'] }, /invalid IP address in add-host: "b"/],
    [{}, { NetworkMode: 'container:' }, /invalid container format container:<name\|id>/],
    [{ Hostname: 'h' }, { NetworkMode: 'container:x' }, /conflicting options: hostname and the network mode/],
    [{}, { NetworkMode: 'container:x', Dns: ['1.1.1.1'] }, /conflicting options: dns and the network mode/],
    [{}, { NetworkMode: 'container:x', PortBindings: { '80/tcp': [] } }, /port publishing and the container type network mode/],
    [{ ExposedPorts: { '80/tcp': {} } }, { NetworkMode: 'container:x' }, /port exposing and the container type network mode/],
    [{}, { NetworkMode: 'host', Links: ['a'] }, /host type networking can't be used with links/],
    [{}, { Links: ['a:b:c'] }, /bad format for links: a:b:c/],
    [{}, { PortBindings: { '80/tcp': [{ HostPort: 'aa80' }] } }, /invalid port specification: "aa80"/],
    [{}, { LogConfig: { Type: 'syslog' } }, /no log driver named 'syslog' is registered/],
  ]
  const before = lab.containers.list().length
  for (const [config, host, text] of cases) {
    const create = lab.containers.create({ config: { Image: 'busybox', Cmd: ['true'], ...config }, hostConfig: host, endpoints: {} })
    await assert.rejects(create, text)
  }
  assert.equal(lab.containers.list().length, before)
})

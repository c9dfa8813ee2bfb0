/**
 * The requests of the causeway command against those of the docker client for the same words:
 * both talk to one recording server, and method, path, query and body must be equal.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { causeway, docker, hasDocker } from './run-cli.ts'

interface Seen {
  readonly method: string
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  readonly body: unknown
}

const folder = mkdtempSync(join(tmpdir(), 'causeway-requests-'))
const host = `unix://${folder}/s.sock`
const seen: Seen[] = []

const CONTAINER = {
  Id: 'c'.repeat(64),
  Name: '/c',
  Created: '2026-01-01T00:00:00Z',
  State: { Status: 'exited', Running: true },
  Config: { Tty: false, OpenStdin: false },
  HostConfig: { AutoRemove: false },
  NetworkSettings: { Ports: {}, Networks: {} },
}

function answer(method: string, path: string): { status: number; body: unknown } {
  if (path === '/containers/create') return { status: 201, body: { Id: 'c'.repeat(64), Warnings: [] } }
  if (path.endsWith('/json') && path !== '/containers/json' && path !== '/images/json') return { status: 200, body: CONTAINER }
  if (path.endsWith('/exec')) return { status: 201, body: { Id: 'e1' } }
  if (path === '/networks/create' || path === '/volumes/create') return { status: 201, body: { Id: 'n1', Name: 'v', Warning: '' } }
  if (path.endsWith('/json') || (method === 'GET' && path === '/networks') || path.endsWith('/history') || path.startsWith('/images/'))
    return { status: 200, body: [] }
  if (path.endsWith('/top')) return { status: 200, body: { Titles: [], Processes: [] } }
  if (path.endsWith('/wait')) return { status: 200, body: { StatusCode: 0 } }
  if (method === 'POST' || method === 'DELETE') return { status: path.endsWith('prune') || path.endsWith('update') ? 200 : 204, body: {} }
  return { status: 200, body: {} }
}

const server = createServer((request, response) => {
  const url = new URL(request.url ?? '/', 'http://x')
  const path = url.pathname.replace(/^\/v\d+\.\d+/, '')
  let text = ''
  request.on('data', (chunk) => {
    text += String(chunk)
  })
  request.on('end', () => {
    response.setHeader('Api-Version', '1.50')
    response.setHeader('Ostype', 'linux')
    if (path === '/_ping') {
      response.end('OK')
      return
    }
    seen.push({
      method: request.method ?? '',
      path,
      query: Object.fromEntries(url.searchParams),
      body: text === '' ? undefined : JSON.parse(text),
    })
    const { status, body } = answer(request.method ?? '', path)
    response.writeHead(status, { 'Content-Type': 'application/json' })
    response.end(status === 204 ? undefined : JSON.stringify(body))
  })
})

before(() => new Promise<void>((resolve) => server.listen(`${folder}/s.sock`, resolve)))
after(() => {
  server.closeAllConnections()
  server.close()
  rmSync(folder, { recursive: true })
})

/** What means the same on the wire: null, empty and absent; the order of lists that Docker's client keeps in maps. */
function meaning(value: unknown, key = ''): unknown {
  if (key === 'Init') return value ?? undefined // false is not absent here
  if (value === null || value === '' || value === false || value === 0) return undefined
  if (Array.isArray(value)) {
    const items = value.map((item) => meaning(item))
    if (items.every((item) => item === undefined)) return undefined
    return ['Env', 'Binds', 'Dns', 'DnsOptions', 'ExtraHosts', 'Links', 'GroupAdd', 'SecurityOpt', 'Ulimits'].includes(key)
      ? items.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
      : items
  }
  if (typeof value !== 'object') return value
  const fields = Object.entries(value)
    .map(([k, v]) => [k, meaning(v, k)] as const)
    .filter(([, v]) => v !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
  // An empty object inside a map is its value: ExposedPorts, Volumes, EndpointsConfig.
  const keep = ['ExposedPorts', 'Volumes', 'EndpointsConfig'].includes(key)
  if (keep) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, meaning(v) ?? {}]))
  return fields.length === 0 ? undefined : Object.fromEntries(fields)
}

const RUNS: readonly string[] = [
  'create busybox',
  'create busybox sh -c x',
  'create -it busybox sh',
  'create -i busybox cat',
  'create -a stdout -a stdin busybox',
  'create --name web -p 8080:80 -p 53:53/udp -p 127.0.0.1:9000-9002:90-92 -p [::1]:7000:70 -p 7000-7010:71 busybox',
  'create -P --expose 5-6/udp --expose 99 busybox',
  'create -p published=8080,target=80,protocol=sctp busybox',
  'create --network front busybox',
  'create --net host busybox',
  'create --network none busybox',
  'create --network container:x --expose 80 busybox',
  'create --network bridge --link a:b --link c busybox',
  'create --network front --link a:b --network-alias x --net-alias y --ip 10.0.0.5 --ip6 fd00::5 busybox',
  'create --network front --mac-address 02:00:00:00:00:01 --link-local-ip 169.254.1.1 busybox',
  'create --mac-address 02:00:00:00:00:01 busybox',
  'create --network name=a,alias=x,ip=1.2.3.4,driver-opt=Foo=BAR,gw-priority=3,mac-address=02:00:00:00:00:01 --network b busybox',
  'create --network a --network name=b,alias=q,ip6=fd00::9 --network-alias first busybox',
  'create --dns 1.1.1.1 --dns fd00::53 --dns-search example.com --dns-opt ndots:1 --dns-option timeout:2 busybox',
  'create --add-host h:1.2.3.4 --add-host g=host-gateway --add-host v6:[::1] busybox',
  'create -h hh --domainname dd --uts host --pid host --ipc host busybox',
  'create -e FOO=1 -e BAR=two -l k=v -l bare --annotation q=w busybox',
  'create -v /a:/b:ro -v vol:/c -v /anon --tmpfs /t:size=1m --tmpfs /u --volumes-from other busybox',
  'create --mount type=volume,src=v,dst=/d,ro,volume-label=a=b --mount type=bind,source=/x,target=/y,bind-propagation=rslave --mount type=tmpfs,target=/z,tmpfs-size=1m busybox',
  'create --read-only --privileged --init --rm --cap-add NET_ADMIN --cap-add sys_time --cap-drop all busybox',
  'create -m 10m --memory-swap -1 --memory-reservation 5m --cpus 1.5 -c 512 --cpu-period 1000 --cpu-quota 500 --cpuset-cpus 0 --pids-limit -1 busybox',
  'create --shm-size 1g --ulimit nofile=10:20 --ulimit core=0 --oom-score-adj 5 --oom-kill-disable --blkio-weight 10 busybox',
  'create --sysctl net.ipv4.ip_forward=1 --sysctl net.core.somaxconn=99 busybox',
  'create --restart on-failure:3 --stop-signal TERM --stop-timeout 3 busybox',
  'create --restart unless-stopped --log-driver json-file --log-opt a=b busybox',
  'create --entrypoint /x -w /w -u 1:2 --group-add 5 --security-opt no-new-privileges --cgroup-parent /p --runtime crun busybox y',
  'create --health-cmd true --health-interval 3s --health-timeout 1m --health-retries 2 --health-start-period 100ms busybox',
  'create --no-healthcheck busybox',
  'create --device /dev/null:/dev/n:r --device /dev/zero --storage-opt size=1G --userns host --cgroupns private busybox',
  'create --init=false busybox',
  'network create n',
  'network create --subnet 10.0.0.0/16 --ip-range 10.0.1.0/24 --gateway 10.0.0.1 --aux-address a=10.0.0.9 --ipv4=false --ipv6 -o a=b --label x --label y=z n',
  'network create -d macvlan --internal --attachable --scope local --ipam-driver d --ipam-opt k=v --opt parent=eth0 n',
  'network create --config-only --subnet 10.0.0.0/16 n',
  'network create --config-from other n',
  'network connect net c',
  'network connect --ip 1.2.3.4 --ip6 fd00::1 --alias x --alias y,z --link a:b --driver-opt q=w --gw-priority 4 --link-local-ip 169.254.1.1 net c',
  'network disconnect -f net c',
  'network rm a b',
  'network ls --filter driver=bridge --filter name=x --filter name=y',
  'network prune -f --filter until=1h',
  'ps',
  'ps -a -n 3 -s --filter status=running',
  'ps -l',
  'images -a x',
  'stop -t 3 -s INT c',
  'restart --time 1 c',
  'kill -s HUP c',
  'pause c',
  'unpause c',
  'rename c d',
  'rm -f -v c',
  'rm -l c',
  'start c',
  'wait c',
  'top c -o pid',
  'diff c',
  'exec -d -e A=1 -w /x -u 0 --privileged c ls -l',
  'update --restart always -m 10m --cpus 2 --pids-limit 5 c',
  'volume create -d local -o a=b --label c v',
  'volume rm -f v',
  'volume ls -f dangling=true',
  'volume prune -f -a',
  'tag a:1 host:5000/b/c:2',
  'rmi -f --no-prune a:1',
  'image prune -f -a',
  'container prune -f --filter label=x',
  'history a',
]

async function requestsOf(run: typeof causeway, words: readonly string[]): Promise<{ requests: unknown[]; stderr: string }> {
  seen.length = 0
  const { stderr } = await run(host, words)
  const requests = seen.map(({ method, path, query, body }) => ({ method, path, query: tidyQuery(query), body: meaning(body) }))
  // The docker client looks at a network or container before it changes it; what counts is the change.
  const changes = requests.filter((request) => request.method !== 'GET')
  return { requests: changes.length > 0 ? changes : requests, stderr }
}

/** Filters as a value, and both spellings of true. */
function tidyQuery(query: Readonly<Record<string, string>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query).flatMap(([k, v]) => {
      if (v === '' || v === '{}') return []
      return [[k, k === 'filters' ? meaning(JSON.parse(v)) : v === 'true' ? '1' : v]]
    }),
  )
}

for (const line of RUNS) {
  test(`asks what docker asks: ${line}`, { skip: hasDocker() ? false : 'no docker client here' }, async () => {
    const words = line.split(' ')
    const theirs = await requestsOf(docker, words)
    const ours = await requestsOf(causeway, words)
    assert.ok(theirs.requests.length > 0, `the docker client sent nothing: ${theirs.stderr}`)
    // what it asks besides is its own: whether a list may have gaps
    const asked = (ours.requests as { readonly path: string }[]).filter(({ path }) => !path.startsWith('/causeway/'))
    assert.deepEqual(asked, theirs.requests, ours.stderr)
  })
}

test('environment and label files give the same request', { skip: hasDocker() ? false : 'no docker client here' }, async () => {
  writeFileSync(`${folder}/env`, '# c\nA=1\nHOME\nNOPE\nB= x \n')
  const words = ['create', '--env-file', `${folder}/env`, '--label-file', `${folder}/env`, '-e', 'A=2', 'busybox']
  assert.deepEqual((await requestsOf(causeway, words)).requests, (await requestsOf(docker, words)).requests)
})

/** What a new user tries first and what clients match on: requests and command lines with Docker's statuses and words. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

before(async () => {
  await lab.docker('volume', 'create', 'data')
  const options = ['--label', 'tier=web', '--label', 'b=c d', '-e', 'STAGE=1', '--log-opt', 'labels=tier,b', '--log-opt', 'env=STAGE']
  const up = await lab.docker('run', '-d', '--name', 'up', ...options, 'busybox', 'sh', '-c', 'echo said; exec sleep 3600')
  assert.equal(up.code, 0, up.err)
  await lab.docker('create', '--name', 'made', 'busybox', 'true')
  await lab.docker('create', '--name', 'passing', '--rm', 'busybox', 'true')
  await lab.docker('run', '--name', 'over', 'busybox', 'sh', '-c', 'exit 3')
})

const filters = (value: object) => `filters=${encodeURIComponent(JSON.stringify(value))}`
const json = JSON.stringify

/** [request, body, status, what the answer says] */
const REQUESTS: readonly (readonly [string, unknown, number, RegExp])[] = [
  [`GET /containers/json?all=1&${filters({ 'label!': ['x'] })}`, undefined, 400, /^invalid filter 'label!'$/],
  [`GET /containers/json?all=1&${filters({ health: ['ill'] })}`, undefined, 400, /^invalid filter 'health=ill'$/],
  [`GET /containers/json?all=1&${filters({ before: ['nobody'] })}`, undefined, 404, /^No such container: nobody$/],
  ['POST /containers/up/start', { Binds: ['/a:/b'] }, 400, /^starting container with non-empty request body was deprecated/],
  ['POST /containers/up/start', {}, 304, /^$/],
  ['POST /containers/up/wait?condition=later', undefined, 400, /^invalid condition: "later"$/],
  ['GET /containers/up/top?ps_args=-bogus', undefined, 500, /^ps: error: [^\n]*$/],
  ['GET /containers/made/top', undefined, 409, /^container [0-9a-f]{64} is not running$/],
  ['POST /containers/made/resize?h=1&w=1', undefined, 409, /^container [0-9a-f]{64} is not running$/],
  ['GET /containers/up/stats?stream=1&one-shot=1', undefined, 400, /^cannot have stream=true and one-shot=true$/],
  ['POST /containers/made/exec', { Cmd: ['ls'] }, 409, /^container [0-9a-f]{64} is not running$/],
  ['GET /exec/nothing/json', undefined, 404, /^No such exec instance: nothing$/],
  [
    'POST /containers/create?platform=plan9%2Fmips',
    { Image: 'busybox' },
    404,
    /^image with reference busybox was found but its platform \(linux\//,
  ],
  ['POST /containers/create?platform=a%20b', { Image: 'busybox' }, 400, /^invalid platform: "a b"/],
  [
    'POST /containers/create',
    { Image: 'busybox', HostConfig: { NanoCpus: 1e14 } },
    400,
    /^range of CPUs is from 0\.01 to \d+\.00, as there are only/,
  ],
  ['POST /containers/create', { Image: 'busybox', HostConfig: { Runtime: 'kata' } }, 400, /^unknown or invalid runtime name: kata$/],
  [
    'POST /containers/passing/update',
    { RestartPolicy: { Name: 'always' } },
    409,
    /^Restart policy cannot be updated because AutoRemove is enabled/,
  ],
  ['GET /plugins/up/json', undefined, 404, /^plugin "up" not found$/],
  ['GET /system/df?type=nothing', undefined, 400, /^unknown object type: nothing$/],
  ['GET /v1.24/system/df', undefined, 404, /^page not found$/],
  ['POST /v1.24/containers/prune', undefined, 404, /^page not found$/],
  ['GET /v1.23/info', undefined, 400, /^client version 1\.23 is too old\. Minimum supported API version is 1\.24/],
  ['GET /v1.52/info', undefined, 400, /^client version 1\.52 is too new\. Maximum supported API version is 1\.51$/],
  ['GET /events?since=100&until=50', undefined, 400, /^`since` time \(100\) cannot be after `until` time \(50\)$/],
  [`GET /networks?${filters({ type: ['odd'] })}`, undefined, 500, /^invalid filter: 'type'='odd'$/],
  [`POST /images/prune?${filters({ 'label!': ['keep'], until: ['1h'], more: ['x'] })}`, undefined, 400, /^invalid filter 'more'$/],
]

for (const [request, body, status, words] of REQUESTS) {
  test(`${request} ${body === undefined ? '' : json(body)}: ${status}`, async () => {
    const [method = '', path = ''] = request.split(' ')
    const answer = await lab.api(method, path, body)
    assert.equal(answer.status, status, answer.text)
    assert.match(answer.json?.message ?? answer.text.trim(), words)
  })
}

/** [command line, exit code, output, what is said besides] */
const COMMANDS: readonly (readonly [string, number, RegExp, RegExp])[] = [
  ['ps -a --filter exited=3 --format {{.Names}}', 0, /^over\n$/, /^$/],
  ['ps --filter since=up --format {{.Names}}', 0, /^$/, /^$/],
  ['ps -a --filter since=up --format {{.Names}}', 0, /^over\npassing\nmade\n$/, /^$/],
  ['ps -a --filter before=over --filter status=created --format {{.Names}}', 0, /^passing\nmade\n$/, /^$/],
  ['ps --filter status=exited --format {{.Names}}', 0, /^over\n$/, /^$/],
  ['update -m 100m up', 0, /^up\n$/, /^$/],
  ['update -m 200m --memory-swap 300m up', 0, /^up\n$/, /^$/],
  ['update -m 50m --memory-swap 60m up', 0, /^up\n$/, /^$/],
  ['logs up', 0, /^said\n$/, /^$/],
  ['logs --details up', 0, /^STAGE=1,b=c%20d,tier=web said\n$/, /^$/],
  ['logs --details over', 0, /^$/, /^$/],
  ['logs --since 1h --until 30m up', 0, /^$/, /^$/],
  ['inspect nothing', 1, /^\[\]\n$/, /[Nn]o such object: nothing/],
  ['inspect --format {{.Name}} data', 0, /^data\n$/, /^$/],
  ['attach made', 1, /^$/, /You cannot attach to a stopped container, start it first/],
  [
    'create --platform linux/s390x --pull never busybox',
    1,
    /^$/,
    /its platform \(linux\/\w+\) does not match the specified platform \(linux\/s390x\)/,
  ],
  ['image prune -f --filter label!=x', 0, /Total reclaimed space: 0B/, /^$/],
  ['network ls --filter foo=bar', 1, /^$/, /invalid filter 'foo'/],
  ['run --rm --init busybox ps -o pid,args', 0, /^ +1 \/sbin\/docker-init -- ps -o pid,args$/m, /^$/],
  [
    'run --rm busybox nonesuch',
    127,
    /^$/,
    /^docker: Error response from daemon: [^\n]*exec: "nonesuch": executable file not found in \$PATH/,
  ],
  [
    'run --rm --network nonesuch busybox true',
    125,
    /^$/,
    /^docker: Error response from daemon: failed to set up container networking: network nonesuch not found\n/,
  ],
  ['run --rm busybox /etc', 126, /^$/, /permission denied|is a directory/],
  [
    'pull unreachable.invalid/a',
    1,
    /Using default tag: latest/,
    /Error response from daemon: Get "https:\/\/unreachable\.invalid\/v2\/": dial tcp/,
  ],
]

for (const [line, code, out, err] of COMMANDS) {
  test(`docker ${line}`, async () => {
    const ran = await lab.docker(...line.split(' '))
    assert.equal(ran.code, code, ran.out + ran.err)
    assert.match(ran.out, out)
    assert.match(ran.err, err)
  })
}

test('wait: a start that fails is no exit, and a removal has no error of the start', async () => {
  await lab.api('POST', '/containers/create?name=late', {
    Image: 'busybox',
    Cmd: ['sh', '-c', 'exit 4'],
    HostConfig: { NetworkMode: 'late' },
  })
  const next = lab.api('POST', '/containers/late/wait?condition=next-exit')
  const removed = lab.api('POST', '/containers/late/wait?condition=removed')
  assert.equal((await lab.api('GET', '/_ping')).status, 200)
  assert.equal((await lab.api('POST', '/containers/late/start')).status, 404)
  assert.equal((await lab.docker('network', 'create', 'late')).code, 0)
  assert.equal((await lab.api('POST', '/containers/late/start')).status, 204)
  assert.deepEqual((await next).json, { StatusCode: 4 })
  await lab.docker('network', 'rm', 'late')
  assert.equal((await lab.api('POST', '/containers/late/start')).status, 404, 'its error is noted in the state')
  assert.equal((await lab.api('DELETE', '/containers/late')).status, 204)
  assert.equal((await removed).json.Error, undefined)
})

test('events: "since=0" is all of the history, "until" alone is history too, kinds of filters must all hold', async () => {
  const until = Math.ceil(Date.now() / 1000) - 1
  const ask = async (query: string) => (await lab.api('GET', `/events?${query}`)).text.split('\n').filter((line) => line !== '')
  await lab.sh('sleep 1.1')
  const all = await ask(`since=0&until=${until + 1}`)
  assert.ok(all.length > 5)
  assert.deepEqual(await ask(`until=${until + 1}`), all)
  const made = (value: object) => ask(`since=0&until=${until + 1}&${filters(value)}`)
  const started = await made({ container: ['up'], event: ['start'] })
  assert.equal(started.length, 1, `${started.join('\n')}\nof\n${all.join('\n')}`)
  assert.ok((await made({ network: ['bridge'] })).length > 0)
  assert.deepEqual(await made({ container: ['up'], network: ['bridge'] }), [])
})

test('sizes: layers that images share count once, and each step of a history has its own', async () => {
  await lab.docker('run', '--name', 'grown', 'busybox', 'sh', '-c', 'head -c 100000 /dev/zero > /big')
  assert.equal((await lab.docker('commit', 'grown', 'grown:1')).code, 0)
  const busybox = (await lab.api('GET', '/images/busybox/json')).json
  const grown = (await lab.api('GET', '/images/grown:1/json')).json
  const steps = (await lab.api('GET', '/images/grown:1/history')).json as { Size: number; Id: string }[]
  assert.equal(steps[0]?.Id, grown.Id)
  assert.equal(steps[0]?.Size, grown.Size - busybox.Size)
  assert.equal(
    steps.reduce((sum, { Size }) => sum + Size, 0),
    grown.Size,
  )
  const df = (await lab.api('GET', '/system/df?type=image')).json
  assert.equal(df.LayersSize, grown.Size)
  assert.equal(df.Containers, null)
  const shared = Object.fromEntries((df.Images as { Id: string; SharedSize: number }[]).map(({ Id, SharedSize }) => [Id, SharedSize]))
  assert.deepEqual(shared, { [busybox.Id]: busybox.Size, [grown.Id]: busybox.Size })
  assert.equal((await lab.api('GET', '/images/json')).json[0].SharedSize, -1)
  assert.equal((await lab.api('GET', '/v1.41/system/df')).json.BuilderSize, 0)
})

test('images: several tags are saved and loaded together, quietly when asked', async () => {
  for (const tag of ['x:a', 'x:b']) await lab.docker('tag', 'busybox', tag)
  const file = `${lab.dir}/saved.tar`
  await lab.docker('save', '-o', file, 'x:a', 'x:b')
  assert.ok(existsSync(file) && readFileSync(file).length > 100_000)
  await lab.docker('rmi', 'x:a', 'x:b')
  const loaded = await lab.docker('load', '-q', '-i', file)
  assert.equal(loaded.out, 'Loaded image: x:a\nLoaded image: x:b\n')
  rmSync(file)
  assert.deepEqual((await lab.api('GET', '/images/x:a/json')).json.RepoTags, ['busybox:latest', 'x:a', 'x:b'])
  await lab.docker('rmi', 'x:a', 'x:b')
})

test('exec: a size is taken since 1.42 only, and what ran is told afterwards', async () => {
  const size = async (version: string) => {
    const { Id } = (await lab.api('POST', '/containers/up/exec', { Cmd: ['stty', 'size'], Tty: true, AttachStdout: true })).json
    return (
      await lab.sh(
        `curl -s --unix-socket ${lab.socket} -H Content-Type:application/json -d '{"Tty":true,"ConsoleSize":[11,22]}' http://d/${version}/exec/${Id}/start`,
      )
    ).out.trim()
  }
  assert.equal(await size('v1.42'), '11 22')
  assert.notEqual(await size('v1.41'), '11 22')
})

test('old clients: fields that their version did not have are not there', async () => {
  const create = async (version: string, name: string) => {
    const body = { Image: 'busybox', Cmd: ['true'], HostConfig: { AutoRemove: true, Annotations: { a: 'b' } } }
    assert.equal((await lab.api('POST', `/${version}/containers/create?name=${name}`, body)).status, 201)
    return (await lab.api('GET', `/containers/${name}/json`)).json.HostConfig
  }
  const old = await create('v1.24', 'old')
  assert.deepEqual([old.AutoRemove, old.Annotations ?? null, old.IpcMode], [false, null, 'shareable'])
  const recent = await create('v1.51', 'recent')
  assert.deepEqual([recent.AutoRemove, recent.Annotations], [true, { a: 'b' }])
})

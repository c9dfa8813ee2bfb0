import assert from 'node:assert/strict'
import { test } from 'node:test'
import { commandHelp } from './help.ts'
import { fullImageName, splitImageName, withTag } from './image-name.ts'
import { nearest } from './nearest.ts'
import { filter, flag, flagOn, integer, list, map, strings, text, triState } from './options.ts'
import { parseCommandLine } from './parse.ts'
import { displayPorts } from './ports-text.ts'
import { allCommands, find } from './registry.ts'
import { DetachWatcher, parseDetachKeys } from './session/detach-keys.ts'
import { parsePlace } from './verbs/cp.ts'
import { parseWhen } from './when.ts'

const OPTIONS = {
  detach: flag('d', ''),
  env: list('e', ''),
  filter: filter(),
  interactive: flag('i', ''),
  ipv4: triState('', ''),
  name: text('', ''),
  network: list('', '', undefined, { aliases: ['net'] }),
  opt: map('o', ''),
  proxy: flagOn('', ''),
  subnet: strings('', ''),
  timeout: integer('t', ''),
}

function parse(words: string, passThrough = false): unknown {
  try {
    const { args, options, help } = parseCommandLine(
      { options: OPTIONS, passThrough },
      words.split(' ').filter((w) => w !== ''),
    )
    const set = Object.fromEntries(
      Object.entries(options).filter(([name, v]) => JSON.stringify(v) !== JSON.stringify(OPTIONS[name as keyof typeof OPTIONS].initial)),
    )
    return help ? { help } : { ...set, ...(args.length > 0 ? { args } : {}) }
  } catch (error) {
    return (error as Error).message
  }
}

test('options are read as Go programs read them', () => {
  const cases: readonly (readonly [string, unknown])[] = [
    ['-d x', { detach: true, args: ['x'] }],
    ['x -d y', { detach: true, args: ['x', 'y'] }],
    ['-- -d', { args: ['-d'] }],
    ['--detach=false --proxy=false', { proxy: false }],
    ['--detach=1 --ipv4=F', { detach: true, ipv4: false }],
    ['-di x', { detach: true, interactive: true, args: ['x'] }],
    ['-die A=1 x', { detach: true, interactive: true, env: ['A=1'], args: ['x'] }],
    ['-eA=1 -e=B=2 --env=C --env D', { env: ['A=1', 'B=2', 'C', 'D'] }],
    ['-e -d', { env: ['-d'] }],
    ['--name -x', { name: '-x' }],
    ['--name=', { name: '' }],
    ['--net a --network b', { network: ['a', 'b'] }],
    ['-o a=b -o c', { opt: { a: 'b', c: '' } }],
    ['--subnet a,b --subnet c', { subnet: ['a', 'b', 'c'] }],
    ['-f a=1 -f a=2 -f B=3=4', { filter: { a: ['1', '2'], b: ['3=4'] } }],
    ['-t -1', { timeout: -1 }],
    ['-t 5 -t 6', { timeout: 6 }],
    ['--help --nonsense', { help: true }],
    ['-h', { help: true }],
    ['--foo', 'unknown flag: --foo'],
    ['--foo=1', 'unknown flag: --foo'],
    ['-z', "unknown shorthand flag: 'z' in -z"],
    ['--name', 'flag needs an argument: --name'],
    ['-de', "flag needs an argument: 'e' in -e"],
    ['-t x', 'invalid argument "x" for "-t, --timeout" flag: strconv.ParseInt: parsing "x": invalid syntax'],
    ['--detach=maybe', 'invalid argument "maybe" for "--detach" flag: strconv.ParseBool: parsing "maybe": invalid syntax'],
    ['-f a', 'invalid argument "a" for "-f, --filter" flag: bad format of filter (expected name=value)'],
  ]
  for (const [words, expected] of cases) assert.deepEqual(parse(words), expected, words)
})

test('a command of a container keeps its own options', () => {
  assert.deepEqual(parse('-d image -d --name x', true), { detach: true, args: ['image', '-d', '--name', 'x'] })
  assert.deepEqual(parse('-e A=1 image sh -c x --detach=false', true), { env: ['A=1'], args: ['image', 'sh', '-c', 'x', '--detach=false'] })
  assert.deepEqual(parse('-- image -- x', true), { args: ['image', '--', 'x'] })
})

test('every command loads, and its help shows its usage, its options and an example', async () => {
  for (const [path, verb] of allCommands()) {
    const { spec } = await verb.load()
    const help = commandHelp(spec, 100)
    assert.match(help, new RegExp(`^Usage:  causeway ${spec.path}`), path)
    assert.ok(spec.examples.length > 0 && spec.examples.every(({ line }) => line.includes('causeway')), `${path} has no example`)
    for (const [name, option] of Object.entries(spec.options)) {
      assert.equal(help.includes(`--${name}`), !option.hidden, `${path} --${name}`)
      assert.ok(!option.hidden ? option.help !== '' : true, `${path} --${name} says nothing`)
    }
    const longest = Math.max(
      ...(help
        .split('\n\nExamples:')[0]
        ?.split('\n')
        .map((l) => l.length) ?? [0]),
    )
    assert.ok(longest <= 200, `${path}: line of ${longest}`)
    const shorts = Object.values(spec.options)
      .map((o) => o.short)
      .filter((s) => s !== '')
    assert.equal(new Set(shorts).size, shorts.length, `${path} has a letter twice`)
  }
})

test('verbs are found by every spelling', () => {
  for (const words of [
    'ps',
    'container ls',
    'container list',
    'container ps',
    'network list',
    'image remove',
    'rmi',
    'images',
    'volume remove',
  ])
    assert.equal(find(words.split(' ')).kind, 'command', words)
  assert.equal(find(['network']).kind, 'group')
  assert.equal(find(['network', '--help']).kind, 'group')
  assert.equal(find(['nonsense']).kind, 'unknown')
  assert.equal(find(['network', 'nonsense']).kind, 'unknown')
  assert.equal(nearest('netwrok', ''), 'network')
  assert.equal(nearest('inspct', 'network'), 'inspect')
  assert.equal(nearest('zzz', ''), undefined)
})

test('PORTS: neighbours become ranges, exposed ports have no address, other numbers come last', () => {
  const p = (PrivatePort: number, PublicPort?: number, IP?: string, Type = 'tcp') => ({
    PrivatePort,
    Type,
    ...(PublicPort === undefined ? {} : { PublicPort }),
    ...(IP === undefined ? {} : { IP }),
  })
  assert.equal(displayPorts([]), '')
  assert.equal(displayPorts([p(99), p(100), p(101), p(103)]), '99-101/tcp, 103/tcp')
  assert.equal(displayPorts([p(80, 8080, '0.0.0.0'), p(80, 8080, '::')]), '0.0.0.0:8080->80/tcp, [::]:8080->80/tcp')
  assert.equal(displayPorts([p(53, 53, '::', 'udp'), p(53, 53, '0.0.0.0', 'udp')]), '0.0.0.0:53->53/udp, [::]:53->53/udp')
  assert.equal(
    displayPorts([p(7001, 7001, '127.0.0.1'), p(7000, 7000, '127.0.0.1'), p(90)]),
    '90/tcp, 127.0.0.1:7000-7001->7000-7001/tcp'
      .split(', ')
      .toSorted((a) => (a.startsWith('90') ? -1 : 1))
      .join(', '),
  )
})

test('image names', () => {
  assert.deepEqual(splitImageName('busybox'), { repository: 'busybox', tag: '', isDigest: false })
  assert.deepEqual(splitImageName('host:5000/a/b'), { repository: 'host:5000/a/b', tag: '', isDigest: false })
  assert.deepEqual(splitImageName('host:5000/a/b:1'), { repository: 'host:5000/a/b', tag: '1', isDigest: false })
  assert.deepEqual(splitImageName('a:1@sha256:ff'), { repository: 'a', tag: 'sha256:ff', isDigest: true })
  assert.equal(withTag('a'), 'a:latest')
  assert.equal(fullImageName('busybox'), 'docker.io/library/busybox:latest')
  assert.equal(fullImageName('me/app:1'), 'docker.io/me/app:1')
  assert.equal(fullImageName('localhost/app'), 'localhost/app:latest')
})

test('detach keys: typed in one piece or one by one, and passed on when they were something else', () => {
  assert.deepEqual([...parseDetachKeys('')], [16, 17])
  assert.deepEqual([...parseDetachKeys('ctrl-a,x,ctrl-[')], [1, 120, 27])
  assert.throws(() => parseDetachKeys('foo'), { message: "Unknown character: 'foo'" })
  const typed = (...pieces: number[][]) => {
    const watcher = new DetachWatcher(parseDetachKeys(''))
    const out: number[] = []
    for (const piece of pieces) {
      const { data, detached } = watcher.push(Uint8Array.from(piece))
      out.push(...data)
      if (detached) return { out, detached }
    }
    return { out, detached: false }
  }
  assert.deepEqual(typed([97, 16, 17, 98]), { out: [97], detached: true })
  assert.deepEqual(typed([97], [16], [17]), { out: [97], detached: true })
  assert.deepEqual(typed([16], [97]), { out: [16, 97], detached: false })
  assert.deepEqual(typed([16, 16, 17]), { out: [16], detached: true })
  assert.deepEqual(typed([16], [16], [16]), { out: [16, 16], detached: false })
})

test('--since and --until: durations, times, Unix seconds', () => {
  const now = Date.parse('2026-01-02T00:00:00Z')
  assert.equal(parseWhen('since', '10m', now), `${now / 1000 - 600}.000000000`)
  assert.equal(parseWhen('until', '0s', now), `${now / 1000}.000000000`)
  assert.equal(parseWhen('since', '1700000000.5', now), '1700000000.5')
  assert.equal(parseWhen('since', '2026-01-01T00:00:00Z', now), '1767225600.000000000')
  assert.equal(parseWhen('since', '2026-01-01T00:00:00.25+01:00', now), '1767222000.250000000')
  assert.throws(() => parseWhen('since', 'foo', now), {
    message: 'invalid value for "since": failed to parse value as time or duration: "foo"',
  })
})

test('cp: which side is the container', () => {
  assert.deepEqual(parsePlace('c:/a'), { container: 'c', path: '/a' })
  assert.deepEqual(parsePlace('./a:b'), { container: undefined, path: './a:b' })
  assert.deepEqual(parsePlace('/a:b'), { container: undefined, path: '/a:b' })
  assert.deepEqual(parsePlace('-'), { container: undefined, path: '-' })
})

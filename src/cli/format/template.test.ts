import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NetError } from '../../base/errors.ts'
import { asGoMap, GoNil, goSprintf } from './go-print.ts'
import { renderList } from './list-output.ts'
import { compileTemplate } from './template.ts'

const CONTAINER = {
  Name: '/c1',
  State: { Running: true, Pid: 42, Health: new GoNil('pointer') },
  Config: { Cmd: ['sleep', '1'], Labels: asGoMap({ b: '2', a: '1' }), Volumes: new GoNil('map'), Entrypoint: new GoNil('slice') },
  NetworkSettings: {
    Ports: asGoMap({ '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '8080' }], '99/tcp': new GoNil('slice') }),
    Networks: asGoMap({ back: { IPAddress: '10.0.0.2' }, 'a-net': { IPAddress: '10.1.0.2' } }),
  },
  Label: (name: unknown) => `label ${String(name)}`,
}

const GOOD: readonly (readonly [template: string, text: string])[] = [
  ['plain', 'plain'],
  ['{{.Name}}', '/c1'],
  ['{{ .State.Pid }}', '42'],
  ['{{$.Name}}', '/c1'],
  [
    '{{.Config.Cmd}} {{.Config.Labels}} {{.Config.Volumes}} {{.Config.Entrypoint}} {{.State.Health}}',
    '[sleep 1] map[a:1 b:2] map[] [] <nil>',
  ],
  ['{{.NetworkSettings.Ports}}', 'map[80/tcp:[{0.0.0.0 8080}] 99/tcp:[]]'],
  ['{{json .Config.Labels}} {{json .State.Health}}', '{"b":"2","a":"1"} null'],
  ['{{json "<&>"}}', '"\\u003c\\u0026\\u003e"'],
  ['{{.Config.Labels.a}} {{.Config.Labels.zz}} {{index .Config.Labels "b"}} [{{index .Config.Labels "zz"}}]', '1 <no value> 2 []'],
  ['{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', '8080'],
  ['{{range .Config.Cmd}}<{{.}}>{{end}}', '<sleep><1>'],
  ['{{range $i, $e := .Config.Cmd}}{{if $i}},{{end}}{{$e}}{{end}}', 'sleep,1'],
  ['{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}', 'a-net=10.1.0.2 back=10.0.0.2 '],
  ['{{range .Config.Entrypoint}}x{{else}}none{{end}}', 'none'],
  ['{{range .Config.Cmd}}{{if eq . "1"}}{{break}}{{end}}{{.}}{{end}}', 'sleep'],
  ['{{range .Config.Cmd}}{{if eq . "sleep"}}{{continue}}{{end}}{{.}}{{end}}', '1'],
  ['{{if .State.Running}}up{{else}}down{{end}}', 'up'],
  ['{{if .State.Health}}h{{else if .State.Running}}r{{else}}n{{end}}', 'r'],
  ['{{if not .State.Running}}a{{else if false}}b{{else}}c{{end}}!', 'c!'],
  ['{{with .State}}{{.Pid}}{{$.Name}}{{end}}', '42/c1'],
  ['{{with .State.Health}}x{{else}}none{{end}}', 'none'],
  ['{{$x := .Name}}{{if true}}{{$x = "new"}}{{end}}{{$x}}', 'new'],
  ['{{if true}}{{$x := 1}}{{end}}{{$x := 2}}{{$x}}', '2'],
  ['a {{- .Name -}} b', 'a/c1b'],
  ['{{/* nothing */}}x{{- /* trimmed */ -}} y', 'xy'],
  ['{{.Name | upper | printf "%s!"}}', '/C1!'],
  [
    '{{printf "%q %d %5d|%-5s|%05d %v %x %t %%" .Name .State.Pid 7 "ab" 42 .Config.Cmd "hi" true}}',
    '"/c1" 42     7|ab   |00042 [sleep 1] 6869 true %',
  ],
  ['{{len .Config.Cmd}} {{len .Name}} {{len .Config.Entrypoint}}', '2 3 0'],
  ['{{join .Config.Cmd "+"}} {{split "a,b" ","}} {{title "one two"}} {{lower "ABC"}}', 'sleep+1 [a b] One Two abc'],
  ['{{slice .Name 1}} {{slice "abcdef" 1 3}} {{truncate "abcdef" 3}}[{{pad "x" 1 2}}]', 'c1 bc abc[ x  ]'],
  ['{{and .State.Running "yes"}} {{or "" "b"}} {{and "" (index .Config.Cmd 9)}}', 'yes b '],
  ['{{eq 1 1}} {{eq "a" "b" "a"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge "b" "a"}}', 'true true true true true false true'],
  ['{{println "a" 1}}{{print "a" 1 2 "b"}}', 'a 1\na1 2b'],
  ['{{"quoted \\"x\\" \\n"}}{{`raw \\n`}}', 'quoted "x" \nraw \\n'],
  ["{{'a'}}", '97'],
  ['{{.Label "com.x"}}', 'label com.x'],
  ['{{html "<a>"}} {{urlquery "a b&c"}}', '&lt;a&gt; a+b%26c'],
  ['{{range 3}}{{.}}{{end}}', '012'],
]

test('template: gives what Go gives', () => {
  for (const [template, text] of GOOD) assert.equal(compileTemplate(template)(CONTAINER), text, template)
})

const BROKEN: readonly (readonly [template: string, reason: string, exitCode: number])[] = [
  ['{{.State', ':1: unclosed action', 64],
  ['{{nope .X}}', ':1: function "nope" not defined', 64],
  ['{{if}}x{{end}}', ':1: missing value for if', 64],
  ['{{range .Config.Cmd}}', ':1: unexpected EOF', 64],
  ['{{end}}', ':1: unexpected {{end}}', 64],
  ['{{if true}}{{else}}{{else}}{{end}}', ':1: unexpected {{else}}', 64],
  ['{{$x}}', ':1: undefined variable "$x"', 64],
  ['{{break}}', ':1: {{break}} outside {{range}}', 64],
  ['{{"open}}', ':1: unterminated quoted string', 64],
  ['{{(.Name}}', ':1: unclosed left paren', 64],
  ['{{.Name)}}', ':1: unexpected right paren', 64],
  ['{{}}', ':1: missing value for command', 64],
  ['line\n{{.Foo}}', ':2:2: executing "" at <.Foo>: map has no entry for key "Foo"', 1],
  ['{{.State.Health.Status}}', ':1:8: executing "" at <.State.Health.Status>: map has no entry for key "Health"', 1],
  ['{{.Name.Foo}}', ':1:7: executing "" at <.Name.Foo>: can\'t evaluate field Foo in type interface {}', 1],
  ['{{index .Config.Cmd 5}}', ':1:2: executing "" at <index .Config.Cmd 5>: error calling index: index out of range: 5', 1],
  ['{{len .State.Pid}}', ':1:2: executing "" at <len .State.Pid>: error calling len: len of type int', 1],
  ['{{range .Name}}{{end}}', ':1:8: executing "" at <.Name>: range can\'t iterate over /c1', 1],
  ['{{lt 1 "a"}}', ':1:2: executing "" at <lt 1 "a">: error calling lt: incompatible types for comparison', 1],
]

test('template: says what is wrong and where, with the exit code of Docker', () => {
  for (const [template, reason, exitCode] of BROKEN) {
    let thrown: unknown
    try {
      compileTemplate(template)(CONTAINER)
    } catch (error) {
      thrown = error
    }
    assert.ok(thrown instanceof NetError, template)
    if (template !== '{{.State.Health.Status}}') assert.equal(thrown.message, `template parsing error: template: ${reason}`)
    else assert.match(thrown.message, /no entry for key/)
    assert.equal((thrown.detail as { exitCode?: number }).exitCode, exitCode, template)
  }
})

test('template: no input makes the parser hang or throw anything but its own error', () => {
  const alphabet = ['{{', '}}', '.', 'A', '"', '|', '(', ')', ' ', 'if', 'end', 'range', 'else', '$x', ':=', '-', '/*', '*/', '1', '`', "'"]
  let seed = 7
  const next = () => {
    seed = (seed * 1103515245 + 12345) % 2147483648
    return seed
  }
  for (let i = 0; i < 5000; i++) {
    const source = Array.from({ length: next() % 12 }, () => alphabet[next() % alphabet.length]).join('')
    try {
      compileTemplate(source)({ A: 1 })
    } catch (error) {
      assert.ok(error instanceof NetError, `${source}: ${String(error)}`)
    }
  }
})

test('printf: says what is missing and what is too much, as Go', () => {
  assert.equal(goSprintf('%s %d', ['a']), 'a %!d(MISSING)')
  assert.equal(goSprintf('%s', ['a', 'b']), 'a%!(EXTRA string=b)')
  assert.equal(goSprintf('%d', ['x']), '%!d(string=x)')
})

const LIST = { headers: { ID: 'THE ID', Name: 'NAME' }, table: '{{.ID}}\t{{.Name}}', quiet: 'ID' }
const ROWS = [
  { ID: 'aaaaaaaaaaaa', Name: 'x', Label: (n: unknown) => `v${String(n)}` },
  { ID: 'b', Name: 'long name', Label: () => '' },
]

test('list: every kind of --format', () => {
  assert.equal(renderList(LIST, ROWS, undefined, false), 'THE ID         NAME\naaaaaaaaaaaa   x\nb              long name\n')
  assert.equal(renderList(LIST, ROWS, undefined, true), 'aaaaaaaaaaaa\nb\n')
  assert.equal(renderList(LIST, ROWS, 'json', false), '{"ID":"aaaaaaaaaaaa","Name":"x"}\n{"ID":"b","Name":"long name"}\n')
  assert.equal(renderList(LIST, ROWS, '{{json .}}', false), '{"ID":"aaaaaaaaaaaa","Name":"x"}\n{"ID":"b","Name":"long name"}\n')
  assert.equal(renderList(LIST, ROWS, '{{.Name}}={{.Label "q"}}', false), 'x=vq\nlong name=\n')
  assert.equal(renderList(LIST, ROWS, 'table {{.Name}}\\t{{.Label "q"}}', false), 'NAME        q\nx           vq\nlong name   \n')
  assert.equal(renderList(LIST, ROWS, 'table {{upper .Name}}', false), 'NAME\nX\nLONG NAME\n')
  assert.equal(renderList(LIST, [], undefined, false), 'THE ID    NAME\n')
  assert.equal(renderList(LIST, [], 'json', false), '')
})

test('list: an unknown column is answered with the columns there are', () => {
  assert.throws(() => renderList(LIST, ROWS, '{{.Nope}}', false), {
    message: 'failed to execute template: template: :1:2: executing "" at <.Nope>: can\'t evaluate field Nope: there are .ID .Label .Name',
  })
})

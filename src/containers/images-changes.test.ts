import assert from 'node:assert/strict'
import { test } from 'node:test'
import { applyChanges } from './images-changes.ts'

test('every instruction lands in its field', () => {
  assert.deepEqual(
    applyChanges({}, [
      'CMD ["a", "b c"]',
      'entrypoint /x y',
      'ENV A=1 B="two words" C=\'3 4\'',
      'ENV A 5 6',
      'EXPOSE 80 53/udp 8000-8002/TCP',
      'LABEL k=v "quoted key"=x',
      'USER nobody:nogroup',
      'VOLUME ["/data", "/d 2"]',
      'VOLUME /x /y',
      'WORKDIR /srv',
      'WORKDIR app',
      'STOPSIGNAL SIGINT',
      'ONBUILD RUN x',
      '',
    ]),
    {
      Cmd: ['a', 'b c'],
      Entrypoint: ['/bin/sh', '-c', '/x y'],
      Env: ['A=5 6', 'B=two words', 'C=3 4'],
      ExposedPorts: { '80/tcp': {}, '53/udp': {}, '8000/tcp': {}, '8001/tcp': {}, '8002/tcp': {} },
      Labels: { k: 'v', 'quoted key': 'x' },
      User: 'nobody:nogroup',
      Volumes: { '/data': {}, '/d 2': {}, '/x': {}, '/y': {} },
      WorkingDir: '/srv/app',
      StopSignal: 'SIGINT',
      OnBuild: ['RUN x'],
    },
  )
})

test('the base is not changed', () => {
  const base = { Env: ['A=1'], Labels: { a: 'b' } }
  applyChanges(base, ['ENV A=2', 'LABEL a=c'])
  assert.deepEqual(base, { Env: ['A=1'], Labels: { a: 'b' } })
})

for (const [change, message] of [
  ['RUN rm -rf /', /RUN is not a valid change command/],
  ['FROM scratch', /FROM is not a valid change command/],
  ['CMD', /CMD requires at least one argument/],
  ['ENV A', /ENV must have two arguments/],
  ['ENV A=1 B', /ENV has a word without "="/],
  ['EXPOSE http', /EXPOSE has an invalid port "http"/],
  ['EXPOSE 70000', /EXPOSE has an invalid port/],
  ['EXPOSE 10-5', /EXPOSE has an invalid port/],
] as const) {
  test(`the change "${change}" is refused`, () => {
    assert.throws(() => applyChanges({}, [change]), { message, code: 'invalid' })
  })
}

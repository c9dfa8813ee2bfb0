import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { COMMANDS } from './bad-input-commands.ts'
import { CONNECT_ROWS } from './bad-input-connect.ts'
import { CONTAINER_ROWS } from './bad-input-containers.ts'
import { NETWORK_ROWS } from './bad-input-networks.ts'
import { makeWorld, picture } from './bad-input-world.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))
const listener = createServer().listen(7777, '0.0.0.0')
after(() => listener.close())
await makeWorld(lab)

const ROWS = [...NETWORK_ROWS, ...CONNECT_ROWS, ...CONTAINER_ROWS]
const fits = (text: string | RegExp, said: string) => (typeof text === 'string' ? said === text : text.test(said))

test('every wrong request gets its documented status and text, and changes nothing', async () => {
  assert.ok(ROWS.length > 220, `${ROWS.length} rows`)
  // a failed start notes its error in the container's state: let it be there before
  for (const { path } of ROWS.filter((r) => r.path.endsWith('/start') && r.status >= 400)) await lab.api('POST', path)
  const before = await picture(lab)
  const problems: string[] = []
  for (const { what, method, path, body, status, text } of ROWS) {
    const reply = await lab.api(method, path, body)
    const said = (reply.json as { message?: string } | undefined)?.message ?? reply.text
    if (reply.status !== status || !fits(text, said))
      problems.push(`${what}\n    expected ${status} ${text}\n    got      ${reply.status} ${said}`)
  }
  assert.equal(problems.join('\n'), '')
  assert.deepEqual(await picture(lab), before)
})

test('every wrong command ends with its exit code and text, and changes nothing', async () => {
  const before = await picture(lab)
  const problems: string[] = []
  for (let i = 0; i < COMMANDS.length; i += 4) {
    const group = COMMANDS.slice(i, i + 4)
    await Promise.all(
      group.map(async ({ what, argv, code, text }) => {
        const ran = await lab.causeway(...argv)
        const lines = ran.err.split('\n').map((line) => line.replace(/^causeway: /, ''))
        const isSaid = lines.some((line) => fits(text, line))
        if (ran.code !== code || !isSaid)
          problems.push(`${what}\n    expected ${code} ${text}\n    got      ${ran.code} ${ran.err}${ran.out}`)
      }),
    )
  }
  assert.equal(problems.join('\n'), '')
  assert.deepEqual(await picture(lab), before)
})

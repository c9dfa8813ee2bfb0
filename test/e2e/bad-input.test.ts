import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { NETWORK_ROWS } from './bad-input-networks.ts'
import { makeWorld, picture } from './bad-input-world.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

test('every wrong request gets its documented status and text, and changes nothing', async () => {
  await makeWorld(lab)
  const before = await picture(lab)
  const problems: string[] = []
  for (const { what, method, path, body, status, text } of NETWORK_ROWS) {
    const reply = await lab.api(method, path, body)
    const message = (reply.json as { message?: string } | undefined)?.message ?? reply.text
    const asExpected = reply.status === status && (typeof text === 'string' ? message === text : text.test(message))
    if (!asExpected) problems.push(`${what}\n    expected ${status} ${text}\n    got      ${reply.status} ${message}`)
  }
  assert.equal(problems.join('\n'), '')
  assert.deepEqual(await picture(lab), before)
})

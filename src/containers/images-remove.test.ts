import assert from 'node:assert/strict'
import { test } from 'node:test'
import { familiar, parseReference } from './images-reference.ts'
import { planRemoval, type RemovalFacts } from './images-remove.ts'

const HEX = '28fe189125723ab2c62bbcb03d8b112418ced432527fcae155a118ba327d2691'
const DIGEST = `sha256:${'ab'.repeat(32)}`
const CONTAINER = 'c0ffee0000000000'

function plan(text: string, names: readonly string[], facts: Partial<RemovalFacts> = {}): { untag: string[]; deletes: boolean } {
  const removal = planRemoval({ text, hex: HEX, refs: names.map(parseReference), users: [], force: false, ...facts })
  return { untag: removal.untag.map(familiar), deletes: removal.deletes }
}

const running = [{ id: CONTAINER, isRunning: true }]
const stopped = [{ id: CONTAINER, isRunning: false }]

test('the last name takes the image with it', () => {
  assert.deepEqual(plan('a', ['a:latest']), { untag: ['a:latest'], deletes: true })
})

test('one of two names only goes itself', () => {
  assert.deepEqual(plan('a:1', ['a:1', 'b:2']), { untag: ['a:1'], deletes: false })
})

test('digests of a repository go with its last tag, those of another stay and keep the image', () => {
  assert.deepEqual(plan('a:1', ['a:1', `a@${DIGEST}`]), { untag: ['a:1', `a@${DIGEST}`], deletes: true })
  assert.deepEqual(plan('a:1', ['a:1', `b@${DIGEST}`]), { untag: ['a:1'], deletes: false })
  assert.deepEqual(plan('a:1', ['a:1', 'a:2', `a@${DIGEST}`]), { untag: ['a:1'], deletes: false })
})

test('by id, all names of one repository go', () => {
  assert.deepEqual(plan('28fe', ['a:1', `a@${DIGEST}`]), { untag: ['a:1', `a@${DIGEST}`], deletes: true })
  assert.deepEqual(plan(`sha256:${HEX}`, []), { untag: [], deletes: true })
})

test('by id, an image with names in several repositories must be forced', () => {
  assert.throws(() => plan('28fe', ['a:1', 'b:1']), {
    message: 'conflict: unable to delete 28fe18912572 (must be forced) - image is referenced in multiple repositories',
    code: 'conflict',
  })
  assert.deepEqual(plan('28fe', ['a:1', 'b:1'], { force: true }), { untag: ['a:1', 'b:1'], deletes: true })
})

test('the last name of an image in use must be forced, and then a running container keeps the image', () => {
  const message =
    'conflict: unable to remove repository reference "a" (must force) - container c0ffee000000 is using its referenced image 28fe18912572'
  assert.throws(() => plan('a', ['a:latest'], { users: running }), { message })
  assert.throws(() => plan('a', ['a:latest'], { users: stopped }), { message })
  assert.deepEqual(plan('a', ['a:latest'], { users: running, force: true }), { untag: ['a:latest'], deletes: false })
  assert.deepEqual(plan('a', ['a:latest'], { users: stopped, force: true }), { untag: ['a:latest'], deletes: true })
  assert.deepEqual(plan('a', ['a:latest', 'a:2'], { users: running }), { untag: ['a:latest'], deletes: false })
})

test('by id, running containers refuse even force, stopped ones want it', () => {
  assert.throws(() => plan('28fe', ['a:1'], { users: running, force: true }), {
    message: 'conflict: unable to delete 28fe18912572 (cannot be forced) - image is being used by running container c0ffee000000',
  })
  assert.throws(() => plan('28fe', ['a:1'], { users: stopped }), {
    message: 'conflict: unable to delete 28fe18912572 (must be forced) - image is being used by stopped container c0ffee000000',
  })
  assert.deepEqual(plan('28fe', ['a:1'], { users: stopped, force: true }), { untag: ['a:1'], deletes: true })
})

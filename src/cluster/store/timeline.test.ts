import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Timeline, versionText } from './timeline.ts'

function timeline() {
  let breaks = 0
  const line = new Timeline(() => breaks++)
  const see = (cluster_id: string, revision: string, mark = line.mark()) =>
    versionText(line.observe({ cluster_id, revision }, mark), revision)
  return { line, see, breaks: () => breaks }
}

test('timeline: going on breaks nothing, and an answer that was overtaken is no step back', () => {
  const { line, see, breaks } = timeline()
  const early = line.mark()
  const first = see('c', '5')
  see('c', '9')
  see('c', '7', early)
  assert.equal(breaks(), 0)
  assert.equal(line.revisionOf(first), '5')
})

test('timeline: a revision below what was seen before asking, or another cluster, makes earlier versions void', () => {
  for (const next of [['c', '3'] as const, ['d', '900'] as const]) {
    const { line, see, breaks } = timeline()
    const before = see('c', '9')
    const after = see(next[0], next[1])
    assert.equal(breaks(), 1)
    assert.equal(line.revisionOf(before), undefined)
    assert.equal(line.revisionOf(after), next[1])
    see(next[0], '901')
    assert.equal(breaks(), 1)
  }
})

test('timeline: an answer asked before a break and given after it counts for the time before', () => {
  const { line, see, breaks } = timeline()
  see('c', '9')
  const mark = line.mark()
  see('d', '2')
  const late = see('d', '2', mark)
  assert.equal(breaks(), 1)
  assert.equal(line.revisionOf(late), undefined)
})

test('timeline: what is no version of ours has no revision', () => {
  const { line } = timeline()
  for (const text of ['', '1', '1.', '1.x', '.5', '2.5', 'nonsense']) assert.equal(line.revisionOf(text), undefined, text)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkLogConfig, logBounds } from './log-options.ts'

const host = (Config: Record<string, string>, Type = 'json-file') => ({ LogConfig: { Type, Config } })

test('max-size is decimal, max-file counts the file being written', () => {
  assert.equal(logBounds({}), undefined)
  assert.equal(logBounds(host({ 'max-file': '3' })), undefined)
  assert.deepEqual(logBounds(host({ 'max-size': '10m' })), { maxBytes: 10_000_000, maxFiles: 1 })
  assert.deepEqual(logBounds(host({ 'max-size': '1.5KB', 'max-file': '4' })), { maxBytes: 1500, maxFiles: 4 })
  assert.deepEqual(logBounds(host({ 'max-size': '200' })), { maxBytes: 200, maxFiles: 1 })
  assert.equal(logBounds(host({ 'max-size': '-1' })), undefined)
})

test('the driver "local" is bounded without being told', () => {
  assert.deepEqual(logBounds(host({}, 'local')), { maxBytes: 20_000_000, maxFiles: 5, compress: true })
  assert.deepEqual(logBounds(host({ 'max-file': '2' }, 'local')), { maxBytes: 20_000_000, maxFiles: 2, compress: true })
  assert.deepEqual(logBounds(host({ 'max-file': '1' }, 'local')), { maxBytes: 20_000_000, maxFiles: 1 })
})

test('unknown drivers, unknown options and wrong values are refused in Docker’s words', () => {
  const refused = (wanted: RegExp, config: Record<string, string>, type?: string) =>
    assert.throws(() => checkLogConfig(host(config, type)), { code: 'invalid', message: wanted })
  refused(/^logger: no log driver named 'fluentd' is registered$/, {}, 'fluentd')
  refused(/^unknown log opt 'max-sise' for json-file log driver$/, { 'max-sise': '1m' })
  refused(/^max-size must be a positive number$/, { 'max-size': '0' })
  refused(/^invalid size: 'lots'$/, { 'max-size': 'lots' })
  refused(/^max-file cannot be less than 1$/, { 'max-file': '0' })
  refused(/^strconv.Atoi: parsing "two": invalid syntax$/, { 'max-file': 'two' })
  refused(/^strconv.ParseBool: parsing "maybe": invalid syntax$/, { compress: 'maybe' })
  refused(/^compress cannot be true when max-file is less than 2 or max-size is not set$/, { compress: 'true', 'max-size': '1m' })
  checkLogConfig(host({ compress: 'true', 'max-size': '1m', 'max-file': '2' }))
  checkLogConfig(host({ compress: 'true' }, 'local'))
  checkLogConfig(host({ 'max-size': '1m', 'max-file': '2', labels: 'a,b', env: 'X', tag: '{{.Name}}' }))
  checkLogConfig(host({ anything: 'goes' }, 'none'))
  checkLogConfig({})
})

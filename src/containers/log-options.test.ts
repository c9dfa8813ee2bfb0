import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkLogConfig, logMaxBytes } from './log-options.ts'

const host = (Config: Record<string, string>, Type = 'json-file') => ({ LogConfig: { Type, Config } })

test('max-size is decimal, and max-file multiplies it', () => {
  assert.equal(logMaxBytes({}), undefined)
  assert.equal(logMaxBytes(host({ 'max-file': '3' })), undefined)
  assert.equal(logMaxBytes(host({ 'max-size': '10m' })), 10_000_000)
  assert.equal(logMaxBytes(host({ 'max-size': '1.5KB', 'max-file': '4' })), 6000)
  assert.equal(logMaxBytes(host({ 'max-size': '200' })), 200)
  assert.equal(logMaxBytes(host({ 'max-size': '-1' })), undefined)
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
  checkLogConfig(host({ 'max-size': '1m', 'max-file': '2', labels: 'a,b', env: 'X', tag: '{{.Name}}' }))
  checkLogConfig(host({ anything: 'goes' }, 'none'))
  checkLogConfig({})
})

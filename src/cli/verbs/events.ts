/** `events`. */
import type { EventMessage } from '../../client/types.ts'
import { defineCommand } from '../command.ts'
import { asGoMap } from '../format/go-print.ts'
import { compileTemplate } from '../format/template.ts'
import { filter, formatOption, text } from '../options.ts'
import { parseWhen } from '../when.ts'

export const events = defineCommand({
  path: 'events',
  aliases: ['system events'],
  summary: 'Show events as they happen',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: {
    filter: filter(),
    format: formatOption(),
    since: text('', 'Also events since this time'),
    until: text('', 'End at this time'),
  },
  examples: [{ line: 'causeway events --filter type=network' }, { line: 'causeway events --since 10m --until 0s --format json' }],
  run: async (context, _args, options) => {
    const now = context.clock.now()
    const stop = new AbortController()
    const { format } = options
    const template =
      format === undefined || format === 'json' ? undefined : compileTemplate(format.replaceAll('\\t', '\t').replaceAll('\\n', '\n'))
    const stream = context.client.system.events({
      since: options.since === undefined ? undefined : parseWhen('since', options.since, now),
      until: options.until === undefined ? undefined : parseWhen('until', options.until, now),
      filters: options.filter,
      signal: stop.signal,
    })
    for await (const { event, text } of stream) {
      const nanos = /"timeNano":\s*(\d+)/.exec(text)?.[1] ?? `${event.time}000000000`
      if (format === 'json') context.print(text)
      else context.print(template === undefined ? eventText(event, nanos) : template(withNames(event, nanos)))
    }
    return 0
  },
})

/** Templates use Go's names of the fields. */
function withNames(event: EventMessage, nanos: string): Record<string, unknown> {
  const { status = '', id = '', from = '', scope = '', time, Actor } = event
  const actor = { ID: Actor?.ID ?? '', Attributes: asGoMap({ ...Actor?.Attributes }) }
  return { ...event, Actor: actor, Status: status, ID: id, From: from, Scope: scope, Time: time, TimeNano: BigInt(nanos) }
}

/** `2026-11-21T00:20:25.123456789Z container start <id> (image=busybox, name=c1)`, local time. */
function eventText(event: EventMessage, nanos: string): string {
  const { ID = '', Attributes } = event.Actor ?? {}
  const attributes = Object.entries(Attributes ?? {})
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([k, v]) => `${k}=${v}`)
  const detail = attributes.length === 0 ? '' : ` (${attributes.join(', ')})`
  return `${eventTime(event.time, nanos)} ${event.Type} ${event.Action} ${ID}${detail}`
}

function eventTime(time: number, nanos: string): string {
  const date = new Date(time * 1000)
  const fraction = nanos.slice(-9)
  const two = (n: number) => String(n).padStart(2, '0')
  const offset = -date.getTimezoneOffset()
  const zone = offset === 0 ? 'Z' : `${offset < 0 ? '-' : '+'}${two(Math.trunc(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day}T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${fraction}${zone}`
}

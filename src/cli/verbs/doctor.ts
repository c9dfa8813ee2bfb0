/** `doctor` and `repairs`. */
import { defineCommand } from '../command.ts'
import { colours } from '../context.ts'
import { goJson } from '../format/go-print.ts'
import { formatTable } from '../format/tabwriter.ts'
import { formatOption } from '../options.ts'

const COLOUR: Readonly<Record<string, number>> = { ok: 32, note: 33, missing: 31 }

export const doctor = defineCommand({
  path: 'doctor',
  summary: 'Check this host: kernel, runtimes, forwarding, foreign firewalls, and what each missing thing costs',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: formatOption() },
  notes: 'Exit code 1 when something is missing.',
  examples: [{ line: 'causeway doctor' }, { line: 'causeway doctor --format json' }],
  run: async (context, _args, options) => {
    const checks = await context.client.own.doctor()
    if (options.format === 'json') context.print(goJson(checks))
    else {
      const paint = colours(context.stdout, context.env)
      const lines = formatTable(
        ['AREA', 'CHECK', 'STATE', 'FOUND'],
        checks.map((c) => [c.area, c.name, c.state, c.found]),
      ).split('\n')
      context.print(lines[0] as string)
      checks.forEach((check, i) => {
        context.print((lines[i + 1] as string).replace(` ${check.state} `, ` ${paint(COLOUR[check.state] ?? 0, check.state)} `))
        if (check.state !== 'ok' && check.cost !== '') context.print(`    ${check.cost}`)
      })
    }
    return checks.some((c) => c.state === 'missing') ? 1 : 0
  },
})

export const repairs = defineCommand({
  path: 'repairs',
  summary: 'Show what others changed behind our back, and how it was put right',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: formatOption() },
  examples: [{ line: 'causeway repairs' }],
  run: async (context, _args, options) => {
    const found = await context.client.own.repairs()
    if (options.format === 'json') context.print(goJson(found))
    else {
      const rows = found.map((r) => [new Date(r.at).toISOString(), r.subject, r.wrong, r.repair])
      context.print(formatTable(['TIME', 'WHAT', 'WRONG', 'REPAIR'], rows))
    }
    return 0
  },
})

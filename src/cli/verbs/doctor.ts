/** `doctor` and `repairs`. */
import { defineCommand } from '../command.ts'
import { colours } from '../context.ts'
import { type ListFormat, renderList } from '../format/list-output.ts'
import { formatTable } from '../format/tabwriter.ts'
import { formatOption } from '../options.ts'

const COLOUR: Readonly<Record<string, number>> = { ok: 32, note: 33, missing: 31 }

const CHECKS: ListFormat = {
  headers: { Area: 'AREA', Check: 'CHECK', State: 'STATE', Found: 'FOUND', Cost: 'COST' },
  table: '{{.Area}}\t{{.Check}}\t{{.State}}\t{{.Found}}',
  quiet: 'Check',
}

export const doctor = defineCommand({
  path: 'doctor',
  summary: 'Check this host: kernel, runtimes, forwarding, foreign firewalls, and what each missing thing costs',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: formatOption() },
  notes: 'Exit code 1 when something is missing.',
  examples: [{ line: 'causeway doctor' }, { line: "causeway doctor --format '{{.Check}}: {{.State}}'" }],
  run: async (context, _args, options) => {
    const checks = await context.client.own.doctor()
    const rows = checks.map((c) => ({ Area: c.area, Check: c.name, State: c.state, Found: c.found, Cost: c.cost }))
    if (options.format !== undefined && options.format !== 'table') context.stdout.write(renderList(CHECKS, rows, options.format, false))
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

const REPAIRS: ListFormat = {
  headers: { Time: 'TIME', What: 'WHAT', Wrong: 'WRONG', Repair: 'REPAIR' },
  table: '{{.Time}}\t{{.What}}\t{{.Wrong}}\t{{.Repair}}',
  quiet: 'What',
}

export const repairs = defineCommand({
  path: 'repairs',
  summary: 'Show what others changed behind our back, and how it was put right',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: formatOption() },
  examples: [{ line: 'causeway repairs' }],
  run: async (context, _args, options) => {
    const found = await context.client.own.repairs()
    const rows = found.map((r) => ({ Time: new Date(r.at).toISOString(), What: r.subject, Wrong: r.wrong, Repair: r.repair }))
    context.stdout.write(renderList(REPAIRS, rows, options.format, false))
    return 0
  },
})

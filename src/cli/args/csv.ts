/** The comma-separated fields of `--network` and `--mount`: one CSV record, so that a quoted field may hold commas. */
import { NetError } from '../../base/errors.ts'

/** Throws NetError `invalid` for a quote in the wrong place. */
export function splitCsv(text: string): string[] {
  const fields: string[] = []
  let at = 0
  for (;;) {
    let field = ''
    if (text[at] === '"') {
      for (at++; ; at++) {
        if (at >= text.length)
          throw new NetError('invalid', `parse error on line 1, column ${at + 1}: extraneous or missing " in quoted-field`)
        if (text[at] !== '"') field += text[at]
        else if (text[at + 1] === '"') field += text[at++]
        else break
      }
      at++
      if (at < text.length && text[at] !== ',')
        throw new NetError('invalid', `parse error on line 1, column ${at + 1}: extraneous or missing " in quoted-field`)
    } else {
      const comma = text.indexOf(',', at)
      const end = comma < 0 ? text.length : comma
      field = text.slice(at, end)
      if (field.includes('"'))
        throw new NetError('invalid', `parse error on line 1, column ${at + field.indexOf('"') + 1}: bare " in non-quoted-field`)
      at = end
    }
    fields.push(field)
    if (at >= text.length) return fields
    at++
  }
}

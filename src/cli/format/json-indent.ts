/** Re-indents JSON text without parsing numbers or strings: what the engine sent is what people see, order and digits included. */

export function indentJson(text: string, indent: string, prefix = ''): string {
  let out = ''
  let depth = 0
  const newline = () => `\n${prefix}${indent.repeat(depth)}`
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string
    if (c === '"') {
      const end = endOfString(text, i)
      out += text.slice(i, end)
      i = end - 1
    } else if (c === '{' || c === '[') {
      const close = skipBlank(text, i + 1)
      if (text[close] === (c === '{' ? '}' : ']')) {
        out += c + (text[close] as string)
        i = close
      } else {
        depth++
        out += c + newline()
      }
    } else if (c === '}' || c === ']') {
      depth--
      out += newline() + c
    } else if (c === ',') out += c + newline()
    else if (c === ':') out += ': '
    else if (!isBlank(c)) out += c
  }
  return out
}

function endOfString(text: string, start: number): number {
  let i = start + 1
  while (i < text.length && text[i] !== '"') i += text[i] === '\\' ? 2 : 1
  return i + 1
}

function skipBlank(text: string, from: number): number {
  let i = from
  while (i < text.length && isBlank(text[i] as string)) i++
  return i
}

function isBlank(c: string): boolean {
  return c === ' ' || c === '\n' || c === '\r' || c === '\t'
}

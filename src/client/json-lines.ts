/** Docker's progress and event streams: JSON values one after the other, with or without a line end in between. */

/** Yields the text of each complete value. Text that never completes is dropped at the end of the stream (the connection was cut). */
export async function* readJsonTexts(chunks: AsyncIterable<Uint8Array | string>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  const splitter = new JsonSplitter()
  for await (const chunk of chunks) {
    const text = typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true })
    yield* splitter.push(text)
  }
}

/** Cuts a text stream into top-level objects and arrays by counting brackets outside of strings. */
class JsonSplitter {
  #text = ''
  #scanned = 0
  #start = -1
  #depth = 0
  #inString = false
  #escaped = false

  push(text: string): string[] {
    this.#text += text
    const values: string[] = []
    for (; this.#scanned < this.#text.length; this.#scanned++) {
      const c = this.#text[this.#scanned] as string
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (c === '\\') this.#escaped = true
        else if (c === '"') this.#inString = false
      } else if (c === '"') this.#inString = true
      else if (c === '{' || c === '[') {
        if (this.#depth++ === 0) this.#start = this.#scanned
      } else if ((c === '}' || c === ']') && --this.#depth === 0) values.push(this.#text.slice(this.#start, this.#scanned + 1))
    }
    const keepFrom = this.#depth > 0 ? this.#start : this.#scanned
    this.#text = this.#text.slice(keepFrom)
    this.#scanned -= keepFrom
    this.#start = 0
    return values
  }
}

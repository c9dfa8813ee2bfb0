/** A row of a list: an object of columns; a function is a method for templates (`{{.Label "x"}}`) and not part of `{{json .}}`. */

export type Row = Readonly<Record<string, unknown>>

const ROW = Symbol('row')

/** Marks an object as a row: an unknown field is then explained by the fields there are. */
export function asRow<T extends object>(row: T): T {
  return Object.defineProperty(row, ROW, { value: true })
}

export function isRow(value: object): boolean {
  return ROW in value
}

export function rowFields(row: object): string {
  return Object.keys(row)
    .toSorted()
    .map((key) => `.${key}`)
    .join(' ')
}

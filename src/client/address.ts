/** Where the engine listens: the text of `-H` parsed once. */
import { NetError } from '../base/errors.ts'

/** Where an engine listens unless it is told otherwise. */
export const DEFAULT_HOST = 'unix:///run/causeway/causeway.sock'

export type EngineAddress =
  | { readonly kind: 'unix'; readonly socketPath: string; readonly text: string }
  | {
      readonly kind: 'tcp'
      readonly host: string
      readonly port: number
      readonly tls: boolean
      readonly basePath: string
      readonly text: string
    }

/**
 * Parses `unix:///path`, a bare `/path`, `tcp://host[:port][/base]`, `http(s)://...` or `host:port`, as Docker's `-H` does.
 * The port defaults to 2375, or 2376 with TLS. Throws NetError `invalid`.
 */
export function parseEngineAddress(text: string, useTls = false): EngineAddress {
  if (text.startsWith('/')) return { kind: 'unix', socketPath: text, text: `unix://${text}` }
  if (text.startsWith('unix://')) {
    const socketPath = text.slice('unix://'.length)
    if (socketPath === '') throw bad(text)
    return { kind: 'unix', socketPath, text }
  }
  const scheme = /^([a-z]+):\/\//.exec(text)?.[1]
  if (scheme !== undefined && !['tcp', 'http', 'https'].includes(scheme)) throw bad(text)
  const tls = useTls || scheme === 'https'
  let url: URL
  try {
    url = new URL(scheme === undefined ? `http://${text}` : text.replace(/^[a-z]+/, 'http'))
  } catch (cause) {
    throw bad(text, cause)
  }
  const port = url.port !== '' ? Number(url.port) : /:80(\/|$)/.test(text) ? 80 : tls ? 2376 : 2375 // URL drops http's own port 80
  const host = url.hostname.replace(/^\[|\]$/g, '')
  return { kind: 'tcp', host, port, tls, basePath: url.pathname.replace(/\/+$/, ''), text: scheme === undefined ? `tcp://${text}` : text }
}

function bad(text: string, cause?: unknown): NetError {
  return new NetError('invalid', `unable to parse host "${text}": expected unix:///path or tcp://host:port`, { subject: text }, cause)
}

/** A certificate authority for one test: openssl makes a server's certificate for some addresses and a client's, in a folder. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Certs {
  readonly ca: string
  /** The server's, good for serving and for asking other servers. */
  readonly serverCert: string
  readonly serverKey: string
  readonly clientCert: string
  readonly clientKey: string
  /** Self-signed by nobody that the servers know. */
  readonly strangerCert: string
  readonly strangerKey: string
}

/** Makes everything below `dir`; `names` are the host names and addresses that the server's certificate is for. */
export function makeCerts(dir: string, names: readonly string[]): Certs {
  mkdirSync(dir, { recursive: true })
  const at = (name: string) => join(dir, name)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  openssl('req', '-x509', ...newKey, '-subj', '/CN=test authority', '-keyout', at('ca.key'), '-out', at('ca.pem'))
  openssl('req', '-x509', ...newKey, '-subj', '/CN=stranger', '-keyout', at('stranger.key'), '-out', at('stranger.pem'))
  const signed = (name: string, extensions: string) => {
    writeFileSync(at(`${name}.ext`), `${extensions}\n`)
    // no CN: etcd's JSON gateway asks its own server with this certificate, which must not pass for a user's name
    openssl('req', ...newKey, '-subj', '/O=causeway test', '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`))
    const by = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '2', '-extfile', at(`${name}.ext`)]
    openssl('x509', '-req', '-in', at(`${name}.csr`), ...by, '-out', at(`${name}.pem`))
  }
  const alt = names.map((name) => (/^[\d.]+$|:/.test(name) ? `IP:${name}` : `DNS:${name}`)).join(',')
  signed('server', `subjectAltName=${alt}\nextendedKeyUsage=serverAuth,clientAuth`)
  signed('client', 'extendedKeyUsage=clientAuth')
  return {
    ca: at('ca.pem'),
    serverCert: at('server.pem'),
    serverKey: at('server.key'),
    clientCert: at('client.pem'),
    clientKey: at('client.key'),
    strangerCert: at('stranger.pem'),
    strangerKey: at('stranger.key'),
  }
}

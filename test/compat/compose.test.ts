import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { type Ran, startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { type Client, plugCompose, withEngine, without } from './clients.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

/** Three services: one that is published, one that is on both networks and scaled, one that only an internal network has. */
const FILE = `
version: "3.8"
services:
  web:
    image: busybox
    command: httpd -f -h /etc
    stop_signal: SIGKILL
    depends_on: [api]
    ports: ["18080:80"]
    networks:
      front: { aliases: [site, www.example.test] }
  api:
    image: busybox
    command: httpd -f -p 8000 -h /etc
    stop_signal: SIGKILL
    ports: ["8000"]
    environment: { ROLE: api }
    volumes: ["data:/data"]
    networks:
      front:
      back: { aliases: [backend] }
  db:
    image: busybox
    command: httpd -f -p 5432 -h /etc
    stop_signal: SIGKILL
    hostname: database
    networks: [back]
networks:
  front:
  back:
    internal: true
    ipam: { config: [{ subnet: 10.77.0.0/24 }] }
volumes:
  data:
`

interface Variant {
  readonly client: Client
  readonly compose: (...args: string[]) => Promise<Ran>
}

const file = `${lab.dir}/site/docker-compose.yml`
mkdirSync(`${lab.dir}/site`)
writeFileSync(file, FILE)
if (without('Compose 2') === false) plugCompose(lab)

const variants: readonly Variant[] = [
  {
    client: 'docker-compose 1.29',
    compose: (...args) => withEngine(lab, '/usr/bin/docker-compose', ['--no-ansi', '-p', 'site', '-f', file, ...args]),
  },
  { client: 'Compose 2', compose: (...args) => lab.docker('compose', '--ansi', 'never', '-p', 'site', '-f', file, ...args) },
]

/** Everything that a project could leave: containers, networks beside the three that are always there, volumes, links. */
async function inventory(): Promise<object> {
  // the kernel lets go of bridges a moment after the answer
  await new Promise((resolve) => setTimeout(resolve, 1500))
  const names = (list: { Name?: string; Names?: string[] }[]) => list.map((each) => each.Name ?? each.Names?.[0]).sort()
  return {
    containers: names((await lab.api('GET', '/containers/json?all=1')).json),
    networks: names((await lab.api('GET', '/networks')).json),
    volumes: names((await lab.api('GET', '/volumes')).json.Volumes ?? []),
    links: (await lab.sh("ip -o link | awk -F': ' '{print $2}' | sed 's/@.*//' | sort")).out,
  }
}

for (const { client, compose } of variants) {
  test(`${client}: three services on two networks come up, resolve, are scaled and go down with nothing left`, {
    skip: without(client),
  }, async () => {
    const before = await inventory()
    const succeed = async (...args: string[]): Promise<string> => {
      const { code, out, err } = await compose(...args)
      assert.equal(code, 0, `${args.join(' ')}: ${out}${err}`)
      return out
    }
    const inside = (service: string, ...cmd: string[]) => compose('exec', '-T', service, ...cmd)
    const hostname = async (service: string, url: string) => (await inside(service, 'wget', '-qO-', url)).out.trim()

    await succeed('up', '-d')
    const running = (await lab.api('GET', '/containers/json')).json as { Id: string; Labels: Record<string, string> }[]
    const idOf = (service: string) => running.find((c) => c.Labels['com.docker.compose.service'] === service)?.Id.slice(0, 12)
    assert.deepEqual(running.map((c) => c.Labels['com.docker.compose.service']).sort(), ['api', 'db', 'web'])

    // names: service, alias of either network, and not across networks
    assert.equal(await hostname('web', 'http://api:8000/hostname'), idOf('api'))
    assert.equal(await hostname('api', 'http://www.example.test/hostname'), idOf('web'))
    assert.equal(await hostname('db', 'http://backend:8000/hostname'), idOf('api'))
    assert.equal(await hostname('api', 'http://db:5432/hostname'), 'database')
    assert.notEqual((await inside('web', 'nslookup', 'db.')).code, 0)
    // the internal network leads nowhere else
    assert.equal((await inside('db', 'ip', 'route')).out.trim().split('\n').length, 1)
    // published: a fixed port, and one that the engine chose
    assert.equal((await lab.sh('curl -s -m 3 http://127.0.0.1:18080/hostname')).out.trim(), idOf('web'))
    const port = /:(\d+)\s*$/.exec(await succeed('port', 'api', '8000'))?.[1]
    assert.equal((await lab.sh(`curl -s -m 3 http://127.0.0.1:${port}/hostname`)).out.trim(), idOf('api'))

    await succeed('up', '-d', '--scale', 'api=3')
    const found = await inside('db', 'nslookup', 'backend.')
    assert.equal(new Set([...found.out.matchAll(/^Address.*(10\.77\.0\.\d+)$/gm)].map(([, ip]) => ip)).size, 3, found.out)
    assert.equal(
      idOf('web'),
      (
        (await lab.api('GET', '/containers/site-web-1/json')).json?.Id ?? (await lab.api('GET', '/containers/site_web_1/json')).json?.Id
      )?.slice(0, 12),
      'scaling leaves the others alone',
    )
    await succeed('up', '-d', '--scale', 'api=1')
    assert.equal(((await lab.api('GET', '/containers/json')).json as object[]).length, 3)

    assert.match(await succeed('ps'), /web/)
    assert.match(await succeed('logs', '--tail', '5'), /^/)
    assert.equal(await succeed('run', '--rm', '-T', 'api', 'sh', '-c', 'echo $ROLE'), 'api\n')
    await succeed('stop', 'db')
    await succeed('start', 'db')
    await succeed('restart', '-t', '1', 'web')
    assert.equal(await hostname('api', 'http://site/hostname'), idOf('web'))

    await succeed('down', '-v', '--remove-orphans')
    assert.deepEqual(await inventory(), before)
  })
}

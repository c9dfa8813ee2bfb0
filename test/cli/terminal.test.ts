/** What needs a terminal: raw mode, window size, detach keys, colours. `script` gives the terminal. */
import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { after, before, test } from 'node:test'
import { isolate } from '../../testkit/isolated.ts'
import { type Peer, startPeer, whyNoPeer } from './peer.ts'
import { causeway, LAUNCHER } from './run-cli.ts'

isolate()
const why = whyNoPeer()
const skip = why === undefined || process.env['CI'] === '1' ? false : why

let peer: Peer
before(async () => {
  if (skip === false) peer = await startPeer()
})
after(async () => {
  await peer?.stop()
})

class Terminal {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #exit: Promise<number>
  #text = ''

  /** Runs a shell line on a terminal of 31 rows and 99 columns; `$C` is the command with its host. */
  constructor(line: string, host: string) {
    const script = `stty rows 31 cols 99; tty; C='${LAUNCHER} -H ${host}'; ${line}`
    this.#child = spawn('script', ['-qfec', script, '/dev/null'], { env: { ...process.env, SHELL: '/bin/sh', TERM: 'xterm' } })
    this.#child.stdout.on('data', (chunk) => {
      this.#text += String(chunk)
    })
    this.#exit = new Promise((resolve) => this.#child.on('close', (code) => resolve(code ?? -1)))
  }

  /** Waits up to 15 s for the text to appear behind what was waited for before. */
  async sees(pattern: RegExp): Promise<RegExpExecArray> {
    for (let i = 0; i < 300; i++) {
      const found = pattern.exec(this.#text)
      if (found !== null) {
        this.#text = this.#text.slice(found.index + found[0].length)
        return found
      }
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    throw new Error(`the terminal did not show ${pattern}: ${JSON.stringify(this.#text)}`)
  }

  type(text: string): void {
    this.#child.stdin.write(text)
  }

  async ends(): Promise<number> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 15_000)
    const code = await this.#exit
    clearTimeout(timer)
    return code
  }
}

test('run -it: a shell with our window, which follows when it changes, and whose exit code is ours', { skip }, async () => {
  const terminal = new Terminal('$C run --rm -it --net host busybox sh; echo "code $?"; stty -a', peer.host)
  const [, tty] = await terminal.sees(/(\/dev\/pts\/\d+)/)
  await terminal.sees(/# /)
  terminal.type('stty size\r')
  await terminal.sees(/31 99/)
  spawnSync('stty', ['-F', tty as string, 'rows', '40', 'cols', '50'])
  await new Promise((resolve) => setTimeout(resolve, 300))
  terminal.type('stty size\r')
  await terminal.sees(/40 50/)
  terminal.type('\u0003') // goes to the container's terminal, not to us
  terminal.type('echo still; exit 7\r')
  await terminal.sees(/code 7/)
  const [, echo] = await terminal.sees(/(-?echo) echoe/) // our own terminal is as it was
  assert.equal(echo, 'echo')
  assert.equal(await terminal.ends(), 0)
})

test('the detach keys let go of a container that goes on, and attach comes back to it', { skip }, async () => {
  const terminal = new Terminal('$C run -it --name shell --net host busybox sh; echo "code $?"; $C attach shell; echo "code $?"', peer.host)
  await terminal.sees(/# /)
  terminal.type('A=kept\r')
  await terminal.sees(/# /)
  terminal.type('\u0010')
  terminal.type('\u0011')
  await terminal.sees(/code 0/)
  assert.equal((await causeway(peer.host, ['inspect', '-f', '{{.State.Running}}', 'shell'])).stdout, 'true\n')
  await new Promise((resolve) => setTimeout(resolve, 500))
  terminal.type('echo $A; exit 3\r')
  await terminal.sees(/kept/)
  await terminal.sees(/code 3/)
  assert.equal(await terminal.ends(), 0)
})

test('detaching from attach is said, with exit code 1', { skip }, async () => {
  await causeway(peer.host, ['run', '-dit', '--name', 'left', '--net', 'host', 'busybox', 'sh'])
  const terminal = new Terminal('$C attach --detach-keys ctrl-a,x left; echo "code $?"', peer.host)
  await terminal.sees(/pts/)
  await new Promise((resolve) => setTimeout(resolve, 700))
  terminal.type('\u0001x')
  await terminal.sees(/read escape sequence/)
  await terminal.sees(/code 1/)
  assert.equal(await terminal.ends(), 0)
})

test('exec -it has a terminal of our size, and an exit code', { skip }, async () => {
  await causeway(peer.host, ['run', '-d', '--name', 'host', '--net', 'host', 'busybox', 'sleep', '1000'])
  const terminal = new Terminal('$C exec -it host sh; echo "code $?"', peer.host)
  await terminal.sees(/# /)
  terminal.type('tty; stty size; exit 5\r')
  await terminal.sees(/\/dev\/pts\/\d+/)
  await terminal.sees(/31 99/)
  await terminal.sees(/code 5/)
  assert.equal(await terminal.ends(), 0)
})

test('a reader that goes away ends the command quietly', { skip }, async () => {
  const terminal = new Terminal('$C run --rm --net host busybox seq 1 100000 | head -n 1; echo "end"', peer.host)
  await terminal.sees(/\n1\r?\n/)
  await terminal.sees(/end/)
  assert.equal(await terminal.ends(), 0)
})

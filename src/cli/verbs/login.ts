/** `login` and `logout`. */
import { createInterface } from 'node:readline/promises'
import { defineCommand } from '../command.ts'
import { fail } from '../fail.ts'
import { flag, text } from '../options.ts'
import { registryOf, storeAuth } from '../registry-auth.ts'

export const login = defineCommand({
  path: 'login',
  summary: 'Log in to a registry',
  usage: '[OPTIONS] [SERVER]',
  args: [0, 1],
  options: {
    password: text('p', 'Password or token'),
    'password-stdin': flag('', 'Read the password from standard input'),
    username: text('u', 'User name'),
  },
  examples: [{ line: 'causeway login -u me --password-stdin registry.example.com < token' }],
  run: async (context, [server], options) => {
    const { stdin, stderr } = context
    if (options['password-stdin'] && options.password !== undefined) throw fail('--password and --password-stdin are mutually exclusive')
    if (options['password-stdin'] && options.username === undefined) throw fail('Must provide --username with --password-stdin')
    let { username, password } = options
    if (options['password-stdin']) {
      let all = ''
      for await (const chunk of stdin) all += String(chunk)
      password = all.replace(/\r?\n$/, '')
    } else if (username === undefined || password === undefined) {
      if (stdin.isTTY !== true) throw fail('Error: Cannot perform an interactive login from a non TTY device')
      const prompt = createInterface({ input: stdin, output: stderr })
      username ??= await prompt.question('Username: ')
      password ??= await prompt.question('Password: ')
      prompt.close()
    }
    if (username === undefined || username === '') throw fail('username is empty')
    if (password === undefined || password === '') throw fail('password is empty')
    const key = server === undefined ? registryOf('x') : server.replace(/^https?:\/\//, '').replace(/\/$/, '')
    const answer = await context.client.system.login({ username, password, serveraddress: key })
    storeAuth(key, { username, password }, context.env)
    context.print(answer.Status)
    return 0
  },
})

export const logout = defineCommand({
  path: 'logout',
  summary: 'Log out from a registry',
  usage: '[SERVER]',
  args: [0, 1],
  options: {},
  examples: [{ line: 'causeway logout registry.example.com' }],
  run: async (context, [server]) => {
    const key = server ?? registryOf('x')
    const had = storeAuth(key, undefined, context.env)
    context.print(had ? `Removing login credentials for ${key}` : `Not logged in to ${key}`)
    return 0
  },
})

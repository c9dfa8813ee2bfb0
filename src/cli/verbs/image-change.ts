/** `rmi` and `tag`. */
import { messageOf } from '../../base/errors.ts'
import { statusOf } from '../../client/transport.ts'
import { defineCommand } from '../command.ts'
import { describe, fail } from '../fail.ts'
import { splitImageName } from '../image-name.ts'
import { flag } from '../options.ts'

export const rmi = defineCommand({
  path: 'rmi',
  aliases: ['image rm', 'image remove'],
  summary: 'Remove one or more images',
  usage: '[OPTIONS] IMAGE [IMAGE...]',
  args: [1, Number.POSITIVE_INFINITY],
  options: {
    force: flag('f', 'Also when containers use it; no error when it does not exist'),
    'no-prune': flag('', 'Keep parents that have no name'),
  },
  examples: [{ line: 'causeway rmi app:1.1 app:1.0' }],
  run: async (context, names, options) => {
    let code = 0
    for (const name of names) {
      try {
        for (const deletion of await context.client.images.remove(name, { force: options.force, noPrune: options['no-prune'] }))
          context.print(deletion.Deleted === undefined ? `Untagged: ${deletion.Untagged}` : `Deleted: ${deletion.Deleted}`)
      } catch (error) {
        context.warn(describe(error))
        if (!options.force || statusOf(error) !== 404) code = 1
      }
    }
    return code
  },
})

export const tag = defineCommand({
  path: 'tag',
  aliases: ['image tag'],
  summary: 'Give an image one more name',
  usage: 'SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]',
  args: [2, 2],
  options: {},
  examples: [{ line: 'causeway tag app:1.2 registry.example.com/team/app:1.2' }],
  run: async (context, [source = '', target = '']) => {
    const { repository, tag: name } = splitImageName(target)
    try {
      await context.client.images.tag(source, repository, name === '' ? 'latest' : name)
    } catch (error) {
      const why = messageOf(error)
      throw why.startsWith('invalid reference format')
        ? fail(`Error parsing reference: "${target}" is not a valid repository/tag: ${why}`)
        : error
    }
    return 0
  },
})

/** `update`. */
import { parseBytes, parseBytesOrUnlimited, parseCpus, parseRestartPolicy } from '../args/units.ts'
import { defineCommand } from '../command.ts'
import { each } from '../each.ts'
import { fail } from '../fail.ts'
import { integer, text, value } from '../options.ts'

export const update = defineCommand({
  path: 'update',
  aliases: ['container update'],
  summary: 'Change limits and restart policy of containers',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  args: [1, Number.POSITIVE_INFINITY],
  options: {
    'blkio-weight': integer('', 'Block IO weight, 10 to 1000, or 0'),
    'cpu-period': integer('', 'CPU quota period in microseconds'),
    'cpu-quota': integer('', 'CPU time per period in microseconds'),
    'cpu-shares': integer('c', 'CPU shares (relative weight)'),
    cpus: value('', 'decimal', 'Number of CPUs', parseCpus),
    'cpuset-cpus': text('', 'CPUs to run on (0-3, 0,1)'),
    'cpuset-mems': text('', 'Memory nodes to run on (0-3, 0,1)'),
    memory: value('m', 'bytes', 'Memory limit', parseBytes),
    'memory-reservation': value('', 'bytes', 'Memory that is always left to the container', parseBytes),
    'memory-swap': value('', 'bytes', 'Memory and swap together; -1 for unlimited swap', parseBytesOrUnlimited),
    'pids-limit': integer('', 'Greatest number of processes (-1 for no limit)'),
    restart: text('', 'When to start again after an exit'),
  },
  examples: [{ line: 'causeway update --restart unless-stopped web' }, { line: 'causeway update -m 256m --cpus 1.5 web' }],
  run: async (context, names, o) => {
    if (Object.values(o).every((v) => v === undefined)) throw fail('you must provide one or more flags when using this command')
    const restart = o.restart === undefined ? { Name: '', MaximumRetryCount: 0 } : parseRestartPolicy(o.restart)
    const change = {
      BlkioWeight: o['blkio-weight'] ?? 0,
      CpuPeriod: o['cpu-period'] ?? 0,
      CpuQuota: o['cpu-quota'] ?? 0,
      CpuShares: o['cpu-shares'] ?? 0,
      CpusetCpus: o['cpuset-cpus'] ?? '',
      CpusetMems: o['cpuset-mems'] ?? '',
      Memory: o.memory ?? 0,
      MemoryReservation: o['memory-reservation'] ?? 0,
      MemorySwap: o['memory-swap'] ?? 0,
      NanoCpus: o.cpus ?? 0,
      PidsLimit: o['pids-limit'] ?? null,
      RestartPolicy: restart,
    }
    return each(context, names, async (name) => {
      const { Warnings } = await context.client.containers.update(name, change)
      for (const warning of Warnings ?? []) context.warn(warning)
      return name
    })
  },
})

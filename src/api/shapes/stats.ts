/** One line of `GET /containers/{id}/stats`: the sample, with the CPU part of the one before for clients that want a rate. */
import type { Container } from '../../containers/types.ts'

const NO_CPU = {
  cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
  throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
}

/** `previous` undefined: the first sample, whose `precpu_stats` are zero. */
export function statsJson(container: Container, sample: Record<string, unknown>, previous: Record<string, unknown> | undefined): object {
  return {
    name: `/${container.name}`,
    id: container.id,
    ...sample,
    preread: previous?.['read'] ?? '0001-01-01T00:00:00Z',
    precpu_stats: previous?.['cpu_stats'] ?? NO_CPU,
  }
}

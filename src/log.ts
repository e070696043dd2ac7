import { isatty } from 'node:tty'
import { type Logger, pino } from 'pino'
import type { Config } from './config.ts'
import { type LineTarget, LineWriter } from './line-writer.ts'

export interface Log {
  readonly logger: Logger
  /** Writes what still waits, for `deadline_ms` at most, and drops the rest and all that comes later. */
  close(deadline_ms: number): Promise<void>
}

/** Opens the log: JSON lines, or readable ones where the target is a terminal. */
export async function openLog(level: Config['LOG_LEVEL'], target: LineTarget): Promise<Log> {
  const lines = new LineWriter(target, (dropped) => {
    logger.error({ dropped }, 'log lines were dropped, because their destination was full or broken')
  })
  const shown = isatty(target.fd) ? await openPretty() : (line: string) => line
  // pino calls `flushSync` after each fatal line, and at no other time.
  const destination = {
    write: (line: string) => lines.write(shown(line)),
    flushSync: () => lines.flushSync(),
  }
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
    },
    destination,
  )
  return { logger, close: (deadline_ms) => lines.close(deadline_ms) }
}

async function openPretty(): Promise<(line: string) => string> {
  const { default: pinoPretty } = await import('pino-pretty')
  return pinoPretty.prettyFactory({ translateTime: 'SYS:HH:MM:ss.l', singleLine: true })
}

/** What the log tells of an error: not its other members, which may hold a request, a runtime's answer, a secret. */
export function serializeError(error: unknown, causes = 3): unknown {
  if (!(error instanceof Error)) return error
  const { name, message, stack, cause } = error
  return {
    type: name,
    message,
    ...('code' in error ? { code: error.code } : {}),
    stack,
    ...(cause !== undefined && causes > 0 ? { cause: serializeError(cause, causes - 1) } : {}),
  }
}

/** Where the core says what is no event: a runtime that misbehaves, a retry. pino fits. */
export interface CoreLog {
  info(details: object, message: string): void
  warn(details: object, message: string): void
}

export const NO_LOG: CoreLog = { info() {}, warn() {} }

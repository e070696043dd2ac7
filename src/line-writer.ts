import * as fs from 'node:fs'
import type { Writable } from 'node:stream'

/** Lines that wait may hold about this many bytes; what comes beyond is dropped, and counted. */
const WAITING_LIMIT_BYTES = 16 * 1024 * 1024
/** What is written at once: as much as a pipe holds. */
const CHUNK_BYTES = 64 * 1024
/** How long a line may wait for others to be written with it. */
const LINGER_MS = 50
/** The longest pause before a destination that is full is tried again. */
const LONGEST_PAUSE_MS = 50
/** How long the line of a fatal error may hold up everything else. */
const FATAL_PATIENCE_MS = 200

const NEWLINE = Buffer.from('\n')
const NEVER_NOTIFIED = new Int32Array(new SharedArrayBuffer(4))

/** Where lines go: a descriptor, and a stream for it that is asked for only where the descriptor alone would block. */
export interface LineTarget {
  readonly fd: number
  stream(): Writable
}

/** A way to write that never blocks this thread. */
interface Destination {
  /** For writing at the very end, when blocking is right. */
  readonly fd: number
  /** Writes some of `bytes` and tells how many. */
  write(bytes: Buffer, done: (error: NodeJS.ErrnoException | null, written: number) => void): void
  close(): void
}

/**
 * A pipe or a terminal is opened once more: a description of our own can be non-blocking without making it so for the
 * others that share the pipe, and a write to it can block neither this thread nor one of libuv's, for which an exit would
 * wait. Where that cannot be (a socket; another user's pipe), node's own stream does not block either. A regular file
 * cannot be non-blocking, and opening it again would lose the place that is shared with stderr: libuv's threads write it.
 */
function openDestination({ fd, stream }: LineTarget): Destination {
  const kind = fs.fstatSync(fd)
  if (kind.isFile()) return byThreads(fd)
  try {
    const { O_WRONLY, O_APPEND, O_NONBLOCK, O_NOCTTY } = fs.constants
    return nonBlocking(fs.openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY))
  } catch {
    return kind.isCharacterDevice() ? byThreads(fd) : byStream(fd, stream())
  }
}

const nonBlocking = (fd: number): Destination => ({
  fd,
  write(bytes, done) {
    const { error, written } = writeSync(fd, bytes)
    done(error, written)
  },
  close: () => fs.closeSync(fd),
})

const byThreads = (fd: number): Destination => ({
  fd,
  write: (bytes, done) => fs.write(fd, bytes, done),
  close: () => {},
})

function byStream(fd: number, stream: Writable): Destination {
  // The error comes to the callback of the write, too.
  stream.on('error', () => {})
  return {
    fd,
    write: (bytes, done) => stream.write(bytes, (error) => done(error ?? null, error ? 0 : bytes.length)),
    close: () => {},
  }
}

function writeSync(fd: number, bytes: Buffer): { error: NodeJS.ErrnoException | null; written: number } {
  try {
    return { error: null, written: fs.writeSync(fd, bytes) }
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(String(error)), written: 0 }
  }
}

interface Chunk {
  /** What of it is still to be written. */
  bytes: Buffer
  readonly lines: number
  /** Some of it was written. */
  begun: boolean
}

/**
 * Gathers lines and hands them to a destination, which may be slow, full or broken: `write` takes microseconds whatever
 * becomes of the line, and memory is bounded. What a destination refuses is dropped, and the next lines tried all the same:
 * a disk may have room again.
 */
export class LineWriter {
  readonly #destination: Destination
  readonly #tellDropped: (lines: number) => void
  readonly #chunks: Chunk[] = []
  /** The lines after the last chunk. */
  #text = ''
  #lines = 0
  /** Bytes in the chunks. */
  #waiting = 0
  #dropped = 0
  #linger: NodeJS.Timeout | undefined
  #pause_ms = 1
  /** The first chunk is with the destination, or will be when a pause ends. */
  #busy = false
  /** The destination has the first chunk and has not answered. */
  #inFlight = false
  /** What was written last may end within a line. */
  #cut = false
  #closed = false
  #onIdle = () => {}

  constructor(target: LineTarget, tellDropped: (lines: number) => void) {
    this.#destination = openDestination(target)
    this.#tellDropped = tellDropped
  }

  write(line: string): void {
    if (this.#closed || this.#waiting + this.#text.length + line.length > WAITING_LIMIT_BYTES) {
      this.#dropped++
      return
    }
    this.#text += line
    this.#lines++
    if (this.#text.length >= CHUNK_BYTES) this.#start()
    else this.#linger ??= setTimeout(() => this.#start(), LINGER_MS)
  }

  /** Writes what waits at once, and blocks this thread meanwhile, but not for long. */
  flushSync(): void {
    this.#seal()
    const until = Date.now() + FATAL_PATIENCE_MS
    const first = this.#inFlight ? 1 : 0
    // What is in flight may end anywhere in a line.
    this.#cut ||= this.#inFlight
    let chunk = this.#chunks[first]
    while (chunk && Date.now() < until) {
      const { bytes, added } = this.#toWrite(chunk)
      const { error, written } = writeSync(this.#destination.fd, bytes)
      if (error?.code === 'EAGAIN') Atomics.wait(NEVER_NOTIFIED, 0, 0, 1)
      else this.#settle(first, error, written - added)
      chunk = this.#chunks[first]
    }
  }

  close(deadline_ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(deadline)
        this.#end()
        resolve()
      }
      const deadline = setTimeout(end, deadline_ms)
      this.#onIdle = end
      this.#start()
    })
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#linger)
    this.#chunks.length = 0
    this.#destination.close()
  }

  #seal(): void {
    if (this.#lines === 0) return
    const bytes = Buffer.from(this.#text)
    this.#chunks.push({ bytes, lines: this.#lines, begun: false })
    this.#waiting += bytes.length
    this.#text = ''
    this.#lines = 0
  }

  #start(): void {
    clearTimeout(this.#linger)
    this.#linger = undefined
    if (this.#text.length >= CHUNK_BYTES) this.#seal()
    if (!this.#busy) this.#next()
  }

  #next(): void {
    if (this.#chunks.length === 0) this.#seal()
    const chunk = this.#chunks[0]
    this.#busy = chunk !== undefined
    if (chunk === undefined) {
      this.#onIdle()
      return
    }
    const { bytes, added } = this.#toWrite(chunk)
    this.#inFlight = true
    this.#destination.write(bytes, (error, written) => {
      this.#inFlight = false
      if (!this.#closed) this.#answered(error, written - added)
    })
  }

  #answered(error: NodeJS.ErrnoException | null, written: number): void {
    if (error?.code === 'EAGAIN') {
      // Nobody waits for a log: it keeps no process alive.
      setTimeout(() => this.#next(), this.#pause_ms).unref()
      this.#pause_ms = Math.min(2 * this.#pause_ms, LONGEST_PAUSE_MS)
      return
    }
    this.#pause_ms = 1
    this.#settle(0, error, written)
    if (!error) this.#tell()
    setImmediate(() => this.#next())
  }

  /** The bytes of a chunk, after the end of a line that was cut off, so that the next stands by itself. */
  #toWrite({ bytes }: Chunk): { bytes: Buffer; added: number } {
    return this.#cut ? { bytes: Buffer.concat([NEWLINE, bytes]), added: NEWLINE.length } : { bytes, added: 0 }
  }

  /** Takes away what was written of a chunk, or all of it where it was refused. */
  #settle(index: number, error: NodeJS.ErrnoException | null, written: number): void {
    const chunk = this.#chunks[index]
    if (chunk === undefined) return
    const gone = error ? chunk.bytes.length : Math.max(written, 0)
    this.#waiting -= gone
    this.#cut = error !== null && (this.#cut || chunk.begun)
    if (error) this.#dropped += chunk.lines
    chunk.begun ||= gone > 0
    chunk.bytes = chunk.bytes.subarray(gone)
    if (chunk.bytes.length === 0) this.#chunks.splice(index, 1)
  }

  /** Tells of lines that were dropped, once the destination takes lines again. */
  #tell(): void {
    if (this.#dropped === 0 || this.#waiting > WAITING_LIMIT_BYTES / 2) return
    const dropped = this.#dropped
    this.#dropped = 0
    this.#tellDropped(dropped)
  }
}
